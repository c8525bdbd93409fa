"""Who signs certificates for a vault, and who is told about them. Both are kept, and that is all.

Follows the vendor's "Certificate creation methods": this vault signs by itself or leaves it to
somebody else; an issuer of another name is remembered, and never called.
"""

from __future__ import annotations

from .errors import VaultError, bad_parameter
from .requests import Asked, Json, text_of

_MEMBERS = ("provider", "credentials", "org_details")


def set_issuer(asked: Asked) -> Json:
    """Remember an issuer, in place of the one of that name."""
    text_of(asked.body, "provider")
    asked.vault.issuers[asked.name.lower()] = {
        **{name: asked.body[name] for name in _MEMBERS if asked.body.get(name) is not None},
        "name": asked.name,
        "attributes": {"enabled": True, "created": asked.now, "updated": asked.now},
    }
    return update_issuer(asked)


def update_issuer(asked: Asked) -> Json:
    """Change what the body names."""
    issuer = _issuer(asked)
    for name in _MEMBERS:
        if asked.body.get(name) is not None:
            issuer[name] = asked.body[name]
    wanted = asked.body.get("attributes")
    if isinstance(wanted, dict) and wanted.get("enabled") is not None:
        issuer["attributes"]["enabled"] = wanted["enabled"] is True
    issuer["attributes"]["updated"] = asked.now
    return get_issuer(asked)


def get_issuer(asked: Asked) -> Json:
    """One issuer; never the password that was given with it."""
    issuer = _issuer(asked)
    shown = {name: value for name, value in issuer.items() if name != "name"}
    if "credentials" in shown:
        account = shown["credentials"].get("account_id")
        shown["credentials"] = {"account_id": account}
    return {"id": _identifier(asked, issuer), **shown}


def list_issuers(asked: Asked) -> Json:
    """All issuers that were set."""
    rows = [
        {"id": _identifier(asked, issuer), "provider": issuer["provider"]}
        for _, issuer in sorted(asked.vault.issuers.items())
    ]
    return {"value": rows, "nextLink": None}


def delete_issuer(asked: Asked) -> Json:
    """Forget an issuer."""
    answer = get_issuer(asked)
    del asked.vault.issuers[asked.name.lower()]
    return answer


def _issuer(asked: Asked) -> Json:
    issuer = asked.vault.issuers.get(asked.name.lower())
    if issuer is None:
        raise VaultError(404, "IssuerNotFound", f"Issuer not found: {asked.name}")
    return issuer


def _identifier(asked: Asked, issuer: Json) -> str:
    return f"{asked.vault.url}/certificates/issuers/{issuer['name']}"


def set_contacts(asked: Asked) -> Json:
    """Remember who is told, in place of those before."""
    contacts = asked.body.get("contacts")
    if not isinstance(contacts, list) or not contacts:
        raise bad_parameter("Property contacts has invalid value")
    asked.vault.contacts[:] = contacts
    return get_contacts(asked)


def get_contacts(asked: Asked) -> Json:
    """Who is told."""
    if not asked.vault.contacts:
        raise VaultError(404, "ContactsNotFound", "Contacts not found")
    return {
        "id": f"{asked.vault.url}/certificates/contacts",
        "contacts": list(asked.vault.contacts),
    }


def delete_contacts(asked: Asked) -> Json:
    """Forget who is told."""
    answer = get_contacts(asked)
    asked.vault.contacts.clear()
    return answer
