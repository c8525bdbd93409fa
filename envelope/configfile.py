"""One ``envelope.toml`` on the disk: read safely, and written once, never over another.

:mod:`envelope.schema` says what may stand in it, :mod:`envelope.config` which
files there are and which one wins.
"""

from __future__ import annotations

import errno
import json
import math
import os
import re
import secrets
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from envelope.errors import AlreadyExists, ConfigurationError

__all__ = ["NAME", "Unsafe", "read", "read_working_directory", "render", "write_new"]

NAME = "envelope.toml"
MAX_SIZE = 2**20


@dataclass(frozen=True, slots=True)
class Unsafe:
    """A file of the working directory that must not be used, and why."""

    path: str
    why: str


def read(path: str) -> tuple[str, os.stat_result] | None:
    """The text and status of a file that somebody named, or ``None`` if it is not there.

    Raises:
        ConfigurationError: It cannot be read, is no regular file, too large, or no UTF-8.
    """
    try:
        # Not blocking: a FIFO in the file's place must not hang the program.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise ConfigurationError(f"{path}: {_reason(error)}") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ConfigurationError(f"{path} is not a regular file")
        return _text(descriptor, path), status
    finally:
        os.close(descriptor)


def read_working_directory() -> tuple[str, str] | Unsafe | None:
    """Path and text of ``./envelope.toml`` if it is there and safe to use."""
    try:
        path = os.path.join(os.getcwd(), NAME)
        folder = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except PermissionError:  # a folder that may be entered and not listed
        return Unsafe(path, "its folder cannot be checked") if os.path.lexists(path) else None
    except OSError:  # a folder that was removed has no file either
        return None
    try:
        return _read_in_folder(folder, path)
    finally:
        os.close(folder)


def _read_in_folder(folder: int, path: str) -> tuple[str, str] | Unsafe | None:
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY | os.O_NOFOLLOW
    try:
        descriptor = os.open(NAME, flags, dir_fd=folder)
    except FileNotFoundError:
        return None
    except OSError as error:
        link = error.errno in (errno.ELOOP, errno.EMLINK)
        return Unsafe(path, "it is a symbolic link" if link else _reason(error))
    try:
        why = _why_unsafe(os.fstat(descriptor), os.fstat(folder))
        return Unsafe(path, why) if why else (path, _text(descriptor, path))
    finally:
        os.close(descriptor)


def _why_unsafe(file: os.stat_result, folder: os.stat_result) -> str | None:
    """The reason why others could have chosen what the file says, if there is one."""
    others = stat.S_IWGRP | stat.S_IWOTH  # under a POSIX ACL the group bits are its upper bound
    user = os.geteuid()
    if not stat.S_ISREG(file.st_mode):
        return "it is not a regular file"
    if file.st_uid != user:
        return "it belongs to another user"
    if file.st_mode & others:
        return "others can write to it (`chmod go-w` if you trust what it says)"
    if folder.st_uid not in (user, 0):
        return "its folder belongs to another user"
    if folder.st_mode & others:
        return "others can write to its folder (`chmod go-w` if you trust what is in it)"
    return None


def _text(descriptor: int, path: str) -> str:
    data = bytearray()
    while len(data) <= MAX_SIZE and (piece := os.read(descriptor, MAX_SIZE + 1 - len(data))):
        data += piece
    if len(data) > MAX_SIZE:
        raise ConfigurationError(f"{path} is larger than {MAX_SIZE} bytes")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigurationError(f"{path}:{line}: it is not UTF-8") from None


def _reason(error: Exception) -> str:
    return os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)


# --- Writing ------------------------------------------------------------------------------------

_COMMENTS = {
    "keys": "New files are encrypted to these keys, and files under them can be read.",
    "encrypt_to": "New files can be opened with each of these keys.",
    "decrypt_with": "Keys that are trusted and called to open files.",
    "required_context": "Entries that every file's encryption context must have.",
    "sign_with": "This key signs the KEK of new files, which proves who wrote them.",
    "require_signed": "Only files that one of these keys signed are read.",
    "aliases": "Old key names, and where those keys live now.",
    "limits": "The bounds of a key ring, in seconds, files and bytes.",
    "files": "Defaults of the command line.",
}


def write_new(path: str, text: str, mode: int) -> None:
    """Write a file that must not exist yet; its folder is made if needed.

    It appears under its name when it is complete and on the disk, never before.

    Args:
        path: Where to.
        text: What to write.
        mode: Permission bits, whatever the umask.

    Raises:
        AlreadyExists: Something is there, be it a broken link.
        OSError: As the operating system says.
    """
    folder, name = os.path.split(os.path.abspath(path))
    os.makedirs(folder, mode=0o700, exist_ok=True)
    temporary = os.path.join(folder, f".{name}.{secrets.token_hex(8)}.env1tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb") as stream:
            stream.write(text.encode("utf-8"))
            stream.flush()
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
        _publish(temporary, path)
    except FileExistsError:
        raise AlreadyExists(
            f"{path} exists already", next_step="Edit it, or choose another place for the new one."
        ) from None
    finally:
        if os.path.lexists(temporary):
            os.unlink(temporary)
    parent = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(parent)
    finally:
        os.close(parent)


def _publish(temporary: str, path: str) -> None:
    """Give a file its name unless the name is taken: a rename would replace what is there."""
    try:
        os.link(temporary, path, follow_symlinks=False)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        # No hard links on this file system (FAT, some network ones): take the name, then fill it.
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        os.replace(temporary, path)


def render(mapping: Mapping[str, Any]) -> str:
    """A small, commented file: the few shapes of TOML that a configuration needs.

    Args:
        mapping: Names as in the file; ``settings`` holds the drivers' sections by scheme.

    Raises:
        ConfigurationError: A value that TOML cannot hold.
    """
    settings = mapping.get("settings", {})
    tables = {name: value for name, value in mapping.items() if isinstance(value, Mapping)}
    tables.pop("settings", None)
    lines = ["# Keys of the envelope library. This file holds names, no secrets.", ""]
    for name, value in mapping.items():
        if not isinstance(value, Mapping) and value != []:
            lines += [f"# {_COMMENTS[name]}"] if name in _COMMENTS else []
            lines += [f"{_toml_key(name)} = {_toml_value(value)}", ""]
    for name, table in filter(lambda item: item[1], [*tables.items(), *settings.items()]):
        comment = _COMMENTS.get(name, f"Settings of the driver for {_toml_key(name)}: keys.")
        lines += [f"# {comment}"]
        lines += [f"[{_toml_key(name)}]"]
        lines += [f"{_toml_key(key)} = {_toml_value(value)}" for key, value in table.items()] + [""]
    return "\n".join(lines)


def _toml_key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _toml_value(name)


def _toml_value(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        items = [_toml_value(item) for item in value]
        # One a line, which also keeps within the reader's limit of dots on one.
        return (
            f"[{items[0]}]"
            if len(items) == 1
            else f"[\n{''.join(f'  {item},{chr(10)}' for item in items)}]"
        )
    if isinstance(value, str):
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise ConfigurationError(f"{value!a} is not valid Unicode") from None
    elif not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ConfigurationError(f"{value!r} is nothing that a configuration can hold")
    # JSON's spelling of text and numbers is TOML's, but for one control character.
    return json.dumps(value, ensure_ascii=False, allow_nan=False).replace("\x7f", "\\u007f")
