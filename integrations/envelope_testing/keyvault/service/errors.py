"""The service's own answers to what it will not do: HTTP status, code, inner code, message.

Codes are those of the vendor's page "Azure Key Vault REST API error codes", and of what the
service was seen to answer where that page is silent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..world import Principal, Vault

#: The singular word that messages and codes use for a kind of object.
NOUNS = {"keys": "key", "secrets": "secret", "certificates": "certificate"}


class VaultError(Exception):
    """An answer that is not a success."""

    def __init__(self, status: int, code: str, message: str, inner: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.inner = inner
        self.headers: dict[str, str] = {}
        #: The most exact code: what the log of calls shows.
        self.logged = inner or code

    def body(self) -> dict[str, Any]:
        """The JSON that the service sends."""
        error: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.inner is not None:
            error["innererror"] = {"code": self.inner}
        return {"error": error}


class ConnectionDropped(Exception):
    """The connection is to be closed without an answer; whatever serves the app does so."""


def bad_parameter(message: str = "The parameter is incorrect.") -> VaultError:
    """What the service says to bad input, to an altered ciphertext and to a wrong key alike."""
    return VaultError(400, "BadParameter", message)


def not_found(kind: str, name: str) -> VaultError:
    """No such object, or no such version of it."""
    noun = NOUNS[kind]
    return VaultError(
        404,
        f"{noun.title()}NotFound",
        f"A {noun} with (name/id) {name} was not found in this key vault. If you recently deleted "
        f"this {noun} you may be able to recover it using the correct recovery command. For help "
        "resolving this issue, please see https://go.microsoft.com/fwlink/?linkid=2125182",
    )


def deleted_not_found(kind: str, name: str) -> VaultError:
    """Nothing of that name is deleted and recoverable."""
    noun = NOUNS[kind].title()
    return VaultError(404, f"{noun}NotFound", f"Deleted {noun} not found: {name}")


def deleted_but_recoverable(kind: str, name: str) -> VaultError:
    """The name is taken by a deleted object."""
    noun = NOUNS[kind].title()
    return VaultError(
        409,
        "Conflict",
        f"{noun} {name} is currently in a deleted but recoverable state, and its name cannot be "
        "reused; in this state, the " + NOUNS[kind] + " can only be recovered or purged.",
        "ObjectIsDeletedButRecoverable",
    )


def conflict(message: str) -> VaultError:
    """The name is taken by an object in use."""
    return VaultError(409, "Conflict", message)


def forbidden(inner: str, message: str) -> VaultError:
    """The object's state, the caller's rights or the network are against it."""
    return VaultError(403, "Forbidden", message, inner)


def not_supported(message: str) -> VaultError:
    """This kind of vault does not have the operation."""
    return VaultError(400, "NotSupported", message)


def by_rbac(vault: Vault, principal: Principal, action: str, scope: str) -> VaultError:
    """No role assignment of the caller covers the action."""
    if vault.is_hsm:
        return VaultError(
            403, "AccessDenied", f"Not authorized to access {action} on {scope}. {principal.caller}"
        )
    lines = [
        "Caller is not authorized to perform action on resource.",
        "If role assignments, deny assignments or role definitions were changed recently, "
        "please observe propagation time.",
        f"Caller: {principal.caller}",
        f"Action: '{action}'",
        f"Resource: '{vault.resource_id}{scope if scope != '/' else ''}'",
        "Assignment: (not found)",
        "DenyAssignmentId: null",
        "DecisionReason: 'DeniedWithNoValidRBAC' ",
        f"Vault: {vault.name};location={vault.location}",
        "",
    ]
    return forbidden("ForbiddenByRbac", "\r\n".join(lines))


def by_policy(vault: Vault, principal: Principal, kind: str, permission: str) -> VaultError:
    """The caller's access policy lacks the permission."""
    return forbidden(
        "ForbiddenByPolicy",
        f"The user, group or application '{principal.caller}' does not have {kind} {permission} "
        f"permission on key vault '{vault.name};location={vault.location}'. For help resolving "
        "this issue, please see https://go.microsoft.com/fwlink/?linkid=2125287",
    )


def by_network(vault: Vault, principal: Principal, inner: str, address: str) -> VaultError:
    """The vault does not take calls from where this one came from."""
    if inner == "ForbiddenByFirewall":
        lines = [
            "Client address is not authorized and caller is not a trusted service.",
            f"Client address: {address}",
        ]
    else:
        lines = [
            "Public network access is disabled and request is not from a trusted service nor via "
            "an approved private link."
        ]
    lines += [
        f"Caller: {principal.caller}",
        f"Vault: {vault.name};location={vault.location}",
    ]
    return forbidden(inner, "\r\n".join(lines))


def throttled(seconds: float | None) -> VaultError:
    """Too many calls in the last ten seconds."""
    error = VaultError(
        429,
        "Throttled",
        "Request was not processed because too many requests were received. "
        "Reason: VaultRequestTypeLimitReached",
    )
    if seconds is not None:
        error.headers["Retry-After"] = str(max(1, round(seconds + 0.5)))
    return error
