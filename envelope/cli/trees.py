"""The inputs of a command: named ones, and what lies in folders under ``-r``."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from envelope.errors import ConfigurationError

__all__ = [
    "Broken",
    "Found",
    "Input",
    "Skipped",
    "inputs",
    "is_encrypted",
    "is_remote",
    "leftover",
    "total_size",
]

_LEFTOVER = re.compile(r"\..+\.[0-9a-f]{16}\.(?:env1tmp|env1old)\Z", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Input:
    """A file to work on.

    Args:
        path: As the system knows it, ``-``, or a URL.
        relative: Where it goes below a target folder, before it is renamed.
        status: Of a file found in a folder; ``None`` for one that was named.
    """

    path: str
    relative: str
    status: os.stat_result | None = None


@dataclass(frozen=True, slots=True)
class Skipped:
    """Something in a folder that is not worked on. ``told`` is false where that is no surprise."""

    path: str
    why: str
    told: bool = True


@dataclass(frozen=True, slots=True)
class Broken:
    """An input that cannot be worked on."""

    path: str
    error: Exception


Found = Input | Skipped | Broken


def is_remote(path: str) -> bool:
    """Whether ``path`` is a URL, for fsspec."""
    return "://" in path or "::" in path


def is_encrypted(path: str) -> bool:
    """Whether a file starts as one of ours does."""
    from envelope.header import MAGIC  # brings the cryptography along

    with open(path, "rb", buffering=0) as file:
        return file.read(len(MAGIC)) == MAGIC


def leftover(name: str) -> bool:
    """Whether ``name`` is one that only unfinished work of envelope has."""
    return _LEFTOVER.match(name) is not None


def inputs(
    paths: Sequence[str],
    *,
    recursive: bool,
    wanted: Callable[[Input], Skipped | None] = lambda _found: None,
    beneath: str | None = None,
) -> Iterator[Found]:
    """All inputs, in the order given, each folder's in the order of its names.

    Args:
        paths: As they were given.
        recursive: Whether folders are gone through.
        wanted: Tells why a file of a folder is none to work on. Named files always are.
        beneath: A folder that is not gone into: the target.

    Raises:
        ConfigurationError: ``-`` together with others.
    """
    if "-" in paths and len(paths) > 1:
        raise ConfigurationError("- stands alone: standard input is one input")
    for path in paths:
        base = os.path.basename(os.path.abspath(path))
        if path == "-" or is_remote(path):
            yield Input(path, path.rstrip("/").rpartition("/")[2])
        elif recursive and os.path.isdir(path):
            yield from _walk(path, base if len(paths) > 1 else "", wanted, _identity(beneath))
        elif os.path.isdir(path):
            yield Broken(path, IsADirectoryError(21, "Is a directory", path))
        else:
            yield Input(path, base)


def _walk(
    root: str,
    prefix: str,
    wanted: Callable[[Input], Skipped | None],
    beneath: tuple[int, int] | None,
) -> Iterator[Found]:
    waiting = [(root, prefix)]
    while waiting:
        folder, relative = waiting.pop()
        deeper = []
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            yield Broken(folder, error)
            continue
        for entry in entries:
            below = os.path.join(relative, entry.name)
            try:
                status = entry.stat(follow_symlinks=False)
                if not stat.S_ISDIR(status.st_mode):
                    yield _file(Input(entry.path, below, status), entry.name, wanted)
                elif (status.st_dev, status.st_ino) != beneath:
                    deeper.append((entry.path, below))
            except OSError as error:
                yield Broken(entry.path, error)
        waiting += reversed(deeper)


def _file(found: Input, name: str, wanted: Callable[[Input], Skipped | None]) -> Found:
    assert found.status is not None  # noqa: S101 - everything in a folder has one
    if stat.S_ISLNK(found.status.st_mode):
        return Skipped(found.path, "a symbolic link")
    if not stat.S_ISREG(found.status.st_mode):
        return Skipped(found.path, "not a regular file")
    if leftover(name):
        return Skipped(found.path, "a leftover of unfinished work", told=False)
    return wanted(found) or found


def _identity(folder: str | None) -> tuple[int, int] | None:
    """What tells a folder from all others, however it is spelt; None if it is not there yet."""
    if folder is None or is_remote(folder):
        return None
    try:
        status = os.stat(folder)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def total_size(found: Iterable[Found]) -> int | None:
    """Bytes of all inputs; ``None`` where one's size cannot be known beforehand."""
    total = 0
    for each in found:
        if isinstance(each, Input):
            try:
                total += (each.status or os.stat(each.path)).st_size
            except OSError:
                return None
    return total
