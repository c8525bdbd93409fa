"""The inputs of a command: named ones, and what lies in folders under ``-r``."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import typer

from envelope.cli.globs import expanded, has_magic, matches
from envelope.cli.stores import Place, StorageOptions, Stores
from envelope.errors import ConfigurationError
from envelope.urls import is_url

__all__ = [
    "Broken",
    "Found",
    "Input",
    "SelectOptions",
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
        place: Of a URL.
        info: What the store said of a URL that was found in a folder or by a glob.
    """

    path: str
    relative: str
    status: os.stat_result | None = None
    place: Place | None = None
    info: Mapping[str, Any] | None = None

    @property
    def listed(self) -> bool:
        """Whether it was found, and not named."""
        return self.status is not None or self.info is not None

    def size(self) -> int | None:
        """Bytes; ``None`` where that cannot be known.

        Raises:
            OSError: It is not there.
        """
        if self.place is not None:
            size = (self.info or self.place.info()).get("size")
            return None if size is None else int(size)
        return (self.status or os.stat(self.path)).st_size


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


@dataclass(frozen=True)
class SelectOptions:
    """Which files of folders."""

    include: Annotated[
        list[str],
        typer.Option(
            "--include",
            metavar="GLOB",
            help="In folders, only files whose name matches, or, with a slash in it, whose path "
            "below the folder does. May be repeated.",
        ),
    ] = field(default_factory=list)
    exclude: Annotated[
        list[str],
        typer.Option(
            "--exclude",
            metavar="GLOB",
            help="In folders, no files that match. Wins over --include. May be repeated.",
        ),
    ] = field(default_factory=list)

    def leaves_out(self, relative: str) -> bool:
        """Whether a file is none that was asked for, by its path below the folder."""
        wanted = not self.include or matches(relative, self.include)
        return not wanted or matches(relative, self.exclude)


is_remote = is_url


def is_encrypted(found: Input) -> bool:
    """Whether a file starts as one of ours does."""
    from envelope.header import MAGIC  # brings the cryptography along

    if found.place is not None:
        return found.place.starts_as(MAGIC)
    with open(found.path, "rb", buffering=0) as file:
        return file.read(len(MAGIC)) == MAGIC


def leftover(name: str) -> bool:
    """Whether ``name`` is one that only unfinished work of envelope has."""
    return _LEFTOVER.match(name) is not None


Wanted = Callable[[Input], Skipped | None]


def inputs(
    paths: Sequence[str],
    *,
    recursive: bool,
    wanted: Wanted = lambda _found: None,
    beneath: str | None = None,
    stores: Stores | None = None,
    select: SelectOptions | None = None,
) -> Iterator[Found]:
    """All inputs, in the order given, each folder's in the order of its names.

    Args:
        paths: As they were given. A URL may be a glob.
        recursive: Whether folders are gone through.
        wanted: Tells why a file of a folder is none to work on. Named files always are.
        beneath: A folder that is not gone into: the target.
        stores: The file systems of URLs.
        select: Which files of folders.

    Raises:
        ConfigurationError: ``-`` together with others.
    """
    if "-" in paths and len(paths) > 1:
        raise ConfigurationError("- stands alone: standard input is one input")
    select = select or SelectOptions()
    for path in paths:
        base = os.path.basename(os.path.abspath(path))
        prefix = base if len(paths) > 1 else ""
        if path == "-":
            yield Input(path, path)
        elif is_remote(path):
            try:
                yield from _remote(path, recursive, prefix, wanted, beneath, stores, select)
            except Exception as error:  # of whatever the store's client raises
                yield Broken(path, error)
        elif recursive and os.path.isdir(path):
            yield from _walk(path, prefix, wanted, _identity(beneath), select)
        elif os.path.isdir(path):
            yield Broken(path, IsADirectoryError(21, "Is a directory", path))
        else:
            yield Input(path, base)


def _remote(
    url: str,
    recursive: bool,
    prefix: str,
    wanted: Wanted,
    beneath: str | None,
    stores: Stores | None,
    select: SelectOptions,
) -> Iterator[Found]:
    """A URL: a file, a folder's files, or what a glob stands for."""
    stores = stores or Stores(StorageOptions(), [url])
    if has_magic(url):
        for place, relative, info in expanded(stores, url, recursive=recursive):
            yield _stored(Input(place.url, relative, None, place, info), "", wanted, select)
        return
    place = stores.at(url)
    if not recursive:
        yield Input(url, place.name, None, place)
        return
    info = place.info()
    if info["type"] != "directory":
        yield Input(url, place.name, None, place)
        return
    target = None
    if beneath is not None and is_remote(beneath):
        target = stores.at(beneath)
    for one, info in place.listed():
        relative = one.path.strip("/")[len(place.path.strip("/")) :].strip("/")
        if target is None or not _is_below(one, target):
            named = Input(one.url, os.path.join(prefix, relative), None, one, info)
            yield _stored(named, relative, wanted, select)


def _is_below(one: Place, folder: Place) -> bool:
    path, above = one.path.strip("/"), folder.path.strip("/")
    return one.fs == folder.fs and path.startswith(f"{above}/")


def _stored(found: Input, relative: str, wanted: Wanted, select: SelectOptions) -> Found:
    assert found.place is not None  # noqa: S101 - _remote gives it one
    if leftover(found.place.name):
        return Skipped(found.path, "a leftover of unfinished work", told=False)
    if select.leaves_out(relative or found.relative):
        return Skipped(found.path, "not asked for", told=False)
    try:
        return wanted(found) or found
    except Exception as error:
        return Broken(found.path, error)


def _walk(
    root: str,
    prefix: str,
    wanted: Wanted,
    beneath: tuple[int, int] | None,
    select: SelectOptions,
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
                    inside = os.path.relpath(below, prefix) if prefix else below
                    if select.leaves_out(inside):
                        yield Skipped(entry.path, "not asked for", told=False)
                    else:
                        yield _file(Input(entry.path, below, status), entry.name, wanted)
                elif (status.st_dev, status.st_ino) != beneath:
                    deeper.append((entry.path, below))
            except OSError as error:
                yield Broken(entry.path, error)
        waiting += reversed(deeper)


def _file(found: Input, name: str, wanted: Wanted) -> Found:
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
    if folder is None or is_url(folder):
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
                size = None if each.path == "-" else each.size()
            except Exception:
                return None  # what is wrong with it is told when it is worked on
            if size is None:
                return None
            total += size
    return total
