"""Passphrases: where they come from, and what this process has unlocked with them.

docs/keystore.md, "Protection by passphrase".
"""

from __future__ import annotations

import getpass
import os
import shlex
import subprocess
import sys
import threading
import unicodedata
from collections.abc import Mapping
from typing import Any

from envelope import runtime
from envelope.errors import AccessDenied, ConfigurationError
from envelope.events import Notice, emit
from envelope.keystore.records import Head
from envelope.keystore.slots import open_slots
from envelope.secret import Secret

__all__ = [
    "find",
    "forget",
    "from_file",
    "keystore_key",
    "normalised",
    "provide",
    "remember",
    "wrong_passphrase",
]

_VARIABLE = "ENVELOPE_PASSPHRASE"
_COMMAND_SECONDS = 120
_LONGEST = 4096


class _Unlocked:
    """Opened keystore keys and passphrases that programs gave, for this process.

    A forked child keeps them: their bytes are in its memory in any case, and a
    pool's workers must not each ask at the terminal.
    """

    survives_fork = True

    def __init__(self) -> None:
        self.keys: dict[tuple[str, str], Secret] = {}
        self.given: dict[str | None, Secret] = {}


class _Gate:
    """One Argon2 at a time: 64 MiB each. Made afresh after a fork, as every lock must be."""

    def __init__(self) -> None:
        self.lock = threading.Lock()


def provide(passphrase: Secret, keystore: str | os.PathLike[str] | None = None) -> None:
    """Use ``passphrase`` in this process, before any other source.

    Args:
        passphrase: UTF-8 text.
        keystore: The folder that it is for; None for every keystore.
    """
    folder = None if keystore is None else os.path.abspath(keystore)
    runtime.current().state(_Unlocked).given[folder] = normalised(passphrase)


def forget(keystore: str | os.PathLike[str] | None = None) -> None:
    """Drop opened keystore keys and given passphrases: of one folder, or all."""
    state = runtime.current().state(_Unlocked)
    folder = None if keystore is None else os.path.abspath(keystore)
    state.keys = {key: kept for key, kept in state.keys.items() if folder not in (None, key[0])}
    state.given = {key: kept for key, kept in state.given.items() if folder not in (None, key)}


def remember(folder: str, head_id: str, key: Secret) -> None:
    """Keep an opened keystore key for this process."""
    runtime.current().state(_Unlocked).keys[folder, head_id] = key


def keystore_key(head: Head, settings: Mapping[str, Any]) -> Secret:
    """The keystore key, unlocked at most once a process.

    Raises:
        AccessDenied: The passphrase opens no slot.
        ConfigurationError: There is no passphrase.
    """
    folder = settings["keystore"]
    state = runtime.current().state(_Unlocked)
    key = state.keys.get((folder, head.id))
    if key is None:
        with runtime.current().state(_Gate).lock:
            key = state.keys.get((folder, head.id))
            if key is None:
                opened = open_slots(head, find(settings))
                if opened is None:
                    raise wrong_passphrase(folder)
                key = opened[1]
                remember(folder, head.id, key)
    return key


def wrong_passphrase(folder: str) -> AccessDenied:
    return AccessDenied(
        f"the passphrase does not open the keystore at {folder}",
        operation="unlock",
        next_step="Give the keystore's passphrase, or restore a backup into another folder.",
    )


def find(settings: Mapping[str, Any], *, new: bool = False) -> Secret:
    """The keystore's passphrase from the first source that is set.

    Args:
        settings: The driver's settings.
        new: It is for a keystore that is being made: a prompt asks twice.

    Raises:
        ConfigurationError: No source is set, or the one that is gives nothing.
    """
    folder = settings["keystore"]
    given = runtime.current().state(_Unlocked).given
    if found := given.get(folder) or given.get(None):
        return found
    if _VARIABLE in os.environ:
        return _checked(normalised(Secret(os.environb[_VARIABLE.encode()])), _VARIABLE)
    if path := settings.get("passphrase_file") or os.environ.get(f"{_VARIABLE}_FILE"):
        return _checked(from_file(path), path)
    if command := settings.get("passphrase_command"):
        return _checked(_from_command(command), "passphrase_command")
    if sys.stderr is not None and sys.stderr.isatty():
        return _prompted(folder, new)
    raise ConfigurationError(
        f"the keystore at {folder} needs a passphrase and none was given",
        next_step=f"Set {_VARIABLE} or {_VARIABLE}_FILE, give --passphrase-file or "
        "--passphrase-command, or run on a terminal.",
    )


def from_file(path: str | os.PathLike[str]) -> Secret:
    """The passphrase in a file, without its one trailing line end.

    Raises:
        ConfigurationError: It cannot be read.
    """
    try:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_mode & 0o077:
                emit(Notice(f"others than its owner have access to the passphrase file {path}"))
            return normalised(Secret(file.read(_LONGEST + 2)))
    except OSError as error:
        why = error.strerror
    raise ConfigurationError(f"the passphrase file {path} cannot be read: {why}")


def normalised(passphrase: Secret) -> Secret:
    """NFC and without one trailing line end (RFC 8265 section 4.2); other bytes as they are."""
    try:
        return Secret(
            unicodedata.normalize("NFC", passphrase.reveal().decode())
            .removesuffix("\n")
            .removesuffix("\r")
            .encode()
        )
    except UnicodeDecodeError:
        return Secret(passphrase.reveal().removesuffix(b"\n").removesuffix(b"\r"))


def _checked(passphrase: Secret, source: str) -> Secret:
    if not 1 <= len(passphrase) <= _LONGEST:
        raise ConfigurationError(
            f"the passphrase of {source} is empty or longer than {_LONGEST} bytes"
        )
    return passphrase


def _from_command(command: str | list[str]) -> Secret:
    words = shlex.split(command) if isinstance(command, str) else list(command)
    try:
        status, output = _outcome(
            subprocess.run(  # noqa: S603 - the user's own configuration, and no shell
                words, stdout=subprocess.PIPE, timeout=_COMMAND_SECONDS, check=False
            )
        )
        if status == 0:
            return normalised(output)
        why = f"it ended with status {status}"
    except OSError as error:
        why = error.strerror or "it cannot be run"
    except subprocess.TimeoutExpired:
        why = f"it took longer than {_COMMAND_SECONDS} seconds"
    raise ConfigurationError(f"passphrase_command gave no passphrase: {why}")


def _outcome(done: subprocess.CompletedProcess[bytes]) -> tuple[int, Secret]:
    return done.returncode, Secret(done.stdout.split(b"\n", 1)[0])


def _prompted(folder: str, new: bool) -> Secret:
    what = f"{'New passphrase' if new else 'Passphrase'} of the keystore at {folder}: "
    passphrase = _checked(normalised(_asked(what)), "the prompt")
    if new and passphrase != normalised(_asked("The same again: ")):
        raise ConfigurationError("the two passphrases differ")
    return passphrase


def _asked(prompt: str) -> Secret:
    try:
        return Secret(getpass.getpass(prompt).encode("utf-8", "surrogateescape"))
    except (EOFError, OSError):
        raise ConfigurationError("no passphrase was entered") from None
