"""The ASGI application: one for all vaults and Managed HSMs of a world, told apart by host name.

A call is, in this order, authenticated or challenged, struck by faults, let through the gates,
and done. The order is the service's: who has no token learns nothing but where to get one.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ..tokens import TokenRejected
from ..world import Call, Principal, Vault, World
from . import gates, rotation
from .errors import ConnectionDropped, VaultError, bad_parameter
from .operations import OPERATIONS
from .requests import Asked, Json, Operation

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

_CODES = {
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    408: "RequestTimeout",
    429: "Throttled",
    500: "InternalServerError",
    502: "BadGateway",
    503: "ServiceUnavailable",
    504: "GatewayTimeout",
}
_SERVICE_VERSION = "1.9.2000.1"


def vault_app(world: World) -> ASGIApp:
    """The data plane of all vaults of a world.

    :raises ConnectionDropped: out of the application, where a fault asks for it; what serves the
        application closes the connection.
    """
    service = _Service(world)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            request = Request(scope, receive)
            response = await service.answer(request)
            await response(scope, receive, send)

    return app


class _Routes:
    """Finds the operation of a method and path. Empty parts stand for a version left out."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        self._routes = [(_pattern(one.path), one) for one in operations]
        # What names more of its path literally is the better match.
        self._routes.sort(key=lambda route: (route[1].path.count("{"), -len(route[1].path)))

    def find(self, method: str, path: str) -> tuple[Operation, str, str] | None:
        """The operation, the object's name and its version."""
        for pattern, operation in self._routes:
            match = pattern.fullmatch(path)
            if match and operation.method == method:
                parts = match.groupdict()
                return operation, parts.get("name") or "", parts.get("version") or ""
        return None


def _pattern(path: str) -> re.Pattern[str]:
    text = path.replace("/{version}", r"(?:/(?P<version>[^/]*))?")
    return re.compile(text.replace("{name}", r"(?P<name>[^/]+)") + "/?")


class _Service:
    def __init__(self, world: World) -> None:
        self._world = world
        self._routes = _Routes(OPERATIONS)

    async def answer(self, request: Request) -> Response:
        """Do a call, and note it in the log."""
        host = request.headers.get("host", "").partition(":")[0].lower()
        found = self._routes.find(request.method, request.url.path)
        operation = found[0].name if found else "unknown"
        note: dict[str, Any] = {
            "operation": operation,
            "principal": None,
            "error": None,
            "status": 0,
        }
        try:
            body = await self._do(request, host, found, note)
            note["status"] = found[0].status if found else 200
            response: Response = (
                Response(status_code=204) if body is None else _json(note["status"], body)
            )
        except VaultError as error:
            note |= {"status": error.status, "error": error.logged}
            response = _json(error.status, error.body(), error.headers)
        except ConnectionDropped:
            note["error"] = "ConnectionDropped"
            raise
        finally:
            with self._world.lock:
                at = self._world.clock.now()
                call = Call(request.method, host, request.url.path, at=at, **note)
                self._world.calls.append(call)
        self._decorate(request, response)
        return response

    async def _do(
        self,
        request: Request,
        host: str,
        found: tuple[Operation, str, str] | None,
        note: dict[str, Any],
    ) -> Json | None:
        world = self._world
        vault = world.vaults.get(host)
        if vault is None:
            raise VaultError(404, "VaultNotFound", f"There is no vault at {host}.")
        operation = found[0].name if found else "unknown"
        principal = self._authenticate(request, vault, operation)
        note["principal"] = principal.name
        await self._strike(host, operation)
        if found is None:
            raise VaultError(404, "NotFound", "The request URI is not valid.")
        if "api-version" not in request.query_params:
            raise bad_parameter("api-version must be specified")
        body = _object(await request.body())
        asked = Asked(world, vault, principal, *found, request.query_params, body)
        with world.lock:
            rotation.tick(vault, world.clock.now())
            gates.check(asked)
            make = found[0].prepare(asked) if found[0].prepare else None
        if make is not None:
            asked.prepared = await anyio.to_thread.run_sync(make)
        with world.lock:
            return found[0].handler(asked)

    def _authenticate(self, request: Request, vault: Vault, operation: str) -> Principal:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            message = "AKV10000: Request is missing a Bearer or PoP token."
            raise self._challenge(vault, operation, message, "AKV10000")
        try:
            return self._world.tokens.check(
                token.strip(), audience=vault.audience, tenant=vault.tenant
            )
        except TokenRejected as rejected:
            raise self._challenge(vault, operation, rejected.message, rejected.code) from None

    def _challenge(self, vault: Vault, operation: str, message: str, inner: str) -> VaultError:
        resource = self._world.faults.take_challenge(vault.host, operation) or vault.audience
        error = VaultError(401, "Unauthorized", message)
        error.logged = inner
        error.headers["WWW-Authenticate"] = (
            f'Bearer authorization="https://{vault.login_host}/{vault.tenant}", '
            f'resource="{resource}"'
        )
        return error

    async def _strike(self, host: str, operation: str) -> None:
        """Let the faults strike that are for this call.

        :raises VaultError: a fault answers.
        :raises ConnectionDropped: a fault breaks the connection.
        """
        for fault in self._world.faults.take(host, operation):
            await anyio.sleep((fault.latency or 0) + (fault.hang or 0))
            if fault.drop:
                raise ConnectionDropped(f"a fault drops {operation} on {host}")
            if fault.status is not None:
                code = fault.code or _CODES.get(fault.status, "Error")
                error = VaultError(fault.status, code, fault.message or "A fault was asked for.")
                if fault.retry_after is not None:
                    error.headers["Retry-After"] = f"{fault.retry_after:g}"
                raise error

    def _decorate(self, request: Request, response: Response) -> None:
        """Add the headers that the service adds to every answer."""
        address = self._world.client_address
        response.headers.update(
            {
                "Cache-Control": "no-cache",
                "Pragma": "no-cache",
                "x-ms-request-id": str(uuid.uuid4()),
                "x-ms-keyvault-service-version": _SERVICE_VERSION,
                "x-ms-keyvault-network-info": (
                    f"conn_type=Ipv4;addr={address};act_addr_fam=InterNetwork;"
                ),
                "X-Content-Type-Options": "nosniff",
            }
        )
        if "x-ms-client-request-id" in request.headers:
            client = request.headers["x-ms-client-request-id"]
            response.headers["x-ms-client-request-id"] = client


def _json(status: int, body: Json, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse(body, status, headers)


def _object(raw: bytes) -> Json:
    """The body as a JSON object; an empty one where there is no body.

    :raises VaultError: 400, it is something else.
    """
    if not raw:
        return {}
    try:
        found = json.loads(raw)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise bad_parameter("The request body is not a JSON object.")
    return found
