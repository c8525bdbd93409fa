"""Where a file belongs: the path that is bound to its keys, so that files cannot change places."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from envelope import context as contexts
from envelope.errors import ConfigurationError, ContextMismatch

__all__ = ["Binding", "binding_for_reading", "context_for_writing"]


@dataclass(frozen=True)
class Binding:
    """What a reader expects of the context of a file's keys.

    Args:
        context: Entries that must be there and equal.
        location: Where the file is, in parts; a bound path must be their end. ``None``: unknown.
    """

    context: Mapping[str, str] = field(default_factory=dict)
    location: tuple[str, ...] | None = None

    def check(self, bound: Mapping[str, str]) -> None:
        """Compare with the context that is in the file.

        Raises:
            ContextMismatch: The file belongs to another place, or another context.
        """
        contexts.check(bound, self.context)
        path = bound.get("path")
        if self.location is None or path is None or "path" in self.context:
            return
        parts = tuple(path.split("/"))
        if self.location[-len(parts) :] != parts:
            raise ContextMismatch(
                f"the file was written as {path!r}, and this is another place",
                next_step="Put it back, write it again, or read it with aad=None if you renamed it "
                "yourself.",
            )


def context_for_writing(
    location: object,
    aad: str | None,
    root: str | os.PathLike[str] | None,
    context: Mapping[str, str] | None,
) -> dict[str, str]:
    """The context of the keys of a new file.

    Raises:
        ConfigurationError: The file does not lie below ``root``, or an unknown ``aad``.
    """
    _check_aad(aad)
    pairs = contexts.validated(context)
    if aad is None or not isinstance(location, (str, os.PathLike)):
        return pairs
    if root is not None:
        return contexts.expected(pairs, location, root)
    return contexts.validated({"path": _parts(location)[-1], **pairs})


def binding_for_reading(
    location: object,
    aad: str | None,
    root: str | os.PathLike[str] | None,
    context: Mapping[str, str] | None,
) -> Binding:
    """What to expect of a file that is read from ``location``.

    Without ``root``, a bound path has to be the end of the file's own path.
    """
    _check_aad(aad)
    pairs = contexts.validated(context)
    if aad is None or not isinstance(location, (str, os.PathLike)):
        return Binding(pairs)
    if root is not None:
        return Binding(contexts.expected(pairs, location, root))
    return Binding(pairs, _parts(location))


def _check_aad(aad: str | None) -> None:
    if aad not in ("path", None):
        raise ConfigurationError("aad is 'path' or None")


def _parts(location: str | os.PathLike[str]) -> tuple[str, ...]:
    text = os.fspath(location)
    if "://" not in text and "::" not in text:
        text = os.path.abspath(text)
    return tuple(part for part in text.split("/") if part)
