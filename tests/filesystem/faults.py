"""What can happen between us and a store: a proxy that counts, and that does a fault when asked."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Request:
    """One request, with the bytes of its body and of its answer's."""

    method: str
    path: str
    sent: int
    got: int = 0


Fault = Callable[[Request], str | None]
"""Says what happens to a request: see :class:`Proxy`."""


@dataclass
class Proxy:
    """A way to a store.

    Args:
        url: Where it is.
        log: The requests that went through.
        fault: Asked for each request. ``drop`` closes the connection before it went on; ``lose``
            after that, so that the answer is lost; ``500`` and ``503`` answer so, and nothing
            goes on; ``short`` closes in the middle of the answer's body; ``slow`` takes half a
            second more. It may do anything itself, as writing to the store.
    """

    url: str = ""
    log: list[Request] = field(default_factory=list)
    fault: Fault = lambda _request: None


@contextmanager
def proxy(upstream: str) -> Iterator[Proxy]:
    """A proxy to ``upstream``, on a port of loopback of its own."""
    there = urlsplit(upstream)
    made = Proxy()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _pass_on(self) -> None:
            body = self._body()
            request = Request(self.command, self.path, len(body))
            fault = made.fault(request)
            if fault == "drop":
                self._hang_up()
                return
            if fault in ("500", "503"):
                self._answer(int(fault), [("Content-Length", "0")], b"")
                return
            if fault == "slow":
                time.sleep(0.5)
            connection = http.client.HTTPConnection(there.hostname or "", there.port, timeout=60)
            try:
                headers = {
                    name: value
                    for name, value in self.headers.items()
                    if name.lower() not in ("expect", "transfer-encoding", "connection")
                }
                headers["Content-Length"] = str(len(body))
                if self.command in ("GET", "HEAD", "DELETE") and not body:
                    del headers["Content-Length"]
                    headers = {k: v for k, v in headers.items() if k.lower() != "content-length"}
                connection.request(self.command, self.path, body or None, headers)
                answer = connection.getresponse()
                data = answer.read()
            finally:
                connection.close()
            made.log.append(Request(self.command, self.path, len(body), len(data)))
            if fault == "lose":
                self._hang_up()
                return
            kept = [
                (name, value)
                for name, value in answer.getheaders()
                if name.lower() not in ("connection", "transfer-encoding", "content-length")
            ]
            length = answer.headers.get("Content-Length") if self.command == "HEAD" else None
            kept.append(("Content-Length", length or str(len(data))))
            if fault == "short":
                self._answer(answer.status, kept, data[: len(data) // 2])
                self._hang_up()
                return
            self._answer(answer.status, kept, data)

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _pass_on  # noqa: N815 - their names there

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            pieces = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                pieces.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(pieces)

        def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
            self.send_response_only(status)
            for name, value in headers:
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def _hang_up(self) -> None:
            self.close_connection = True
            try:
                self.connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # the client was first

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name there
            """Nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            """Nothing: a client that hangs up is part of the game."""

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        made.url = f"http://127.0.0.1:{server.server_address[1]}"
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def between(protocol: str, options: dict[str, Any]) -> Iterator[tuple[Proxy, dict[str, Any]]]:
    """A proxy before a store of :mod:`tests.filesystem.servers`, and the options to go through it.

    The clients try again less often than by default, so that faults cost no seconds.
    """
    if protocol == "s3":
        with proxy(options["endpoint_url"]) as made:
            config = {"retries": {"total_max_attempts": 2, "mode": "standard"}}
            yield made, {**options, "endpoint_url": made.url, "config_kwargs": config}
        return
    parts = dict(item.split("=", 1) for item in options["connection_string"].split(";") if item)
    there = urlsplit(parts["BlobEndpoint"])
    with proxy(f"http://{there.netloc}") as made:
        parts["BlobEndpoint"] = f"{made.url}{there.path}"
        text = ";".join(f"{name}={value}" for name, value in parts.items()) + ";"
        yield made, {**options, "connection_string": text}
