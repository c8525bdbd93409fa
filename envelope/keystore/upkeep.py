"""Looking after a keystore: passphrases changed and added, and what `envelope doctor` reports."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from envelope.errors import AccessDenied, ConfigurationError, EnvelopeError, KeyNotFound
from envelope.keystore import passphrase as phrases
from envelope.keystore.contents import Contents
from envelope.keystore.records import Head, Key, now, timestamp
from envelope.keystore.slots import Argon2, make_slot, open_slots
from envelope.keystore.store import HEAD, check_access, file_of
from envelope.secret import Secret

__all__ = [
    "Finding",
    "add_passphrase",
    "change_passphrase",
    "examine",
    "remove_passphrase",
    "unlock",
]

_SOON = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is well or not.

    ``level`` is ``ok``, ``warning`` or ``error``; ``code`` is a word for programs:
    ``folder``, ``access``, ``leftover``, ``protection``, ``locked``, ``unreadable``,
    ``backup``, ``dates``.
    """

    level: str
    code: str
    path: str
    text: str
    next_step: str | None = None


def unlock(settings: Mapping[str, Any], passphrase: Secret | None = None) -> int:
    """Check a passphrase against the slots, whatever this process has unlocked before.

    Args:
        settings: What ``LOCAL.settings`` returned.
        passphrase: None for the one that the usual sources give.

    Returns:
        The number of the slot that it opens, from 0.

    Raises:
        AccessDenied: It opens none.
        ConfigurationError: The keystore has no passphrase, or none was given.
        KeyNotFound: There is no keystore.
    """
    contents = Contents(settings)
    return _opened(contents, passphrase)[0]


def add_passphrase(settings: Mapping[str, Any], new: Secret, current: Secret | None = None) -> None:
    """Let a second passphrase open the keystore as well.

    Raises:
        AccessDenied: ``current`` (or what the usual sources give) opens no slot.
        ConfigurationError: Both slots are taken, or ``new`` is empty.
    """

    def added(slots: list[Any], _index: int, fresh: Any) -> list[Any]:
        if len(slots) > 1:
            raise ConfigurationError(
                "the keystore has two passphrases already",
                next_step="Change one of them, or remove one first.",
            )
        return [*slots, fresh]

    _rewrite(settings, current, new, added)


def change_passphrase(
    settings: Mapping[str, Any], new: Secret, current: Secret | None = None
) -> None:
    """Put ``new`` in the place of ``current``; another passphrase goes on opening the keystore."""

    def changed(slots: list[Any], index: int, fresh: Any) -> list[Any]:
        return [*slots[:index], fresh, *slots[index + 1 :]]

    _rewrite(settings, current, new, changed)


def remove_passphrase(settings: Mapping[str, Any], passphrase: Secret) -> None:
    """Let ``passphrase`` open the keystore no more; the other one goes on doing so."""

    def removed(slots: list[Any], index: int, _fresh: Any) -> list[Any]:
        if len(slots) == 1:
            raise ConfigurationError("this is the keystore's only passphrase; change it instead")
        return [*slots[:index], *slots[index + 1 :]]

    _rewrite(settings, passphrase, None, removed)


def _opened(contents: Contents, passphrase: Secret | None) -> tuple[int, Secret, Head]:
    head = contents.raw_head()
    folder = contents.folder.path
    if head is None:
        raise KeyNotFound(f"there is no keystore at {folder}", operation="unlock")
    if head.protect != "passphrase":
        raise ConfigurationError(f"the keystore at {folder} has no passphrase, only permissions")
    given = phrases.normalised(passphrase) if passphrase else phrases.find(contents.settings)
    opened = open_slots(head, given)
    if opened is None:
        raise phrases.wrong_passphrase(folder)
    return opened[0], opened[1], head


def _rewrite(
    settings: Mapping[str, Any],
    current: Secret | None,
    new: Secret | None,
    change: Callable[[list[Any], int, Any], list[Any]],
) -> None:
    contents = Contents(settings)
    index, keystore_key, before = _opened(contents, current)
    fresh = None
    if new is not None:
        chosen = phrases.normalised(new)
        if not len(chosen):
            raise ConfigurationError("a passphrase must not be empty")
        cost = Argon2.from_options(contents.settings.get("argon2"))
        fresh = make_slot(before.id, keystore_key, chosen, cost)
    phrases.remember(contents.folder.path, before.id, keystore_key)
    with contents.writing():
        head = contents.head()
        if head is None or before.slots[index] not in head.slots:
            raise AccessDenied(
                "the passphrase was changed meanwhile", operation="unlock", next_step="Start over."
            )
        place = head.slots.index(before.slots[index])
        contents.save_head(replace(head, slots=tuple(change(list(head.slots), place, fresh))))


def examine(settings: Mapping[str, Any]) -> list[Finding]:
    """Everything about a keystore that a person should know; changes nothing, raises nothing.

    Args:
        settings: What ``LOCAL.settings`` returned. What needs a passphrase is left out without one.
    """
    contents = Contents(settings)
    if contents.folder.signature(HEAD) is None:
        try:
            contents.head()  # raises where only keystore.json is missing
        except EnvelopeError as error:
            path = contents.folder.file(HEAD)
            return [Finding("error", "unreadable", path, error.message, error.next_step)]
        text = "there is no keystore here"
        return [Finding("warning", "folder", contents.folder.path, text, "Run envelope init.")]
    return [*_examined_folder(contents), *_examined_keys(contents)]


def _examined_folder(contents: Contents) -> Iterator[Finding]:
    folder = contents.folder
    try:
        head = contents.raw_head()
        plain = head is not None and head.protect == "permissions"
    except EnvelopeError as error:
        plain = True
        yield Finding("error", "unreadable", folder.file(HEAD), error.message, error.next_step)
    files = [folder.file(name) for name in (HEAD, *map(file_of, folder.names()))]
    wrong = 0
    for path in [folder.path, *files]:
        try:
            check_access(os.stat(path), path, plain=plain)
        except (ConfigurationError, OSError) as error:
            wrong += 1
            step = error.next_step if isinstance(error, ConfigurationError) else None
            yield Finding("error", "access", path, getattr(error, "message", str(error)), step)
    if not wrong:
        yield Finding("ok", "access", folder.path, "owner and modes are as they should be")
    for name in folder.leftovers():
        yield Finding(
            "warning",
            "leftover",
            folder.file(name),
            "a write was interrupted, or is under way",
            "The next write removes it.",
        )
    if plain:
        yield Finding(
            "warning",
            "protection",
            folder.path,
            "keys are protected only by file permissions",
            "Back up, and restore into a new folder with --protect passphrase.",
        )
    else:
        yield Finding("ok", "protection", folder.path, "keys are wrapped under a passphrase")


def _examined_keys(contents: Contents) -> Iterator[Finding]:
    try:
        contents.head()
    except ConfigurationError as error:
        yield Finding(
            "warning", "locked", contents.folder.path, f"not looked into: {error.message}",
            error.next_step,
        )  # fmt: skip
        return
    except EnvelopeError as error:
        path = contents.folder.path
        yield Finding("error", "unreadable", path, error.message, error.next_step)
        return
    for name in contents.folder.names():
        path = contents.folder.file(file_of(name))
        try:
            key = contents.key(name)
        except EnvelopeError as error:
            yield Finding("error", "unreadable", path, error.message, error.next_step)
            continue
        if key is not None:
            yield from _examined_key(key, path)


def _examined_key(key: Key, path: str) -> Iterator[Finding]:
    live = [version for version in key.versions if version.material]
    missing = [version.kid for version in live if not version.backed_up]
    if missing:
        yield Finding(
            "warning",
            "backup",
            path,
            f"in no backup: {', '.join(missing)}",
            f"Run envelope keys backup local:{key.name}.",
        )
    elif live:
        oldest = min(version.backed_up or "" for version in live)
        yield Finding("ok", "backup", path, f"backed up, last at {oldest}")
    newest = key.newest(now())
    soon = timestamp(datetime.now(UTC) + _SOON, "now") or ""
    if newest is not None and newest.expires and newest.expires <= soon:
        ended = newest.expires <= now()
        yield Finding(
            "error" if ended else "warning",
            "dates",
            path,
            f"{newest.kid} {'ended' if ended else 'ends'} at {newest.expires}",
            f"Run envelope keys rotate local:{key.name}.",
        )
