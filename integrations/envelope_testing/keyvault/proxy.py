"""An HTTP proxy on loopback that leads to this process and nowhere else.

Clients are pointed at it by ``HTTPS_PROXY`` and ``HTTP_PROXY``. It resolves no name and connects to
loopback only, to the ports that its ``route`` gives; what has no route is refused. So a program
under test cannot reach the real service, however it was told to call it. (RFC 9110, section 9.3.6,
for CONNECT; RFC 9112, section 3.2.2, for the absolute form.)
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import cast
from urllib.parse import urlsplit

__all__ = ["Proxy", "Refused", "cut"]

Route = Callable[[str, int, bool], int]
"""Gives the loopback port that serves a host and port, for a tunnel (True) or plain HTTP (False);
raises :class:`Refused`."""

_LOOPBACK = "127.0.0.1"
_LONGEST_HEAD = 65536
_QUICK_ACK: int | None = getattr(socket, "TCP_QUICKACK", None)
_TUNNEL = b"HTTP/1.1 200 Connection established\r\n\r\n"


class Refused(Exception):
    """The proxy does not connect to a host; ``status`` and ``reason`` are what the client gets."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class Proxy:
    """Accepts connections once :meth:`start` was awaited, until :meth:`stop`.

    Args:
        route: Decides about every host that a client asks for.
    """

    def __init__(self, route: Route) -> None:
        self.route = route
        #: Each ``host:port`` that anybody asked for, in order, refused ones too.
        self.asked: list[str] = []
        self.open: set[_Pipe] = set()
        self.connecting: set[asyncio.Task[None]] = set()
        self.stopped = False
        self._server: asyncio.Server | None = None

    async def start(self, listener: socket.socket) -> None:
        """Serve a bound socket in the running event loop."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Client(self), sock=listener)

    async def stop(self) -> None:
        """Close the listener and all connections."""
        if self._server is None:
            return
        self.stopped = True  # a connection that is being accepted right now is cut as well
        self._server.close()
        for task in self.connecting:
            task.cancel()
        await asyncio.gather(*self.connecting, return_exceptions=True)
        for pipe in list(self.open):
            cut(pipe.transport)
        await self._server.wait_closed()

    def drop(self, port: int) -> bool:
        """Break the client's connection that comes out of this proxy at a local port.

        Returns False where there is none.
        """
        for pipe in list(self.open):
            if isinstance(pipe, _Upstream) and pipe.port == port:
                cut(pipe.client.transport)
                cut(pipe.transport)
                return True
        return False


def cut(transport: asyncio.Transport) -> None:
    """End a connection at once, for its peer as well.

    Closing alone would not do: a forked child still holds the descriptor, and the peer would wait.
    """
    connection = transport.get_extra_info("socket")
    if connection is not None:
        try:
            connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # it has ended already
    transport.abort()


class _Pipe(asyncio.Protocol):
    """One end of a connection through the proxy: what it receives, its peer sends."""

    transport: asyncio.Transport

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self.peer: _Pipe | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.proxy.open.add(self)
        if self.proxy.stopped:
            cut(self.transport)

    def data_received(self, data: bytes) -> None:
        if self.peer is not None:
            self.peer.transport.write(data)

    def pause_writing(self) -> None:
        if self.peer is not None:
            self.peer.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.peer is not None:
            self.peer.transport.resume_reading()

    def eof_received(self) -> bool:
        if self.peer is None:
            return False
        self.peer.finish_writing()
        return True  # it may still receive

    def finish_writing(self) -> None:
        """Let the other side know that there is nothing more, however many hold the descriptor."""
        if not self.transport.is_closing():
            self.transport.write_eof()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self.proxy.open.discard(self)
        if self.peer is not None:
            self.peer.finish_writing()
            self.peer.transport.close()
            self.peer = None


class _Upstream(_Pipe):
    """The end at this process's own server."""

    def __init__(self, client: _Client) -> None:
        super().__init__(client.proxy)
        self.client = client
        self.port = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.port = transport.get_extra_info("sockname")[1]


class _Client(_Pipe):
    """The end at the client: reads one request's head, then is a pipe.

    urllib3 leaves Nagle's algorithm on for connections to proxies, and sends a request's head and
    body in two packets. The second waits until the first is acknowledged, which the kernel puts off
    for 40 ms unless it is asked not to, after every packet anew.
    """

    def __init__(self, proxy: Proxy) -> None:
        super().__init__(proxy)
        self._head = b""
        self._lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._acknowledge()

    def _acknowledge(self) -> None:
        connection = self.transport.get_extra_info("socket")
        if _QUICK_ACK is not None and connection is not None:
            connection.setsockopt(socket.IPPROTO_TCP, _QUICK_ACK, 1)

    def data_received(self, data: bytes) -> None:
        self._acknowledge()
        if self.peer is not None:
            self.peer.transport.write(data)
            return
        self._head += data
        head, end, rest = self._head.partition(b"\r\n\r\n")
        if not end:
            if len(self._head) > _LONGEST_HEAD:
                self._refuse(Refused(431, "Request Header Fields Too Large"))
            return
        # Until there is somebody to give it to, more data stays with the kernel.
        self.transport.pause_reading()
        self._head = b""
        try:
            port, first, tunnel = self._asked(head)
        except Refused as refusal:
            self._refuse(refusal)
            return
        task = asyncio.get_running_loop().create_task(self._connect(port, first + rest, tunnel))
        self.proxy.connecting.add(task)
        task.add_done_callback(self.proxy.connecting.discard)

    def _asked(self, head: bytes) -> tuple[int, bytes, bool]:
        """The loopback port, what it is sent first, and whether this is a tunnel."""
        line, *fields = head.split(b"\r\n")
        try:
            method, target, version = line.decode("ascii").split(" ")
            tunnel = method == "CONNECT"
            parts = urlsplit(f"//{target}" if tunnel else target)
            host, port = parts.hostname, parts.port
        except ValueError:
            raise Refused(400, "Bad Request") from None
        if not host or not version.startswith("HTTP/1.") or (not tunnel and parts.scheme != "http"):
            raise Refused(400, "Bad Request: this is a proxy")
        port = port or (443 if tunnel else 80)
        self.proxy.asked.append(f"{host}:{port}")
        if "@" in parts.netloc:
            raise Refused(400, "Bad Request: user information in the target")
        local = self.proxy.route(host, port, tunnel)
        if tunnel:
            return local, b"", True
        path = parts._replace(scheme="", netloc="").geturl() or "/"
        # One request a connection: the next one may be for another host.
        kept = [field for field in fields if not field.lower().startswith(_HOP_BY_HOP)]
        first = f"{method} {path} {version}".encode()
        return local, b"\r\n".join([first, *kept, b"Connection: close", b"", b""]), False

    async def _connect(self, port: int, first: bytes, tunnel: bool) -> None:
        loop = asyncio.get_running_loop()
        upstream = _Upstream(self)
        try:
            await loop.create_connection(lambda: upstream, _LOOPBACK, port)
        except OSError:
            self._refuse(Refused(502, "Bad Gateway: the local server has stopped"))
            return
        if self._lost:
            upstream.transport.abort()
            return
        self.peer, upstream.peer = upstream, self
        if tunnel:
            self.transport.write(_TUNNEL)
        if first:
            upstream.transport.write(first)
        self.transport.resume_reading()

    def _refuse(self, refusal: Refused) -> None:
        body = f"{refusal.reason}\n".encode()
        reason = refusal.reason.partition(":")[0]
        head = (
            f"HTTP/1.1 {refusal.status} {reason}\r\nContent-Type: text/plain\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.finish_writing()
        self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        super().connection_lost(exc)


_HOP_BY_HOP = (b"connection:", b"proxy-connection:", b"keep-alive:", b"proxy-authorization:")
