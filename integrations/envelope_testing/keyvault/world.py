"""The world that a local Key Vault stands in: its time, people, vaults, faults, and what happened.

Tests change it directly; the service and the token end points read it. All of it is under one
lock, ``World.lock``, since tests and servers live in different threads.
"""

from __future__ import annotations

import secrets
import threading
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .access import Grant, Network, Policy, Throttle
from .faults import Fault, Faults
from .objects import Item, Shelf

if TYPE_CHECKING:
    from .service.certificates import CertificateContent
    from .service.keys import KeyContent
    from .service.secretvalues import SecretContent
    from .tokens import Tokens

__all__ = [
    "DEFAULT_TENANT",
    "Call",
    "Clock",
    "Fault",
    "Faults",
    "Grant",
    "Network",
    "Policy",
    "Principal",
    "Throttle",
    "Vault",
    "World",
]

DEFAULT_TENANT = "11111111-2222-3333-4444-555555555555"
DEFAULT_ADDRESS = "203.0.113.7"  # of the range that RFC 5737 keeps for documentation

#: Where each cloud's people sign in, by the last labels of its vaults' names.
LOGIN_HOSTS = {
    "azure.cn": "login.chinacloudapi.cn",
    "usgovcloudapi.net": "login.microsoftonline.us",
}
_SUBSCRIPTION = "00000000-0000-0000-0000-0000000000a1"


class Clock:
    """Seconds since the epoch: the machine's time, plus what a test has added."""

    def __init__(self) -> None:
        self._offset = 0.0

    def now(self) -> float:
        """The time in this world."""
        return time.time() + self._offset

    def advance(self, seconds: float) -> None:
        """Let so many seconds go by at once."""
        self._offset += seconds


@dataclass(eq=False)
class Principal:
    """A user, service principal or managed identity of a tenant. Identifiers follow its name."""

    name: str
    tenant: str
    object_id: str
    client_id: str
    client_secret: str = field(repr=False)
    resource_id: str
    certificate_thumbprints: set[str] = field(default_factory=set)

    @property
    def caller(self) -> str:
        """How the service names it in a refusal."""
        issuer = f"https://sts.windows.net/{self.tenant}/"
        return f"appid={self.client_id};oid={self.object_id};iss={issuer}"


@dataclass(frozen=True)
class Call:
    """One request that reached a vault. ``at`` is in seconds, by the world's clock."""

    method: str
    host: str
    path: str
    operation: str
    status: int
    principal: str | None
    error: str | None
    at: float


@dataclass(eq=False)
class Vault:
    """A vault or Managed HSM. Every public member may be changed by a test at any time."""

    name: str
    host: str
    tenant: str
    is_hsm: bool
    rbac: bool
    audience: str
    login_host: str
    location: str = "westeurope"
    soft_delete_days: int = 90
    purge_protection: bool = False
    grants: list[Grant] = field(default_factory=list)
    policies: dict[str, Policy] = field(default_factory=dict)
    network: Network = field(default_factory=Network)
    throttle: Throttle = field(default_factory=Throttle)
    keys: Shelf[KeyContent] = field(default_factory=Shelf)
    secrets: Shelf[SecretContent] = field(default_factory=Shelf)
    certificates: Shelf[CertificateContent] = field(default_factory=Shelf)
    #: Certificate issuers by name in lower case, and contacts, as on the wire.
    issuers: dict[str, dict[str, Any]] = field(default_factory=dict)
    contacts: list[dict[str, Any]] = field(default_factory=list)

    @property
    def url(self) -> str:
        """What a client is given, without a slash at the end."""
        return f"https://{self.host}"

    @property
    def resource_id(self) -> str:
        """Its name in the resource manager, in the lower case that refusals show."""
        kind = "managedhsms" if self.is_hsm else "vaults"
        return (
            f"/subscriptions/{_SUBSCRIPTION}/resourcegroups/testing"
            f"/providers/microsoft.keyvault/{kind}/{self.name.lower()}"
        )

    def grant(self, principal: Principal, role: str, *, scope: str = "/") -> None:
        """Assign a built-in role, where the vault decides by RBAC.

        :param role: its display name, such as ``Key Vault Crypto User``.
        :param scope: ``/`` for the vault, ``/keys/NAME`` (or secrets, certificates) for one object.
        :raises ValueError: there is no role of that name, or it is the other kind of vault's.
        """
        self.grants.append(Grant.make(principal.object_id, role, scope, hsm=self.is_hsm))

    def set_policy(
        self,
        principal: Principal,
        *,
        keys: Iterable[str] = (),
        secrets: Iterable[str] = (),
        certificates: Iterable[str] = (),
    ) -> None:
        """Set a principal's access policy, where ``rbac`` is False. It replaces the one before.

        :param keys: permissions on keys, such as ``get`` and ``unwrapKey``; ``all`` is every one.
        :param secrets: permissions on secrets.
        :param certificates: permissions on certificates.
        :raises ValueError: a permission that the service does not have.
        """
        policy = Policy.make(keys=keys, secrets=secrets, certificates=certificates)
        self.policies[principal.object_id] = policy

    def revoke(self, principal: Principal) -> None:
        """Take away all roles and the policy of a principal."""
        self.grants[:] = [one for one in self.grants if one.object_id != principal.object_id]
        self.policies.pop(principal.object_id, None)


class World:
    """Everything that the servers of one local Key Vault share."""

    #: Issues and checks tokens; LocalKeyVault sets it.
    tokens: Tokens

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.clock = Clock()
        self.principals: dict[str, Principal] = {}
        self.vaults: dict[str, Vault] = {}
        self.calls: list[Call] = []
        self.faults = Faults()
        #: What backup blobs stand for: kind of object and cloud, and copies of the objects.
        self.backups: dict[bytes, tuple[tuple[str, str], tuple[Item[Any], ...]]] = {}
        #: Where vaults believe that calls come from: what firewalls look at.
        self.client_address = DEFAULT_ADDRESS

    def principal(self, name: str, *, tenant: str = DEFAULT_TENANT) -> Principal:
        """The principal of that name, made on first use.

        :raises ValueError: it exists in another tenant.
        """
        with self.lock:
            found = self.principals.get(name)
            if found is None:
                found = self.principals[name] = _principal(name, tenant)
            if found.tenant != tenant:
                raise ValueError(f"principal {name!r} belongs to tenant {found.tenant}")
            return found

    def vault(
        self,
        name: str,
        *,
        suffix: str = "vault.azure.net",
        tenant: str = DEFAULT_TENANT,
        rbac: bool = True,
    ) -> Vault:
        """The vault of that name, made on first use; the options count when it is made.

        :param suffix: what follows the name. ``managedhsm.azure.net`` makes a Managed HSM, which
            decides by its own RBAC always. Names that are no vendor's are in the public cloud.
        :param rbac: decide by role assignments, not by access policies.
        """
        host = f"{name}.{suffix}".lower()
        with self.lock:
            found = self.vaults.get(host)
            if found is None:
                found = self.vaults[host] = _vault(name, host, suffix.lower(), tenant, rbac=rbac)
            return found


def _principal(name: str, tenant: str) -> Principal:
    def identifier(what: str) -> str:
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{tenant}/{name}/{what}"))

    return Principal(
        name=name,
        tenant=tenant,
        object_id=identifier("object"),
        client_id=identifier("client"),
        # A hyphen in front would be an option to the command lines that it is given to.
        client_secret=f"s{secrets.token_urlsafe(30)}",
        resource_id=(
            f"/subscriptions/{_SUBSCRIPTION}/resourcegroups/testing"
            f"/providers/Microsoft.ManagedIdentity/userAssignedIdentities/{name}"
        ),
    )


def _vault(name: str, host: str, suffix: str, tenant: str, *, rbac: bool) -> Vault:
    kind, _, cloud = suffix.partition(".")
    known = kind in ("vault", "managedhsm") and cloud in ("azure.net", *LOGIN_HOSTS)
    is_hsm = known and kind == "managedhsm"
    return Vault(
        name=name,
        host=host,
        tenant=tenant,
        is_hsm=is_hsm,
        rbac=rbac or is_hsm,
        audience=f"https://{suffix}" if known else "https://vault.azure.net",
        login_host=LOGIN_HOSTS.get(cloud, "login.microsoftonline.com"),
    )
