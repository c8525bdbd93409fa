"""The keystore's documents as they lie in the folder: read, checked, cached, written.

docs/keystore.md has both files and says what their MAC covers.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from envelope import jose, runtime
from envelope.errors import (
    AlreadyExists,
    ConfigurationError,
    EnvelopeError,
    KeyNotFound,
    Malformed,
    Tampered,
    UnsupportedFormat,
)
from envelope.events import Notice, emit
from envelope.keystore import passphrase
from envelope.keystore.material import PlainMaterial, RestKeys
from envelope.keystore.records import (
    Head,
    Key,
    fresh_id,
    hidden,
    now,
    parse_head,
    parse_key,
    quiet,
    version_json,
)
from envelope.keystore.slots import Argon2, make_slot
from envelope.keystore.store import HEAD, Folder, Signature, file_of, settled
from envelope.secret import Secret

__all__ = ["Contents"]

_MAC_START = b',"mac":"'
_MAC_LENGTH = len(_MAC_START) + 43 + len('"}')
_RESTORE = "Restore the keystore from a backup, and find out who changed it."

Seals = RestKeys | PlainMaterial
P = TypeVar("P", Head, Key)


class _Warned:
    """What a process has already been warned of, so that it is told once."""

    survives_fork = True

    def __init__(self) -> None:
        self.of: set[tuple[str, ...]] = set()


class Contents:
    """One keystore, by the driver's settings. Holds no lock, so it may be shared and forked.

    Args:
        settings: What ``LOCAL.settings`` returned.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.settings = dict(settings)
        self.folder = Folder(self.settings["keystore"])
        self._head: tuple[Signature, Head, Seals] | None = None
        self._keys: dict[str, tuple[Signature, Signature, Key]] = {}

    def head(self) -> Head | None:
        """keystore.json, unlocked and verified, or None where there is no keystore."""
        opened = self._opened()
        return None if opened is None else opened[1]

    def raw_head(self) -> Head | None:
        """keystore.json as far as it is known without the passphrase: nothing in it is proven."""
        found = self.folder.read(HEAD, plain=False)
        return None if found is None else self._head_of(found[0])

    def key(self, name: str) -> Key | None:
        """All versions of a key as they are on disk now, or None where there is none."""
        opened = self._opened()
        if opened is None:
            return None
        kept = self._keys.get(name)
        if kept and kept[0] == opened[0] and kept[1] == self.folder.signature(file_of(name)):
            return kept[2]
        found = self.folder.read(file_of(name), plain=opened[1].protect == "permissions")
        if found is None:
            return None
        self.folder.check(plain=opened[1].protect == "permissions")
        key = self._parsed(found[0], name, opened[1], opened[2])
        if settled(found[1]):
            self._keys[name] = (opened[0], found[1], key)
        self._warn_without_backup(key)
        return key

    def require(self, name: str) -> Key:
        """:meth:`key`, or KeyNotFound."""
        key = self.key(name)
        if key is None:
            if self.folder.signature(HEAD) is None:
                raise self._absent(f"local:{name}")
            raise KeyNotFound(
                f"there is no key local:{name} in the keystore at {self.folder.path}",
                kid=f"local:{name}",
                operation="resolve",
                next_step="Check the name, set ENVELOPE_KEYSTORE, or make it: "
                f"envelope keys create local:{name}.",
            )
        return key

    def all_keys(self) -> list[Key]:
        """All keys, by name."""
        return [key for name in self.folder.names() if (key := self.key(name))]

    def prepare(self, protect: str | None) -> None:
        """Make the keystore where there is none; unlock it, so that nothing asks under the lock.

        Args:
            protect: ``passphrase``, ``permissions``, or None: as it is, else by the settings,
                else by passphrase.

        Raises:
            ConfigurationError: It is there with another protection.
        """
        if protect not in (None, "passphrase", "permissions"):
            raise ConfigurationError("protect is passphrase or permissions")
        if protect and self.settings.get("protect") not in (None, protect):
            raise ConfigurationError(f"protect={protect} contradicts the configured protection")
        head = self.head()
        if head is None:
            self._make(protect or self.settings.get("protect") or "passphrase")
            head = self.head()
        if head is not None and protect not in (None, head.protect):
            raise ConfigurationError(
                f"the keystore at {self.folder.path} is protected by {head.protect}",
                next_step="Use another folder (ENVELOPE_KEYSTORE): protection is the keystore's.",
            )

    @contextmanager
    def writing(self) -> Iterator[None]:
        """The only writer; :meth:`save` and :meth:`save_head` are for inside."""
        # First unlock, and perhaps ask a person, before anybody has to wait for us.
        if self.head() is None:
            raise self._absent(None)
        with self.folder.locked():
            yield

    def save(self, key: Key) -> None:
        """Publish a key's file."""
        opened = self._opened()
        if opened is None:
            raise ConfigurationError(f"the keystore at {self.folder.path} is gone")
        _, head, seals = opened
        document = {"envelope_key": 1, "keystore": head.id, "name": key.name}
        self._write(file_of(key.name), seals, lambda: {
            **document,
            "versions": [version_json(version, seals.seal) for version in key.versions],
            **key.other,
        })  # fmt: skip

    def save_new(self, key: Key) -> None:
        """Publish the file of a key that must not be there yet."""
        if self.folder.signature(file_of(key.name)) is not None:
            raise AlreadyExists(
                f"the key local:{key.name} exists already",
                kid=f"local:{key.name}",
                next_step="Choose another name, or make a new version with rotate.",
            )
        self.save(key)

    def save_head(self, head: Head) -> None:
        """Publish keystore.json, with the same keystore key as before."""
        self._write(HEAD, self._seals(head), head.to_json)

    def _absent(self, kid: str | None) -> KeyNotFound:
        return KeyNotFound(
            f"there is no keystore at {self.folder.path}",
            kid=kid,
            operation="resolve",
            next_step="Set ENVELOPE_KEYSTORE to where it is, restore a backup, or run "
            "envelope init to make one.",
        )

    def _opened(self) -> tuple[Signature, Head, Seals] | None:
        kept = self._head
        if kept is not None and kept[0] == self.folder.signature(HEAD):
            return kept
        found = self.folder.read(HEAD, plain=False)
        if found is None:
            if self.folder.names():  # a new keystore here would take their place
                raise Malformed(
                    f"the keystore has keys and no {HEAD}",
                    path=self.folder.path,
                    next_step=f"Put {HEAD} back, or restore a backup into another folder "
                    "(ENVELOPE_KEYSTORE).",
                )
            return None
        data, state = found
        head = self._head_of(data)
        if head.protect == "permissions" and self.settings.get("protect") == "passphrase":
            raise ConfigurationError(
                f"the keystore at {self.folder.path} is not protected by a passphrase, "
                "as the configuration demands"
            )
        self.folder.check(plain=head.protect == "permissions")
        seals = self._seals(head)
        self._verify(data, HEAD, seals)
        if settled(state):
            self._head = (state, head, seals)
        return state, head, seals

    def _seals(self, head: Head) -> Seals:
        if head.protect == "permissions":
            return PlainMaterial()
        return RestKeys(passphrase.keystore_key(head, self.settings), head.id)

    def _make(self, protect: str) -> None:
        slots: tuple[Mapping[str, Any], ...] = ()
        identity, keystore_key = fresh_id(), Secret.random(32)
        if protect == "passphrase":
            cost = Argon2.from_options(self.settings.get("argon2"))
            chosen = passphrase.find(self.settings, new=True)
            slots = (make_slot(identity, keystore_key, chosen, cost),)
        head = Head(identity, now(), protect, slots)
        self.folder.make()
        self.folder.check(plain=protect == "permissions")
        with self.folder.locked():
            if self.folder.signature(HEAD) is not None:
                return  # another process was quicker; its keystore is the one
            if protect == "passphrase":
                passphrase.remember(self.folder.path, identity, keystore_key)
            self.save_head(head)
        if protect == "permissions":
            emit(
                Notice(
                    f"the keystore at {self.folder.path} is protected only by file permissions: "
                    "whoever can read it has its keys"
                )
            )

    def _parsed(self, data: Secret, name: str, head: Head, seals: Seals) -> Key:
        what = file_of(name)
        self._verify(data, what, seals)
        return self._sound(what, _key_of(data, head, name, seals, what))

    def _head_of(self, data: Secret) -> Head:
        return self._sound(HEAD, _head_of(data))

    def _sound(self, what: str, parsed: P | EnvelopeError) -> P:
        if isinstance(parsed, EnvelopeError):
            parsed.path = self.folder.file(what)
            if not isinstance(parsed, UnsupportedFormat):
                parsed.next_step = _RESTORE
            raise parsed
        return parsed

    def _verify(self, data: Secret, what: str, seals: Seals) -> None:
        if isinstance(seals, PlainMaterial):
            return
        covered = Secret(data.reveal()[: -_MAC_LENGTH - 1])
        tail = _MAC_START + jose.b64u_encode(seals.mac(what, covered)).encode() + b'"}\n'
        if not hmac.compare_digest(tail, data.reveal()[-_MAC_LENGTH - 1 :]):
            raise Tampered(
                "the keystore's file was changed by somebody without its passphrase",
                path=self.folder.file(what),
                next_step=_RESTORE,
            )

    def _write(self, what: str, seals: Seals, document: Any) -> None:
        data = Secret(json.dumps(document(), ensure_ascii=False, separators=(",", ":")).encode())
        if isinstance(seals, RestKeys):
            covered = Secret(data.reveal()[:-1])
            mac = jose.b64u_encode(seals.mac(what, covered)).encode()
            self.folder.write(what, Secret(covered.reveal() + _MAC_START + mac + b'"}\n'))
        else:
            self.folder.write(what, Secret(data.reveal() + b"\n"))

    def _warn_without_backup(self, key: Key) -> None:
        # A lost signer makes no file unreadable: another one signs from then on.
        live = [each for each in key.versions if each.material and each.use != "sig"]
        warned = runtime.current().state(_Warned).of
        mark = (self.folder.path, key.name)
        if mark in warned or not live or all(version.backed_up for version in live):
            return
        warned.add(mark)
        emit(
            Notice(
                f"local:{key.name} has a version that is in no backup: without this folder or a "
                "backup, nobody can read what it encrypted (envelope keys backup)"
            )
        )


def _head_of(data: Secret) -> Head | EnvelopeError:
    try:
        return parse_head(_document(data, HEAD), HEAD)
    except EnvelopeError as error:
        return quiet(error)


def _key_of(data: Secret, head: Head, name: str, seals: Seals, what: str) -> Key | EnvelopeError:
    try:
        return parse_key(_document(data, what), head, name, seals.open, what)
    except EnvelopeError as error:
        return quiet(error)


def _document(data: Secret, what: str) -> jose.JsonObject:
    document = hidden(jose.loads(data.reveal().removesuffix(b"\n"), what))
    document.pop("mac", None)
    return document
