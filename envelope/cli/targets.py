"""Where the result of each input goes."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from envelope.cli.trees import Broken, Found, Input, Skipped, inputs, is_encrypted, is_remote
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

    Args:
        direction: How names change.
        paths: The inputs as they were given.
        recursive: Whether folders are gone through.
        out: A file for one input, a folder for several; ``None`` for beside.
        suffix: Of encrypted files.
    """

    def __init__(
        self,
        direction: Direction,
        paths: Sequence[str],
        *,
        recursive: bool,
        out: str | None,
        suffix: str,
    ) -> None:
        self._direction = direction
        self._paths = paths
        self._recursive = recursive
        self._suffix = suffix
        self._out = out
        folders = recursive and any(os.path.isdir(path) for path in paths)
        self.several = len(paths) > 1 or folders
        self._beneath = out is not None and (
            self.several or out.endswith("/") or (not is_remote(out) and os.path.isdir(out))
        )
        if "/" in suffix:
            raise ConfigurationError(f"--suffix {suffix!r} is part of a name and has no /")
        self._taken: dict[str, str] = {}

    def inputs(self) -> Iterator[Found]:
        """All inputs; what has no target is skipped in folders, and an error if it was named."""
        for found in inputs(
            self._paths,
            recursive=self._recursive,
            wanted=self._unwanted,
            beneath=self._out if self._beneath else None,
        ):
            if isinstance(found, Input) and found.status is None and self.of(found) is None:
                yield Broken(found.path, self._nameless(found))
            else:
                yield found

    def of(self, found: Input) -> str | None:
        """The target of one input.

        Raises:
            ConfigurationError: Two inputs would go to one target.
        """
        if self._out is not None and not self._beneath:
            return self._out
        folder, name = os.path.split(found.relative)
        renamed = self._direction.naming(name, self._suffix)
        if renamed is None:
            return None
        if self._out is None:
            return os.path.join(os.path.dirname(found.path), renamed)
        return os.path.join(self._out, folder, renamed)

    def claim(self, found: Input) -> str:
        """:meth:`of`, made sure to be no other input's, with its folder made."""
        target = self.of(found)
        assert target is not None  # noqa: S101 - inputs() yields none without a target
        if found.status is None and self.several:
            other = self._taken.setdefault(target, found.path)
            if other != found.path:
                raise ConfigurationError(f"{other} and {found.path} would both become {target}")
        if self._beneath and not is_remote(target):
            os.makedirs(os.path.dirname(target) or ".", exist_ok=True)
        return target

    def _unwanted(self, found: Input) -> Skipped | None:
        name = os.path.basename(found.path)
        if self._direction.naming(name, self._suffix) is None:
            encrypted = self._suffix and name.endswith(self._suffix)
            why = (
                "encrypted already, by its name" if encrypted else f"no {self._suffix} in its name"
            )
            return Skipped(found.path, why, told=False)
        if self._direction.naming is in_place and not is_encrypted(found.path):
            return Skipped(found.path, "not encrypted", told=False)
        return None

    def _nameless(self, found: Input) -> Exception:
        if not is_remote(found.path) and not os.path.lexists(found.path):
            return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), found.path)
        why = "ends in" if found.path.endswith(self._suffix) else "does not end in"
        return ConfigurationError(
            f"its name {why} {self._suffix}, so there is none for the result",
            path=found.path,
            next_step="Name the result with --out.",
        )
