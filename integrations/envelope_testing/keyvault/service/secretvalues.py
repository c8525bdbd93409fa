"""Secrets in a vault: texts with versions, and the secret halves of certificates.

Follows the vendor's "About Azure Key Vault secrets". A secret's dates inform; they refuse nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ..objects import Item, Version
from . import shelving
from .errors import bad_parameter, forbidden
from .lifecycle import Lifecycle
from .requests import Asked, Json, text_of

_MOST_BYTES = 25 * 1024


@dataclass
class SecretContent:
    """What a version of a secret is."""

    value: str = field(repr=False)
    content_type: str | None = None


def bundle(asked: Asked, item: Item[SecretContent], version: Version[SecretContent]) -> Json:
    """A secret without its value."""
    body = {
        "id": shelving.identifier(asked, item.name, version.version),
        **shelving.common_json(asked, version),
    }
    if version.content.content_type is not None:
        body["contentType"] = version.content.content_type
    if version.managed:
        body["kid"] = f"{asked.vault.url}/keys/{item.name}/{version.version}"
    return body


def summary(asked: Asked, item: Item[SecretContent], version: Version[SecretContent]) -> Json:
    """A secret as lists have it."""
    body = bundle(asked, item, version)
    body.pop("kid", None)
    if asked.operation.name != "list_secret_versions":
        body["id"] = shelving.identifier(asked, item.name)
    return body


def put(asked: Asked) -> Json:
    """A new secret, or a new version of one."""
    value = text_of(asked.body, "value")
    if len(value.encode()) > _MOST_BYTES:
        raise bad_parameter(f"The secret's value is longer than {_MOST_BYTES} bytes.")
    content_type = asked.body.get("contentType")
    if content_type is not None and not isinstance(content_type, str):
        raise bad_parameter("Property  has invalid value: 'contentType'")
    item = shelving.claim(asked)
    if item.versions and item.current.managed:
        raise bad_parameter("A secret that a certificate manages is changed by the certificate.")
    try:
        version = shelving.add_version(asked, item, SecretContent(value, content_type))
    finally:
        if not item.versions:  # it was refused, and leaves no name behind
            del asked.vault.secrets.live[item.name.lower()]
    return {"value": value, **bundle(asked, item, version)}


def get(asked: Asked) -> Json:
    """A secret with its value.

    :raises VaultError: 403, this version is disabled.
    """
    item = shelving.live(asked)
    version = shelving.version_of(asked, item)
    if not version.attributes.enabled:
        raise forbidden("SecretDisabled", "Operation get is not allowed on a disabled secret.")
    return {"value": version.content.value, **bundle(asked, item, version)}


def update(asked: Asked) -> Json:
    """Change a version's attributes, tags or content type; never its value."""
    item = shelving.live(asked)
    version = shelving.version_of(asked, item)
    content_type = asked.body.get("contentType")
    if content_type is not None and not isinstance(content_type, str):
        raise bad_parameter("Property  has invalid value: 'contentType'")
    shelving.update(asked, version)
    if content_type is not None:
        version.content.content_type = content_type
    return bundle(asked, item, version)


def list_secrets(asked: Asked) -> Json:
    """All secrets, without their values."""
    return shelving.list_items(asked, summary)


def list_secret_versions(asked: Asked) -> Json:
    """All versions of a secret, without their values."""
    return shelving.list_versions(asked, summary)


LIFE = Lifecycle(bundle, summary)
"""Deleting and bringing back."""
