"""One vault: a pool of connections, and requests through the SDK's own pipeline.

``KeyClient.send_request`` is used for all of them. ``CryptographyClient`` is
not: on a symmetric key of an HSM it wraps under a throw-away key that nobody
can ever unwrap with, and it fetches a key before each first unwrap.
"""

from __future__ import annotations

import datetime
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import requests
from azure.core.pipeline.transport import RequestsTransport
from azure.core.rest import HttpRequest, HttpResponse
from azure.keyvault.keys import KeyClient
from azure.keyvault.keys._shared import http_challenge_cache
from requests.adapters import HTTPAdapter

from envelope import caller, keyurl
from envelope.errors import (
    AccessDenied,
    ConfigurationError,
    EnvelopeError,
    KeyDisabled,
    KeyNotFound,
    VaultUnavailable,
)
from envelope.jose import b64u_encode
from envelope.keyurl import KeyName
from envelope.secret import Secret
from envelope_azure import problems
from envelope_azure.clouds import cloud_of
from envelope_azure.credentials import Guarded, credential_for

__all__ = ["Text", "Vault", "Vaults"]

_CONNECTIONS = 64  # kept alive; the SDK's 10 are thrown away and made anew beyond 10 threads
_CONNECT_SECONDS = 5.0
_READ_SECONDS = 10.0  # one try; the caller's deadline holds for all of them
_TENANT = "AKV10032"  # the vault's code for a token of another tenant


@dataclass(frozen=True, slots=True)
class Text:
    """A Secret that a request has as it is, and not in base64url: ASCII."""

    secret: Secret


class Vaults:
    """The vaults that settings reach, each made once for all key rings of a process.

    Args:
        settings: As :func:`envelope_azure.settings.checked` returned them.
        shared: Whose vaults they are too, so that there is one pool of connections.
    """

    metered = True

    def __init__(self, settings: Mapping[str, Any], shared: Vaults | None = None) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._vaults: dict[str, Vault] = {}
        self._shared = shared

    def __repr__(self) -> str:
        return f"{type(self).__name__}({sorted(self._vaults)})"

    def vault(self, host: str) -> Vault:
        """The vault of that host name."""
        if self._shared is not None:
            return self._shared.vault(host)
        with self._lock:
            found = self._vaults.get(host)
            if found is None:
                found = self._vaults[host] = Vault(host, self._settings)
            return found

    def whole_key(self, key: str, operation: str) -> tuple[Vault, KeyName]:
        """The vault of a key and its name, for what a vault does to all versions at once.

        Raises:
            ConfigurationError: ``key`` names a version, or all keys.
        """
        name = keyurl.parse(key)
        if name.version is not None or name.name == "*":
            raise ConfigurationError(
                f"a vault does not {operation} single versions",
                next_step=f"Name the key: {name.unversioned}",
            )
        return self.vault(name.host), name


class Vault:
    """A vault or Managed HSM, for all keys of it in this process.

    Args:
        host: Its full host name, with a port if it is not 443.
        settings: As :func:`envelope_azure.settings.checked` returned them.
    """

    def __init__(self, host: str, settings: Mapping[str, Any]) -> None:
        self.host = host
        self.cloud = cloud_of(host, settings["private_hosts"])
        self._url = f"https://{host}"
        self._settings = settings
        self._lock = threading.Lock()
        self._client: KeyClient | None = None
        self._guarded: Guarded | None = None

    def __repr__(self) -> str:
        return f"Vault({self.host!r})"

    @property
    def client(self) -> KeyClient:
        """The SDK's client, with its retries off: they are the library's, once for all vaults."""
        with self._lock:
            if self._client is None:
                self._client = self._made()
            return self._client

    def _made(self) -> KeyClient:
        session = requests.Session()
        session.mount("https://", HTTPAdapter(pool_connections=4, pool_maxsize=_CONNECTIONS))
        options: dict[str, Any] = {}
        if "proxy" in self._settings:
            options["proxies"] = {"https": self._settings["proxy"]}
        if "ca_file" in self._settings:
            options["connection_verify"] = self._settings["ca_file"]
        credential = credential_for(self._settings, self.cloud)
        self._guarded = Guarded(credential, self.cloud.resource)
        return KeyClient(
            vault_url=self._url,
            credential=self._guarded,
            transport=RequestsTransport(session=session, session_owner=False),
            retry_total=0,
            permit_redirects=False,  # a redirect would carry a key to wherever it says
            verify_challenge_resource=self.cloud.verify_challenge,
            **options,
        )

    def ask(
        self,
        method: str,
        path: str,
        *,
        kid: str,
        operation: str,
        body: Mapping[str, Any] | None = None,
        sealed: str | None = None,
    ) -> dict[str, Any]:
        """One request, and its JSON.

        Args:
            method: ``GET``, ``POST``, …
            path: Below the vault, such as ``keys/lake``.
            kid: The key that it is about, for errors.
            operation: What it is, for errors: ``resolve``, ``wrap``, ``unwrap``, …
            body: The JSON that is sent. A Secret or Text in it, at any depth, is spelled out at the
                last moment, so that no traceback with locals shows it.
            sealed: The member of the answer that becomes a Secret, of the text's bytes.

        Raises:
            EnvelopeError: What the vault, the credential or the network said.
        """
        used = self._guarded.credential if self._guarded else None
        try:
            return self._once(method, path, kid, operation, body, sealed)
        except (AccessDenied, VaultUnavailable) as error:
            code = str(error.provider_code)
            if code == problems.TOKEN_EXPIRED and self._guarded is not None:
                self._guarded.credential = credential_for(
                    self._settings, self.cloud, instead_of=used
                )
            elif code != _TENANT and not code.startswith("AADSTS"):
                raise
        # A vault that moved to another tenant: the SDK believes its first challenge until the end
        # of the process, so a token of the old tenant is asked for again and again.
        http_challenge_cache.remove_challenge_for_url(self._url)
        return self._once(method, path, kid, operation, body, sealed)

    def pages(self, path: str, *, kid: str, operation: str) -> Iterator[dict[str, Any]]:
        """The items of a list, page by page; arguments as for :meth:`ask`."""
        next_path: str | None = path
        while next_path:
            page = self.ask("GET", next_path, kid=kid, operation=operation)
            yield from page.get("value") or ()
            next_path = self._below(page.get("nextLink"))

    def _below(self, link: Any) -> str | None:
        """A link's path, on this vault and no other: it is the answer's text, not ours."""
        if not link:
            return None
        parts = urlsplit(str(link))
        if parts.scheme != "https" or parts.netloc.lower().removesuffix(":443") != self.host:
            raise AccessDenied(f"{self.host} points to another host for its next page")
        return f"{parts.path.lstrip('/')}?{parts.query}"

    def _once(
        self,
        method: str,
        path: str,
        kid: str,
        operation: str,
        body: Mapping[str, Any] | None,
        sealed: str | None,
    ) -> dict[str, Any]:
        problem: EnvelopeError | None = None
        answer: Any = None
        try:
            response = self._sent(method, path, body)
            answer = _json(response)
            if sealed is not None and isinstance(answer, dict) and sealed in answer:
                answer[sealed] = Secret(str(answer[sealed]).encode())
            if response.status_code >= 300:
                problem = problems.from_answer(
                    response.status_code,
                    response.headers,
                    answer,
                    kid=kid,
                    operation=operation,
                    hsm=self.cloud.hsm,
                )
        except Exception as error:
            problem = problems.from_exception(error, kid=kid, operation=operation, host=self.host)
        # Outside of the handler, and bare: the SDK's exceptions and frames have the request, and it
        # has the key.
        if problem is not None:
            problem.__cause__ = problem.__context__ = None
            raise problem.with_traceback(None)
        if answer is None and method == "DELETE":
            return {}  # a purge answers 204 and nothing
        if not isinstance(answer, dict):
            raise VaultUnavailable("the vault's answer is no JSON", kid=kid, operation=operation)
        return answer

    def missing(self, name: KeyName, error: KeyNotFound) -> EnvelopeError:
        """What "not found" means: deleted and recoverable, if that may be asked, or not there."""
        try:
            deleted = self.ask(
                "GET", f"deletedkeys/{name.name}", kid=str(name), operation="get deleted"
            )
        except EnvelopeError:
            return error
        until = deleted.get("scheduledPurgeDate")
        when = "" if until is None else f" until {_day(until)}"
        return KeyDisabled(
            f"the key is deleted and can be recovered{when}",
            kid=error.kid,
            operation=error.operation,
            provider_code=error.provider_code,
            request_id=error.request_id,
            next_step=f"Recover it: envelope keys recover {name.unversioned}",
        )

    def _sent(self, method: str, path: str, body: Mapping[str, Any] | None) -> HttpResponse:
        left = caller.time_left()
        return self.client.send_request(
            HttpRequest(method, path, json=None if body is None else _spelled(body)),
            connection_timeout=max(0.001, min(_CONNECT_SECONDS, left)),
            read_timeout=max(0.001, min(_READ_SECONDS, left)),
        )


def _spelled(value: Any) -> Any:
    if isinstance(value, Secret):
        return b64u_encode(value.reveal())
    if isinstance(value, Text):
        return value.secret.reveal().decode("ascii")
    if isinstance(value, Mapping):
        return {name: _spelled(each) for name, each in value.items()}
    return value


def _day(seconds: Any) -> str:
    return datetime.datetime.fromtimestamp(int(seconds), datetime.UTC).date().isoformat()


def _json(response: HttpResponse) -> Any:
    try:
        return response.json()
    except ValueError:
        return None
