"""Managing keys in a vault: what `envelope keys …` calls (:class:`envelope.keys.KeyAdmin`).

Key Vault's rules differ from the embedded keystore's where they must: it
deletes, recovers and purges whole keys, never single versions, and a backup is
a blob that only vaults of the same subscription and geography can restore.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from envelope import keyurl
from envelope.errors import AccessDenied, ConfigurationError, KeyNotFound, KeyOperationForbidden
from envelope.keys import KeyInfo
from envelope.keyurl import KeyName
from envelope.secret import Secret
from envelope_azure.importing import Importing, check_options, described, operations_of
from envelope_azure.keyinfo import created, info_of, is_enabled, with_state
from envelope_azure.keys import path_of
from envelope_azure.rotating import Rotation
from envelope_azure.signing import verifying_key
from envelope_azure.vault import Vault

__all__ = ["Admin"]

_RSA_BITS = 3072  # NIST SP 800-57 puts it at 128 bits of security
_ANY = frozenset({"kty", "bits", "use", "not_before", "expires", "key_ops", "note"})


class Admin(Rotation, Importing):
    """The keys of all vaults that these settings reach, managed."""

    def create(self, key: str, **options: Any) -> KeyInfo:
        """Make a key, or refuse if there is one.

        Args:
            key: ``azurekeyvault://VAULT/NAME``.
            options: ``kty`` (``RSA``, the default; ``RSA-HSM``; ``oct-HSM`` in a Managed HSM;
                ``EC`` and ``EC-HSM`` sign, on P-256), ``use`` (``sig`` for an RSA key that signs),
                ``bits`` (3072; 256 for ``oct-HSM``), ``not_before`` and ``expires``
                (RFC 3339), ``key_ops``, ``note``.

        Raises:
            ConfigurationError: It exists already, or an option that cannot be.
            AccessDenied, VaultUnavailable: As the vault said.
        """
        vault, name = self.whole_key(key, "create")
        check_options(options, _ANY)
        if self._bundles(vault, name):
            raise ConfigurationError(
                f"{name} exists already", next_step=f"A new version: envelope keys rotate {name}"
            )
        kind = options.get("kty") or ("oct-HSM" if vault.cloud.hsm else "RSA")
        if kind == "oct":
            kind = "oct-HSM"
        elliptic = kind in ("EC", "EC-HSM")
        size = {"key_size": options.get("bits") or (256 if kind == "oct-HSM" else _RSA_BITS)}
        if elliptic and options.get("bits") not in (None, 256):
            raise ConfigurationError("an EC key is made on P-256 and has 256 bits")
        body = {
            "kty": kind,
            **({"crv": "P-256"} if elliptic else size),
            "key_ops": operations_of(options, signs=elliptic),
            **described(options),
        }
        return info_of(self._ask(vault, "POST", f"keys/{name.name}/create", name, "create", body))

    def list_keys(self, key: str | None = None) -> list[KeyInfo]:
        """All versions of a key, oldest first; of all keys of a vault for ``…://VAULT/*``."""
        if key is None:
            raise ConfigurationError(
                "name a key, or all of a vault", next_step="For example azurekeyvault://VAULT/*."
            )
        name = keyurl.parse(key)
        vault = self.vault(name.host)
        if name.name == "*":
            items = vault.pages("keys", kid=str(name), operation="list")
            names = [keyurl.parse(str(item["kid"])).unversioned for item in items]
            return [info for each in names for info in self.list_keys(str(each))]
        found = self._bundles(vault, name.unversioned)
        if not found:
            return self._deleted_infos(vault, name)
        newest = next((bundle for bundle in reversed(found) if is_enabled(bundle)), None)
        infos = [info_of(bundle, newest=bundle is newest) for bundle in found]
        wanted = [i for i in infos if name.version in (None, keyurl.parse(i.kid).version)]
        if not wanted:
            raise KeyNotFound("the key has no such version", kid=str(name), operation="list")
        return wanted

    def rotate(self, key: str, **_: Any) -> KeyInfo:
        """Make a new version of the kind and size of the newest one."""
        vault, name = self.whole_key(key, "rotate")
        return info_of(self._ask(vault, "POST", f"keys/{name.name}/rotate", name, "rotate"))

    def set_enabled(self, key: str, enabled: bool) -> list[KeyInfo]:
        """Enable or disable a version, or all; returns those that changed."""
        name = keyurl.parse(key)
        vault, changed = self.vault(name.host), []
        for info in self.list_keys(key):
            if info.state == ("disabled" if enabled else "enabled"):
                each = keyurl.parse(info.kid)
                body = {"attributes": {"enabled": enabled}}
                operation = "enable" if enabled else "disable"
                changed.append(
                    info_of(self._ask(vault, "PATCH", path_of(each), each, operation, body))
                )
        return changed

    def delete(self, key: str) -> list[KeyInfo]:
        """Delete a key with all its versions; it can be recovered until its purge date."""
        vault, name = self.whole_key(key, "delete")
        before = self.list_keys(key)
        self._ask(vault, "DELETE", f"keys/{name.name}", name, "delete")
        return [with_state(info, "deleted") for info in before]

    def recover(self, key: str) -> list[KeyInfo]:
        """Undo :meth:`delete`. The vault may need some seconds until the key is usable again."""
        vault, name = self.whole_key(key, "recover")
        bundle = self._ask(vault, "POST", f"deletedkeys/{name.name}/recover", name, "recover")
        return [info_of(bundle)]

    def purge(self, kid: str) -> KeyInfo:
        """Destroy a deleted key with all its versions, for good."""
        vault, name = self.whole_key(kid, "purge")
        deleted = self._ask(vault, "GET", f"deletedkeys/{name.name}", name, "purge")
        self._ask(vault, "DELETE", f"deletedkeys/{name.name}", name, "purge")
        return with_state(info_of(deleted), "destroyed")

    def public(self, key: str) -> bytes:
        """The public half of an RSA or EC key as a PEM file that is a key by itself."""
        name = keyurl.parse(key)
        vault = self.vault(name.host)
        bundle = self._ask(vault, "GET", path_of(name), name, "get")
        if not str(bundle["key"].get("kty")).startswith(("RSA", "EC")):
            raise KeyOperationForbidden(
                "only RSA and EC keys have a public half", kid=str(name), operation="get"
            )
        pem = verifying_key(bundle).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        info = info_of(bundle)
        alg = f"alg: {info.alg}\n" if info.use == "sig" and info.alg != "none" else ""
        return f"kid: {info.kid}\n{alg}".encode() + pem

    def backup(self, key: str | None, passphrase: Secret) -> bytes:  # noqa: ARG002 - the vault seals it
        """All versions of a key in the vault's own sealed blob, in JSON with its name."""
        if key is None:
            raise ConfigurationError("a vault backs up one key at a time: name it")
        vault, name = self.whole_key(key, "backup")
        answer = self._ask(vault, "POST", f"keys/{name.name}/backup", name, "backup")
        return json.dumps({"vault": vault.host, "key": name.name, "blob": answer["value"]}).encode()

    def restore(
        self,
        blob: bytes,
        passphrase: Secret,  # noqa: ARG002 - as in backup
        *,
        to: str | None = None,
    ) -> list[KeyInfo]:
        """Bring a key back, into a vault of the same subscription and geography.

        Args:
            blob: What :meth:`backup` returned.
            passphrase: Not needed.
            to: Any key of the vault that it goes to; ``None``: where it came from.

        Raises:
            ConfigurationError: It is no such backup.
            AccessDenied, VaultUnavailable: As the vault said; also where the key is still there.
        """
        try:
            document = json.loads(blob)
            name = KeyName("azurekeyvault", str(document["vault"]), str(document["key"]))
            body = {"value": str(document["blob"])}
        except (ValueError, KeyError, TypeError):
            raise ConfigurationError("the file is no backup of a key in a vault") from None
        vault = self.vault(keyurl.parse(to or str(name)).host)
        restored = self._ask(vault, "POST", "keys/restore", name, "restore", body)
        return self.list_keys(str(keyurl.parse(str(restored["key"]["kid"])).unversioned))

    # --- What they share ------------------------------------------------------------------------

    def _ask(
        self,
        vault: Vault,
        method: str,
        path: str,
        name: KeyName,
        operation: str,
        body: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        return vault.ask(method, path, kid=str(name), operation=operation, body=body)

    def _bundles(self, vault: Vault, name: KeyName) -> list[dict[str, Any]]:
        """All versions of a key, oldest first; none if there is no such key."""
        items = vault.pages(f"keys/{name.name}/versions", kid=str(name), operation="list")
        try:
            names = [keyurl.parse(str(item["kid"])) for item in items]
        except KeyNotFound:
            return []
        if not names:
            return []
        found = [self._ask(vault, "GET", path_of(each), each, "get") for each in names]
        current = self._ask(vault, "GET", path_of(name), name, "get")["key"]["kid"]
        # Times are whole seconds, and two versions may be of the same one.
        return sorted(found, key=lambda bundle: (created(bundle), bundle["key"]["kid"] == current))

    def _deleted_infos(self, vault: Vault, name: KeyName) -> list[KeyInfo]:
        try:
            deleted = self._ask(vault, "GET", f"deletedkeys/{name.name}", name, "list")
        except AccessDenied:
            raise KeyNotFound(
                "the vault has no such key, and does not say whether it was deleted",
                kid=str(name),
                operation="list",
            ) from None
        return [with_state(info_of(deleted), "deleted")]
