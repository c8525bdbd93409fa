"""Keys in a vault: created, imported, read, changed, rotated, deleted, restored.

Follows the vendor's "About keys" and the reference of its REST API. What keys do is in
:mod:`.usage`, what makes them rotate by themselves in :mod:`.rotation`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..objects import Item, Version
from . import rotation, shelving
from .errors import bad_parameter, not_supported
from .lifecycle import Lifecycle
from .material import Secret, Spec, from_jwk, from_transfer, public_json, spec_of, transfer_kid
from .requests import Asked, Json, bytes_of, encode, object_of, text_of

_ALL_OPERATIONS = {
    "RSA": ["encrypt", "decrypt", "sign", "verify", "wrapKey", "unwrapKey"],
    "EC": ["sign", "verify"],
    "oct": ["encrypt", "decrypt", "wrapKey", "unwrapKey"],
}
_KNOWN_OPERATIONS = {*_ALL_OPERATIONS["RSA"], "import", "export"}


@dataclass
class KeyContent:
    """What a version of a key is. ``key_ops`` is the one thing that can change."""

    kty: str
    secret: Secret = field(repr=False)
    key_ops: list[str] = field(default_factory=list)

    @property
    def family(self) -> str:
        """RSA, EC or oct."""
        return self.kty.removesuffix("-HSM")


def bundle(asked: Asked, item: Item[KeyContent], version: Version[KeyContent]) -> Json:
    """A key as calls on one key answer it: never its private part."""
    content = version.content
    key = {
        "kid": shelving.identifier(asked, item.name, version.version),
        "kty": content.kty,
        "key_ops": content.key_ops,
        **public_json(content.secret),
    }
    body = {"key": key, **_common(asked, version)}
    if "release_policy" in version.extra:
        body["release_policy"] = version.extra["release_policy"]
    return body


def summary(asked: Asked, item: Item[KeyContent], version: Version[KeyContent]) -> Json:
    """A key as lists have it."""
    exact = version.version if asked.operation.name == "list_key_versions" else None
    return {"kid": shelving.identifier(asked, item.name, exact), **_common(asked, version)}


def _common(asked: Asked, version: Version[KeyContent]) -> Json:
    body = shelving.common_json(asked, version)
    body["attributes"]["exportable"] = bool(version.extra.get("exportable"))
    if version.content.kty.endswith("-HSM"):
        body["attributes"]["hsmPlatform"] = "2" if asked.vault.is_hsm else "1"
    return body


def key_ops_of(wanted: object, family: str) -> list[str]:
    """The operations that a body allows; all that the type of key has, where it says nothing.

    :raises VaultError: 400, unknown ones.
    """
    if wanted is None:
        return list(_ALL_OPERATIONS[family])
    if not isinstance(wanted, list) or not _KNOWN_OPERATIONS.issuperset(wanted):
        raise bad_parameter("Property  has invalid value: 'key_ops'")
    if "import" in wanted and len(wanted) > 1:
        raise bad_parameter("Key operation 'import' excludes all others")
    return list(wanted)


def prepare_create(asked: Asked) -> Callable[[], Any]:
    """What makes the key; RSA takes long."""
    return Spec.read(asked.body, hsm=asked.vault.is_hsm).make


def create(asked: Asked) -> Json:
    """A new key, or a new version of one."""
    spec = Spec.read(asked.body, hsm=asked.vault.is_hsm)
    ops = key_ops_of(asked.body.get("key_ops"), spec.kty.removesuffix("-HSM"))
    return _add(asked, KeyContent(spec.kty, asked.prepared, ops))


def import_key(asked: Asked) -> Json:
    """A key made elsewhere: as a JWK, or in a transfer blob that only an HSM can open."""
    jwk = object_of(asked.body, "key")
    kty = text_of(jwk, "kty")
    family = kty.removesuffix("-HSM")
    if asked.vault.is_hsm or asked.body.get("Hsm") or asked.body.get("hsm"):
        kty = f"{family}-HSM"
    if family not in _ALL_OPERATIONS or (family == "oct" and not asked.vault.is_hsm):
        raise bad_parameter("Property  has invalid value: 'kty'")
    secret = _transferred(asked, jwk, family) if jwk.get("key_hsm") else from_jwk(jwk)
    return _add(asked, KeyContent(kty, secret, key_ops_of(jwk.get("key_ops"), family)))


def _transferred(asked: Asked, jwk: Json, family: str) -> Secret:
    blob = bytes_of(jwk, "key_hsm")
    kid = transfer_kid(blob)
    prefix, _, tail = kid.partition("/keys/")
    name, _, version = tail.partition("/")
    item = asked.vault.keys.live.get(name.lower())
    exchange = item.versions.get(version) if item is not None else None
    if prefix != asked.vault.url or exchange is None:
        raise bad_parameter(f"The key exchange key {kid} was not found in this vault.")
    if exchange.content.key_ops != ["import"] or not exchange.content.kty.endswith("-HSM"):
        raise bad_parameter("The key exchange key must be an HSM key whose operation is import.")
    return from_transfer(blob, exchange.content.secret, family)


def _add(asked: Asked, content: KeyContent) -> Json:
    wanted = object_of(asked.body, "attributes")
    policy = asked.body.get("release_policy")
    exportable = wanted.get("exportable") is True
    if exportable != (policy is not None):
        raise bad_parameter("An exportable key must have a release policy, and no other may.")
    item = shelving.claim(asked)
    try:
        version = shelving.add_version(asked, item, content)
    finally:
        if not item.versions:  # it was refused, and leaves no name behind
            del asked.vault.keys.live[item.name.lower()]
    if exportable:
        version.extra |= {"exportable": True, "release_policy": policy}
    return bundle(asked, item, version)


def get(asked: Asked) -> Json:
    """One version of a key."""
    item = shelving.live(asked)
    return bundle(asked, item, shelving.version_of(asked, item))


def update(asked: Asked) -> Json:
    """Change a version's attributes, tags, operations or release policy."""
    item = shelving.live(asked)
    version = shelving.version_of(asked, item)
    ops = asked.body.get("key_ops")
    if ops is not None:
        ops = key_ops_of(ops, version.content.family)
    policy = asked.body.get("release_policy")
    if policy is not None and not version.extra.get("exportable"):
        raise bad_parameter("A key that is not exportable has no release policy.")
    before = version.extra.get("release_policy", {})
    if policy is not None and before.get("immutable") is True and policy != before:
        raise bad_parameter("An immutable release policy cannot be changed.")
    shelving.update(asked, version)
    if ops is not None:
        version.content.key_ops = ops
    if policy is not None:
        version.extra["release_policy"] = policy
    return bundle(asked, item, version)


def attestation(asked: Asked) -> Json:
    """Refuse to attest to a key: no HSM holds it.

    :raises VaultError: always.
    """
    shelving.version_of(asked, shelving.live(asked))
    raise not_supported("Key attestation is not supported by this HSM.")


def list_keys(asked: Asked) -> Json:
    """All keys."""
    return shelving.list_items(asked, summary)


def list_key_versions(asked: Asked) -> Json:
    """All versions of a key."""
    return shelving.list_versions(asked, summary)


LIFE = Lifecycle(bundle, summary)
"""Deleting and bringing back."""


def prepare_rotate(asked: Asked) -> Callable[[], Any]:
    """What makes the next version's key."""
    content: KeyContent = shelving.live(asked).current.content
    return spec_of(content.kty, content.secret).make


def rotate(asked: Asked) -> Json:
    """A new version like the newest."""
    item = shelving.live(asked)
    return bundle(asked, item, rotation.rotate(item, asked.prepared, asked.now))


def get_rotation_policy(asked: Asked) -> Json:
    """When the key rotates by itself."""
    return rotation.policy_json(asked, shelving.live(asked))


def update_rotation_policy(asked: Asked) -> Json:
    """Say when the key rotates by itself."""
    item = shelving.live(asked)
    rotation.set_policy(asked, item)
    return rotation.policy_json(asked, item)


def random_bytes(asked: Asked) -> Json:
    """Random bytes of a Managed HSM."""
    count = asked.body.get("count")
    if not isinstance(count, int) or not 1 <= count <= 128:
        raise bad_parameter("Property  has invalid value: 'count' must be between 1 and 128")
    return {"value": encode(os.urandom(count))}
