"""The way to a vault, step by step: its name, DNS, TCP, TLS, who signs in, and the challenge.

For :mod:`envelope_azure.examine`. It goes where the SDK goes, by the same proxy
and under the same certificates, but one step at a time, so that the one that
fails is known.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import json
import re
import socket
import ssl
from collections.abc import Iterator, Mapping
from http.client import HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit

import requests
from azure.core.credentials import TokenRequestOptions
from azure.keyvault.keys._shared.http_challenge import HttpChallenge
from requests.adapters import HTTPAdapter
from requests.utils import DEFAULT_CA_BUNDLE_PATH, select_proxy
from urllib3.util.ssl_ import create_urllib3_context

from envelope import caller
from envelope.errors import AccessDenied, EnvelopeError, VaultUnavailable
from envelope.keys import Finding
from envelope_azure import problems
from envelope_azure.clouds import cloud_of
from envelope_azure.credentials import Guarded, credential_for

__all__ = ["Way"]

_CONNECT_SECONDS = 5.0
_CLAIM = re.compile(r"[\w.:/@-]{1,100}\Z")
_LONGEST = 65536  # bytes of an answer that are looked at
_TUNNELS = ("http", "")  # schemes of proxies that are asked to connect, and then left alone


class Way:
    """The way from here to a vault.

    Args:
        kid: The key at its end, for errors.
        host: The vault, with a port if it is not 443.
        settings: As :func:`envelope_azure.settings.checked` returned them.
    """

    def __init__(self, kid: str, host: str, settings: Mapping[str, Any]) -> None:
        self.kid = kid
        self.host = host
        self.cloud = cloud_of(host, settings["private_hosts"])
        self._settings = settings
        self._url = f"https://{host}/keys?api-version=7.4"
        self._proxy, self._trusted = self._surroundings()
        self._connection: HTTPSConnection | None = None
        self._challenge: HttpChallenge | None = None

    def _surroundings(self) -> tuple[str | None, str]:
        """The proxy and the trusted certificates, found as requests finds them for the SDK."""
        own = self._settings.get("proxy")
        with requests.Session() as session:
            found = session.merge_environment_settings(
                self._url, {"https": own} if own else {}, None, self._settings.get("ca_file"), None
            )
        verify = found["verify"]
        trusted = verify if isinstance(verify, str) else DEFAULT_CA_BUNDLE_PATH
        return select_proxy(self._url, found["proxies"]), trusted

    @property
    def _target(self) -> tuple[str, int]:
        """Where connections go first: the vault, or the proxy."""
        return _split(self._proxy) if self._proxy else _split(f"https://{self.host}")

    # --- The network ----------------------------------------------------------------------------

    def dns(self) -> Iterator[Finding]:
        """What the name resolves to. Private link shows here, or that it is missing."""
        host, port = self._target
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise self._problem(error, host) from None
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        shown = ", ".join(f"{address} ({_kind(address)})" for address in addresses)
        if self._proxy:
            text = f"the proxy {host}:{port} resolves {self.host}; its own address is {shown}"
        else:
            text = f"{self.host} is {shown}"
        yield Finding("ok", "DNS", text)

    def tcp(self) -> Iterator[Finding]:
        """Whether anybody listens."""
        host, port = self._target
        try:
            socket.create_connection((host, port), timeout=_seconds()).close()
        except OSError as error:
            raise self._problem(error, host) from None
        yield Finding("ok", "TCP", f"{'the proxy ' if self._proxy else ''}{host}:{port} connects")

    def tls(self) -> Iterator[Finding]:
        """Whose certificate answers."""
        if self._proxy and urlsplit(self._proxy).scheme not in _TUNNELS:
            yield Finding("ok", "TLS", "not looked into: the proxy is not a plain HTTP proxy")
            return
        try:
            self._connection = self._connected()
        except (OSError, HTTPException) as error:
            raise self._problem(error, self.host) from None
        yield Finding("ok", "TLS", _certified(self._connection.sock))

    def ask(self) -> Iterator[Finding]:
        """A first request, without a token, for the challenge. It tells only what is wrong."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        parts = urlsplit(self._url)
        try:
            connection.request("GET", f"{parts.path}?{parts.query}")
            answer = connection.getresponse()
            headers = dict(answer.headers.items())
            status, body = answer.status, answer.read(_LONGEST)
        except (OSError, HTTPException) as error:
            raise self._problem(error, self.host) from None
        finally:
            connection.close()
        header = next((v for k, v in headers.items() if k.lower() == "www-authenticate"), None)
        if status != 401 and status >= 400:
            raise problems.from_answer(
                status,
                headers,
                _json(body),
                kid=self.kid,
                operation="challenge",
                hsm=self.cloud.hsm,
            )
        try:
            self._challenge = HttpChallenge(self._url, header or "")
        except (ValueError, IndexError):
            raise self._unfit("there is no challenge that can be read") from None
        yield from ()

    def _connected(self) -> HTTPSConnection:
        context = create_urllib3_context()
        try:
            context.load_verify_locations(self._trusted)
        except IsADirectoryError:
            context.load_verify_locations(capath=self._trusted)
        host, port = _split(f"https://{self.host}")
        first, first_port = self._target
        connection = HTTPSConnection(first, first_port, timeout=_seconds(), context=context)
        if self._proxy:
            connection.set_tunnel(host, port, HTTPAdapter().proxy_headers(self._proxy))
        try:
            connection.connect()
        except BaseException:
            connection.close()
            raise
        return connection

    def _problem(self, error: Exception, host: str) -> EnvelopeError:
        known = problems.from_exception(error, kid=self.kid, operation="connect", host=host)
        if isinstance(error, ssl.SSLCertVerificationError):
            known.message += f" ({error.verify_message})"
        if type(known) is EnvelopeError:  # an error of the system that the SDK's would wrap
            why = getattr(error, "strerror", None) or type(error).__name__
            known = VaultUnavailable(f"{host}: {why}", kid=self.kid, operation="connect")
        known.__cause__ = known.__context__ = None
        return known

    # --- Who ------------------------------------------------------------------------------------

    def credential(self) -> Iterator[Finding]:
        """Which credential gives a token, and whose it is. Only claims leave this function."""
        tenant = self._challenge.tenant_id if self._challenge else None
        options: TokenRequestOptions = {"enable_cae": True}  # as the SDK asks: it is the same token
        if tenant and not tenant.lower().startswith("adfs"):
            options["tenant_id"] = tenant
        problem: EnvelopeError | None = None
        claims: dict[str, str] = {}
        who = ""
        try:
            credential = credential_for(self._settings, self.cloud)
            scope = f"{self.cloud.resource}/.default"
            guarded = Guarded(credential, self.cloud.resource)
            claims = _claims(guarded.get_token_info(scope, options=options).token)
            who = _answered(credential)
        except Exception as error:
            problem = problems.from_exception(
                error, kid=self.kid, operation="get a token", host=self.cloud.authority
            )
        if problem is not None:  # outside of the handler, so that it brings no frames along
            problem.__cause__ = problem.__context__ = None
            raise problem.with_traceback(None)
        told = ", ".join(f"{what} {value}" for what, value in claims.items())
        yield Finding("ok", "credential", f"{who}: {told or 'its token tells nothing'}")

    def challenge(self) -> Iterator[Finding]:
        """What the vault demands a token for: its own resource, or nothing is sent to it."""
        if self._challenge is None:
            yield Finding("ok", "challenge", "not looked into: see TLS")
            return
        said = self._challenge.get_resource() or self._challenge.get_scope()
        if said.removesuffix("/.default").rstrip("/") != self.cloud.resource:
            raise self._unfit(f"it asks for a token for {said[:100]!a}")
        where = self._challenge.get_authorization_server()
        yield Finding("ok", "challenge", f"a token for {said}, from {where[:200]}")

    def _unfit(self, why: str) -> EnvelopeError:
        return AccessDenied(
            f"what {self.host} says about where to authenticate does not fit its name: {why}",
            kid=self.kid,
            operation="challenge",
            provider_code="ChallengeResourceMismatch",
            next_step="Check the vault's name and what answers under it.",
        )


def _seconds() -> float:
    return max(0.001, min(_CONNECT_SECONDS, caller.time_left()))


def _split(url: str) -> tuple[str, int]:
    """Host and port; a proxy's may have a password before them, which goes no further."""
    parts = urlsplit(url if "://" in url else f"http://{url}")
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def _kind(address: str) -> str:
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if parsed.is_loopback:
        return "this machine"
    return "private" if parsed.is_private else "public"


def _certified(sock: Any) -> str:
    names = {
        whose: dict(pair for part in sock.getpeercert().get(whose, ()) for pair in part)
        for whose in ("subject", "issuer")
    }
    issuer = names["issuer"].get("organizationName") or names["issuer"].get("commonName")
    until = sock.getpeercert().get("notAfter")
    return f"{sock.version()}, a trusted certificate, issued by {issuer}, until {until}"


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None


def _claims(token: str) -> dict[str, str]:
    """Who the token says that it is about. It is only shown, so nobody verifies it here."""
    part = token.split(".")[1] if token.count(".") == 2 else ""
    try:
        found = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (ValueError, binascii.Error):
        return {}
    if not isinstance(found, dict):
        return {}
    wanted = {"tenant": ("tid",), "object id": ("oid",), "application": ("appid", "azp")}
    shown: dict[str, str] = {}
    for what, names in wanted.items():
        value = next((found[name] for name in names if name in found), None)
        if isinstance(value, str) and _CLAIM.match(value):
            shown[what] = value
    return shown


def _answered(credential: Any) -> str:
    """The credential that gave the token, at the end of those that passed the question on.

    azure-identity tells it in its log alone, so its attributes are looked at where they are there.
    """
    names: list[str] = []
    while credential is not None and len(names) < 4:
        names.append(type(credential).__name__)
        inner = getattr(credential, "_successful_credential", None)
        inner = inner or getattr(credential, "_credential", None)
        ours = type(inner).__module__.startswith("azure.identity")
        credential = inner if ours else None
    return " > ".join(names)
