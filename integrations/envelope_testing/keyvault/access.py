"""Who may do what on a vault, from where, and how often: the service's four gates.

Role definitions follow the vendor's pages "Azure built-in roles for Security" and "Local RBAC
built-in roles for Managed HSM"; permissions those of "Assign a Key Vault access policy"; numbers
those of "Azure Key Vault service limits".
"""

from __future__ import annotations

import ipaddress
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

_VAULTS = "Microsoft.KeyVault/vaults"
_HSM_KEYS = "Microsoft.KeyVault/managedHsm/keys"
_HSM_DELETED = "Microsoft.KeyVault/managedHsm/deletedKeys"


def _vault(*actions: str) -> tuple[str, ...]:
    return tuple(f"{_VAULTS}/{action}" for action in actions)


def _hsm(*actions: str) -> tuple[str, ...]:
    return tuple(f"{_HSM_KEYS}/{action}" for action in actions)


#: Data actions of the built-in roles. A star stands for any rest.
VAULT_ROLES: dict[str, tuple[str, ...]] = {
    "Key Vault Administrator": _vault("*"),
    "Key Vault Reader": _vault("*/read", "secrets/readMetadata/action"),
    "Key Vault Crypto Officer": _vault("keys/*", "keyrotationpolicies/*"),
    "Key Vault Crypto User": _vault(
        "keys/read",
        "keys/update/action",
        "keys/backup/action",
        "keys/encrypt/action",
        "keys/decrypt/action",
        "keys/wrap/action",
        "keys/unwrap/action",
        "keys/sign/action",
        "keys/verify/action",
    ),
    "Key Vault Crypto Service Encryption User": _vault(
        "keys/read", "keys/wrap/action", "keys/unwrap/action"
    ),
    "Key Vault Crypto Service Release User": _vault("keys/release/action"),
    "Key Vault Secrets Officer": _vault("secrets/*"),
    "Key Vault Secrets User": _vault("secrets/getSecret/action", "secrets/readMetadata/action"),
    "Key Vault Certificates Officer": _vault(
        "certificatecas/*", "certificates/*", "certificatecontacts/write"
    ),
    "Key Vault Certificate User": _vault(
        "certificates/read", "secrets/getSecret/action", "secrets/readMetadata/action", "keys/read"
    ),
}
HSM_ROLES: dict[str, tuple[str, ...]] = {
    "Managed HSM Administrator": (),
    "Managed HSM Policy Administrator": (),
    "Managed HSM Crypto Officer": (
        f"{_HSM_DELETED}/*",
        f"{_HSM_KEYS}/export/action",
        f"{_HSM_KEYS}/release/action",
    ),
    "Managed HSM Crypto User": (
        *_hsm("read/action", "write/action", "create", "import/action", "delete", "rotate/action"),
        *_hsm("backup/action", "restore/action", "rng/action"),
        *_hsm("encrypt/action", "decrypt/action", "wrap/action", "unwrap/action"),
        *_hsm("sign/action", "verify/action"),
        f"{_HSM_DELETED}/read/action",
    ),
    "Managed HSM Crypto Auditor": (*_hsm("read/action"), f"{_HSM_DELETED}/read/action"),
    "Managed HSM Crypto Service Encryption User": _hsm(
        "read/action", "wrap/action", "unwrap/action"
    ),
    "Managed HSM Crypto Service Release User": _hsm("release/action"),
    "Managed HSM Backup": _hsm("backup/action"),
    "Managed HSM Restore": _hsm("restore/action"),
}
_LIFE = {"get", "list", "update", "delete", "recover", "backup", "restore", "purge"}
PERMISSIONS: dict[str, set[str]] = {
    "keys": {
        *_LIFE,
        *("create", "import", "decrypt", "encrypt", "unwrapKey", "wrapKey", "verify", "sign"),
        *("release", "rotate", "getrotationpolicy", "setrotationpolicy"),
    },
    "secrets": {*_LIFE, "set"} - {"update"},
    "certificates": {
        *_LIFE,
        *("create", "import", "managecontacts", "manageissuers"),
        *("getissuers", "listissuers", "setissuers", "deleteissuers"),
    },
}


@dataclass(frozen=True)
class Grant:
    """A role assignment: these data actions on everything in the scope."""

    object_id: str
    role: str
    scope: str
    actions: tuple[str, ...]

    @classmethod
    def make(cls, object_id: str, role: str, scope: str, *, hsm: bool) -> Grant:
        """Look the role up.

        :raises ValueError: this kind of vault has no role of that name.
        """
        roles = HSM_ROLES if hsm else VAULT_ROLES
        if role not in roles:
            kind = "Managed HSM" if hsm else "vault"
            raise ValueError(f"a {kind} has no role {role!r}, only {', '.join(roles)}")
        return cls(object_id, role, scope, roles[role])

    def allows(self, object_id: str, action: str, scope: str) -> bool:
        """Whether that principal may do this on ``/keys/NAME``, or on ``/keys``."""
        inside = self.scope == "/" or scope == self.scope or scope.startswith(self.scope + "/")
        return (
            object_id == self.object_id
            and inside
            and any(fnmatchcase(action.lower(), one.lower()) for one in self.actions)
        )


@dataclass(frozen=True)
class Policy:
    """An access policy: the permissions of one principal on the vault, by kind of object."""

    keys: frozenset[str] = frozenset()
    secrets: frozenset[str] = frozenset()
    certificates: frozenset[str] = frozenset()

    @classmethod
    def make(cls, **permissions: Iterable[str]) -> Policy:
        """Check and spread out the permissions of each kind.

        :raises ValueError: a permission that the service does not have.
        """
        return cls(**{kind: _permissions(kind, names) for kind, names in permissions.items()})

    def allows(self, kind: str, permission: str) -> bool:
        """Whether it holds this permission, such as ``unwrapKey``, on ``keys``."""
        held: frozenset[str] = getattr(self, kind)
        return permission.lower() in held


def _permissions(kind: str, names: Iterable[str]) -> frozenset[str]:
    known = {name.lower() for name in PERMISSIONS[kind]}
    asked = {name.lower() for name in names}
    if "all" in asked:
        return frozenset(known)
    if unknown := asked - known:
        raise ValueError(f"no permissions on {kind}: {', '.join(sorted(unknown))}")
    return frozenset(asked)


@dataclass
class Network:
    """From where a vault may be called. New vaults take calls from everywhere."""

    public: bool = True
    firewall: list[str] | None = None
    private_link: bool = False

    def allow_only(self, *ranges: str) -> None:
        """Switch the firewall on: addresses or CIDR ranges; none at all shuts everybody out.

        :raises ValueError: not an address or range.
        """
        for one in ranges:
            ipaddress.ip_network(one)
        self.public, self.firewall = True, list(ranges)

    def private_only(self) -> None:
        """Switch public access off: calls come by private link or not at all."""
        self.public = False

    def open(self) -> None:
        """Take calls from everywhere again."""
        self.public, self.firewall = True, None

    def refuses(self, address: str) -> str | None:
        """The inner error code for a call from there, or None. Private links pass both."""
        if self.private_link:
            return None
        if not self.public:
            return "ForbiddenByConnection"
        if self.firewall is None:
            return None
        caller = ipaddress.ip_address(address)
        inside = any(caller in ipaddress.ip_network(one) for one in self.firewall)
        return None if inside else "ForbiddenByFirewall"


#: Calls in 10 s: (HSM create, HSM other, software create, software other), by type and size.
_RSA_LIMITS = {2048: (10, 2000, 20, 4000), 3072: (10, 500, 20, 1000), 4096: (10, 250, 20, 500)}
_EC_LIMITS = (10, 2000, 20, 4000)
_SECRET_LIMITS = (300, 4000)  # create, other
_FULL = 10**12  # whole numbers, so that as many calls as the limit says add up to no more


@dataclass
class Throttle:
    """How many calls a vault takes in a window. Costs are weighted, and their sum is limited.

    ``scale`` multiplies all limits, so that a test need not send thousands of calls;
    ``retry_after`` says whether a refusal names seconds to wait, which the service may omit.
    """

    enabled: bool = True
    window: float = 10.0
    scale: float = 1.0
    retry_after: bool = True
    _spent: dict[str, _Bucket] = field(default_factory=dict, repr=False)

    def spend(self, bucket: str, limit: int, now: float) -> float | None:
        """Count one call against a bucket.

        :param bucket: what is counted together, such as ``keys`` or ``keys/create``.
        :param limit: how many calls like this one alone would fill the bucket.
        :returns: None, or the seconds after which one more call would be taken.
        """
        if not self.enabled:
            return None
        cost = int(_FULL / (limit * self.scale))
        spent = self._spent.setdefault(bucket, _Bucket())
        spent.forget(now - self.window)
        if spent.total + cost > _FULL:
            return spent.calls[0][0] + self.window - now if spent.calls else self.window
        spent.calls.append((now, cost))
        spent.total += cost
        return None


@dataclass
class _Bucket:
    """The calls of the last window and what they cost, in whole parts of a full bucket."""

    calls: deque[tuple[float, int]] = field(default_factory=deque)
    total: int = 0

    def forget(self, until: float) -> None:
        while self.calls and self.calls[0][0] <= until:
            self.total -= self.calls.popleft()[1]


def key_limit(kty: str, bits: int, *, create: bool) -> int:
    """How many calls like this one a vault takes in 10 s; symmetric keys count as RSA-2048."""
    limits = _RSA_LIMITS.get(bits, _RSA_LIMITS[2048]) if kty.startswith("RSA") else _EC_LIMITS
    return limits[(0 if kty.endswith("-HSM") else 2) + (not create)]


def secret_limit(*, create: bool) -> int:
    """How many calls on secrets or on the vault itself it takes in 10 s."""
    return _SECRET_LIMITS[not create]
