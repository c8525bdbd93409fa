"""What an earlier run has done: told by what is there, never by a note of it."""

from __future__ import annotations

import os
from typing import Any

from envelope.cli.handover import Handover, Side
from envelope.cli.stores import Place, modified
from envelope.cli.trees import Input
from envelope.errors import AccessDenied, EnvelopeError, VaultUnavailable

__all__ = ["is_done", "is_same", "is_there", "keep_time"]


def is_done(
    found: Input,
    target: Side,
    handover: Handover,
    *,
    encrypting: bool,
    resume: bool,
    all_of_it: bool,
) -> bool:
    """Whether an earlier run finished a file: its target opens, and is that of the source.

    Opening proves header and end. Modification times then say that the source
    was not changed since; otherwise all of the plaintext is compared.

    Args:
        found: The source.
        target: Where it would go.
        handover: Opens the encrypted one of the two.
        encrypting: Whether that is the target.
        resume: Whether a target behind a URL that is newer than its source is current.
        all_of_it: Whether all is compared, whatever times say.

    Raises:
        AccessDenied, VaultUnavailable: Nobody can tell.
    """
    from envelope.streams import open as open_encrypted

    source: Side = found.place or found.path
    plain, sealed = (source, target) if encrypting else (target, source)
    if not is_there(target):
        return False
    given = handover.reading(sealed)
    try:
        with open_encrypted(given.pop("source"), **given) as inside:
            if inside.size != _size(plain):
                return False
            if _is_current(found, target, resume) and not all_of_it:
                return True
            if not _same_bytes(plain, inside):
                return False
    except (AccessDenied, VaultUnavailable):
        raise
    except (EnvelopeError, OSError):
        return False  # what is wrong with it, the verb finds and says
    keep_time(found, target)
    return True


def is_same(found: Input, target: Side) -> bool:
    """Whether a target has the same plaintext as its source; both are read where times differ."""
    source: Side = found.place or found.path
    if not is_there(target) or _size(source) != _size(target):
        return False
    if not isinstance(target, Place) and _is_current(found, target, False):
        return True
    with _opened(target) as inside:
        return _same_bytes(source, inside)


def keep_time(found: Input, target: Side) -> None:
    """Give a local target the modification time of its source."""
    read = _time_of(found)
    if not isinstance(target, Place) and read is not None:
        os.utime(target, ns=(read, read))


def _is_current(found: Input, target: Side, resume: bool) -> bool:
    """Whether times say that the target is that of the source as it is now."""
    read = _time_of(found)
    if not isinstance(target, Place):
        return read == os.stat(target).st_mtime_ns
    written = modified(target.info())
    return resume and read is not None and written is not None and written >= read


def is_there(target: Side) -> bool:
    """Whether there is a file. What a store does not tell is an error, and no "no"."""
    if not isinstance(target, Place):
        return os.path.isfile(target)
    try:
        return bool(target.info()["type"] == "file")
    except FileNotFoundError:
        return False


def _size(plain: Side) -> int | None:
    if not isinstance(plain, Place):
        return os.stat(plain).st_size
    size = plain.info()["size"]
    return None if size is None else int(size)


def _time_of(found: Input) -> int | None:
    if found.place is not None:
        return modified(found.info or found.place.info())
    return (found.status or os.stat(found.path)).st_mtime_ns


def _opened(plain: Side) -> Any:
    return plain.fs.open(plain.path, "rb") if isinstance(plain, Place) else open(plain, "rb")


def _same_bytes(plain: Side, inside: Any) -> bool:
    with _opened(plain) as file:
        while True:
            one, other = file.read(2**20), inside.read(2**20)
            if one != other:
                return False
            if not one:
                return True
