"""Errors as the command line tells them: a line, a next step, an object, an exit status."""

from __future__ import annotations

import errno
import os
from dataclasses import asdict, dataclass
from typing import Any

from envelope.errors import EnvelopeError

__all__ = ["Failure", "explained", "shown"]

_STEPS = {
    errno.ENOENT: "Check the path.",
    errno.EACCES: "Check who owns it and its permissions.",
    errno.EISDIR: "Give -r to work on a folder.",
    errno.ENOSPC: "Make room, then run again; nothing half-written is left.",
    errno.EDQUOT: "Make room, then run again; nothing half-written is left.",
}


_CLIENTS = frozenset(
    ["adlfs", "aiobotocore", "aiohttp", "azure", "botocore", "gcsfs", "google", "paramiko", "s3fs"]
)
"""Packages of stores' clients, which do not all translate their errors."""


@dataclass(frozen=True, slots=True)
class Failure:
    """What went wrong, with which input, and what to do.

    ``error`` is a code of docs/errors.md, or the operating system's name of the
    error (``ENOENT``), or ``INTERNAL``.
    """

    error: str
    path: str | None
    message: str
    next_step: str
    exit: int
    retryable: bool
    kid: str | None = None
    operation: str | None = None
    provider_code: str | None = None
    request_id: str | None = None

    def lines(self) -> list[str]:
        where = "" if self.path is None else f"{self.path}: "
        return [f"envelope: {where}{self.message} [{self.error}]", f"    {self.next_step}"]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def explained(error: BaseException, path: str | None = None) -> Failure:
    """Any exception as a failure of the input ``path``."""
    if isinstance(error, EnvelopeError):
        where = error.path or path
        message = error.message or type(error).__name__
        if where and message.startswith(where):
            message = message[len(where) :].lstrip(": ")
        return Failure(
            error.code,
            where,
            message,
            error.next_step,
            error.exit,
            error.retryable,
            error.kid,
            error.operation,
            error.provider_code,
            error.request_id,
        )
    if isinstance(error, OSError):
        return _of_system(error, path)
    if _about_url(error):
        step = "Check the URL, or install the package that serves it."
        return Failure("ENV-CONFIG", path, str(error), step, 2, False)
    text = f"{type(error).__name__}: {error}"
    if type(error).__module__.partition(".")[0] in _CLIENTS:
        step = "The store's own client says so: check its credentials and its options."
        return Failure("EIO", path, text, step, 7, False)
    step = "This is a defect of envelope: run again with --debug, and report what it shows."
    return Failure("INTERNAL", path, text, step, 1, False)


def _about_url(error: BaseException) -> bool:
    """Whether fsspec has no file system for a URL, or one that is not installed."""
    if isinstance(error, ImportError):
        return not (error.name or "").startswith("envelope")
    return isinstance(error, ValueError) and str(error).startswith("Protocol not known")


def _of_system(error: OSError, path: str | None) -> Failure:
    # File systems of fsspec raise it with a path alone.
    missing = isinstance(error, FileNotFoundError)
    number = error.errno or (errno.ENOENT if missing else 0)
    code = errno.errorcode.get(number, "EIO")
    named = error.filename if isinstance(error.filename, (str, bytes)) else None
    where = os.fsdecode(named) if named else path
    said = os.strerror(number) if missing else str(error)
    message = error.strerror or said or type(error).__name__
    step = _STEPS.get(number, "Correct what the system complains of, then run again.")
    return Failure(code, where, message, step, 5 if missing else 7, False)


def shown(text: str) -> str:
    """``text`` with everything escaped that could move a terminal's cursor or start a line.

    File names, contexts and kids are an attacker's text.
    """
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else _escaped(sign) for sign in text)


def _escaped(sign: str) -> str:
    return sign.encode("unicode_escape", "surrogatepass").decode("ascii")
