"""Backup and restore: one file under a passphrase of its own (docs/keystore.md has its bytes)."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from envelope import jose, keyurl
from envelope.errors import (
    AccessDenied,
    AlreadyExists,
    ConfigurationError,
    EnvelopeError,
    KeyNotFound,
    Malformed,
    UnsupportedFormat,
)
from envelope.keys import KeyInfo
from envelope.keystore import material
from envelope.keystore.contents import Contents
from envelope.keystore.passphrase import normalised
from envelope.keystore.records import Key, Version, hidden, now, parse_version, quiet, version_json
from envelope.keystore.slots import Argon2
from envelope.secret import Secret

__all__ = ["pack", "unpack"]

_LARGEST = 64 * 2**20
_PLAIN = material.PlainMaterial()


def pack(contents: Contents, name: str | None, passphrase: Secret) -> bytes:
    """Back up a key or (None) all keys, and note in their files when that was.

    Raises:
        KeyNotFound: There is no such key, or nothing to back up.
    """
    passphrase = normalised(passphrase)
    if not len(passphrase):
        raise ConfigurationError("a backup needs a passphrase")
    cost = Argon2.from_options(contents.settings.get("argon2"))
    salt, iv, created = os.urandom(16), os.urandom(12), now()
    wrapping = cost.derive(passphrase, salt)
    if name is not None:
        contents.require(name)
    with contents.writing():
        head = contents.head()
        keys = contents.all_keys() if name is None else [contents.require(name)]
        if head is None or not keys:
            raise KeyNotFound(f"there are no keys in the keystore at {contents.folder.path}")
        aad = material.lines("envelope keystore/1 backup", head.id, created, *cost.bound(salt))
        sealed = material.seal_gcm(wrapping, _content(head.protect, keys), aad, iv)
        for key in keys:
            marked = tuple(
                replace(version, backed_up=created) if version.material else version
                for version in key.versions
            )
            contents.save(replace(key, versions=marked))
    return (
        jose.dumps(
            {
                "envelope_keystore_backup": 1,
                "keystore": head.id,
                "created": created,
                **cost.to_json(salt),
                "iv": jose.b64u_encode(iv),
                "ciphertext": jose.b64u_encode(sealed),
            }
        )
        + b"\n"
    )


def unpack(
    contents: Contents, blob: bytes, passphrase: Secret, *, protect: str | None, merge: bool
) -> list[KeyInfo]:
    """Restore a backup; see :meth:`envelope.keystore.admin.Admin.restore`."""
    was, keys = _opened(blob, normalised(passphrase))
    if contents.folder.signature("keystore.json") is None:
        contents.prepare(protect or contents.settings.get("protect") or was)
    else:
        contents.prepare(protect)
    with contents.writing():
        merged = [(_merged(contents.key(key.name), key, merge=merge), key) for key in keys]
        added: list[KeyInfo] = []
        for result, key in merged:  # every conflict was raised above, before the first write
            before = contents.key(key.name)
            if before is None or before.versions != result.versions:
                contents.save(result)
            newest = result.newest(now())
            added.extend(
                version.info(newest=version is newest)
                for version in result.versions
                if before is None or before.find(version.version) is None
            )
    return added


def _merged(here: Key | None, backed_up: Key, *, merge: bool) -> Key:
    if here is None:
        return backed_up
    further: list[Version] = []
    for version in backed_up.versions:
        found = here.find(version.version)
        if found is None:
            further.append(version)
        elif _differ(found, version):
            raise AlreadyExists(
                f"{version.kid} is here with other key material than in the backup",
                kid=version.kid,
                next_step="Restore into another folder: set ENVELOPE_KEYSTORE.",
            )
    if len(further) < len(backed_up.versions):
        versions = list(here.versions)
        for version in further:
            after = [i for i, each in enumerate(versions) if each.created > version.created]
            versions.insert(after[0] if after else len(versions), version)
        return replace(here, versions=tuple(versions))
    if not merge:
        raise AlreadyExists(
            f"a different key local:{here.name} is here: it has no version of the backup's",
            kid=f"local:{here.name}",
            next_step="Restore into another folder (ENVELOPE_KEYSTORE), or allow merging.",
        )
    return replace(here, versions=(*further, *here.versions))


def _differ(here: Version, backed_up: Version) -> bool:
    if here.material is None or backed_up.material is None:
        return False  # a tombstone stays one, and destroys nothing
    return here.material != backed_up.material or here.kty != backed_up.kty


def _content(protect: str, keys: Sequence[Key]) -> Secret:
    return Secret(
        json.dumps(
            {
                "protect": protect,
                "keys": [
                    {
                        "name": key.name,
                        "versions": [version_json(each, _PLAIN.seal) for each in key.versions],
                    }
                    for key in keys
                ],
            },
            ensure_ascii=False,
            separators=(",", ":"),
        ).encode()
    )


def _opened(blob: bytes, passphrase: Secret) -> tuple[str, list[Key]]:
    what = "the backup"
    if len(blob) > _LARGEST:
        raise Malformed(f"{what} is larger than {_LARGEST} bytes")
    outer = jose.loads(blob.removesuffix(b"\n"), what)
    if outer.get("envelope_keystore_backup") != 1:
        raise UnsupportedFormat("this is not a keystore's backup, or one of a later release")
    cost = Argon2.from_json(outer, what)
    salt = jose.b64u_decode(outer.get("salt"), "salt", length=16)
    iv = jose.b64u_decode(outer.get("iv"), "iv", length=12)
    sealed = jose.b64u_decode(outer.get("ciphertext"), "ciphertext")
    bound = (str(outer.get("keystore")), str(outer.get("created")))
    aad = material.lines("envelope keystore/1 backup", *bound, *cost.bound(salt))
    content = material.open_gcm(cost.derive(passphrase, salt), iv, sealed, aad)
    if content is None:
        raise AccessDenied(
            "the passphrase does not open this backup, or the backup was changed",
            operation="restore",
            next_step="Give the passphrase that the backup was made with, or take another copy.",
        )
    parsed = _parsed(content, outer.get("created"), what)
    if isinstance(parsed, EnvelopeError):
        raise parsed
    return parsed


def _parsed(content: Secret, made: Any, what: str) -> tuple[str, list[Key]] | EnvelopeError:
    try:
        document = hidden(jose.loads(content.reveal(), what))
        protect, keys = document.get("protect"), document.get("keys")
        if protect not in ("passphrase", "permissions") or not isinstance(keys, list):
            raise Malformed(f"{what} has no list of keys")
        return protect, [_key(each, what, made) for each in keys]
    except EnvelopeError as error:
        return quiet(error)


def _key(given: Any, what: str, made: Any) -> Key:
    if not isinstance(given, dict) or not isinstance(given.get("versions"), list):
        raise Malformed(f"{what}: a key is not an object with versions")
    try:
        name = keyurl.parse(f"local:{given.get('name')}")
    except ConfigurationError as error:
        raise Malformed(f"{what}: {error.message}") from None
    versions = tuple(
        parse_version(
            {**each, "backed_up": made} if isinstance(each, dict) else each,
            name.name,
            _PLAIN.open,
            what,
        )
        for each in given["versions"]
    )
    if name.version or not versions or len({v.version for v in versions}) != len(versions):
        raise Malformed(f"{what}: a key has no proper name, no versions, or one of them twice")
    return Key(name.name, versions)
