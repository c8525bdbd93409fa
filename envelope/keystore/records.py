"""The JSON of docs/keystore.md as values: pure, no files, no cryptography.

Material is a :class:`Secret` from the moment that a document is parsed, and errors
about a document leave its parser's frames behind (:func:`quiet`): a traceback with
locals would show them.
"""

from __future__ import annotations

import re
import secrets
from base64 import b32encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, TypeVar

from envelope import jose
from envelope.errors import ConfigurationError, EnvelopeError, Malformed, UnsupportedFormat
from envelope.keys import KeyInfo
from envelope.secret import Secret

__all__ = [
    "STATES",
    "Head",
    "Key",
    "Version",
    "fresh_id",
    "now",
    "parse_head",
    "parse_key",
    "parse_version",
    "quiet",
    "timestamp",
    "version_json",
]

STATES = ("enabled", "disabled", "deleted", "destroyed")

_ID = re.compile(r"[a-z0-9]{1,64}\Z")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\Z", re.ASCII)
_OPTIONAL = ("not_before", "expires", "before", "backed_up", "note")

Sealer = Callable[["Version", Secret], Mapping[str, str]]
Opener = Callable[["Version", Mapping[str, Any]], Secret]
E = TypeVar("E", bound=EnvelopeError)


@dataclass(frozen=True)
class Version:
    """One version of a key; ``material`` is None in a tombstone."""

    name: str
    version: str
    state: str
    kty: str
    alg: str
    bits: int
    use: str
    key_ops: tuple[str, ...]
    created: str
    not_before: str | None = None
    expires: str | None = None
    before: str | None = None
    backed_up: str | None = None
    note: str | None = None
    other: Mapping[str, Any] = field(default_factory=dict)
    material: Secret | None = field(default=None, repr=False)

    @property
    def kid(self) -> str:
        return f"local:{self.name}/{self.version}"

    def info(self, *, newest: bool = False) -> KeyInfo:
        return KeyInfo(
            self.kid,
            self.state,
            self.kty,
            self.alg,
            self.bits,
            self.use,
            self.key_ops,
            self.created,
            self.not_before,
            self.expires,
            newest,
            self.note,
        )


@dataclass(frozen=True)
class Key:
    """All versions of a key, in the order in which they became the newest."""

    name: str
    versions: tuple[Version, ...]
    other: Mapping[str, Any] = field(default_factory=dict)

    def find(self, version: str) -> Version | None:
        return next((each for each in self.versions if each.version == version), None)

    def newest(self, moment: str) -> Version | None:
        """The version that wraps at ``moment``: the last enabled one that has started.

        One that has expired is not passed over: going back to an older key in
        silence is not what an end date asks for.
        """
        enabled = [each for each in self.versions if each.state == "enabled"]
        started = [each for each in enabled if not each.not_before or each.not_before <= moment]
        usable = started or enabled
        return usable[-1] if usable else None

    def with_version(self, changed: Version) -> Key:
        versions = tuple(changed if v.version == changed.version else v for v in self.versions)
        return replace(self, versions=versions)


@dataclass(frozen=True)
class Head:
    """keystore.json: the keystore's id, protection and passphrase slots (as JSON)."""

    id: str
    created: str
    protect: str
    slots: tuple[Mapping[str, Any], ...] = ()
    other: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        slots = {"slots": list(self.slots)} if self.slots else {}
        return {
            "envelope_keystore": 1,
            "id": self.id,
            "created": self.created,
            "protect": self.protect,
            **slots,
            **self.other,
        }


def fresh_id() -> str:
    """128 random bits as 26 lower-case base32 characters."""
    return b32encode(secrets.token_bytes(16)).decode().rstrip("=").lower()


def now() -> str:
    """The time as RFC 3339 in UTC, to the second; such texts sort as their times do."""
    return _written(datetime.now(UTC))


def timestamp(given: str | datetime | None, what: str) -> str | None:
    """A date that a caller gave, in the form of :func:`now`.

    Raises:
        ConfigurationError: It is no RFC 3339 time, or has no time zone.
    """
    if given is None:
        return None
    try:
        moment = given if isinstance(given, datetime) else datetime.fromisoformat(given)
    except (TypeError, ValueError):
        raise ConfigurationError(f"{what} is not an RFC 3339 time, such as {now()}") from None
    if moment.tzinfo is None:
        raise ConfigurationError(f"{what} needs a time zone; write UTC as a final Z")
    return _written(moment.astimezone(UTC))


def _written(moment: datetime) -> str:
    return moment.replace(microsecond=0, tzinfo=None).isoformat() + "Z"


def parse_head(document: Mapping[str, Any], what: str) -> Head:
    """keystore.json, parsed as far as it can be before anything in it is authenticated."""
    members = dict(document)
    _check_format(members, "envelope_keystore", what)
    slots = members.pop("slots", [])
    protect = _text(members, "protect", what)
    if protect not in ("passphrase", "permissions"):
        raise UnsupportedFormat(f"{what} has a protection that this release does not know")
    if not isinstance(slots, list) or not all(isinstance(slot, dict) for slot in slots):
        raise Malformed(f"{what}: slots is not a list of objects")
    if len(slots) > 2 or bool(slots) != (protect == "passphrase"):
        raise Malformed(f"{what} has the wrong number of passphrase slots")
    return Head(
        _id(members, "id", what), _time(members, "created", what), protect, tuple(slots), members
    )


def parse_key(document: Mapping[str, Any], head: Head, name: str, unseal: Opener, what: str) -> Key:
    """NAME.key.json, with material opened by ``unseal``.

    Raises:
        Malformed: It breaks a rule of docs/keystore.md, or is another keystore's or key's file.
    """
    members = dict(document)
    _check_format(members, "envelope_key", what)
    if _id(members, "keystore", what) != head.id:
        raise Malformed(f"{what} belongs to another keystore")
    if _text(members, "name", what) != name:
        raise Malformed(f"{what} belongs to another key")
    listed = members.pop("versions", None)
    if not isinstance(listed, list) or not listed:
        raise Malformed(f"{what} lists no versions")
    versions = tuple(parse_version(each, name, unseal, what) for each in listed)
    if len({each.version for each in versions}) != len(versions):
        raise Malformed(f"{what} lists a version twice")
    return Key(name, versions, members)


def parse_version(given: Any, name: str, unseal: Opener, what: str) -> Version:
    """One member of ``versions``."""
    if not isinstance(given, dict):
        raise Malformed(f"{what}: a version is not an object")
    members = dict(given)
    sealed = members.pop("material", None)
    state = _text(members, "state", what)
    key_ops = members.pop("key_ops", None)
    bits = members.pop("bits", None)
    if state not in STATES or (sealed is None) != (state == "destroyed"):
        raise Malformed(f"{what}: a version's state does not fit its material")
    if not isinstance(key_ops, list) or not all(isinstance(op, str) for op in key_ops):
        raise Malformed(f"{what}: key_ops is not a list of texts")
    if not isinstance(bits, int) or isinstance(bits, bool):
        raise Malformed(f"{what}: bits is not a number")
    version = Version(
        name,
        _id(members, "version", what),
        state,
        _text(members, "kty", what),
        _text(members, "alg", what),
        bits,
        _text(members, "use", what),
        tuple(key_ops),
        _time(members, "created", what),
        **{member: _optional(members, member, what) for member in _OPTIONAL},
        other=members,
    )
    if sealed is None:
        return version
    if not isinstance(sealed, dict):
        raise Malformed(f"{what}: material is not an object")
    return replace(version, material=unseal(version, sealed))


def version_json(version: Version, seal: Sealer) -> dict[str, Any]:
    """The JSON of one version, with material sealed by ``seal``."""
    return {
        "version": version.version,
        "state": version.state,
        "kty": version.kty,
        "alg": version.alg,
        "bits": version.bits,
        "use": version.use,
        "key_ops": list(version.key_ops),
        "created": version.created,
        **{member: value for member in _OPTIONAL if (value := getattr(version, member))},
        **version.other,
        **({"material": seal(version, version.material)} if version.material else {}),
    }


def quiet(error: E) -> E:
    """``error`` without the frames that it came through, for documents that hold keys in plain.

    A parser's locals are the document. Which member of it is wrong cannot be
    foreseen, so all frames go; whoever raises the result adds their own.
    """
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)


def hidden(document: jose.JsonObject) -> jose.JsonObject:
    """``document`` with every plain material inside replaced by a Secret; never raises."""
    for holder in [document, *_objects(document.get("keys"))]:
        for version in _objects(holder.get("versions")):
            material = version.get("material")
            if isinstance(material, dict) and "value" in material:
                material["value"] = Secret(str(material["value"]).encode("utf-8", "replace"))
    return document


def _objects(value: Any) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _check_format(members: dict[str, Any], member: str, what: str) -> None:
    found = members.pop(member, None)
    if type(found) is not int:
        raise Malformed(f"{what} has no {member}")
    if found != 1:
        raise UnsupportedFormat(f"{what} is of format {found}, which this release does not know")


def _text(members: dict[str, Any], member: str, what: str) -> str:
    value = members.pop(member, None)
    if not isinstance(value, str):
        raise Malformed(f"{what}: {member} is not a text")
    return value


def _optional(members: dict[str, Any], member: str, what: str) -> Any:
    if member not in members:
        return None
    return (_text if member in ("note", "before") else _time)(members, member, what)


def _id(members: dict[str, Any], member: str, what: str) -> str:
    value = _text(members, member, what)
    if not _ID.match(value):
        raise Malformed(f"{what}: {member} has other characters than a-z and 0-9")
    return value


def _time(members: dict[str, Any], member: str, what: str) -> str:
    value = _text(members, member, what)
    if not _TIME.match(value):
        raise Malformed(f"{what}: {member} is not an RFC 3339 time in UTC")
    return value
