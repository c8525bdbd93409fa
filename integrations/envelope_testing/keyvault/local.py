"""The local Key Vault as one object: start it, make vaults in it, point a program at it."""

from __future__ import annotations

import os
import shutil
import ssl
import tempfile
import weakref
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from . import entra, managed, subscriptions
from .credentials import Credentials
from .entra import EntraId
from .managed import Machine
from .proxy import Proxy, Refused
from .service.app import vault_app
from .serving import ByHost, Serving
from .signins import SignIns
from .tls import CertificateAuthority, covered
from .tokens import Tokens
from .world import DEFAULT_TENANT, World

if TYPE_CHECKING:
    from .world import Principal, Vault

__all__ = ["DEVELOPER", "VARIABLES", "Credential", "LocalKeyVault"]

DEVELOPER = "developer"
"""The principal that may do everything in vaults made by :meth:`LocalKeyVault.vault`."""

Credential = Literal[
    "client-secret", "certificate", "workload-identity", "managed-identity", "app-service"
]
"""How a program proves who it is."""

#: The suffixes of vaults' names in the public cloud, China and US Government.
SUFFIXES = tuple(
    f"{kind}.{cloud}"
    for kind in ("vault", "managedhsm")
    for cloud in ("azure.net", "azure.cn", "usgovcloudapi.net")
)
_NAMES = [
    *(f"*.{suffix}" for suffix in SUFFIXES),
    *entra.LOGIN_HOSTS,
    "*.login.microsoft.com",
    subscriptions.HOST,
]

_PROXIES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY")
_BUNDLES = ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS")
_IDENTITIES = (
    "AZURE_AUTHORITY_HOST",
    "AZURE_CLIENT_CERTIFICATE_PASSWORD",
    "AZURE_CLIENT_CERTIFICATE_PATH",
    "AZURE_CLIENT_ID",
    "AZURE_CLIENT_SECRET",
    "AZURE_CLIENT_SEND_CERTIFICATE_CHAIN",
    "AZURE_FEDERATED_TOKEN_FILE",
    "AZURE_PASSWORD",
    "AZURE_POD_IDENTITY_AUTHORITY_HOST",
    "AZURE_REGIONAL_AUTHORITY_NAME",
    "AZURE_TENANT_ID",
    "AZURE_TOKEN_CREDENTIALS",
    "AZURE_USERNAME",
    "IDENTITY_ENDPOINT",
    "IDENTITY_HEADER",
    "IDENTITY_SERVER_THUMBPRINT",
    "IMDS_ENDPOINT",
    "MSI_ENDPOINT",
    "MSI_SECRET",
)
VARIABLES = (
    *_PROXIES,
    *(name.lower() for name in _PROXIES),
    "NO_PROXY",
    "no_proxy",
    *_BUNDLES,
    "SSL_CERT_DIR",
    *_IDENTITIES,
)
"""Every environment variable that leads the vendor's SDKs somewhere. Those that
:meth:`LocalKeyVault.environment` does not give a value must have none, or a program would take
them from the developer's own set-up."""


class LocalKeyVault:
    """Vaults and Managed HSMs, Entra ID and managed identities, on loopback ports of this process.

    A context manager. Programs reach it by the vendor's names, through a proxy that leads nowhere
    else, once :meth:`environment` is in their environment. Everything in it is gone when it stops.

    A forked child of this process can use it as any other process can, and cannot stop it.

    Args:
        world: What to serve; a new, empty world when None.
    """

    def __init__(self, world: World | None = None) -> None:
        self.world = World() if world is None else world
        folder = Path(tempfile.mkdtemp(prefix="local-key-vault-"))
        self._remove = weakref.finalize(self, _remove, folder, os.getpid())
        self._pid = os.getpid()
        self._authority = CertificateAuthority(folder)
        self._contexts: dict[str, ssl.SSLContext] = {}
        self.world.tokens = Tokens(self.world)
        #: Certificates and federated tokens of principals.
        self.credentials = Credentials(self.world, folder)
        self.entra = EntraId(self.world, self.credentials)
        #: Which managed identities there are.
        self.machine = Machine(self.world)
        #: Calls to Entra ID and managed identity end points, and their faults.
        self.sign_ins = SignIns()
        self._proxy = Proxy(self._route)
        self._serving: Serving | None = None

    # --- Running --------------------------------------------------------------------------------

    def start(self) -> Self:
        """Begin to serve; does nothing when it does.

        Raises:
            RuntimeError: It was stopped. All of it is gone then; make a new one.
        """
        if not self._remove.alive:
            raise RuntimeError("the local Key Vault was stopped: make a new one")
        if self._serving is None:
            logins = self.sign_ins.watch(self.entra.app(), self.world, entra.OPERATIONS)
            machine = self.sign_ins.watch(self.machine.app(), self.world, managed.OPERATIONS)
            manager = self.sign_ins.watch(subscriptions.app(), self.world, subscriptions.OPERATIONS)
            context = self._authority.context(_NAMES)
            context.sni_callback = self._on_server_name
            self._serving = Serving(
                secure=ByHost(
                    entra.is_login_host,
                    logins,
                    ByHost(subscriptions.is_host, manager, vault_app(self.world)),
                ),
                plain=machine,
                context=context,
                proxy=self._proxy,
            )
            self._serving.start()
        return self

    def stop(self) -> None:
        """Close all connections and sockets, and remove the files."""
        if os.getpid() != self._pid:
            return
        if self._serving is not None:
            self._serving.stop()
            self._serving = None
        self._remove()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def _ports(self) -> Serving:
        if self._serving is None:
            raise RuntimeError("the local Key Vault is not running: start() it first")
        return self._serving

    # --- What is in it --------------------------------------------------------------------------

    def principal(self, name: str, *, tenant: str = DEFAULT_TENANT) -> Principal:
        """The principal of that name, made on first use."""
        return self.world.principal(name, tenant=tenant)

    def vault(self, name: str, *, grant: bool = True, **options: Any) -> Vault:
        """The vault of that name, made on first use.

        Args:
            name: The first label of its host name.
            grant: Let the principal ``developer`` do everything in it.
            options: Those of :meth:`World.vault`: ``suffix``, ``tenant``, ``rbac``.
        """
        vault = self.world.vault(name, **options)
        if grant:
            developer = self.world.principal(DEVELOPER)
            if not vault.rbac:
                everything = ("all",)
                vault.set_policy(
                    developer, keys=everything, secrets=everything, certificates=everything
                )
            elif not any(one.object_id == developer.object_id for one in vault.grants):
                for role in _HSM_ROLES if vault.is_hsm else _VAULT_ROLES:
                    vault.grant(developer, role)
        return vault

    def consent(self, principal: Principal, tenant: str) -> Principal:
        """Install an application in one more tenant, as its administrator's consent does.

        Returns the principal that it is there: the same client id and credentials, another object
        id, and no rights. A vault that has moved to that tenant may be granted to it.
        """
        name = f"{principal.name}@{tenant}"
        with self.world.lock:
            found = self.world.principals.get(name)
            if found is None:
                other = self.world.principal(name, tenant=tenant)
                found = self.world.principals[name] = replace(
                    principal, name=name, tenant=tenant, object_id=other.object_id
                )
            return found

    # --- How it is reached ----------------------------------------------------------------------

    @property
    def ca_file(self) -> Path:
        """The certificate, in PEM, that clients must trust."""
        return self._authority.file

    @property
    def proxy_url(self) -> str:
        """The proxy that clients must use."""
        return f"http://127.0.0.1:{self._ports.proxy_port}"

    @property
    def connections(self) -> list[str]:
        """Every ``host:port`` that anybody asked the proxy for, in order, refused ones too."""
        return self._proxy.asked

    def environment(
        self, principal: str = DEVELOPER, *, credential: Credential = "client-secret"
    ) -> dict[str, str]:
        """The environment of a program that is to use this Key Vault as a principal.

        The names in :data:`VARIABLES` that are not in it are to be unset.

        Args:
            principal: Its name; it is made on first use.
            credential: How it proves that. The two managed kinds make it the system-assigned
                identity of the machine.
        """
        who = (
            self.principal(principal)
            if principal not in self.world.principals
            else (self.world.principals[principal])
        )
        proxies = dict.fromkeys((*_PROXIES, *map(str.lower, _PROXIES)), self.proxy_url)
        bundles = dict.fromkeys(_BUNDLES, str(self.ca_file))
        nothing = {"NO_PROXY": "", "no_proxy": ""}
        return {**proxies, **nothing, **bundles, **self._identity(who, credential)}

    def _identity(self, who: Principal, credential: Credential) -> dict[str, str]:
        application = {"AZURE_TENANT_ID": who.tenant, "AZURE_CLIENT_ID": who.client_id}
        if credential == "client-secret":
            return {**application, "AZURE_CLIENT_SECRET": who.client_secret}
        if credential == "certificate":
            path = self.credentials.certificate_file(who)
            return {**application, "AZURE_CLIENT_CERTIFICATE_PATH": str(path)}
        if credential == "workload-identity":
            path = self.credentials.federated_token_file(who)
            authority = f"https://{entra.LOGIN_HOSTS[0]}/"
            where = {"AZURE_FEDERATED_TOKEN_FILE": str(path), "AZURE_AUTHORITY_HOST": authority}
            return {**application, **where}
        self.machine.assign(who, system=True)
        if credential == "managed-identity":
            return {}
        endpoint = f"http://127.0.0.1:{self._ports.plain_port}{managed.APP_SERVICE_PATH}"
        return {"IDENTITY_ENDPOINT": endpoint, "IDENTITY_HEADER": self.machine.header}

    def _route(self, host: str, port: int, tunnel: bool) -> int:
        """The port that serves a host, for the proxy."""
        ports = self._ports
        if not tunnel:
            own = host == "127.0.0.1" and port == ports.plain_port
            if own or (host, port) == (managed.IMDS_HOST, 80):
                return ports.plain_port
        elif port == 443:
            with self.world.lock:
                known = host in self.world.vaults
            if known or entra.is_login_host(host) or subscriptions.is_host(host):
                return ports.secure_port
            if host.partition(".")[2] in SUFFIXES:
                raise Refused(502, "Bad Gateway: there is no vault of this name")
        raise Refused(403, "Forbidden: the local Key Vault leads nowhere else")

    def _on_server_name(
        self, connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext
    ) -> None:
        """Show a certificate of its own to who asks for a name that no vendor's suffix covers."""
        if name is not None and not covered(name, _NAMES):
            with self.world.lock:
                if name not in self.world.vaults:
                    return
                if name not in self._contexts:
                    self._contexts[name] = self._authority.context([name])
            connection.context = self._contexts[name]


def _remove(folder: Path, pid: int) -> None:
    if os.getpid() == pid:  # a forked child ends before its parent
        shutil.rmtree(folder, ignore_errors=True)


_VAULT_ROLES = ("Key Vault Administrator",)
_HSM_ROLES = (
    "Managed HSM Administrator",
    "Managed HSM Crypto Officer",
    "Managed HSM Crypto User",
    "Managed HSM Crypto Service Release User",
)
