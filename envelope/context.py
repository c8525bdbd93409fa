"""The encryption context: the caller's mapping, stored in the clear and bound to the data."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import PurePath

from envelope.errors import ConfigurationError, ContextMismatch

__all__ = ["MAX_NAME_BYTES", "MAX_PAIRS", "bound_path", "check", "expected", "validated"]

MAX_PAIRS = 64
MAX_NAME_BYTES = 128


def validated(context: Mapping[str, str] | None) -> dict[str, str]:
    """A copy of ``context`` that may be written into a header.

    Raises:
        TypeError: No mapping, or a name or a value that is not text.
        ConfigurationError: Too many pairs, or a name that is empty, too long, or no valid Unicode.
    """
    if context is not None and not isinstance(context, Mapping):
        raise TypeError("an encryption context is a mapping of names to values")
    pairs = dict(context or {})
    if len(pairs) > MAX_PAIRS:
        raise ConfigurationError(f"an encryption context has at most {MAX_PAIRS} pairs")
    for name, value in pairs.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError("the names and values of an encryption context are text")
        try:
            length = len(name.encode())
            value.encode()
        except UnicodeEncodeError:
            raise ConfigurationError(f"context entry {name!a} is not valid Unicode") from None
        if not 1 <= length <= MAX_NAME_BYTES:
            raise ConfigurationError(
                f"the name of a context entry has 1 to {MAX_NAME_BYTES} bytes, not {length}"
            )
    return pairs


def check(
    bound: Mapping[str, str], given: Mapping[str, str] | None, required: Collection[str] = ()
) -> None:
    """Check a file's context against what the caller expects (docs/format.md, reader step 6).

    Args:
        bound: The context in the file.
        given: Pairs that must be there and equal, byte for byte.
        required: Names that must be there, with any value.

    Raises:
        ContextMismatch: One is not there, or differs.
    """
    for name, value in (given or {}).items():
        if name not in bound:
            raise ContextMismatch(f"the file's context has no entry {name!r}")
        if bound[name] != value:
            raise ContextMismatch(
                f"the file's context has another value for {name!r} than the one expected"
            )
    for name in required:
        if name not in bound:
            raise ContextMismatch(
                f"the key ring requires a context entry {name!r}",
                next_step=f"To write, give it with context= (--context {name}=VALUE); to read, "
                "check that this is the file you meant: `envelope inspect` shows its context.",
            )


def expected(
    context: Mapping[str, str] | None,
    location: object = None,
    bind_path: str | os.PathLike[str] | None = None,
) -> dict[str, str]:
    """``context``, with the relative path in it where ``bind_path`` asks for that.

    ``location`` is whatever a verb was given; only a path or a URL can be bound.
    """
    pairs = validated(context)
    if bind_path is not None:
        if not isinstance(location, (str, os.PathLike)):
            raise ConfigurationError("bind_path needs a file that has a path")
        if "path" in pairs:
            raise ConfigurationError("give either bind_path or a context entry 'path', not both")
        pairs["path"] = bound_path(location, bind_path)
        pairs = validated(pairs)  # again: a file's name need not be valid Unicode
    return pairs


def bound_path(path: str | os.PathLike[str], root: str | os.PathLike[str]) -> str:
    """``path`` relative to ``root`` in POSIX form: what ``bind_path=ROOT`` puts in the context.

    Both are made absolute without following symbolic links, so that a reader
    who mounts the same tree elsewhere computes the same text.

    Raises:
        ConfigurationError: ``path`` does not lie below ``root``.
    """
    if "://" in os.fspath(path):
        text, base = os.fspath(path), os.fspath(root).rstrip("/") + "/"
        if not text.startswith(base) or text == base or ".." in text.split("/"):
            raise ConfigurationError(f"{text} does not lie below {base}, to which it is bound")
        return text[len(base) :]
    absolute, above = PurePath(os.path.abspath(path)), PurePath(os.path.abspath(root))
    if not absolute.is_relative_to(above) or absolute == above:
        raise ConfigurationError(f"{absolute} does not lie below {above}, to which it is bound")
    return absolute.relative_to(above).as_posix()
