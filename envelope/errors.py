"""What can go wrong, sorted by what the caller does next.

Every error has a stable ``code`` for programs and logs, an ``exit`` status for
the command line, ``retryable`` for loops, and ``next_step``, one sentence for
people. docs/errors.md has a section for each code; a test keeps the two equal.

No class here derives from OSError, KeyError or FileNotFoundError: fsspec, zarr
and ``os.walk`` read those as "missing", and a denied chunk would silently
become a fill value.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "AccessDenied",
    "AlreadyExists",
    "ConfigurationError",
    "ContextMismatch",
    "EnvelopeError",
    "FileChanged",
    "GeometryMismatch",
    "IntegrityError",
    "KeyDisabled",
    "KeyExpired",
    "KeyMismatch",
    "KeyNotFound",
    "KeyNotYetValid",
    "KeyOperationForbidden",
    "KeyUnusable",
    "LimitExceeded",
    "Malformed",
    "NotEncrypted",
    "OriginNotProven",
    "Tampered",
    "Truncated",
    "UnfinishedWrite",
    "UnsupportedFormat",
    "UntrustedKey",
    "VaultUnavailable",
]


class EnvelopeError(Exception):
    """The root of all errors that this library raises on purpose.

    Args:
        message: What is wrong, without a trailing full stop.
        path: The file or URL that it is about.
        kid: The master key that it is about.
        operation: What was being done to the key: ``wrap``, ``unwrap``, ``resolve``, …
        provider_code: The vault's own name for the error.
        request_id: The vault's id of the request, for its operators.
        next_step: One sentence that replaces the class's own.

    An error pickles, and can be built from its message alone, since Dask,
    concurrent.futures and multiprocessing do both.
    """

    code: ClassVar[str] = "ENV-ERROR"
    exit: ClassVar[int] = 1
    retryable: ClassVar[bool] = False
    next_step: str = "Report this: it should have been a more exact error."

    def __init__(
        self,
        message: str = "",
        *,
        path: str | None = None,
        kid: str | None = None,
        operation: str | None = None,
        provider_code: str | None = None,
        request_id: str | None = None,
        next_step: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.path = path
        self.kid = kid
        self.operation = operation
        self.provider_code = provider_code
        self.request_id = request_id
        if next_step is not None:
            self.next_step = next_step

    def __str__(self) -> str:
        """The whole of it in one line: some callers (DuckDB, Dask) show nothing but this text."""
        if f" [{self.code}]. " in self.message:  # built from another error's text
            return self.message
        where = f"{self.path}: " if self.path and not self.message.startswith(self.path) else ""
        return f"{where}{self.message or type(self).__name__} [{self.code}]. {self.next_step}"


# --- The set-up is wrong: correct it, then run again (exit 2) -----------------------------------


class ConfigurationError(EnvelopeError):
    """No usable key, a bad option, or a bad configuration file."""

    code = "ENV-CONFIG"
    exit = 2
    next_step = "Correct the argument, the environment or envelope.toml, then try again."


class AlreadyExists(EnvelopeError):
    """The target is there and overwriting was not asked for."""

    code = "ENV-EXISTS"
    exit = 2
    next_step = "Choose another target, or allow overwriting."


# --- The key cannot be used: ask who owns it, or name another (exit 3) --------------------------


class KeyUnusable(EnvelopeError):
    """Parent of all errors that say: this key, used so, will not do."""

    code = "ENV-KEY"
    exit = 3
    next_step = "Ask the key's owner, or use another key."


class AccessDenied(KeyUnusable):
    """The vault knows the caller and refuses, or a passphrase is wrong."""

    code = "ENV-DENIED"
    next_step = "Ask the key's owner for permission to wrap or unwrap with it."


class KeyDisabled(KeyUnusable):
    """The key, or the version that wrapped this file, is disabled or deleted but recoverable."""

    code = "ENV-KEY-DISABLED"
    next_step = "Ask the key's owner to enable or recover this version."


class KeyExpired(KeyUnusable):
    """The key's end date is past."""

    code = "ENV-KEY-EXPIRED"
    next_step = "Ask the key's owner for a later end date or a new version."


class KeyNotYetValid(KeyUnusable):
    """The key's start date is still to come."""

    code = "ENV-KEY-NOT-YET-VALID"
    next_step = "Wait for the key's start date, or ask its owner for an earlier one."


class KeyOperationForbidden(KeyUnusable):
    """The key exists, but not for this operation (its ``key_ops``, or a public half only)."""

    code = "ENV-KEY-OPERATION"
    next_step = "Use a key that allows this operation."


class UntrustedKey(KeyUnusable):
    """The file names only keys that this key ring was not told to trust; none was called."""

    code = "ENV-UNTRUSTED"
    next_step = "Add the key to decrypt_with (--key or --trust) if you expect files under it."


class KeyMismatch(KeyUnusable):
    """A trusted key was used, but what it unwrapped is not the key that the header claims."""

    code = "ENV-KEY-MISMATCH"
    next_step = "Check that this is the right vault and file; the header may be forged."


class OriginNotProven(KeyUnusable):
    """A signature was required, and this file has none that holds."""

    code = "ENV-ORIGIN"
    next_step = "Obtain the file from a producer whose signing key you trust."


# --- The data is not what it should be: obtain it again (exit 4) --------------------------------


class IntegrityError(EnvelopeError):
    """Parent of all errors that say: these bytes will not do."""

    code = "ENV-DATA"
    exit = 4
    next_step = "Obtain the file again from its source or a backup."


class NotEncrypted(IntegrityError):
    """The bytes do not start as an ``envelope`` file."""

    code = "ENV-NOT-ENCRYPTED"
    next_step = "Check that this is the right file; it may never have been encrypted."


class UnsupportedFormat(IntegrityError):
    """A version, suite or critical extension that this release does not know."""

    code = "ENV-UNSUPPORTED"
    next_step = "Upgrade envelope-encryption; a later release may read this file."


class Malformed(IntegrityError):
    """The header breaks a rule of docs/format.md."""

    code = "ENV-MALFORMED"


class Tampered(IntegrityError):
    """An authentication tag does not hold: the bytes are not those that were written."""

    code = "ENV-TAMPERED"
    next_step = "Do not use this file; restore it from a backup and find out who changed it."


class Truncated(IntegrityError):
    """The end is missing."""

    code = "ENV-TRUNCATED"
    next_step = "Copy or download the file again; its end is missing."


class ContextMismatch(IntegrityError):
    """The file is bound to another encryption context than the one expected."""

    code = "ENV-CONTEXT"
    next_step = "Check that this is the file you meant; `envelope inspect` shows its context."


class GeometryMismatch(IntegrityError):
    """Header size or segment length differ from what the file system promises."""

    code = "ENV-GEOMETRY"
    next_step = "Open the file by itself, or re-encrypt it with the folder's geometry."


# --- The key is not there (exit 5; a missing file is Python's own FileNotFoundError) ------------


class KeyNotFound(EnvelopeError):
    """The vault or keystore has no such key or version."""

    code = "ENV-KEY-NOT-FOUND"
    exit = 5
    next_step = "Check the key's name and vault, or restore the keystore's backup."


# --- The vault did not answer: try again (exit 6) -----------------------------------------------


class VaultUnavailable(EnvelopeError):
    """No answer in time, throttled, or a fault on the vault's side."""

    code = "ENV-VAULT"
    exit = 6
    retryable = True
    next_step = "Try again; nothing was changed or lost."


# --- The work could not be completed as it stands (exit 7) --------------------------------------


class FileChanged(EnvelopeError):
    """The file was replaced or modified while it was being read."""

    code = "ENV-CHANGED"
    exit = 7
    retryable = True
    next_step = "Run again once nothing else writes to the file."


class LimitExceeded(EnvelopeError):
    """Something does not fit: a header, or the allowance for calls to a vault."""

    code = "ENV-LIMIT"
    exit = 7
    next_step = "Raise the limit that the message names, or split the work."


class UnfinishedWrite(EnvelopeError):
    """A writer was closed while an exception was on its way; nothing was published."""

    code = "ENV-UNFINISHED"
    exit = 7
    next_step = "Call commit(), or close the writer outside the exception handler, to publish."
