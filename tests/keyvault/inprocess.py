"""The vendor's SDKs on top of the service in this process: no socket, no TLS, no waiting."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

import pytest
import requests
import urllib3
from azure.core.credentials import AccessToken
from azure.core.exceptions import HttpResponseError
from azure.core.pipeline.transport import RequestsTransport
from azure.keyvault.keys import KeyClient
from azure.keyvault.keys.crypto import CryptographyClient
from requests.adapters import HTTPAdapter

from envelope_testing.keyvault.service.app import vault_app
from envelope_testing.keyvault.service.errors import ConnectionDropped
from envelope_testing.keyvault.tokens import Tokens
from envelope_testing.keyvault.world import Principal, Vault, World

Client = TypeVar("Client")


class Adapter(HTTPAdapter):
    """Answers the requests of a ``requests`` session by calling an ASGI application."""

    def __init__(self, app: Any) -> None:
        super().__init__()
        self._app = app

    def send(
        self, request: requests.PreparedRequest, *args: Any, **kwargs: Any
    ) -> requests.Response:
        url = urlsplit(request.url)
        body = request.body or b""
        headers = [(b"host", url.netloc.encode())] + [
            (name.lower().encode(), str(value).encode()) for name, value in request.headers.items()
        ]
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": request.method,
            "scheme": "https",
            "path": unquote(url.path),
            "raw_path": url.path.encode(),
            "query_string": url.query.encode(),
            "root_path": "",
            "headers": headers,
        }
        sent: list[Mapping[str, Any]] = []

        async def receive() -> dict[str, Any]:
            raw = body.encode() if isinstance(body, str) else body
            return {"type": "http.request", "body": raw, "more_body": False}

        async def send(message: Mapping[str, Any]) -> None:
            sent.append(message)

        try:
            asyncio.run(self._app(scope, receive, send))
        except ConnectionDropped as error:
            raise requests.ConnectionError(str(error)) from error
        raw = urllib3.HTTPResponse(
            io.BytesIO(b"".join(message.get("body", b"") for message in sent[1:])),
            {name.decode(): value.decode() for name, value in sent[0]["headers"]},
            sent[0]["status"],
            preload_content=False,
        )
        return self.build_response(request, raw)


class Transport(RequestsTransport):
    """An azure-core transport over the adapter. A poller that sleeps does so by the clock."""

    def __init__(self, world: World) -> None:
        self.world = world
        session = requests.Session()
        session.mount("https://", Adapter(vault_app(world)))
        super().__init__(session=session, session_owner=False)

    def sleep(self, duration: float) -> None:
        self.world.clock.advance(duration)


class Credential:
    """A principal's tokens. ``audience`` and ``tenant`` stand for mistakes in a configuration."""

    def __init__(
        self,
        world: World,
        principal: Principal,
        audience: str | None = None,
    ) -> None:
        self._world, self._principal, self._audience = world, principal, audience

    def get_token(self, *scopes: str, **kwargs: Any) -> AccessToken:
        audience = self._audience or scopes[0].removesuffix("/.default")
        token = self._world.tokens.issue(self._principal, audience=audience)
        return AccessToken(token, int(time.time()) + 3600)


def new_world() -> World:
    world = World()
    world.tokens = Tokens(world)
    return world


class Lab:
    """A world with clients for its vaults; "developer" is an administrator of each."""

    def __init__(self) -> None:
        self.world = new_world()

    def vault(self, name: str = "acme", *, admin: bool = True, **options: Any) -> Vault:
        vault = self.world.vault(name, **options)
        developer = self.world.principal("developer", tenant=vault.tenant)
        if admin and vault.is_hsm:
            vault.grant(developer, "Managed HSM Crypto User")
            vault.grant(developer, "Managed HSM Crypto Officer")
        elif admin and vault.rbac:
            vault.grant(developer, "Key Vault Administrator")
        elif admin:
            vault.set_policy(developer, keys=["all"], secrets=["all"], certificates=["all"])
        return vault

    def client(
        self,
        kind: type[Client],
        vault: Vault,
        principal: str = "developer",
        audience: str | None = None,
        **options: Any,
    ) -> Client:
        who = self.world.principal(principal, tenant=vault.tenant)
        credential = Credential(self.world, who, audience)
        options = {"retry_total": 0, **options}
        return kind(vault.url, credential, transport=Transport(self.world), **options)

    def keys(self, vault: Vault, principal: str = "developer", **options: Any) -> KeyClient:
        return self.client(KeyClient, vault, principal, **options)

    def crypto(
        self, kid: str, principal: str = "developer", *, local: bool = False
    ) -> CryptographyClient:
        """A cryptography client, by default one that leaves everything to the service."""
        vault = self.world.vaults[urlsplit(kid).hostname or ""]
        who = self.world.principal(principal, tenant=vault.tenant)
        client = CryptographyClient(
            kid,
            Credential(self.world, who),
            transport=Transport(self.world),
            retry_total=0,
        )
        if not local:
            # What it does by itself once reading the key was refused: a state that tests want
            # without the call that leads to it.
            client._initialized = True
        return client

    def copy_key(self, vault: str, name: str, copy: str) -> None:
        """Another key like one that is there, without making one."""
        shelf = self.world.vault(vault).keys
        shelf.live[copy] = replace(shelf.live[name], name=copy)

    def log(self) -> list[str]:
        """The operations that reached vaults with a token, in order."""
        return [call.operation for call in self.world.calls if call.status != 401]


def refusal(call: Callable[[], object]) -> tuple[int | None, str | None, str | None, str]:
    """What the service says to a call: status, code, inner code and message."""
    with pytest.raises(HttpResponseError) as caught:
        call()
    error = caught.value.error
    assert error is not None
    inner = getattr(error, "innererror", None) or {}
    return caught.value.status_code, error.code, inner.get("code"), error.message or ""
