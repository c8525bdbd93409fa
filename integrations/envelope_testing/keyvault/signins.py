"""What the token end points have in common: a log of calls, and faults that tests ask for."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .faults import Faults
from .service.errors import ConnectionDropped
from .world import Call

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from .serving import ASGIApp
    from .world import Principal, World

__all__ = ["SignIns"]


@dataclass
class SignIns:
    """Every call to Entra ID and to managed identity end points, and what goes wrong there.

    They are kept apart from ``World.calls`` and ``World.faults``, so that counting a vault's calls
    counts nothing else. Operations are called ``token``, ``openid_configuration``,
    ``instance_discovery``, ``managed_identity`` (both kinds), and ``metadata``. The status of a
    call without an answer is 0.
    """

    calls: list[Call] = field(default_factory=list)
    faults: Faults = field(default_factory=Faults)

    def watch(self, app: ASGIApp, world: World, operations: Mapping[str, str]) -> ASGIApp:
        """Log and harm the calls of an application.

        Args:
            app: The application.
            world: Has the clock.
            operations: The operation's name by how the path ends.
        """

        async def watched(scope: Any, receive: Any, send: Any) -> None:
            path = scope["path"]
            operation = next(
                (name for end, name in operations.items() if path.endswith(end)), "unknown"
            )
            host = next((v.decode("latin-1") for n, v in scope["headers"] if n == b"host"), "")
            host = host.partition(":")[0]
            state = scope.setdefault("state", {})
            logged = False

            def log(status: int) -> None:
                nonlocal logged
                logged = True
                self.calls.append(
                    Call(
                        method=scope["method"],
                        host=host,
                        path=path,
                        operation=operation,
                        status=status,
                        principal=state.get("principal"),
                        error=state.get("error"),
                        at=world.clock.now(),
                    )
                )

            async def sending(message: Any) -> None:
                if message["type"] == "http.response.start":
                    log(message["status"])  # before the client knows, and looks
                await send(message)

            try:
                if not await self._struck(host, operation, sending):
                    await app(scope, receive, sending)
            finally:
                if not logged:
                    log(0)

        return watched

    async def _struck(self, host: str, operation: str, send: Any) -> bool:
        """Whether a fault answered."""
        for fault in self.faults.take(host, operation):
            await asyncio.sleep((fault.latency or 0) + (fault.hang or 0))
            if fault.drop:
                raise ConnectionDropped
            if fault.status is not None:
                code = fault.code or "temporarily_unavailable"
                text = fault.message or "A fault that a test asked for."
                body = json.dumps({"error": code, "error_description": text}).encode()
                headers = [(b"content-type", b"application/json; charset=utf-8")]
                if fault.retry_after is not None:
                    headers.append((b"retry-after", str(fault.retry_after).encode()))
                headers.append((b"content-length", str(len(body)).encode()))
                start = {"type": "http.response.start", "status": fault.status, "headers": headers}
                await send(start)
                await send({"type": "http.response.body", "body": body})
                return True
        return False


def noted(
    request: Request, response: Response, principal: Principal | None, error: str | None
) -> Response:
    """``response``, with what the log is to say about it."""
    request.state.principal = principal.name if principal is not None else None
    request.state.error = error
    return response
