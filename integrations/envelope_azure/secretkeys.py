"""A secret of a vault as a symmetric key: base64 of 32 bytes, which .NET's key resolver reads too.

Unlike a key, a secret leaves the vault: whoever may ``get`` it has the key for
good. It is for those who must share keys with such programs; a key in the
vault is better (docs/azure.md).
"""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap

from envelope import keyurl
from envelope.errors import (
    ConfigurationError,
    KeyDisabled,
    KeyExpired,
    KeyMismatch,
    KeyNotFound,
    KeyNotYetValid,
    KeyOperationForbidden,
)
from envelope.keys import Finding, WrappedKey
from envelope.keyurl import KeyName
from envelope.secret import Secret
from envelope_azure.vault import Vault, Vaults

__all__ = ["AzureSecrets", "SecretKey", "exact", "fetched"]

_ALG = "A256KW"
_KEY_BYTES = 32
_VALUE = "value"


class SecretKey:
    """See :class:`envelope.keys.MasterKey`. It wraps and unwraps here, by AES key wrap (RFC 3394).

    It holds no key bytes: each use gets the secret again, so that a version
    that was disabled is refused at once. Uses follow KEKs, so they are few.

    Args:
        vault: Where it is.
        name: Its name with its version.
    """

    alg = _ALG

    def __init__(self, vault: Vault, name: KeyName) -> None:
        self.kid = str(name)
        self._vault = vault
        self._name = name

    def __repr__(self) -> str:
        return f"SecretKey({self.kid!r})"

    def wrap(self, key: Secret, *, aad: bytes) -> WrappedKey:  # noqa: ARG002 - A256KW has no AAD
        """See :class:`envelope.keys.MasterKey`.

        Raises:
            KeyDisabled, KeyExpired, KeyNotYetValid: As it says.
            AccessDenied, KeyNotFound, VaultUnavailable: What the vault said.
        """
        own, attributes = fetched(self._vault, self._name, "wrap")
        start, end = attributes.get("nbf"), attributes.get("exp")
        if start is not None and time.time() < start:
            raise KeyNotYetValid(
                "this version's start date is still to come", kid=self.kid, operation="wrap"
            )
        if end is not None and time.time() >= end:
            raise KeyExpired("this version's end date is past", kid=self.kid, operation="wrap")
        return WrappedKey(self.kid, _ALG, aes_key_wrap(own.reveal(), key.reveal()))

    def unwrap(self, wrapped: WrappedKey, *, aad: bytes) -> Secret:  # noqa: ARG002 - as in wrap
        """See :class:`envelope.keys.MasterKey`.

        Raises:
            KeyMismatch: It does not unwrap, or says that it was wrapped otherwise.
            KeyDisabled, AccessDenied, KeyNotFound, VaultUnavailable: What the vault said.
        """
        if wrapped.alg != _ALG or wrapped.params:
            raise KeyMismatch(f"{self.kid} unwraps {_ALG} alone", kid=self.kid, operation="unwrap")
        own, _ = fetched(self._vault, self._name, "unwrap")
        try:
            return Secret(aes_key_unwrap(own.reveal(), wrapped.encrypted_key))
        except (InvalidUnwrap, ValueError):
            raise KeyMismatch(
                "the ciphertext does not unwrap under this secret",
                kid=self.kid,
                operation="unwrap",
            ) from None


class AzureSecrets(Vaults):
    """Finds secrets in vaults; one for all key rings of the same settings in a process.

    Args:
        settings: As :func:`envelope_azure.settings.checked` returned them.
    """

    def resolve(self, kid: str) -> SecretKey:
        """The exact version without a call, or the newest enabled one with one list of them.

        Raises:
            KeyNotFound, AccessDenied, VaultUnavailable: As the vault said.
            KeyDisabled: No version is enabled.
        """
        name = keyurl.parse(kid)
        if name.scheme != "azurekeyvault-secret" or name.name == "*":
            raise ConfigurationError(f"{kid} is not a secret in a vault")
        vault = self.vault(name.host)
        if name.version is None:
            name = self._newest(vault, name)
        return SecretKey(vault, name)

    def examine_key(self, kid: str, *, wraps: bool, unwraps: bool) -> Iterator[Finding]:
        """See :class:`envelope.keys.KeyExaminer`, and :mod:`envelope_azure.examine_secret`."""
        from envelope_azure.examine_secret import examine

        return examine(self._settings, kid, wraps=wraps, unwraps=unwraps)

    def _newest(self, vault: Vault, name: KeyName) -> KeyName:
        kid, operation = str(name), "resolve"
        try:
            answer = vault.ask(
                "GET", f"secrets/{name.name}", kid=kid, operation=operation, sealed=_VALUE
            )
            return exact(name, answer)
        except KeyDisabled:
            pass  # the newest one, which alone is looked at; an older one may do
        versions = vault.pages(f"secrets/{name.name}/versions", kid=kid, operation="list versions")
        enabled = [item for item in versions if item["attributes"].get("enabled", True)]
        if not enabled:
            raise KeyDisabled(f"no version of {name} is enabled", kid=kid, operation=operation)
        return exact(name, max(enabled, key=lambda item: int(item["attributes"]["created"])))


def exact(name: KeyName, item: Mapping[str, Any]) -> KeyName:
    """The name with the version that an answer is about."""
    version = urlsplit(str(item.get("id"))).path.rpartition("/")[2].lower()
    exact = replace(name, version=version)
    if keyurl.parse(str(exact)) != exact or name.version not in (None, version):
        raise KeyNotFound("the vault answered with another secret", kid=str(name))
    return exact


def fetched(vault: Vault, name: KeyName, operation: str) -> tuple[Secret, Mapping[str, Any]]:
    """A version's key, and what the vault says of it (``nbf``, ``exp`` in seconds).

    Raises:
        KeyOperationForbidden: The secret is not base64 of 32 bytes.
    """
    answer = vault.ask(
        "GET",
        f"secrets/{name.name}/{name.version}",
        kid=str(name),
        operation=operation,
        sealed=_VALUE,
    )
    exact(name, answer)
    return _decoded(answer.pop(_VALUE), str(name), operation), answer.get("attributes") or {}


def _decoded(value: Secret, kid: str, operation: str) -> Secret:
    try:
        key = base64.b64decode(value.reveal(), validate=True)
    except binascii.Error:
        key = b""
    if len(key) != _KEY_BYTES:
        del key
        raise KeyOperationForbidden(
            "the secret is not a key: it has to be base64 of 32 bytes",
            kid=kid,
            operation=operation,
        )
    return Secret(key)
