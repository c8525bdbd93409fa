"""One call as its handler sees it: who asks which vault for what, with readers for the body."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .errors import bad_parameter

if TYPE_CHECKING:
    from ..world import Principal, Vault, World

Json = dict[str, Any]


@dataclass
class Asked:
    """A call that passed all gates. ``name`` and ``version`` are "" where its path has none."""

    world: World
    vault: Vault
    principal: Principal
    operation: Operation
    name: str
    version: str
    query: Mapping[str, str]
    body: Json
    #: What ``Operation.prepare`` made, outside the lock.
    prepared: Any = None

    @property
    def now(self) -> int:
        """The world's time in whole seconds, as attributes hold it."""
        return int(self.world.clock.now())


@dataclass(frozen=True)
class Operation:
    """What can be asked for: its path, what it takes to be allowed, and what does it.

    An action is a data action below ``Microsoft.KeyVault/vaults/`` or ``…/managedHsm/``; without
    one, that kind of vault does not have the operation.
    """

    name: str
    method: str
    path: str
    kind: str
    handler: Callable[[Asked], Json | None]
    permission: str
    vault_action: str | None = None
    hsm_action: str | None = None
    status: int = 200
    #: Counts against the lower limit for new objects.
    creates: bool = False
    #: Finds out, under the lock, what is slow to make; called with no lock, the result makes it.
    prepare: Callable[[Asked], Callable[[], Any] | None] | None = field(default=None)


def encode(value: bytes) -> str:
    """Base64url without padding, as the service writes bytes."""
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def decode(text: object) -> bytes:
    """Bytes from base64url, padded or not.

    :raises VaultError: 400, not base64url.
    """
    if not isinstance(text, str):
        raise bad_parameter()
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise bad_parameter() from None


def bytes_of(body: Json, member: str) -> bytes:
    """A member that must be there, as bytes.

    :raises VaultError: 400, it is missing or is not base64url.
    """
    if body.get(member) is None:
        raise bad_parameter(f"Property  has invalid value: '{member}' is required")
    return decode(body[member])


def optional_bytes(body: Json, member: str) -> bytes | None:
    """A member as bytes, or None where it is missing or null.

    :raises VaultError: 400, it is not base64url.
    """
    return None if body.get(member) is None else decode(body[member])


def text_of(body: Json, member: str) -> str:
    """A member that must be there, as a string.

    :raises VaultError: 400, it is missing or something else.
    """
    value = body.get(member)
    if not isinstance(value, str):
        raise bad_parameter(f"Property  has invalid value: '{member}' is required")
    return value


def object_of(body: Json, member: str) -> Json:
    """A member that is an object; an empty one where it is missing or null.

    :raises VaultError: 400, it is something else.
    """
    value = body.get(member)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise bad_parameter(f"Property  has invalid value: '{member}' must be an object")
    return value
