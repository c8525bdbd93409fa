"""Taking in keys that were made elsewhere: as they are, in a transfer blob, as a certificate."""

from __future__ import annotations

import base64
import datetime
from collections.abc import Mapping
from typing import Any

from envelope import keyurl
from envelope.errors import ConfigurationError, EnvelopeError
from envelope.keys import KeyInfo
from envelope.keyurl import KeyName
from envelope.secret import Secret
from envelope_azure.keyinfo import info_of
from envelope_azure.keys import path_of
from envelope_azure.material import holds_certificate, pkcs8, private_jwk, rsa_key
from envelope_azure.transfer import TransferKey, blob_of, named_in
from envelope_azure.vault import Text, Vault, Vaults

__all__ = ["Importing", "check_options", "described", "operations_of"]

_OPERATIONS = {"enc": ("wrapKey", "unwrapKey"), "sig": ("sign", "verify")}
_KEY = frozenset({"not_before", "expires", "key_ops", "note", "use", "hsm", "transfer_key", "kty"})
_CERTIFICATE = frozenset({"note"})
_AES_BYTES = 32


class Importing(Vaults):
    """Keys of one's own, brought into the vaults that these settings reach ("BYOK")."""

    def import_key(self, key: str, material: Secret, **options: Any) -> KeyInfo:
        """Take a key of one's own as the newest version.

        Args:
            key: ``azurekeyvault://VAULT/NAME``; for a certificate with its key,
                ``azurekeyvault-certificate://VAULT/NAME``.
            material: A private RSA key as PEM or PKCS #8 DER, beside it the certificate as PEM
                where one is meant; with ``transfer_key`` into a Managed HSM also 32 bytes; or a
                transfer blob.
            options: ``transfer_key`` (the key in the same vault's HSM to encrypt it for), ``hsm``
                (it is to be an HSM's key), ``kty`` (what a transfer blob holds: ``RSA``, or ``oct``
                in a Managed HSM), ``use``, ``not_before``, ``expires``, ``key_ops``, ``note``.

        Raises:
            ConfigurationError: The material is of another kind, or an option that cannot be.
            KeyOperationForbidden: ``transfer_key`` is no key to transfer with.
            AccessDenied, KeyNotFound, VaultUnavailable: As the vault said.
        """
        vault, name = self.whole_key(key, "import")
        if name.scheme == "azurekeyvault-certificate":
            check_options(options, _CERTIFICATE)
            return _certificate(vault, name, material, options)
        check_options(options, _KEY)
        jwk, hsm = self._jwk(vault, name, material, options)
        ops = operations_of(options)
        body = {"key": {**jwk, "key_ops": ops}, "Hsm": hsm, **described(options)}
        return info_of(
            vault.ask("PUT", f"keys/{name.name}", kid=str(name), operation="import", body=body)
        )

    def transfer_blob(self, transfer_key: str, material: Secret, public: bytes | None) -> bytes:
        """Key material, encrypted for an HSM's transfer key.

        Args:
            transfer_key: Its name.
            material: A private RSA key as PEM or PKCS #8 DER; 32 bytes for a Managed HSM.
            public: Its public half as PEM, so that the vault is not asked.

        Raises:
            ConfigurationError, KeyOperationForbidden: As for :meth:`import_key`.
        """
        if public is None:
            to = self._transfer_key(transfer_key)
        else:
            to = TransferKey.of_pem(transfer_key, public)
        hsm = self.vault(to.name.host).cloud.hsm
        return blob_of(_plain(material, hsm=hsm)[1], to)

    def _jwk(
        self, vault: Vault, name: KeyName, material: Secret, options: Mapping[str, Any]
    ) -> tuple[dict[str, Any], bool]:
        """The key as the vault takes it, and whether it is to be an HSM's."""
        blob, to = named_in(material.reveal()), options.get("transfer_key")
        if blob is not None:
            if to is not None:
                raise ConfigurationError(
                    "the file is a transfer blob already", next_step="Leave out --transfer-key."
                )
            _same_vault(blob, name)
            kind = options.get("kty") or "RSA"
            return {"kty": f"{kind}-HSM", "key_hsm": material}, True
        if to is not None:
            _same_vault(keyurl.parse(to), name)
            kind, plain = _plain(material, hsm=vault.cloud.hsm)
            sealed = blob_of(plain, self._transfer_key(to))
            return {"kty": f"{kind}-HSM", "key_hsm": Secret(sealed)}, True
        if options.get("kty") not in (None, "RSA"):
            raise ConfigurationError(
                "symmetric keys come into a Managed HSM in a transfer blob alone",
                next_step="Give --transfer-key.",
            )
        hsm = bool(options.get("hsm")) or vault.cloud.hsm
        return {**private_jwk(rsa_key(material)), "kty": "RSA-HSM" if hsm else "RSA"}, hsm

    def _transfer_key(self, key: str) -> TransferKey:
        name = keyurl.parse(key)
        bundle = self.vault(name.host).ask(
            "GET", path_of(name), kid=str(name), operation="get the transfer key"
        )
        found = TransferKey.of_bundle(bundle)
        if found.name.unversioned != name.unversioned:
            raise EnvelopeError(f"the vault answered for {found.name}", kid=str(name))
        return found


def check_options(options: Mapping[str, Any], known: frozenset[str]) -> None:
    """Refuse options that have no meaning here.

    Raises:
        ConfigurationError: There is one.
    """
    for name, value in options.items():
        if name not in known and value is not None:
            raise ConfigurationError(f"a key in a vault has no option {name} here")


def operations_of(options: Mapping[str, Any], *, signs: bool = False) -> list[str]:
    """What a new key may do: ``key_ops``, else what its ``use`` takes.

    Args:
        options: As the caller gave them.
        signs: Keys of its kind sign, and do not wrap.

    Raises:
        ConfigurationError: It is to wrap, and cannot; or there is no such use.
    """
    use = options.get("use") or ("sig" if signs else "enc")
    if use not in _OPERATIONS or (signs and use != "sig"):
        raise ConfigurationError("a key's use is enc or sig; EC keys sign, and do not wrap")
    return list(options.get("key_ops") or _OPERATIONS[use])


def described(options: Mapping[str, Any]) -> dict[str, Any]:
    """The members of a request that say what a new version is like.

    Raises:
        ConfigurationError: A date that is none.
    """
    attributes: dict[str, Any] = {"enabled": True}
    for option, member in (("not_before", "nbf"), ("expires", "exp")):
        if options.get(option):
            attributes[member] = _seconds(options[option])
    tags = {"note": str(options["note"])} if options.get("note") else {}
    return {"attributes": attributes, "tags": tags}


def _seconds(value: str | datetime.datetime) -> int:
    try:
        moment = datetime.datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        raise ConfigurationError(
            f"{value!r} is no time", next_step="Write it like 2030-01-01T00:00:00Z."
        ) from None
    if moment.tzinfo is None:
        raise ConfigurationError(f"{value} has no time zone", next_step="Write it with a Z.")
    return int(moment.timestamp())


def _plain(material: Secret, *, hsm: bool) -> tuple[str, Secret]:
    """The kind of the key, and what a transfer blob holds of it."""
    if len(material) != _AES_BYTES:
        return "RSA", pkcs8(rsa_key(material))
    if not hsm:
        raise ConfigurationError(
            "a vault takes RSA keys alone", next_step="A Managed HSM takes symmetric keys."
        )
    return "oct", material


def _same_vault(transfer_key: KeyName, name: KeyName) -> None:
    if transfer_key.host != name.host:
        raise ConfigurationError(
            f"the transfer key is in {transfer_key.host}, and brings keys into that vault alone",
            next_step=f"Use a transfer key in {name.host}.",
        )


def _certificate(
    vault: Vault, name: KeyName, material: Secret, options: Mapping[str, Any]
) -> KeyInfo:
    if not holds_certificate(material):
        raise ConfigurationError(
            "the file holds no certificate with its private key",
            next_step="A key alone is imported under azurekeyvault://.",
        )
    rsa_key(material)  # a key of another kind would be taken in, and wrap nothing
    body = {
        "value": Text(Secret(base64.b64encode(material.reveal()))),
        "policy": {"secret_props": {"contentType": "application/x-pem-file"}},
        "tags": described(options)["tags"],
    }
    made = vault.ask(
        "POST", f"certificates/{name.name}/import", kid=str(name), operation="import", body=body
    )
    made_key = keyurl.parse(str(made["kid"]))
    return info_of(vault.ask("GET", path_of(made_key), kid=str(name), operation="get"))
