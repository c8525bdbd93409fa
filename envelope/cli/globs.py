"""Globs: which files of a store or a folder they stand for.

Not those of fsspec: they leave out what a store refuses to list.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator, Sequence
from typing import Any

from envelope.cli.stores import Place, Stores

__all__ = ["expanded", "has_magic", "matches"]

_MAGIC = re.compile(r"[*?\[]")


def has_magic(url: str) -> bool:
    """Whether a URL is a glob. Those of HTTP have their own use for the question mark."""
    return bool(_MAGIC.search(url.rpartition("::")[2])) and not url.startswith(("http:", "https:"))


def matches(relative: str, patterns: Sequence[str]) -> bool:
    """Whether a path below a folder matches one of ``patterns``.

    A pattern without a slash is for the name alone; ``**`` stands for any folders.
    """
    parts = relative.split("/")
    return any(
        fnmatch.fnmatchcase(parts[-1], pattern)
        if "/" not in pattern
        else _match(parts, pattern.strip("/").split("/"))
        for pattern in patterns
    )


def _match(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(_match(parts[index:], pattern[1:]) for index in range(len(parts) + 1))
    return (
        bool(parts) and fnmatch.fnmatchcase(parts[0], pattern[0]) and _match(parts[1:], pattern[1:])
    )


def expanded(
    stores: Stores, url: str, *, recursive: bool, folders: bool = False
) -> Iterator[tuple[Place, str, dict[str, Any]]]:
    """The files that a glob stands for, with their places below its fixed beginning.

    Folders that match are gone through if ``recursive``, else left out, or given as they are
    if ``folders``. A file that has this very name is that file.

    Raises:
        FileNotFoundError: There is none.
        OSError: The store refused a listing.
    """
    literal = stores.at(url)
    try:
        yield literal, literal.name, literal.info()
        return
    except FileNotFoundError:
        pass
    parts = url.split("/")
    fixed = next(index for index, part in enumerate(parts) if _MAGIC.search(part))
    base = stores.at("/".join(parts[:fixed]))
    found = False
    for place, info in _expanded(base, parts[fixed:], recursive, folders):
        found = True
        yield place, place.url[len(base.url) :].strip("/"), info
    if not found:
        raise FileNotFoundError(2, "No file matches", url)


def _expanded(
    folder: Place, pattern: Sequence[str], recursive: bool, folders: bool
) -> Iterator[tuple[Place, dict[str, Any]]]:
    head, rest = pattern[0], pattern[1:]
    if head == "**":
        for place, info in folder.listed():
            below = place.path.strip("/")[len(folder.path.strip("/")) :].strip("/")
            if not rest or _match(below.split("/"), pattern):
                yield place, info
        return
    if rest and not _MAGIC.search(head):
        yield from _expanded(folder.below(head), rest, recursive, folders)
        return
    try:
        entries = list(folder.entries())
    except (FileNotFoundError, NotADirectoryError):
        return  # a fixed part behind a magic one, which not every folder has
    for place, info in entries:
        if not fnmatch.fnmatchcase(place.name, head):
            continue
        if info["type"] == "file":
            if not rest:
                yield place, info
        elif rest:
            yield from _expanded(place, rest, recursive, folders)
        elif recursive:
            yield from place.listed()
        elif folders:
            yield place, info
