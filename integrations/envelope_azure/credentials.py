"""Credentials by name, shared in a process, within our deadline, for one resource each.

Ready-made credentials of azure-identity do the work. What is added: they are
described by settings, so that key rings pickle; a token for anything but the
vault's own resource is refused, whatever a challenge asks for; and a managed
identity end point that is down (which takes the SDK 24 s to say) does not make
a call longer than its deadline.
"""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Callable, Mapping
from typing import Any, cast

from azure.core.credentials import AccessToken, AccessTokenInfo, TokenRequestOptions

from envelope import caller, runtime
from envelope.errors import AccessDenied, ConfigurationError, VaultUnavailable
from envelope.resolvers import canonical
from envelope_azure.clouds import Cloud

__all__ = ["Guarded", "credential_for", "instead_of_object", "process_credential"]

_PROCESS = "process:"
_INSTEAD = (
    "Name the credential in the settings of azurekeyvault, such as credential = "
    '"managed-identity", or make the ring in the process that uses it.'
)


class _Given:
    """Credential objects that a program handed over, by the name that its settings have."""

    survives_fork = True

    def __init__(self) -> None:
        self.credentials: dict[str, Any] = {}


class _Made:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.credentials: dict[str, Any] = {}


def process_credential(credential: Any) -> dict[str, str]:
    """Settings that stand for a credential object, in this process and its forked children.

    Args:
        credential: What a client of azure-keyvault-keys takes.

    Returns:
        ``{"credential": "process:…"}``, for ``settings={"azurekeyvault": …}`` of a key ring.
    """
    name = _PROCESS + secrets.token_hex(16)
    runtime.current().state(_Given).credentials[name] = credential
    return {"credential": name}


def instead_of_object(settings: Mapping[str, Any]) -> str | None:
    """What to give where a credential object cannot go, if ``settings`` stand for one."""
    names = settings["credential"]
    if not any(
        name.startswith(_PROCESS) for name in ([names] if isinstance(names, str) else names)
    ):
        return None
    return _INSTEAD


def credential_for(settings: Mapping[str, Any], cloud: Cloud, *, instead_of: Any = None) -> Any:
    """The process's credential of these settings; made once.

    Args:
        settings: As :func:`envelope_azure.settings.checked` returned them.
        cloud: Whose authority issues the tokens.
        instead_of: One whose tokens a vault refused as expired. azure-identity goes by this
            machine's clock and gives such a token again and again, for an hour; a new credential
            has none to give. The first of all threads that say so makes it.
    """
    made = runtime.current().state(_Made)
    authority = settings.get("authority") or os.environ.get("AZURE_AUTHORITY_HOST")
    authority = authority or cloud.authority
    key = canonical({**settings, "authority": authority})
    with made.lock:
        found = made.credentials.get(key)
        if found is None or found is instead_of:
            found = made.credentials[key] = _chain(settings, authority)
        return found


def _chain(settings: Mapping[str, Any], authority: str) -> Any:
    names = settings["credential"]
    if isinstance(names, str):
        return _one(names, settings, authority)
    from azure.identity import ChainedTokenCredential

    return ChainedTokenCredential(*(_one(name, settings, authority) for name in names))


def _one(name: str, settings: Mapping[str, Any], authority: str) -> Any:
    if name.startswith(_PROCESS):
        given = runtime.current().state(_Given).credentials.get(name)
        if given is None:
            raise ConfigurationError(
                "this key ring's credential is an object of another process",
                next_step=_INSTEAD,
            )
        return given
    from azure import identity

    tenants = settings["additionally_allowed_tenants"]
    common: dict[str, Any] = {"authority": authority, "additionally_allowed_tenants": tenants}
    # Retries are the library's, except where others are tried after one that is not there.
    own: dict[str, Any] = {**common, "retry_total": 0}
    tenant, client = settings.get("tenant_id"), settings.get("client_id")
    application = {"tenant_id": _needed(name, settings, "tenant_id")} if name in _APPS else {}
    if name in _APPS:
        application["client_id"] = _needed(name, settings, "client_id")
    user = {"tenant_id": tenant} if tenant else {}
    makers: dict[str, Callable[[], Any]] = {
        "default": lambda: identity.DefaultAzureCredential(
            **common, **({"managed_identity_client_id": client} if client else {})
        ),
        "environment": lambda: identity.EnvironmentCredential(**own),
        "managed-identity": lambda: identity.ManagedIdentityCredential(**_identity(settings)),
        "workload-identity": lambda: identity.WorkloadIdentityCredential(
            **own, **user, **({"client_id": client} if client else {})
        ),
        "client-secret": lambda: identity.ClientSecretCredential(
            **application, client_secret=_secret(settings), **own
        ),
        "client-certificate": lambda: identity.CertificateCredential(
            **application,
            certificate_path=_needed(name, settings, "certificate_file"),
            password=_environment(settings, "certificate_password_env"),
            **own,
        ),
        "azure-cli": lambda: identity.AzureCliCredential(
            **user, additionally_allowed_tenants=tenants
        ),
        "azure-developer-cli": lambda: identity.AzureDeveloperCliCredential(
            **user, additionally_allowed_tenants=tenants
        ),
        "azure-powershell": lambda: identity.AzurePowerShellCredential(
            **user, additionally_allowed_tenants=tenants
        ),
        "device-code": lambda: identity.DeviceCodeCredential(**common, **user),
        "browser": lambda: identity.InteractiveBrowserCredential(**common, **user),
    }
    try:
        return makers[name]()
    except ValueError as error:  # what azure-identity raises for options that do not go together
        raise ConfigurationError(f"azurekeyvault: the credential {name}: {error}") from None


_APPS = ("client-secret", "client-certificate")


def _needed(name: str, settings: Mapping[str, Any], option: str) -> str:
    value = settings.get(option)
    if not value:
        raise ConfigurationError(f"azurekeyvault: the credential {name} needs {option}")
    return str(value)


def _environment(settings: Mapping[str, Any], option: str) -> str | None:
    name = settings.get(option)
    if name is None:
        return None
    value = os.environ.get(name)
    if not value:
        raise ConfigurationError(f"azurekeyvault: {option} names {name}, which is not set")
    return value


def _secret(settings: Mapping[str, Any]) -> str:
    path = settings.get("client_secret_file")
    if path is None:
        value = _environment(settings, "client_secret_env")
        if value is None:
            raise ConfigurationError(
                "azurekeyvault: the credential client-secret needs client_secret_env or "
                "client_secret_file"
            )
        return value
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().strip()
    except OSError as error:
        raise ConfigurationError(
            f"azurekeyvault: client_secret_file {path}: {error.strerror}"
        ) from None


def _identity(settings: Mapping[str, Any]) -> dict[str, Any]:
    """How azure-identity is told which user-assigned identity is meant."""
    for option, name in (("object_id", "object_id"), ("resource_id", "mi_res_id")):
        if settings.get(option):
            return {"identity_config": {name: settings[option]}}
    return {"client_id": settings["client_id"]} if settings.get("client_id") else {}


class Guarded:
    """A credential that gives tokens for one resource only, and in time.

    Args:
        credential: Of azure-identity, or a program's own.
        resource: What tokens may be asked for, such as ``https://vault.azure.net``.
    """

    def __init__(self, credential: Any, resource: str) -> None:
        self.credential = credential
        self._scope = f"{resource}/.default"

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        """See ``azure.core.credentials.TokenCredential``, the older of the two protocols."""
        chosen = {k: v for k, v in options.items() if k in ("claims", "tenant_id", "enable_cae")}
        token = self.get_token_info(*scopes, options=cast(TokenRequestOptions, chosen))
        return AccessToken(token.token, token.expires_on)

    def get_token_info(
        self, *scopes: str, options: TokenRequestOptions | None = None
    ) -> AccessTokenInfo:
        """See ``azure.core.credentials.SupportsTokenInfo``.

        Raises:
            AccessDenied: The vault's challenge asked for a token for something else.
            VaultUnavailable: No token within the call's deadline.
        """
        if scopes != (self._scope,):
            raise AccessDenied(
                f"the vault asked for a token for {', '.join(map(repr, scopes))}, "
                f"and is to get one for {self._scope!r} only",
                provider_code="ChallengeResourceMismatch",
                next_step="Check the vault's name and what answers under it.",
            )
        chosen: TokenRequestOptions = options or {}
        credential = self.credential  # which another thread may replace
        if hasattr(credential, "get_token_info"):
            token: AccessTokenInfo = _within_deadline(
                lambda: credential.get_token_info(*scopes, options=chosen)
            )
            return token
        arguments = {k: v for k, v in chosen.items() if k in ("claims", "tenant_id", "enable_cae")}
        old = _within_deadline(lambda: credential.get_token(*scopes, **arguments))
        return AccessTokenInfo(old.token, old.expires_on)


def _within_deadline(ask: Callable[[], Any]) -> Any:
    """What ``ask`` returns or raises, if that comes in time.

    On a thread that nobody waits for at exit: azure-identity has no way to be
    told how long an end point that does not answer may take.
    """
    answer: dict[str, Any] = {}
    done = threading.Event()

    def run() -> None:
        try:
            answer["value"] = ask()
        except BaseException as error:
            answer["error"] = error
        finally:
            done.set()

    threading.Thread(target=run, name="envelope-credential", daemon=True).start()
    if not done.wait(max(0.0, caller.time_left())):
        raise VaultUnavailable(
            "the credential gave no token in time",
            provider_code="CredentialTimeout",
            next_step="Check the identity end point or name another credential; then try again.",
        )
    if "error" in answer:
        raise answer["error"]
    return answer["value"]
