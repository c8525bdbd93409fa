"""Managing keys in a vault, at the resolver that reads files: forwarded to what does it.

Imports stand in methods: :mod:`envelope_azure.admin` and what it takes would be some per cent of
opening a first file in a fresh process, which manages no keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from envelope.keys import KeyInfo, RotationPolicy
from envelope.secret import Secret
from envelope_azure.vault import Vaults

if TYPE_CHECKING:
    from envelope_azure.admin import Admin

__all__ = ["Managing"]


class Managing(Vaults):
    """:class:`envelope.keys.KeyAdmin` and :class:`envelope.keys.KeyRotator`: see ``Admin``.

    Args:
        settings, shared: As for :class:`envelope_azure.vault.Vaults`.
    """

    seals_backups = True  # by itself, so that nobody is asked for a passphrase

    def _admin(self) -> Admin:
        from envelope_azure.admin import Admin

        return Admin(self._settings, shared=self)

    def create(self, key: str, **options: Any) -> KeyInfo:
        """See :meth:`envelope_azure.admin.Admin.create`."""
        return self._admin().create(key, **options)

    def import_key(self, key: str, material: Secret, **options: Any) -> KeyInfo:
        """See :meth:`envelope_azure.importing.Importing.import_key`."""
        return self._admin().import_key(key, material, **options)

    def transfer_blob(self, transfer_key: str, material: Secret, public: bytes | None) -> bytes:
        """See :meth:`envelope_azure.importing.Importing.transfer_blob`."""
        return self._admin().transfer_blob(transfer_key, material, public)

    def list_keys(self, key: str | None = None) -> list[KeyInfo]:
        """See :meth:`envelope_azure.admin.Admin.list_keys`."""
        return self._admin().list_keys(key)

    def rotate(self, key: str, **options: Any) -> KeyInfo:
        """See :meth:`envelope_azure.admin.Admin.rotate`."""
        return self._admin().rotate(key, **options)

    def rotation_policy(self, key: str) -> RotationPolicy:
        """See :meth:`envelope_azure.rotating.Rotation.rotation_policy`."""
        return self._admin().rotation_policy(key)

    def set_rotation_policy(self, key: str, changes: Mapping[str, str | None]) -> RotationPolicy:
        """See :meth:`envelope_azure.rotating.Rotation.set_rotation_policy`."""
        return self._admin().set_rotation_policy(key, changes)

    def set_enabled(self, key: str, enabled: bool) -> list[KeyInfo]:
        """See :meth:`envelope_azure.admin.Admin.set_enabled`."""
        return self._admin().set_enabled(key, enabled)

    def delete(self, key: str) -> list[KeyInfo]:
        """See :meth:`envelope_azure.admin.Admin.delete`."""
        return self._admin().delete(key)

    def recover(self, key: str) -> list[KeyInfo]:
        """See :meth:`envelope_azure.admin.Admin.recover`."""
        return self._admin().recover(key)

    def purge(self, kid: str) -> KeyInfo:
        """See :meth:`envelope_azure.admin.Admin.purge`."""
        return self._admin().purge(kid)

    def public(self, key: str) -> bytes:
        """See :meth:`envelope_azure.admin.Admin.public`."""
        return self._admin().public(key)

    def backup(self, key: str | None, passphrase: Secret) -> bytes:
        """See :meth:`envelope_azure.admin.Admin.backup`."""
        return self._admin().backup(key, passphrase)

    def restore(self, blob: bytes, passphrase: Secret, *, to: str | None = None) -> list[KeyInfo]:
        """See :meth:`envelope_azure.admin.Admin.restore`."""
        return self._admin().restore(blob, passphrase, to=to)
