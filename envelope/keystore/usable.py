"""Finding one version of a key, and whether it may be used now (docs/keystore.md, "States")."""

from __future__ import annotations

from envelope.errors import (
    KeyDisabled,
    KeyExpired,
    KeyNotFound,
    KeyNotYetValid,
    KeyOperationForbidden,
)
from envelope.keystore.contents import Contents
from envelope.keystore.records import Version, now

__all__ = ["check_dates", "exact", "usable"]


def exact(contents: Contents, name: str, version: str, operation: str) -> Version:
    """The version, whatever its state.

    Raises:
        KeyNotFound: It is in another keystore, or was destroyed.
    """
    kid = f"local:{name}/{version}"
    key = contents.key(name)
    found = key.find(version) if key else None
    if found is None:
        raise KeyNotFound(
            f"this file's key {kid} is in another keystore, not in the one at "
            f"{contents.folder.path}",
            kid=kid,
            operation=operation,
            next_step="Set ENVELOPE_KEYSTORE to the keystore that has it, or restore its backup.",
        )
    if found.state == "destroyed":
        raise KeyNotFound(
            f"{kid} was destroyed",
            kid=kid,
            operation=operation,
            next_step="Restore a backup that has it into another folder (ENVELOPE_KEYSTORE).",
        )
    return found


def usable(contents: Contents, name: str, version: str, key_op: str, operation: str) -> Version:
    """The version, if it is enabled and is for ``key_op``.

    Raises:
        KeyDisabled, KeyNotFound, KeyOperationForbidden: As it says.
    """
    found = exact(contents, name, version, operation)
    if found.state != "enabled":
        raise KeyDisabled(f"{found.kid} is {found.state}", kid=found.kid, operation=operation)
    if key_op not in found.key_ops:
        raise KeyOperationForbidden(
            f"{found.kid} may not {operation}", kid=found.kid, operation=operation
        )
    return found


def check_dates(version: Version, operation: str) -> None:
    """Dates bound the making of new things: wrapping and signing.

    Raises:
        KeyExpired, KeyNotYetValid: As it says.
    """
    moment, kid = now(), version.kid
    if version.not_before and moment < version.not_before:
        raise KeyNotYetValid(f"{kid} starts at {version.not_before}", kid=kid, operation=operation)
    if version.expires and moment >= version.expires:
        raise KeyExpired(f"{kid} ended at {version.expires}", kid=kid, operation=operation)
