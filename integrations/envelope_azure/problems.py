"""What the vault, the credential or the network said, as errors of :mod:`envelope.errors`.

Each names its cause and what to do next. The vendor's exceptions go no further:
they hold requests, and a request to wrap holds a key.
"""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Mapping
from typing import Any

from azure.core.exceptions import (
    ClientAuthenticationError,
    ServiceRequestError,
    ServiceRequestTimeoutError,
    ServiceResponseError,
)

from envelope.errors import (
    AccessDenied,
    AlreadyExists,
    ConfigurationError,
    EnvelopeError,
    KeyDisabled,
    KeyExpired,
    KeyMismatch,
    KeyNotFound,
    KeyNotYetValid,
    KeyOperationForbidden,
    VaultUnavailable,
)
from envelope_azure.roles import role_for

__all__ = ["TOKEN_EXPIRED", "from_answer", "from_exception"]

TOKEN_EXPIRED = "TokenExpired"  # noqa: S105 - the code of an error
"""The code of the error for a token that the vault, by its clock, finds expired."""

_PERMISSIONS = {
    "resolve": "get",
    "public key": "get",
    "get deleted": "get",
    "get the transfer key": "get",
    "list versions": "list",
    "wrap": "wrapKey",
    "unwrap": "unwrapKey",
    "enable": "update",
    "disable": "update",
    "get the rotation policy": "getrotationpolicy",
    "set the rotation policy": "setrotationpolicy",
}
_STATES: dict[str, tuple[type[EnvelopeError], str]] = {
    "KeyDisabled": (KeyDisabled, "this version is disabled"),
    "SecretDisabled": (KeyDisabled, "this version is disabled"),
    "KeyExpired": (KeyExpired, "this version's end date is past"),
    "KeyNotYetValid": (KeyNotYetValid, "this version's start date is still to come"),
    "KeyOperationForbidden": (KeyOperationForbidden, "this key is not for that operation"),
}
_ADDRESS = re.compile(r"Client address: ([0-9a-fA-F.:]{3,45})")
_CALLER = re.compile(r"(appid=[\w-]{1,80};oid=[\w-]{1,80})")


def from_answer(
    status: int,
    headers: Mapping[str, str],
    body: Any,
    *,
    kid: str,
    operation: str,
    hsm: bool,
) -> EnvelopeError:
    """The error that an answer of 400 and more stands for.

    Args:
        status: The HTTP status.
        headers: Of the answer.
        body: Its JSON, or ``None``.
        kid: The key that was called.
        operation: ``resolve``, ``wrap``, ``unwrap``, or what administration calls it.
        hsm: It is of a Managed HSM, whose roles are others.
    """
    code, inner, text = _said(body)
    about: dict[str, Any] = {
        "kid": kid,
        "operation": operation,
        "provider_code": inner or code or f"HTTP {status}",
        "request_id": headers.get("x-ms-request-id"),
    }
    if status == 429 or status >= 500 or status == 408:
        error = VaultUnavailable(
            "the vault is throttling" if status == 429 else f"the vault answered {status}", **about
        )
        error.retry_after = _seconds(headers.get("Retry-After"))  # type: ignore[attr-defined]  # read by envelope.caller
        return error
    if status == 401:
        return _unauthorised(text, about)
    if status == 403:
        return _forbidden(code, inner, text, about, hsm=hsm)
    if status == 404:
        return KeyNotFound("the vault has no such key or version", **about)
    if status == 409:
        step = "Recover it (envelope keys recover), or purge it, or use another name."
        if "Deleted" in str(inner or code):
            return KeyDisabled("the name is taken by a deleted key", next_step=step, **about)
        return AlreadyExists("the vault refuses: it conflicts with what is there", **about)
    if status == 400 and operation == "unwrap":
        return KeyMismatch(
            "the vault refused the wrapped key: it was altered, or belongs to another version, or "
            "was wrapped with another algorithm",
            **about,
        )
    return EnvelopeError(
        f"the vault answered {status}: {text[:200]!a}",
        next_step="Read the vault's answer, and report this if the request was right.",
        **about,
    )


def _said(body: Any) -> tuple[str | None, str | None, str]:
    error = body.get("error") if isinstance(body, dict) else None
    if not isinstance(error, dict):
        return None, None, ""
    inner = error.get("innererror")
    inner_code = inner.get("code") if isinstance(inner, dict) else None
    return _text(error.get("code")), _text(inner_code), str(error.get("message") or "")


def _text(value: Any) -> str | None:
    """A code as the vault wrote it, if it is one."""
    return value[:80] if isinstance(value, str) and value[:80].isprintable() else None


def _seconds(text: str | None) -> float | None:
    """``Retry-After`` in its form of seconds; the vault does not use the other."""
    return float(text) if text and text.isdecimal() else None


def _unauthorised(text: str, about: dict[str, Any]) -> EnvelopeError:
    code = re.search(r"AKV\d+", text)
    if code:
        about["provider_code"] = code[0]
    if "AKV10032" in text or "issuer" in text.lower():
        return AccessDenied(
            "the token is of another tenant than the vault",
            next_step="Set tenant_id, or name the vault's tenant in additionally_allowed_tenants.",
            **about,
        )
    if "AKV10022" in text or "audience" in text.lower():
        return AccessDenied("the token is for another resource than this vault", **about)
    if "expired" in text.lower():
        about["provider_code"] = TOKEN_EXPIRED
        return VaultUnavailable("the token has expired", **about)
    return AccessDenied("the vault does not accept the token", **about)


def _forbidden(
    code: str | None, inner: str | None, text: str, about: dict[str, Any], *, hsm: bool
) -> EnvelopeError:
    operation = about["operation"]
    reason = inner or code or ""
    if reason in _STATES:
        kind, message = _STATES[reason]
        return kind(message, **about)
    who = f" for {_CALLER.search(text)[1]}" if _CALLER.search(text) else ""  # type: ignore[index]  # searched in the condition
    if "Firewall" in reason or "client address" in text.lower():
        found = _ADDRESS.search(text)
        address = f" ({found[1]})" if found else ""
        return AccessDenied(
            f"the vault's firewall refuses this client's address{address}",
            next_step="Allow the address in the vault's network rules, or come from inside.",
            **about,
        )
    if "Connection" in reason or "public network access is disabled" in text.lower():
        return AccessDenied(
            "the vault takes connections by private link only",
            next_step="Run inside the network, and check that its DNS answers a private address.",
            **about,
        )
    if "Policy" in reason:
        permission = _PERMISSIONS.get(operation, operation)
        return AccessDenied(
            f"no access policy gives the permission {permission}{who}",
            next_step=f"Add {permission} to its access policy (a vault has 1,024 at most), "
            "or move the vault to roles.",
            **about,
        )
    role = role_for(operation, about["kid"], hsm=hsm)
    return AccessDenied(
        f"no role allows to {operation} with this key{who}",
        next_step=f"Ask for {role}, on the key or the vault; a new role takes minutes to arrive.",
        **about,
    )


def from_exception(error: BaseException, *, kid: str, operation: str, host: str) -> EnvelopeError:
    """The error that an exception of the SDK stands for. Its text is taken over in parts only."""
    about: dict[str, Any] = {"kid": kid, "operation": operation}
    if isinstance(error, EnvelopeError):
        error.kid, error.operation = error.kid or kid, error.operation or operation
        return error
    if isinstance(error, ClientAuthenticationError):
        return _no_token(error, about)
    causes = list(_causes(error))
    names = [type(cause).__name__ for cause in causes]
    told = " ".join(str(cause) for cause in causes)
    if any(isinstance(cause, ssl.SSLError) for cause in causes) or "SSLError" in names:
        return _not_trusted(host, about)
    if "Tunnel connection failed" in told or ("ProxyError" in names and "refused" in told):
        return VaultUnavailable(
            f"the proxy does not lead to {host}",
            provider_code="Proxy",
            next_step="Check the vault's name, and HTTPS_PROXY or the option proxy.",
            **about,
        )
    if "NameResolutionError" in names or any(isinstance(c, socket.gaierror) for c in causes):
        return VaultUnavailable(
            f"the name {host} does not resolve",
            provider_code="DNS",
            next_step="Check the vault's name and cloud, and this network's DNS.",
            **about,
        )
    if "Connection refused" in told:
        return VaultUnavailable(f"{host} refuses connections", provider_code="Refused", **about)
    timed_out = isinstance(error, ServiceRequestTimeoutError) or "imeout" in " ".join(names)
    if timed_out:
        return VaultUnavailable(f"no answer of {host} in time", provider_code="Timeout", **about)
    if isinstance(error, (ServiceRequestError, ServiceResponseError)):
        name = names[-1] if names else "transport"
        return VaultUnavailable(
            f"the connection to {host} failed ({name})", provider_code=name, **about
        )
    if isinstance(error, ValueError) and "challenge" in str(error).lower():
        return AccessDenied(
            f"what {host} says about where to authenticate does not fit its name",
            provider_code="ChallengeResourceMismatch",
            next_step="Check the vault's name and what answers under it.",
            **about,
        )
    return EnvelopeError(f"the SDK failed on {host}: {type(error).__name__}", **about)


def _not_trusted(host: str, about: dict[str, Any]) -> EnvelopeError:
    return ConfigurationError(
        f"the TLS certificate of {host} is not trusted here",
        provider_code="TLS",
        next_step="Behind an inspecting proxy, give its certificates: REQUESTS_CA_BUNDLE, or "
        "ca_file for the vault alone. Never turn verification off.",
        **about,
    )


def _no_token(error: ClientAuthenticationError, about: dict[str, Any]) -> EnvelopeError:
    """No token: what azure-identity says has no secret in it, and names what was tried."""
    text = str(error.message or error)
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return _not_trusted("Entra ID", about)
    found = re.search(r"AADSTS\d+", text)
    about["provider_code"] = found[0] if found else type(error).__name__
    steps = {
        "AADSTS7000215": "The client secret is wrong or of another application: set it anew.",
        "AADSTS7000222": "The client secret has expired: make a new one.",
        "AADSTS700016": "The tenant has no such application: check client_id and tenant_id.",
        "AADSTS90002": "There is no such tenant: check tenant_id.",
    }
    step = steps.get(about["provider_code"])
    if "not configured to acquire tokens for tenant" in text:
        step = "Name the vault's tenant in additionally_allowed_tenants."
    # A chain says of a credential that was refused what it says where there is none.
    none = type(error).__name__ == "CredentialUnavailableError" or "DefaultAzureCredential" in text
    if none and step is None:
        tried = re.findall(r"^\s*(\w+Credential): ", text, re.MULTILINE)
        which = f" (tried: {', '.join(dict.fromkeys(tried))})" if tried else ""
        return ConfigurationError(
            f"no credential for Azure was found{which}",
            next_step="Sign in (az login), set AZURE_CLIENT_ID and its companions, or name a "
            "credential in the configuration.",
            **about,
        )
    return AccessDenied(
        "Entra ID gave no token",
        next_step=step or "Check the credential; the provider's code says what is wrong.",
        **about,
    )


def _causes(error: BaseException | None) -> list[BaseException]:
    """The exception, what caused it, and what its arguments wrap, as requests and urllib3 nest."""
    found: list[BaseException] = []
    waiting: list[Any] = [error]
    while waiting and len(found) < 20:
        each = waiting.pop(0)
        if not isinstance(each, BaseException) or any(each is known for known in found):
            continue
        found.append(each)
        waiting += [each.__cause__, each.__context__, getattr(each, "reason", None)]
        waiting += [getattr(each, "inner_exception", None), *each.args]
    return found
