"""Deleting, recovering, purging, backing up and restoring: alike for all kinds of objects.

Follows the vendor's "Azure Key Vault soft-delete overview" and "Azure Key Vault backup".
"""

from __future__ import annotations

import copy
import os
from dataclasses import dataclass

from ..objects import Item
from . import errors, shelving
from .requests import Asked, Json, bytes_of, encode

__all__ = ["Lifecycle"]


@dataclass(frozen=True)
class Lifecycle:
    """The operations on deleted and backed-up objects of one kind.

    The kind itself, ``keys``, ``secrets`` or ``certificates``, is the operation's that was asked.

    :param bundle: an object as calls on one object answer it.
    :param summary: an object as lists have it.
    :param parts: kinds whose objects of the same name go and come with it.
    """

    bundle: shelving.Render
    summary: shelving.Summary
    parts: tuple[str, ...] = ()

    def delete(self, asked: Asked) -> Json:
        """Delete an object with all versions and its parts, recoverably.

        :raises VaultError: 400, it is part of a certificate.
        """
        item, place = shelving.live(asked), shelving.shelf(asked)
        if item.current.managed:
            noun = errors.NOUNS[asked.operation.kind]
            raise errors.bad_parameter(
                f"A {noun} that a certificate manages is deleted with the certificate."
            )
        del place.live[item.name.lower()]
        item.deleted_at = asked.world.clock.now()
        item.purge_at = item.deleted_at + asked.vault.soft_delete_days * 86400
        place.deleted[item.name.lower()] = item
        if self.parts:
            item.settings["parts"] = {
                kind: shelving.shelf(asked, kind).live.pop(item.name.lower(), None)
                for kind in self.parts
            }
        return self._deleted_bundle(asked, item)

    def get_deleted(self, asked: Asked) -> Json:
        """One deleted object."""
        return self._deleted_bundle(asked, _deleted(asked))

    def list_deleted(self, asked: Asked) -> Json:
        """All deleted objects, by name."""
        deleted = shelving.shelf(asked).deleted.values()
        items = shelving.by_name(one for one in deleted if one.versions)
        rows = [
            self.summary(asked, item, item.current) | _deletion_json(asked, item) for item in items
        ]
        return shelving.page(asked, rows, shelving.names_of(items))

    def recover(self, asked: Asked) -> Json:
        """Undo a deletion, of its parts too."""
        item, place = _deleted(asked), shelving.shelf(asked)
        del place.deleted[item.name.lower()]
        item.deleted_at = item.purge_at = None
        place.live[item.name.lower()] = item
        for kind, part in item.settings.pop("parts", {}).items():
            if part is not None:
                shelving.shelf(asked, kind).live[item.name.lower()] = part
        return self.bundle(asked, item, item.current)

    def purge(self, asked: Asked) -> None:
        """Make a deletion final.

        :raises VaultError: 403, the vault's purge protection is on.
        """
        item = _deleted(asked)
        if asked.vault.purge_protection:
            raise errors.forbidden(
                "ForbiddenByPolicy",
                'Operation "purge" is not allowed because purge protection is enabled for this '
                "vault. Key Vault service will automatically purge it after the retention period "
                "has passed.",
            )
        del shelving.shelf(asked).deleted[item.name.lower()]

    def backup(self, asked: Asked) -> Json:
        """A blob that stands for a copy of all versions, and of its parts; nobody can read it."""
        item = shelving.live(asked)
        parts = [shelving.shelf(asked, kind).live[item.name.lower()] for kind in self.parts]
        blob = b"local-key-vault-backup:" + os.urandom(64)
        origin = (asked.operation.kind, asked.vault.audience)
        asked.world.backups[blob] = (origin, copy.deepcopy((item, *parts)))
        return {"value": encode(blob)}

    def restore(self, asked: Asked) -> Json:
        """Bring an object back from a blob, with its versions, identifiers and parts.

        :raises VaultError: 400, no blob of this kind of vault; 409, the name is taken.
        """
        kind = asked.operation.kind
        blob = bytes_of(asked.body, "value")
        origin, items = asked.world.backups.get(blob, (None, ()))
        if origin != (kind, asked.vault.audience):
            raise errors.bad_parameter("Backup blob is malformed or belongs to another vault.")
        item, *parts = copy.deepcopy(items)
        place, name = shelving.shelf(asked), item.name.lower()
        if name in place.deleted:
            raise errors.deleted_but_recoverable(kind, item.name)
        if name in place.live:
            noun = errors.NOUNS[kind]
            raise errors.conflict(
                f"There was a conflict restoring the {noun} {item.name}: it exists."
            )
        if any(name in shelving.shelf(asked, part).live for part in self.parts):
            raise errors.bad_parameter(f"A key or secret of the name {item.name} already exists.")
        place.live[name] = item
        for part_kind, part in zip(self.parts, parts, strict=True):
            shelving.shelf(asked, part_kind).live[name] = part
        return self.bundle(asked, item, item.current)

    def _deleted_bundle(self, asked: Asked, item: Item[object]) -> Json:
        return self.bundle(asked, item, item.current) | _deletion_json(asked, item)


def _deleted(asked: Asked) -> Item[object]:
    """The deleted object that the call names.

    :raises VaultError: 404.
    """
    found = shelving.shelf(asked).deleted.get(asked.name.lower())
    if found is None:
        raise errors.deleted_not_found(asked.operation.kind, asked.name)
    return found


def _deletion_json(asked: Asked, item: Item[object]) -> Json:
    """What a deleted object's bundle and list item have in addition."""
    return {
        "recoveryId": f"{asked.vault.url}/deleted{asked.operation.kind}/{item.name}",
        "deletedDate": int(item.deleted_at or 0),
        "scheduledPurgeDate": int(item.purge_at or 0),
    }
