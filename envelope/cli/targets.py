"""Where the result of each input goes."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from envelope.cli.globs import has_magic
from envelope.cli.stores import Place, StorageOptions, Stores, enveloped
from envelope.cli.trees import (
    Broken,
    Found,
    Input,
    SelectOptions,
    Skipped,
    inputs,
    is_encrypted,
    is_remote,
)
from envelope.errors import ConfigurationError

__all__ = ["DEFAULT_SUFFIX", "Direction", "Targets", "adding", "in_place", "removing"]

DEFAULT_SUFFIX = ".env1"

Naming = Callable[[str, str], str | None]
"""The target's name by the source's name and the suffix; ``None`` where there is none."""


@dataclass(frozen=True, slots=True)
class Direction:
    """What a command does with names, and the words for it.

    Args:
        done: What was done, for people.
        naming: From a source's name to its target's.
        repeats: Whether a second run over a folder leaves out what is done.
    """

    done: str
    naming: Naming
    repeats: bool = True


def adding(name: str, suffix: str) -> str | None:
    return None if suffix and name.endswith(suffix) else name + suffix


def removing(name: str, suffix: str) -> str | None:
    if not name.endswith(suffix) or name == suffix:
        return None
    return name.removesuffix(suffix)


def in_place(name: str, _suffix: str) -> str | None:
    return name


class Targets:
    """Maps inputs to targets, below a folder or beside each.

    Files of a mount or a chain are encrypted without telling so by their names. So where the
    encrypted side is one, names stay.

    Args:
        direction: How names change.
        paths: The inputs as they were given.
        recursive: Whether folders are gone through.
        out: A file for one input, a folder for several; ``None`` for beside.
        suffix: Of encrypted files.
        stores: The file systems of URLs.
        select: Which files of folders.
    """

    def __init__(
        self,
        direction: Direction,
        paths: Sequence[str],
        *,
        recursive: bool,
        out: str | None,
        suffix: str,
        stores: Stores | None = None,
        select: SelectOptions | None = None,
    ) -> None:
        self._direction = direction
        self._paths = paths
        self._recursive = recursive
        self._suffix = suffix
        self._out = out
        self._stores = stores or Stores(StorageOptions(), [*paths, out])
        self._select = select
        self.several = len(paths) > 1 or any(map(self._has_several, paths))
        self._beneath = out is not None and (
            self.several or out.endswith("/") or (not is_remote(out) and os.path.isdir(out))
        )
        if "/" in suffix:
            raise ConfigurationError(f"--suffix {suffix!r} is part of a name and has no /")
        self._taken: dict[str, str] = {}

    def _has_several(self, path: str) -> bool:
        if is_remote(path):
            return self._recursive or has_magic(path)
        return self._recursive and os.path.isdir(path)

    def inputs(self) -> Iterator[Found]:
        """All inputs; what has no target is skipped in folders, and an error if it was named."""
        if self._recursive and self._direction.naming is in_place and self._out is None:
            yield from self._name_keys()
        for found in inputs(
            self._paths,
            recursive=self._recursive,
            wanted=self._unwanted,
            beneath=self._out if self._beneath else None,
            stores=self._stores,
            select=self._select,
        ):
            if isinstance(found, Input) and self.of(found) is None:
                yield Broken(found.path, self._nameless(found))
            else:
                yield found

    def _name_keys(self) -> Iterator[Found]:
        """What no listing shows, and what has to keep up with a key that is rotated."""
        select = self._select or SelectOptions()
        for path in self._paths:
            if not enveloped(path) or has_magic(path):
                continue
            try:
                place = self._stores.at(path).name_key()
                if place is not None and not select.leaves_out(place.name):
                    yield Input(place.url, place.name, None, place, place.info())
            except Exception as error:  # of whatever the store's client raises
                yield Broken(path, error)

    def of(self, found: Input) -> str | None:
        """The target of one input, as people name it; ``None`` if there is no name for it."""
        target = self._target(found)
        return target.url if isinstance(target, Place) else target

    def _target(self, found: Input) -> str | Place | None:
        out = self._out
        if out is not None and not self._beneath:
            return self._stores.at(out) if is_remote(out) else out
        folder, name = os.path.split(found.relative)
        renamed = self._renamed(found, name)
        if renamed is None:
            return None
        if out is not None:
            if is_remote(out):
                return self._stores.at(out).below(os.path.join(folder, renamed))
            return os.path.join(out, folder, renamed)
        if found.place is not None:
            return found.place.beside(renamed)
        return os.path.join(os.path.dirname(found.path), renamed)

    def _renamed(self, found: Input, name: str) -> str | None:
        """The target's name; ``None`` if there is none."""
        naming = self._direction.naming
        if naming is in_place:
            return name
        if self._out is None and enveloped(found.path):
            return None
        encrypted = self._out or "" if naming is adding else found.path
        return naming(name, "" if enveloped(encrypted) else self._suffix)

    def claim(self, found: Input) -> str | Place:
        """The target, made sure to be no other input's, with its folder made.

        Raises:
            ConfigurationError: Two inputs would go to one target.
        """
        target = self._target(found)
        assert target is not None  # noqa: S101 - inputs() yields none without a target
        if self.several and len(self._paths) > 1:
            shown = target.url if isinstance(target, Place) else target
            other = self._taken.setdefault(shown, found.path)
            if other != found.path:
                raise ConfigurationError(f"{other} and {found.path} would both become {shown}")
        if isinstance(target, Place):
            if self._beneath:
                target.make_folder()
        elif self._beneath:
            os.makedirs(os.path.dirname(target) or ".", exist_ok=True)
        return target

    def _unwanted(self, found: Input) -> Skipped | None:
        name = os.path.basename(found.path) if found.place is None else found.place.name
        if self._direction.naming is in_place:
            if not is_encrypted(found):
                return Skipped(found.path, "not encrypted", told=False)
        elif self._renamed(found, name) is None:
            if enveloped(found.path):
                return None  # told as an error: it would be the same for all
            encrypted = self._suffix and name.endswith(self._suffix)
            why = (
                "encrypted already, by its name" if encrypted else f"no {self._suffix} in its name"
            )
            return Skipped(found.path, why, told=False)
        return None

    def _nameless(self, found: Input) -> Exception:
        if enveloped(found.path):
            return ConfigurationError(
                "the result needs another place than a mount's or a chain's own folder",
                path=found.path,
                next_step="Name the place with --out.",
            )
        if not is_remote(found.path) and not os.path.lexists(found.path):
            return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), found.path)
        why = "ends in" if found.path.endswith(self._suffix) else "does not end in"
        return ConfigurationError(
            f"its name {why} {self._suffix}, so there is none for the result",
            path=found.path,
            next_step="Name the result with --out.",
        )
