"""uvicorn and the proxy on loopback ports, in one thread with one event loop.

uvicorn's own way to stop waits for clients and polls; here connections of a world that ends are
cut, so that a test costs milliseconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import Future
from typing import Any

import uvicorn

from .proxy import Proxy, cut
from .service.errors import ConnectionDropped

__all__ = ["ASGIApp", "ByHost", "Serving"]

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Scope = MutableMapping[str, Any]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

#: The service keeps idle connections for minutes. It must not be shorter than a test: a client
#: that was forked would not see the end of a connection whose descriptor it holds as well.
_KEEP_ALIVE = 24 * 3600
_DATE_EVERY = 0.5


class ByHost:
    """Two applications on one port, told apart by the request's ``Host``.

    Args:
        chosen: Whether a host name is one of the first application's.
        first: Answers for those hosts.
        second: Answers for all others.
    """

    def __init__(self, chosen: Callable[[str], bool], first: ASGIApp, second: ASGIApp) -> None:
        self._chosen = chosen
        self._first = first
        self._second = second

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        host = next((value for name, value in scope["headers"] if name == b"host"), b"")
        name = host.decode("latin-1").partition(":")[0].lower()
        app = self._first if self._chosen(name) else self._second
        await app(scope, receive, send)


class Serving:
    """Two servers, one with TLS and one without, and the proxy that leads to them.

    Args:
        secure: Answers on ``secure_port``.
        plain: Answers on ``plain_port``, without TLS.
        context: TLS of the former.
        proxy: Is served on ``proxy_port``; it breaks the connections of applications that raise
            :class:`ConnectionDropped`.
    """

    def __init__(
        self, *, secure: ASGIApp, plain: ASGIApp, context: ssl.SSLContext, proxy: Proxy
    ) -> None:
        self._proxy = proxy
        self._listeners = [_listener(), _listener(), _listener()]
        ports: list[int] = [listener.getsockname()[1] for listener in self._listeners]
        self.secure_port, self.plain_port, self.proxy_port = ports
        self._servers = [
            _Server(self._droppable(secure), context),
            _Server(self._droppable(plain), None),
        ]
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ending: asyncio.Event

    def start(self) -> None:
        """Begin to serve; returns when connections are accepted."""
        ready: Future[None] = Future()
        self._thread = threading.Thread(
            target=self._run, args=(ready,), name="local-key-vault", daemon=True
        )
        self._thread.start()
        try:
            ready.result()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Cut all connections, close all sockets, end the thread."""
        if self._thread is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended by itself
                if self._loop is not None:
                    self._loop.call_soon_threadsafe(self._ending.set)
            self._thread.join()
        self._thread = self._loop = None
        for listener in self._listeners:
            listener.close()

    def _run(self, ready: Future[None]) -> None:
        with asyncio.Runner() as runner:
            self._loop = runner.get_loop()
            try:
                runner.run(self._main(ready))
            except BaseException as error:
                if ready.done():
                    raise
                ready.set_exception(error)

    async def _main(self, ready: Future[None]) -> None:
        self._ending = asyncio.Event()
        async with contextlib.AsyncExitStack() as stack:
            for server, listener in zip(self._servers, self._listeners, strict=False):
                stack.push_async_callback(server.shutdown)
                await server.open(listener)
            # The last to come is the first to go: servers get no new connections while they end.
            stack.push_async_callback(self._proxy.stop)
            await self._proxy.start(self._listeners[-1])
            ready.set_result(None)
            while not self._ending.is_set():
                for server in self._servers:
                    await server.on_tick(0)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._ending.wait(), _DATE_EVERY)

    def _droppable(self, app: ASGIApp) -> ASGIApp:
        async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
            try:
                await app(scope, receive, send)
            except ConnectionDropped:
                if not self._proxy.drop(scope["client"][1]):
                    raise  # a client that came past the proxy gets uvicorn's 500
                # An application that returns unheard is an error to uvicorn.
                while (await receive())["type"] != "http.disconnect":
                    pass
            except asyncio.CancelledError:
                if not self._ending.is_set():
                    raise
                # Nobody waits for this call any more; uvicorn would print a traceback.

        return guarded


class _Server(uvicorn.Server):
    """A uvicorn server inside somebody else's event loop."""

    def __init__(self, app: ASGIApp, context: ssl.SSLContext | None) -> None:
        config = uvicorn.Config(
            app,
            http="h11",
            ws="none",
            interface="asgi3",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=_KEEP_ALIVE,
        )
        config.load()
        config.ssl = context
        super().__init__(config)
        self.servers = []

    async def open(self, listener: socket.socket) -> None:
        """Accept connections on a bound socket."""
        self.lifespan = self.config.lifespan_class(self.config)
        await self.on_tick(0)
        await self.startup(sockets=[listener])

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:  # noqa: ARG002
        """Cut what is open and end what runs."""
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            cut(connection.transport)
        while self.server_state.connections:
            await asyncio.sleep(0)
        tasks = list(self.server_state.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for server in self.servers:
            await server.wait_closed()


def _listener() -> socket.socket:
    # asyncio turns Nagle's algorithm off only for sockets that say that they are TCP. With it, each
    # answer of two packets waits for an acknowledgement: 40 ms.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    return listener
