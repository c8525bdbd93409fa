"""What a call has to pass before its operation runs: network, rights, rate. In that order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..access import key_limit, secret_limit
from . import errors
from .material import Spec, spec_of
from .requests import Asked

if TYPE_CHECKING:
    from .keys import KeyContent


def check(asked: Asked) -> None:
    """Let the call through.

    :raises VaultError: 403, 429, or 400 where this kind of vault lacks the operation.
    """
    _network(asked)
    _rights(asked)
    _rate(asked)


def _network(asked: Asked) -> None:
    address = asked.world.client_address
    inner = asked.vault.network.refuses(address)
    if inner is not None:
        raise errors.by_network(asked.vault, asked.principal, inner, address)


def _rights(asked: Asked) -> None:
    vault, operation, principal = asked.vault, asked.operation, asked.principal
    action = operation.hsm_action if vault.is_hsm else operation.vault_action
    if action is None:
        raise errors.not_supported(
            f"Operation {operation.name} is not supported by this kind of vault."
        )
    if not vault.rbac:
        policy = vault.policies.get(principal.object_id)
        if policy is None or not policy.allows(operation.kind, operation.permission):
            raise errors.by_policy(vault, principal, operation.kind, operation.permission)
        return
    provider = "Microsoft.KeyVault/" + ("managedHsm/" if vault.is_hsm else "vaults/")
    scope = f"/{operation.kind}/{asked.name}" if asked.name else f"/{operation.kind}"
    if not any(
        grant.allows(principal.object_id, provider + action, scope) for grant in vault.grants
    ):
        raise errors.by_rbac(vault, principal, provider + action, scope)


def _rate(asked: Asked) -> None:
    spec = _key(asked)
    creates = asked.operation.creates
    if spec is None:
        bucket, limit = "secrets", secret_limit(create=creates)
    else:
        bucket, limit = "keys", key_limit(spec.kty, spec.size, create=creates)
    throttle = asked.vault.throttle
    wait = throttle.spend(f"{bucket}/create" if creates else bucket, limit, asked.now)
    if wait is not None:
        raise errors.throttled(wait if throttle.retry_after else None)


def _key(asked: Asked) -> Spec | None:
    """The key that the call is about, whose type and size decide what it costs."""
    if asked.operation.kind != "keys":
        return None
    if asked.operation.name == "create_key":
        return Spec.read(asked.body, hsm=asked.vault.is_hsm)
    item = asked.vault.keys.live.get(asked.name.lower())
    if item is None or not item.versions:
        return None
    content: KeyContent = item.versions.get(asked.version, item.current).content
    return spec_of(content.kty, content.secret)
