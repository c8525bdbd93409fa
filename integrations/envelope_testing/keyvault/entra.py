"""The local Entra ID: where applications get the tokens that vaults take.

Client credentials only, proved by a secret, a certificate or a federated token. (Microsoft identity
platform, "OAuth 2.0 client credentials flow" and "Microsoft Entra authentication and authorization
error codes".)
"""

from __future__ import annotations

import secrets
import time
import uuid
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from . import subscriptions
from .credentials import ASSERTION_TYPE, AssertionRejected, Credentials
from .signins import noted

if TYPE_CHECKING:
    from starlette.requests import Request

    from .world import Principal, World

__all__ = ["LOGIN_HOSTS", "OPERATIONS", "EntraId", "is_login_host"]

#: Where people and applications sign in, by cloud: public, China, US Government, and old names.
LOGIN_HOSTS = (
    "login.microsoftonline.com",
    "login.microsoft.com",
    "login.windows.net",
    "sts.windows.net",
    "login.chinacloudapi.cn",
    "login.partner.microsoftonline.cn",
    "login.microsoftonline.us",
    "login.usgovcloudapi.net",
)
_REGIONAL = ".login.microsoft.com"

OPERATIONS = {
    "/token": "token",
    "/openid-configuration": "openid_configuration",
    "/discovery/instance": "instance_discovery",
    "/discovery/v2.0/keys": "keys",
}
#: Tenants that stand for whichever tenant the signed-in account has.
_ANY_TENANT = ("common", "organizations", "consumers")
#: Resources that have tokens here: those of Key Vault and Managed HSM in every cloud, and the
#: resource manager.
_RESOURCES = (
    *(
        f"https://{kind}.{cloud}"
        for kind in ("vault", "managedhsm")
        for cloud in ("azure.net", "azure.cn", "usgovcloudapi.net")
    ),
    *subscriptions.AUDIENCES,
)
_STATUS = {"invalid_client": 401}


def is_login_host(host: str) -> bool:
    """Whether tokens are had at this host name, a region's included."""
    region, _, rest = host.partition(".")
    return host in LOGIN_HOSTS or (bool(region) and f".{rest}" == _REGIONAL)


class _Refused(Exception):
    def __init__(self, error: str, code: int, message: str, principal: Principal | None = None):
        super().__init__(message)
        self.error, self.code, self.message = error, code, message
        self.principal = principal


class EntraId:
    """The application behind the login hosts.

    Args:
        world: Its principals and vaults tell which tenants there are.
        credentials: Verifies client assertions.
    """

    def __init__(self, world: World, credentials: Credentials) -> None:
        self._world = world
        self._credentials = credentials
        #: Seconds that tokens are valid for, by the world's clock.
        self.token_lifetime = 3599.0

    def app(self) -> Starlette:
        """What answers on login hosts."""
        configuration = "/.well-known/openid-configuration"
        return Starlette(
            routes=[
                Route(f"/{{tenant}}/v2.0{configuration}", self._configuration),
                Route(f"/{{tenant}}{configuration}", self._configuration),
                Route("/{tenant}/discovery/instance", self._instance),
                Route("/{tenant}/discovery/v2.0/keys", self._keys),
                Route("/{tenant}/oauth2/v2.0/token", self._token, methods=["POST"]),
                Route("/{tenant}/oauth2/token", self._token, methods=["POST"]),
            ]
        )

    def tenants(self) -> set[str]:
        """The tenants that have a principal or a vault."""
        with self._world.lock:
            principals = {one.tenant for one in self._world.principals.values()}
            return principals | {one.tenant for one in self._world.vaults.values()}

    # --- Discovery ------------------------------------------------------------------------------

    async def _configuration(self, request: Request) -> Response:
        tenant = request.path_params["tenant"]
        base = f"https://{_host(request)}/{tenant}"
        try:
            self._check_tenant(tenant)
        except _Refused as refusal:
            return _error(request, refusal)
        anyone = tenant in _ANY_TENANT
        return JSONResponse(
            {
                "token_endpoint": f"{base}/oauth2/v2.0/token",
                "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt"],
                "jwks_uri": f"{base}/discovery/v2.0/keys",
                "issuer": f"https://{_host(request)}/{'{tenantid}' if anyone else tenant}/v2.0",
                "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
                "device_authorization_endpoint": f"{base}/oauth2/v2.0/devicecode",
                "end_session_endpoint": f"{base}/oauth2/v2.0/logout",
                "response_types_supported": ["code", "id_token", "code id_token"],
                "response_modes_supported": ["query", "fragment", "form_post"],
                "subject_types_supported": ["pairwise"],
                "scopes_supported": ["openid", "profile", "email", "offline_access"],
                "id_token_signing_alg_values_supported": ["RS256"],
                "tenant_region_scope": "EU",
                "cloud_instance_name": "microsoftonline.com",
            }
        )

    async def _instance(self, request: Request) -> Response:
        asked = request.query_params.get("authorization_endpoint", "")
        tenant = asked.partition("://")[2].partition("/")[2].partition("/")[0] or "common"
        base = f"https://{_host(request)}/{tenant}"
        preferred = {
            "preferred_network": LOGIN_HOSTS[0],
            "preferred_cache": "login.windows.net",
            "aliases": list(LOGIN_HOSTS[:4]),
        }
        others = [
            {"preferred_network": host, "preferred_cache": host, "aliases": [host]}
            for host in LOGIN_HOSTS[4:]
        ]
        return JSONResponse(
            {
                "tenant_discovery_endpoint": f"{base}/v2.0/.well-known/openid-configuration",
                "api-version": "1.1",
                "metadata": [preferred, *others],
            }
        )

    async def _keys(self, request: Request) -> Response:  # noqa: ARG002
        # Access tokens are for vaults to read. No client has a use for their key, which is secret.
        return JSONResponse({"keys": []})

    # --- Tokens ---------------------------------------------------------------------------------

    async def _token(self, request: Request) -> Response:
        fields = dict(parse_qsl((await request.body()).decode("latin-1")))
        try:
            tenant = request.path_params["tenant"]
            self._check_tenant(tenant)
            principal = self._proved(tenant, fields, _host(request))
            audience = self._audience(
                fields, principal, v1=not request.url.path.endswith("v2.0/token")
            )
        except _Refused as refusal:
            return _error(request, refusal)
        lifetime = self.token_lifetime
        token = self._world.tokens.issue(principal, audience=audience, lifetime=lifetime)
        answer: dict[str, Any] = {
            "token_type": "Bearer",
            "expires_in": int(lifetime),
            "ext_expires_in": int(lifetime),
            "access_token": token,
        }
        if "resource" in fields:  # version 1 sends numbers as text
            now = int(time.time())
            answer |= {
                "expires_in": str(int(lifetime)),
                "ext_expires_in": str(int(lifetime)),
                "expires_on": str(now + int(lifetime)),
                "not_before": str(now),
                "resource": audience,
            }
        response = JSONResponse(answer, headers={"Cache-Control": "no-store, no-cache"})
        return noted(request, response, principal, None)

    def _check_tenant(self, tenant: str) -> None:
        if tenant not in _ANY_TENANT and tenant not in self.tenants():
            raise _Refused(
                "invalid_tenant",
                90002,
                f"Tenant '{tenant}' not found. Check to make sure you have the correct tenant ID "
                "and are signing into the correct cloud. Check with your subscription "
                "administrator, this may happen if there are no active subscriptions for the "
                "tenant.",
            )

    def _proved(self, tenant: str, fields: dict[str, str], host: str) -> Principal:
        """Which principal this request comes from."""
        grant, client_id = fields.get("grant_type"), fields.get("client_id", "")
        if grant != "client_credentials":
            text = f"The app requested an unsupported grant type '{grant}'."
            raise _Refused("unsupported_grant_type", 70003, text)
        if tenant in _ANY_TENANT:
            text = (
                "No tenant-identifying information found in either the request or implied by any "
                "provided credentials."
            )
            raise _Refused("invalid_request", 50059, text)
        principal = self._application(client_id, tenant)
        secret, assertion = fields.get("client_secret"), fields.get("client_assertion")
        if assertion is not None and fields.get("client_assertion_type") == ASSERTION_TYPE:
            end = f"https://{host}/{tenant}"
            audiences = {f"{end}/oauth2/v2.0/token", f"{end}/oauth2/token", end, f"{end}/v2.0"}
            try:
                self._credentials.verify(assertion, principal, audiences=audiences)
            except AssertionRejected as error:
                raise _Refused("invalid_client", error.code, error.message, principal) from error
        elif secret is None:
            text = (
                "'client_assertion', 'client_secret' or 'request' is required for the "
                "'client_credentials' grant type."
            )
            raise _Refused("invalid_client", 7000216, text, principal)
        elif not secrets.compare_digest(secret.encode(), principal.client_secret.encode()):
            raise _Refused(
                "invalid_client",
                7000215,
                "Invalid client secret provided. Ensure the secret being sent in the request is "
                "the client secret value, not the client secret ID, for a secret added to app "
                f"'{client_id}'.",
                principal,
            )
        return principal

    def _application(self, client_id: str, tenant: str) -> Principal:
        with self._world.lock:
            for principal in self._world.principals.values():
                if principal.client_id == client_id and principal.tenant == tenant:
                    return principal
        raise _Refused(
            "unauthorized_client",
            700016,
            f"Application with identifier '{client_id}' was not found in the directory '{tenant}'. "
            "This can happen if the application has not been installed by the administrator of the "
            "tenant or consented to by any user in the tenant. You may have sent your "
            "authentication request to the wrong tenant.",
        )

    def _audience(self, fields: dict[str, str], principal: Principal, *, v1: bool) -> str:
        """The resource that a token is asked for."""
        scope = fields.get("scope", "")
        suffix = "/.default"
        if v1:
            audience = fields.get("resource", "")
        elif scope.endswith(suffix):
            audience = scope.removesuffix(suffix)
        else:
            text = (
                f"The provided value for scope {scope} is not valid. Client credential flows must "
                "have a scope value with /.default suffixed to the resource identifier "
                "(application ID URI)."
            )
            raise _Refused("invalid_scope", 1002012, text, principal)
        if audience.rstrip("/") not in _RESOURCES:
            text = (
                f"The resource principal named {audience} was not found in the tenant named "
                f"{principal.tenant}."
            )
            raise _Refused("invalid_resource", 500011, text, principal)
        return audience


def _host(request: Request) -> str:
    return request.headers.get("host", LOGIN_HOSTS[0]).partition(":")[0]


def _error(request: Request, refusal: _Refused) -> Response:
    trace, correlation = str(uuid.uuid4()), request.headers.get("client-request-id")
    correlation = correlation or str(uuid.uuid4())
    stamp = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime())
    description = (
        f"AADSTS{refusal.code}: {refusal.message} Trace ID: {trace} "
        f"Correlation ID: {correlation} Timestamp: {stamp}"
    )
    response = JSONResponse(
        {
            "error": refusal.error,
            "error_description": description,
            "error_codes": [refusal.code],
            "timestamp": stamp,
            "trace_id": trace,
            "correlation_id": correlation,
            "error_uri": f"https://{_host(request)}/error?code={refusal.code}",
        },
        status_code=_STATUS.get(refusal.error, 400),
    )
    return noted(request, response, refusal.principal, f"AADSTS{refusal.code}")
