"""The proxy leads to the local servers by the vendor's names, and nowhere else."""

from __future__ import annotations

import os
import socket
import ssl
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from envelope_testing.keyvault import LocalKeyVault
from envelope_testing.keyvault.proxy import Proxy
from envelope_testing.keyvault.serving import Receive, Scope, Send, Serving
from envelope_testing.keyvault.tls import CertificateAuthority


@pytest.fixture
def local() -> Iterator[LocalKeyVault]:
    with LocalKeyVault() as local:
        yield local


def connected(local: LocalKeyVault) -> socket.socket:
    return socket.create_connection(("127.0.0.1", urlsplit(local.proxy_url).port or 0), timeout=30)


def asked(local: LocalKeyVault, request: str) -> bytes:
    """All that the proxy says to a request, until it closes the connection."""
    with connected(local) as client:
        client.sendall(request.encode())
        return rest(client)


def rest(client: socket.socket) -> bytes:
    answer = b""
    while data := client.recv(65536):
        answer += data
    return answer


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def tunnel(local: LocalKeyVault, name: str) -> ssl.SSLSocket:
    """A TLS connection through the proxy, verified as clients verify it."""
    client = connected(local)
    client.sendall(f"CONNECT {name}:443 HTTP/1.1\r\nHost: {name}:443\r\n\r\n".encode())
    assert status(client.recv(1000)) == 200
    context = ssl.create_default_context(cafile=str(local.ca_file))
    return context.wrap_socket(client, server_hostname=name)


# --- Where it leads -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "suffix",
    [
        "vault.azure.net",
        "vault.azure.cn",
        "vault.usgovcloudapi.net",
        "managedhsm.azure.net",
        "managedhsm.azure.cn",
        "managedhsm.usgovcloudapi.net",
        "keys.corp.example",
    ],
)
def test_a_vaults_name_leads_to_a_certificate_for_it(local: LocalKeyVault, suffix: str) -> None:
    vault = local.vault("acme", suffix=suffix)
    with tunnel(local, vault.host) as client:
        names = [name for _, name in client.getpeercert()["subjectAltName"]]  # type: ignore[index]
    assert vault.host in names or f"*.{suffix}" in names


@pytest.mark.parametrize(
    "host",
    [
        "login.microsoftonline.com",
        "login.microsoftonline.us",
        "login.chinacloudapi.cn",
        "westeurope.login.microsoft.com",
    ],
)
def test_where_one_signs_in_has_a_certificate_too(local: LocalKeyVault, host: str) -> None:
    with tunnel(local, host) as client:
        assert client.version() in ("TLSv1.2", "TLSv1.3")


def test_a_client_that_does_not_trust_the_ca_sees_a_failure(local: LocalKeyVault) -> None:
    client = connected(local)
    client.sendall(b"CONNECT login.microsoftonline.com:443 HTTP/1.1\r\n\r\n")
    assert status(client.recv(1000)) == 200
    with client, pytest.raises(ssl.SSLCertVerificationError):
        ssl.create_default_context().wrap_socket(
            client, server_hostname="login.microsoftonline.com"
        )


def test_names_are_the_same_in_any_case(local: LocalKeyVault) -> None:
    local.vault("acme")
    with tunnel(local, "ACME.Vault.Azure.NET") as client:
        client.sendall(b"GET /keys HTTP/1.1\r\nHost: Acme.vault.azure.net\r\n\r\n")
        assert status(client.recv(65536)) == 401


@pytest.mark.parametrize(
    "target",
    [
        "example.com:443",
        "portal.azure.com:443",
        "acme.vault.azure.net:8443",
        "acme.vault.azure.net:80",
        "acme.vault.azure.net.example.com:443",
        "vault.azure.net:443",
        "xlogin.microsoftonline.com:443",
        ".login.microsoft.com:443",
        "a.b.login.microsoft.com:443",
        "169.254.169.254:443",
        "127.0.0.1:443",
        "localhost:443",
        "[::1]:443",
        "93.184.216.34:443",
    ],
)
def test_no_other_host_is_connected_to(local: LocalKeyVault, target: str) -> None:
    local.vault("acme")
    assert status(asked(local, f"CONNECT {target} HTTP/1.1\r\n\r\n")) == 403
    assert local.connections == [target.replace("[", "").replace("]", "")]


def test_a_vault_that_is_not_there_does_not_resolve(local: LocalKeyVault) -> None:
    local.vault("acme")
    assert status(asked(local, "CONNECT acme2.vault.azure.net:443 HTTP/1.1\r\n\r\n")) == 502
    assert local.connections == ["acme2.vault.azure.net:443"]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://169.254.169.254/metadata/identity/oauth2/token", 400),
        ("http://169.254.169.254:8080/metadata/identity/oauth2/token", 403),
        ("http://acme.vault.azure.net/keys", 403),
        ("http://example.com/", 403),
        ("http://127.0.0.1/", 403),
        ("http://user@169.254.169.254/", 400),
        ("https://acme.vault.azure.net/keys", 400),
        ("/keys", 400),
    ],
)
def test_plain_http_leads_to_the_metadata_service_alone(
    local: LocalKeyVault, url: str, expected: int
) -> None:
    local.vault("acme")
    assert status(asked(local, f"GET {url} HTTP/1.1\r\nHost: x\r\n\r\n")) == expected


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ("CONNECT user@acme.vault.azure.net:443 HTTP/1.1\r\n\r\n", 400),
        ("CONNECT acme.vault.azure.net:port HTTP/1.1\r\n\r\n", 400),
        ("CONNECT acme.vault.azure.net:443\r\n\r\n", 400),
        ("CONNECT acmé.vault.azure.net:443 HTTP/1.1\r\n\r\n", 400),
        ("CONNECT :443 HTTP/1.1\r\n\r\n", 400),
        ("nonsense\r\n\r\n", 400),
        ("GET http://169.254.169.254/ HTTP/1.1\r\nX: " + "x" * 70_000, 431),
    ],
)
def test_a_malformed_request_is_refused(local: LocalKeyVault, request_: str, expected: int) -> None:
    local.vault("acme")
    assert status(asked(local, request_)) == expected


def test_the_port_of_the_secure_server_is_no_target(local: LocalKeyVault) -> None:
    port = local._ports.secure_port
    assert status(asked(local, f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\n\r\n")) == 403


# --- What goes through it -----------------------------------------------------------------------


class Echo:
    """Sends a request's body back in pieces, as often as asked; notes clients that left."""

    def __init__(self) -> None:
        self.left = threading.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        if scope["path"] == "/wait":
            while (await receive())["type"] != "http.disconnect":
                pass
            self.left.set()
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for at in range(0, len(body), 65536):
            piece = body[at : at + 65536]
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body"})


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture
def serving(echo: Echo, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    authority = CertificateAuthority(tmp_path_factory.mktemp("ca"))
    proxy = Proxy(lambda host, _port, tunnel: serving.secure_port if tunnel else serving.plain_port)
    context = authority.context(["echo.test"])
    serving = Serving(secure=echo, plain=echo, context=context, proxy=proxy)
    serving.start()
    try:
        yield serving
    finally:
        serving.stop()


def test_bodies_larger_than_any_buffer_arrive_whole(serving: Serving) -> None:
    body = os.urandom(8_000_000)
    head = f"POST http://echo.test/ HTTP/1.1\r\nHost: echo.test\r\nContent-Length: {len(body)}\r\n"
    with socket.create_connection(("127.0.0.1", serving.proxy_port), timeout=60) as client:
        sender = threading.Thread(target=client.sendall, args=(head.encode() + b"\r\n" + body,))
        sender.start()
        answer = rest(client)
        sender.join()
    _, _, chunked = answer.partition(b"\r\n\r\n")
    assert unchunked(chunked) == body


def unchunked(data: bytes) -> bytes:
    found = bytearray()
    at = 0
    while True:
        end = data.index(b"\r\n", at)
        size = int(data[at:end], 16)
        if size == 0:
            return bytes(found)
        found += data[end + 2 : end + 2 + size]
        at = end + 2 + size + 2


def test_a_server_learns_that_its_client_has_left(serving: Serving, echo: Echo) -> None:
    with socket.create_connection(("127.0.0.1", serving.proxy_port), timeout=30) as client:
        client.sendall(b"GET http://echo.test/wait HTTP/1.1\r\nHost: echo.test\r\n\r\n")
    assert echo.left.wait(30)


def test_stopping_ends_clients_that_wait_and_refuses_new_ones(serving: Serving) -> None:
    address = ("127.0.0.1", serving.proxy_port)
    with (
        socket.create_connection(address, timeout=30) as silent,
        socket.create_connection(address, timeout=30) as waiting,
    ):
        waiting.sendall(b"GET http://echo.test/wait HTTP/1.1\r\nHost: echo.test\r\n\r\n")
        serving.stop()
        assert ended(silent)
        assert ended(waiting)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, timeout=30)


def ended(client: socket.socket) -> bool:
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True
