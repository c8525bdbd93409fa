"""Certificates after they were asked for: requests, merging, lists, deletion, backups.

Whatever happens to a certificate happens to its key and its secret.
"""

from __future__ import annotations

from ..objects import Item
from . import shelving, x509
from .certificates import CertificateContent, add, bundle, pending_json, summary
from .errors import VaultError
from .lifecycle import Lifecycle
from .requests import Asked, Json


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


LIFE = Lifecycle(bundle, summary, parts=("keys", "secrets"))
"""Deleting and bringing back, of its key and its secret too."""
