"""The drivers of keys, certificates' keys and secrets in a vault: settings, and finding keys."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from envelope import keyurl
from envelope.errors import AccessDenied, ConfigurationError, KeyDisabled, KeyNotFound
from envelope.keys import (
    Driver,
    Finding,
    KeyAdmin,
    KeyExaminer,
    KeyRotator,
    PublicHalf,
    SignerExaminer,
    SignerResolver,
)
from envelope.keyurl import KeyName
from envelope_azure.credentials import instead_of_object
from envelope_azure.keys import RSA_ALG, AzureKey, alg_of, path_of
from envelope_azure.managing import Managing
from envelope_azure.secretkeys import AzureSecrets
from envelope_azure.settings import checked
from envelope_azure.vault import Vault

if TYPE_CHECKING:
    from envelope_azure.signing import AzureSigner

__all__ = ["AZURE", "SECRET", "AzureKeys"]

_KEYS = "azurekeyvault"
_CERTIFICATES = "azurekeyvault-certificate"


class AzureKeys(Managing):
    """Finds keys in vaults; one for all key rings of the same settings in a process.

    Args:
        settings: As :func:`envelope_azure.settings.checked` returned them.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__(settings)
        self._hsm_algs: dict[KeyName, str] = {}  # a version's kind never changes

    def resolve(self, kid: str) -> AzureKey:
        """The exact version without a call, or the newest enabled one with one ``GET``.

        Where the caller may not ``get``, the vault chooses the version at each wrap.

        Raises:
            KeyNotFound: There is no such key; or it was deleted and purged.
            KeyDisabled: No version is enabled; or the key is deleted and can be recovered.
            AccessDenied, VaultUnavailable, ConfigurationError: As the vault or credential said.
        """
        name = keyurl.parse(kid)
        if name.scheme not in (_KEYS, _CERTIFICATES) or name.name == "*":
            raise ConfigurationError(f"{kid} is not a key in a vault")
        vault = self.vault(name.host)
        if name.version is not None:
            return AzureKey(vault, name, self._alg(vault, name))
        try:
            exact, bundle = self._newest(vault, name)
        except AccessDenied as error:
            if error.provider_code not in ("ForbiddenByRbac", "ForbiddenByPolicy"):
                raise
            # The caller may wrap and not look. A vault's keys that wrap are RSA keys.
            if vault.cloud.hsm:
                raise
            return AzureKey(vault, name, RSA_ALG)
        here = self._settings["wrap"] == "local"
        return AzureKey(
            vault, exact, alg_of(bundle, kid, self._settings["hsm_alg"]), bundle, wrap_here=here
        )

    def signer(self, kid: str) -> AzureSigner:
        """The exact version, or the newest enabled one, with one ``GET``: its kind says how.

        Raises:
            KeyOperationForbidden: It signs no KEKs.
            KeyNotFound, KeyDisabled, AccessDenied, VaultUnavailable, ConfigurationError: As for
                :meth:`resolve`.
        """
        from envelope_azure.signing import AzureSigner

        name = _signing_name(kid)
        vault = self.vault(name.host)
        if name.version is not None:
            return AzureSigner(vault, name, self.bundle(vault, name))
        return AzureSigner(vault, *self._newest(vault, name))

    def public_half(self, kid: str) -> PublicHalf:
        """The public half of an exact version, with one ``GET``.

        Raises:
            KeyNotFound, KeyDisabled, KeyOperationForbidden: It proves nothing, and why.
            AccessDenied, VaultUnavailable, ConfigurationError: As the vault or credential said.
        """
        from envelope_azure.signing import public_half_of

        name = _signing_name(kid)
        return public_half_of(self.bundle(self.vault(name.host), name), name)

    def _newest(self, vault: Vault, name: KeyName) -> tuple[KeyName, dict[str, Any]]:
        """The newest enabled version: its exact name, and what the vault tells of it."""
        bundle = self.bundle(vault, name)
        if not (bundle.get("attributes") or {}).get("enabled", True):
            bundle = self.newest_enabled(vault, name)
        found = keyurl.parse(str(bundle["key"]["kid"]))
        if (found.host, found.name) != (name.host, name.name) or found.version is None:
            raise KeyNotFound(f"the vault answered with {bundle['key']['kid']!a}", kid=str(name))
        if name.scheme == _CERTIFICATES and bundle.get("managed") is not True:
            message = "the vault has a key of that name, and no certificate"
            raise KeyNotFound(message, kid=str(name))
        return replace(name, version=found.version), bundle

    def examine_key(self, kid: str, *, wraps: bool, unwraps: bool) -> Iterator[Finding]:
        """See :class:`envelope.keys.KeyExaminer`, and :mod:`envelope_azure.examine`."""
        from envelope_azure.examine import examine

        return examine(self._settings, kid, wraps=wraps, unwraps=unwraps)

    def examine_signer(self, kid: str, *, signs: bool) -> Iterator[Finding]:
        """See :class:`envelope.keys.SignerExaminer`, :mod:`envelope_azure.examine_signing`."""
        from envelope_azure.examine_signing import examine_signer

        return examine_signer(self._settings, kid, signs=signs)

    def _alg(self, vault: Vault, name: KeyName) -> str:
        """Of an exact version. A vault's own keys are RSA keys; an HSM's have to be looked at."""
        if not vault.cloud.hsm:
            return RSA_ALG
        found = self._hsm_algs.get(name)
        if found is None:
            found = alg_of(self.bundle(vault, name), str(name), self._settings["hsm_alg"])
            self._hsm_algs[name] = found
        return found

    def bundle(self, vault: Vault, name: KeyName) -> dict[str, Any]:
        """What the vault tells of a key or version; not there is told from deleted."""
        try:
            return vault.ask("GET", path_of(name), kid=str(name), operation="resolve")
        except KeyNotFound as error:
            raise vault.missing(name, error) from None

    def newest_enabled(self, vault: Vault, name: KeyName) -> dict[str, Any]:
        """The enabled version that was made last, where the very last one is disabled."""
        enabled = [
            item
            for item in vault.pages(
                f"keys/{name.name}/versions", kid=str(name), operation="list versions"
            )
            if item["attributes"].get("enabled", True)
        ]
        if not enabled:
            raise KeyDisabled(
                f"no version of {name} is enabled", kid=str(name), operation="resolve"
            )
        newest = max(enabled, key=lambda item: int(item["attributes"].get("created", 0)))
        return self.bundle(vault, keyurl.parse(str(newest["kid"])))


def _signing_name(kid: str) -> KeyName:
    name = keyurl.parse(kid)
    if name.scheme not in (_KEYS, _CERTIFICATES) or name.name == "*":
        raise ConfigurationError(f"{kid} is not a key in a vault")
    return name


class AzureDriver:
    """The entry point of ``azurekeyvault`` and ``azurekeyvault-certificate``.

    A certificate's key has the certificate's name and version, and is called like any other.
    """

    def settings(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """See :func:`envelope_azure.settings.checked`."""
        return checked(options)

    def bound_to_process(self, settings: Mapping[str, Any]) -> str | None:
        """See :func:`envelope_azure.credentials.instead_of_object`."""
        return instead_of_object(settings)

    def resolver(self, settings: Mapping[str, Any]) -> AzureKeys:
        """See :class:`AzureKeys`."""
        return AzureKeys(settings)


class SecretDriver:
    """The entry point of ``azurekeyvault-secret``."""

    def settings(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """See :func:`envelope_azure.settings.checked`."""
        return checked(options)

    def bound_to_process(self, settings: Mapping[str, Any]) -> str | None:
        """See :func:`envelope_azure.credentials.instead_of_object`."""
        return instead_of_object(settings)

    def resolver(self, settings: Mapping[str, Any]) -> AzureSecrets:
        """See :class:`envelope_azure.secretkeys.AzureSecrets`."""
        return AzureSecrets(settings)


AZURE = AzureDriver()
SECRET = SecretDriver()

if TYPE_CHECKING:  # the protocol holds
    _driver: Driver = AZURE
    _secrets: Driver = SECRET
    _admin: type[KeyAdmin] = AzureKeys
    _examiner: type[KeyExaminer] = AzureKeys
    _signers: type[SignerResolver] = AzureKeys
    _walk: type[SignerExaminer] = AzureKeys
    _rotator: type[KeyRotator] = AzureKeys
