"""Certificates after they were asked for: requests, merging, lists, deletion, backups.

Whatever happens to a certificate happens to its key and its secret.
"""

from __future__ import annotations

from typing import Any

from ..objects import Item
from . import shelving, x509
from .certificates import CertificateContent, add, bundle, pending_json, summary
from .errors import VaultError, bad_parameter
from .requests import Asked, Json

_PARTS = ("keys", "secrets")


def list_certificates(asked: Asked) -> Json:
    """All certificates; requests that are not answered yet as well, where they are asked for."""
    if asked.query.get("includePending", "").lower() != "true":
        return shelving.list_items(asked, summary)
    items = shelving.by_name(shelving.shelf(asked).live.values())
    rows = [_with_pending(asked, item) for item in items]
    return shelving.page(asked, rows, shelving.names_of(items))


def _with_pending(asked: Asked, item: Item[CertificateContent]) -> Json:
    if item.versions:
        return summary(asked, item, item.current)
    created = item.settings["policy"]["attributes"]["created"]
    attributes = {"enabled": False, "created": created, "updated": created}
    return {"id": shelving.identifier(asked, item.name), "attributes": attributes}


def list_certificate_versions(asked: Asked) -> Json:
    """All versions of a certificate."""
    return shelving.list_versions(asked, summary)


def _pending(asked: Asked) -> Item[CertificateContent]:
    """The certificate of the name, if there is a request for it.

    :raises VaultError: 404.
    """
    item = shelving.shelf(asked).live.get(asked.name.lower())
    if item is None or "pending" not in item.settings:
        raise VaultError(
            404, "PendingCertificateNotFound", f"Pending certificate not found: {asked.name}"
        )
    return item


def get_operation(asked: Asked) -> Json:
    """How far the request has come."""
    return pending_json(asked, _pending(asked))


def update_operation(asked: Asked) -> Json:
    """Ask for the request to be cancelled.

    :raises VaultError: 403, it is answered already.
    """
    item = _pending(asked)
    pending = item.settings["pending"]
    if pending["status"] == "completed":
        raise VaultError(403, "Forbidden", "A completed certificate operation cannot be changed.")
    if asked.body.get("cancellation_requested") is True:
        pending |= {"cancellation_requested": True, "status": "cancelled"}
    return pending_json(asked, item)


def delete_operation(asked: Asked) -> Json:
    """Forget the request, and the certificate if that was all there was of it."""
    item = _pending(asked)
    answer = pending_json(asked, item)
    for member in ("pending", "private", "asked"):
        item.settings.pop(member, None)
    if not item.versions:
        del asked.vault.certificates.live[item.name.lower()]
    return answer


def merge(asked: Asked) -> Json:
    """Complete a request with what somebody else signed.

    :raises VaultError: 404, there is no request; 400, it is not for its key; 403, it is answered.
    """
    item = _pending(asked)
    if item.settings["pending"]["status"] != "inProgress":
        raise VaultError(403, "Forbidden", "There is no pending certificate to merge with.")
    identity = x509.merged(item.settings["private"], asked.body.get("x5c"))
    if any(asked.body.get(member) is not None for member in ("attributes", "tags")):
        item.settings["asked"] = asked.body
    return bundle(asked, item, add(asked, item, identity))


def delete(asked: Asked) -> Json:
    """Delete a certificate with all versions, its key and its secret, recoverably."""
    item = shelving.live(asked)
    shelving.delete(asked, item, asked.vault.certificates)
    item.settings["parts"] = {
        kind: shelving.shelf(asked, kind).live.pop(item.name.lower(), None) for kind in _PARTS
    }
    return deleted_bundle(asked, item)


def deleted_bundle(asked: Asked, item: Item[CertificateContent]) -> Json:
    """A deleted certificate."""
    return bundle(asked, item, item.current) | shelving.deletion_json(asked, item)


def get_deleted(asked: Asked) -> Json:
    """One deleted certificate."""
    return deleted_bundle(asked, shelving.deleted(asked))


def list_deleted(asked: Asked) -> Json:
    """All deleted certificates."""
    return shelving.list_deleted(asked, summary)


def recover(asked: Asked) -> Json:
    """Undo a deletion, of the key and the secret too."""
    item = shelving.deleted(asked)
    shelving.recover(item, asked.vault.certificates)
    _put_back(asked, item, item.settings.pop("parts"))
    return bundle(asked, item, item.current)


def _put_back(asked: Asked, item: Item[CertificateContent], parts: dict[str, Any]) -> None:
    for kind, part in parts.items():
        if part is not None:
            shelving.shelf(asked, kind).live[item.name.lower()] = part


def purge(asked: Asked) -> None:
    """Make a deletion final."""
    item = shelving.deleted(asked)
    shelving.refuse_purge(asked)
    del asked.vault.certificates.deleted[item.name.lower()]


def backup(asked: Asked) -> Json:
    """A blob of a certificate with all versions, its key and its secret."""
    item = shelving.live(asked)
    parts = [shelving.shelf(asked, kind).live[item.name.lower()] for kind in _PARTS]
    return shelving.backup(asked, item, *parts)


def restore(asked: Asked) -> Json:
    """Bring a certificate back from a blob, with its key and its secret."""
    item, *parts = shelving.restored(asked)
    if any(item.name.lower() in shelving.shelf(asked, kind).live for kind in _PARTS):
        raise bad_parameter(f"A key or secret of the name {item.name} already exists.")
    asked.vault.certificates.live[item.name.lower()] = item
    _put_back(asked, item, dict(zip(_PARTS, parts, strict=True)))
    return bundle(asked, item, item.current)
