"""The resource manager, as far as tools ask it who they are before they go to a vault.

An account without a subscription is enough to reach vaults, so that is what everybody has here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

if TYPE_CHECKING:
    from starlette.requests import Request

__all__ = ["AUDIENCES", "HOST", "OPERATIONS", "app", "is_host"]

HOST = "management.azure.com"
#: Resources that its tokens are asked for.
AUDIENCES = ("https://management.azure.com", "https://management.core.windows.net")
OPERATIONS = {"/subscriptions": "subscriptions"}


def is_host(host: str) -> bool:
    """Whether it is the resource manager's name."""
    return host == HOST


def app() -> Starlette:
    """What answers there."""
    return Starlette(routes=[Route("/subscriptions", _subscriptions)])


async def _subscriptions(request: Request) -> Response:  # noqa: ARG001
    return JSONResponse({"value": [], "count": {"type": "Total", "value": 0}})
