"""Managed identities of the machine that a program under test believes to run on.

The Instance Metadata Service of a virtual machine, and App Service's end point. (Microsoft Entra,
"How to use managed identities on an Azure VM to acquire an access token"; App Service, "REST
endpoint reference" of managed identities.)
"""

from __future__ import annotations

import secrets
import time
import uuid
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from .signins import noted

if TYPE_CHECKING:
    from starlette.requests import Request

    from .world import Principal, World

__all__ = ["APP_SERVICE_PATH", "IMDS_HOST", "OPERATIONS", "Machine"]

IMDS_HOST = "169.254.169.254"
_IMDS_PATH = "/metadata/identity/oauth2/token"
APP_SERVICE_PATH = "/msi/token"
OPERATIONS = {
    _IMDS_PATH: "managed_identity",
    APP_SERVICE_PATH: "managed_identity",
    "/metadata/instance/compute": "metadata",
}
#: How a request names an identity, and the attribute of a principal that it means.
_BY = {
    "client_id": "client_id",
    "object_id": "object_id",
    "principal_id": "object_id",
    "msi_res_id": "resource_id",
    "mi_res_id": "resource_id",
}
_LIFETIME = 86399  # these tokens last a day


class Machine:
    """The machine: which identities it has."""

    def __init__(self, world: World) -> None:
        self._world = world
        #: The identity that it has when a request names none.
        self.system: Principal | None = None
        #: Those that somebody assigned to it.
        self.assigned: list[Principal] = []
        #: What App Service puts into ``IDENTITY_HEADER``.
        self.header = secrets.token_hex(16)
        self.location = "westeurope"

    def assign(self, principal: Principal, *, system: bool = False) -> None:
        """Give the machine an identity.

        Args:
            principal: The identity.
            system: Make it the system-assigned one, in place of the one before.
        """
        with self._world.lock:
            if system:
                self.system = principal
            elif principal not in self.assigned:
                self.assigned.append(principal)

    def app(self) -> Starlette:
        """What answers at the Instance Metadata Service and at App Service's end point."""
        return Starlette(
            routes=[
                Route(_IMDS_PATH, self._imds),
                Route("/metadata/instance/compute", self._compute),
                Route(APP_SERVICE_PATH, self._app_service),
            ]
        )

    async def _imds(self, request: Request) -> Response:
        query = request.query_params
        if request.headers.get("metadata", "").lower() != "true":
            return _imds_error(request, "Required metadata header not specified")
        if "api-version" not in query:
            return _imds_error(request, "Required query variable 'api-version' is missing")
        if "resource" not in query:
            return _imds_error(request, "Required query variable 'resource' is missing")
        principal = self._identity(request)
        if isinstance(principal, str):
            return _imds_error(request, principal)
        answer = self._answer(principal, query["resource"])
        answer |= {"expires_in": str(_LIFETIME), "ext_expires_in": str(_LIFETIME)}
        return noted(request, JSONResponse(answer), principal, None)

    async def _compute(self, request: Request) -> Response:
        if request.headers.get("metadata", "").lower() != "true":
            return _imds_error(request, "Required metadata header not specified")
        return JSONResponse({"location": self.location, "azEnvironment": "AzurePublicCloud"})

    async def _app_service(self, request: Request) -> Response:
        sent = request.headers.get("x-identity-header", "")
        if not secrets.compare_digest(sent.encode(), self.header.encode()):
            return noted(request, _app_error(401, "Unauthorized"), None, "Unauthorized")
        resource = request.query_params.get("resource")
        principal = self._identity(request)
        if isinstance(principal, str) or resource is None:
            text = "No Managed Identity found for specified ClientId/ResourceId/PrincipalId."
            if resource is None:
                text = "Required query variable 'resource' is missing."
            return noted(request, _app_error(400, text), None, text)
        return noted(request, JSONResponse(self._answer(principal, resource)), principal, None)

    def _identity(self, request: Request) -> Principal | str:
        """Which identity a request means, or why there is none."""
        with self._world.lock:
            everyone = [*self.assigned, *([self.system] if self.system else [])]
            for parameter, attribute in _BY.items():
                asked = request.query_params.get(parameter)
                if asked:
                    found = (p for p in everyone if getattr(p, attribute).lower() == asked.lower())
                    return next(found, "Identity not found")
            if self.system is not None:
                return self.system
            if len(self.assigned) == 1:
                return self.assigned[0]
        if self.assigned:
            return (
                "Multiple user assigned identities exist, please specify the clientId / resourceId "
                "of the identity in the token request"
            )
        return "Identity not found"

    def _answer(self, principal: Principal, resource: str) -> dict[str, str]:
        token = self._world.tokens.issue(principal, audience=resource, lifetime=_LIFETIME)
        # Clients compare these with the machine's clock. In the world, time may be later by an
        # offset, and so is the token's own expiry.
        now = int(time.time())
        return {
            "access_token": token,
            "client_id": principal.client_id,
            "expires_on": str(now + _LIFETIME),
            "not_before": str(now - 300),
            "resource": resource,
            "token_type": "Bearer",
        }


def _imds_error(request: Request, text: str) -> Response:
    error = {"error": "invalid_request", "error_description": text}
    return noted(request, JSONResponse(error, status_code=400), None, text)


def _app_error(status: int, text: str) -> Response:
    body = {"statusCode": status, "message": text, "correlationId": str(uuid.uuid4())}
    return JSONResponse(body, status_code=status)
