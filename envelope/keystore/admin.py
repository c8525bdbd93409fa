"""Managing keys: what `envelope keys …` calls (:class:`envelope.keys.KeyAdmin`).

Each operation reads the key's file anew under the lock, changes a copy, and
publishes it whole. docs/keystore.md, "States".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from envelope import keyurl
from envelope.errors import (
    AlreadyExists,
    ConfigurationError,
    KeyDisabled,
    KeyNotFound,
    KeyOperationForbidden,
)
from envelope.keys import KeyInfo
from envelope.keystore import backup
from envelope.keystore import material as kinds
from envelope.keystore.contents import Contents
from envelope.keystore.records import Key, Version, fresh_id, now, timestamp
from envelope.keyurl import KeyName
from envelope.secret import Secret

__all__ = ["Admin"]

_OPERATIONS = {"enc": ("wrapKey", "unwrapKey"), "sig": ("sign", "verify")}


class Admin:
    """The keys of one keystore, managed."""

    def __init__(self, contents: Contents) -> None:
        self.contents = contents

    def create(self, key: str, **options: Any) -> KeyInfo:
        """Make a key, and the keystore where there is none yet.

        Args:
            key: ``local:NAME``.
            options: ``kty`` (``oct``, the default, ``RSA``, or ``EC``, which signs), ``bits``,
                ``use`` (``enc``, or ``sig`` for an RSA key that signs), ``protect``
                (``passphrase`` or ``permissions``: the keystore's, chosen with its first key),
                ``not_before`` and ``expires`` (RFC 3339 or datetime), ``key_ops``, ``note``.

        Raises:
            AlreadyExists: There is a key of that name.
            ConfigurationError: A bad option, no passphrase, or another protection.
        """
        name = _name(key, "create")
        kty = options.get("kty") or "oct"
        use = _use(kty, options.get("use"))
        described = _described(options, ("kty", "bits", "use", "protect"), use)
        fresh, bits = kinds.generate(kty, options.get("bits"))
        version = _version(name.name, kty, use, bits, fresh, described)
        self.contents.prepare(options.get("protect"))
        with self.contents.writing():
            saved = Key(name.name, (version,))
            self.contents.save_new(saved)
        return _infos(saved)[-1]

    def import_key(self, key: str, material: Secret, **options: Any) -> KeyInfo:
        """Take in foreign material as the newest version of a key, new or not.

        Args:
            key: ``local:NAME``, or the full kid where the version is to have a known id.
            material: 32 raw AES bytes, or a private RSA or EC key as PEM or PKCS #8 DER.
            options: As for :meth:`create`, without ``kty`` and ``bits``.

        Raises:
            AlreadyExists: The full kid is there.
            ConfigurationError: The material is neither of the two, or has another use than the
                key's other versions.
        """
        name = _name(key)
        kty, taken, bits = (
            ("oct", material, 256) if len(material) == 32 else kinds.load_private(material)
        )
        use = _use(kty, options.get("use"))
        described = _described(options, ("use", "protect"), use)
        version = _version(name.name, kty, use, bits, taken, described)
        if name.version:
            version = replace(version, version=name.version)
        self.contents.prepare(options.get("protect"))
        with self.contents.writing():
            found = self.contents.key(name.name)
            if found and found.find(version.version):
                raise AlreadyExists(f"{version.kid} exists already", kid=version.kid)
            if found and found.versions[-1].use != use:
                raise ConfigurationError(
                    f"{name.unversioned} has another use, and a key has one",
                    next_step="Import it under another name.",
                )
            saved = _appended(found or Key(name.name, ()), version)
            self.contents.save(saved)
        return _infos(saved)[-1]

    def list_keys(self, key: str | None = None) -> list[KeyInfo]:
        """All versions of a key, or of all keys, oldest first."""
        if key is None:
            return [info for found in self.contents.all_keys() for info in _infos(found)]
        name = _name(key)
        found = self.contents.require(name.name)
        kids = {version.kid for version in _selected(found, name)}
        return [info for info in _infos(found) if info.kid in kids]

    def rotate(self, key: str, **options: Any) -> KeyInfo:
        """Make a new version of the type and size of the newest one; older ones go on unwrapping.

        Args:
            key: ``local:NAME``.
            options: ``not_before``, ``expires`` and ``note`` of the new version.
        """
        name = _name(key, "rotate")
        last = self.contents.require(name.name).versions[-1]
        use = _use(last.kty, last.use)
        described = {"key_ops": last.key_ops} | _described(options, (), use)
        fresh, bits = kinds.generate(last.kty, last.bits)  # slow for RSA, so not under the lock
        version = _version(name.name, last.kty, use, bits, fresh, described)
        with self.contents.writing():
            saved = _appended(self.contents.require(name.name), version)
            self.contents.save(saved)
        return _infos(saved)[-1]

    def set_enabled(self, key: str, enabled: bool) -> list[KeyInfo]:
        """Enable or disable a version, or all that are neither deleted nor destroyed.

        Raises:
            KeyDisabled: The one version named is deleted; recover it first.
            KeyNotFound: It is not there, or destroyed.
        """
        state = "enabled" if enabled else "disabled"
        return self._changed(
            key, ("enabled", "disabled"), lambda version: replace(version, state=state)
        )

    def delete(self, key: str) -> list[KeyInfo]:
        """Put a version, or all, out of use; :meth:`recover` undoes it."""
        return self._changed(
            key,
            ("enabled", "disabled"),
            lambda version: replace(version, state="deleted", before=version.state),
        )

    def recover(self, key: str) -> list[KeyInfo]:
        """Undo :meth:`delete`: each version gets the state that it had before."""
        return self._changed(
            key,
            ("deleted",),
            lambda version: replace(
                version,
                state="disabled" if version.before == "disabled" else "enabled",
                before=None,
            ),
        )

    def purge(self, kid: str) -> KeyInfo:
        """Destroy the material of one version for good; a tombstone stays.

        Raises:
            ConfigurationError: ``kid`` is not the full kid of a version.
        """
        if not _name(kid).version:
            raise ConfigurationError(
                f"{kid} names no version", next_step="To destroy a version, give its full kid."
            )
        return self._changed(
            kid,
            ("enabled", "disabled", "deleted"),
            lambda version: replace(version, state="destroyed", before=None, material=None),
        )[0]

    def public(self, key: str) -> bytes:
        """The public half of an RSA or EC key as PEM, with its kid on a line before (RFC 7468).

        Raises:
            KeyOperationForbidden: It is an AES key.
        """
        name = _name(key)
        found = self.contents.require(name.name)
        version = _selected(found, name)[0] if name.version else found.newest(now())
        if version is None:
            raise KeyDisabled(f"no version of {name} is enabled", kid=str(name), operation="public")
        if version.material is None:
            raise _unfit(version, ())
        if version.kty == "oct":
            raise KeyOperationForbidden(
                f"{version.kid} has no public half: it is a secret AES key",
                kid=version.kid,
                operation="public",
                next_step="Make a key for it: envelope keys create local:NAME --kty RSA.",
            )
        pem = kinds.public_key(version).public_bytes(
            Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
        )
        return f"kid: {version.kid}\nalg: {version.alg}\n".encode() + pem

    def backup(self, key: str | None, passphrase: Secret) -> bytes:
        """One file, wrapped by ``passphrase``, with a key or (None) the whole keystore."""
        name = None if key is None else _name(key, "back up").name
        return backup.pack(self.contents, name, passphrase)

    def restore(
        self, blob: bytes, passphrase: Secret, *, protect: str | None = None, merge: bool = False
    ) -> list[KeyInfo]:
        """Take in a backup; version ids stay, nothing is overwritten. Returns what was added.

        Args:
            blob: What :meth:`backup` returned.
            passphrase: The backup's.
            protect: Of the keystore, where there is none yet; by default as it was.
            merge: Add the versions of a different key that has the same name, as older ones.

        Raises:
            AccessDenied: The passphrase is not the backup's, or the backup was changed.
            AlreadyExists: A different key is here; nothing was written.
            Malformed: It is no backup.
        """
        return backup.unpack(self.contents, blob, passphrase, protect=protect, merge=merge)

    def _changed(
        self, key: str, states: tuple[str, ...], change: Callable[[Version], Version]
    ) -> list[KeyInfo]:
        """Apply ``change`` to the versions that ``key`` names and that are in one of ``states``."""
        name = _name(key)
        with self.contents.writing():
            found = self.contents.require(name.name)
            changed = [
                change(version) for version in _selected(found, name) if version.state in states
            ]
            if name.version and not changed:
                raise _unfit(_selected(found, name)[0], states)
            for version in changed:
                found = found.with_version(version)
            if changed:
                self.contents.save(found)
        kids = {version.kid for version in changed}
        return [info for info in _infos(found) if info.kid in kids]


def _name(key: str, whole: str | None = None) -> KeyName:
    name = keyurl.parse(key)
    if name.scheme != "local":
        raise ConfigurationError(f"{key} is not a key of the embedded keystore")
    if whole and name.version:
        raise ConfigurationError(
            f"{key} names a version", next_step=f"To {whole} a key, name it without a version."
        )
    return name


def _selected(key: Key, name: KeyName) -> list[Version]:
    if name.version is None:
        return list(key.versions)
    found = key.find(name.version)
    if found is None:
        raise KeyNotFound(f"there is no version {name} in this keystore", kid=str(name))
    return [found]


def _infos(key: Key) -> list[KeyInfo]:
    newest = key.newest(now())
    return [version.info(newest=version is newest) for version in key.versions]


def _unfit(version: Version, states: Iterable[str]) -> Exception:
    if version.state == "destroyed":
        return KeyNotFound(f"{version.kid} was destroyed", kid=version.kid)
    if version.state == "deleted":
        return KeyDisabled(
            f"{version.kid} is deleted",
            kid=version.kid,
            next_step="Recover it first: envelope keys recover.",
        )
    return ConfigurationError(
        f"{version.kid} is {version.state}, not {' or '.join(states)}", kid=version.kid
    )


def _use(kty: str, given: object) -> str:
    """What a key of that type is for: EC keys sign, others only if that was said."""
    use = given or ("sig" if kty == "EC" else "enc")
    uses = [known for kind, known in kinds.ALGORITHMS if kind == kty]
    if not isinstance(use, str) or use not in (uses or _OPERATIONS):
        raise ConfigurationError(f"a key of type {kty} is not for {use!r}")
    return use


def _described(options: Mapping[str, Any], further: tuple[str, ...], use: str) -> dict[str, Any]:
    """The members of a new version that its maker chose."""
    known = ("not_before", "expires", "key_ops", "note", *further)
    for option in options:
        if option not in known:
            raise ConfigurationError(
                f"unknown option {option!r}", next_step=f"Known: {', '.join(known)}."
            )
    chosen: dict[str, Any] = {
        what: timestamp(options.get(what), what) for what in ("not_before", "expires")
    }
    if chosen["not_before"] and chosen["expires"] and chosen["not_before"] >= chosen["expires"]:
        raise ConfigurationError("the key would expire before it starts")
    if (key_ops := options.get("key_ops")) is not None:
        known_ops = _OPERATIONS[use]
        chosen["key_ops"] = tuple(op for op in known_ops if op in key_ops)
        if not key_ops or isinstance(key_ops, str) or set(key_ops) - set(known_ops):
            raise ConfigurationError(f"key_ops lists {', '.join(known_ops)}, or both")
    if (note := options.get("note")) is not None:
        chosen["note"] = str(note)
    return chosen


def _version(
    name: str, kty: str, use: str, bits: int, fresh: Secret, described: Mapping[str, Any]
) -> Version:
    members = {"key_ops": _OPERATIONS[use]} | dict(described)
    return Version(
        name,
        fresh_id(),
        "enabled",
        kty,
        kinds.ALGORITHMS[kty, use],
        bits,
        use,
        created=now(),
        material=fresh,
        **members,
    )


def _appended(key: Key, version: Version) -> Key:
    """``key`` with a newest version; its time never runs backwards."""
    latest = max((each.created for each in key.versions), default="")
    version = replace(version, created=max(latest, version.created))
    return replace(key, versions=(*key.versions, version))
