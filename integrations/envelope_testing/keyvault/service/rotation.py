"""Keys that rotate by themselves, when the world's clock says so.

Follows the vendor's "Configure cryptographic key auto-rotation". A year counts as 365 days here
and a month as 30.
"""

from __future__ import annotations

import copy
import re
from typing import TYPE_CHECKING, Any

from ..objects import Attributes, Item, Version, new_version
from .errors import bad_parameter
from .material import spec_of
from .requests import Asked, Json, object_of

if TYPE_CHECKING:
    from ..world import Vault
    from .keys import KeyContent

DAY = 86400
_LEAST_EXPIRY = 28 * DAY
_LEAST_AGE = 7 * DAY
_MOST_AT_ONCE = 1000  # a clock that jumps by centuries must not stop the world
_DURATION = re.compile(r"P(?:(\d+)Y)?(?:(\d+)M)?(?:(\d+)W)?(?:(\d+)D)?")
_NOTIFY = {"trigger": {"timeBeforeExpiry": "P30D"}, "action": {"type": "Notify"}}


def seconds(duration: object) -> int:
    """An ISO 8601 duration of days, weeks, months and years, in seconds.

    :raises VaultError: 400, it is none.
    """
    match = _DURATION.fullmatch(duration) if isinstance(duration, str) else None
    if match is None or not any(match.groups()):
        raise bad_parameter(f"The duration {duration!r} is invalid.")
    years, months, weeks, days = (int(part or 0) for part in match.groups())
    return (years * 365 + months * 30 + weeks * 7 + days) * DAY


def policy_json(asked: Asked, item: Item[KeyContent]) -> Json:
    """A key's policy; to be told 30 days before expiry, where none was set."""
    policy = item.settings.get("rotation")
    if policy is None:
        created = next(iter(item.versions.values())).attributes.created
        attributes = {"expiryTime": None, "created": created, "updated": created}
        policy = {"lifetimeActions": [copy.deepcopy(_NOTIFY)], "attributes": attributes}
    return {"id": f"{asked.vault.url}/keys/{item.name}/rotationpolicy", **policy}


def set_policy(asked: Asked, item: Item[KeyContent]) -> None:
    """Take the policy in the body.

    :raises VaultError: 400, it makes no sense.
    """
    expiry = object_of(asked.body, "attributes").get("expiryTime")
    if expiry is not None and seconds(expiry) < _LEAST_EXPIRY:
        raise bad_parameter("The expiry time must be at least 28 days.")
    actions = asked.body.get("lifetimeActions")
    actions = actions if isinstance(actions, list) else []
    read = [_action(one, expiry) for one in actions]
    if not any(one["action"]["type"] == "Notify" for one in read):
        read.append(copy.deepcopy(_NOTIFY))
    before = item.settings.get("rotation")
    created = before["attributes"]["created"] if before else asked.now
    item.settings["rotation"] = {
        "lifetimeActions": read,
        "attributes": {"expiryTime": expiry, "created": created, "updated": asked.now},
    }


def _action(one: object, expiry: object) -> Json:
    if not isinstance(one, dict):
        raise bad_parameter("Property  has invalid value: 'lifetimeActions'")
    kind = str(object_of(one, "action").get("type")).capitalize()
    trigger = {
        name: value for name, value in object_of(one, "trigger").items() if value is not None
    }
    if kind not in ("Rotate", "Notify") or len(trigger) != 1:
        raise bad_parameter("Property  has invalid value: 'lifetimeActions'")
    ((name, value),) = trigger.items()
    length = seconds(value)
    if name == "timeAfterCreate":
        if kind == "Rotate" and length < _LEAST_AGE:
            raise bad_parameter("A key must be at least 7 days old when it is rotated.")
    elif name != "timeBeforeExpiry" or (kind == "Rotate" and expiry is None):
        raise bad_parameter("Only a key that expires can be rotated before it does.")
    return {"trigger": {name: value}, "action": {"type": kind}}


def rotate(item: Item[KeyContent], secret: Any, now: int) -> Version[KeyContent]:
    """Add a version like the newest, which expires as the policy says, or never."""
    before = item.current
    content = copy.copy(before.content)
    content.secret, content.key_ops = secret, list(before.content.key_ops)
    attributes = Attributes(created=now, updated=now)
    policy = item.settings.get("rotation")
    if policy is not None and policy["attributes"]["expiryTime"] is not None:
        attributes.expires = now + seconds(policy["attributes"]["expiryTime"])
    tags = None if before.tags is None else dict(before.tags)
    return item.add(
        Version(new_version(), content, attributes, tags, extra=copy.deepcopy(before.extra))
    )


def tick(vault: Vault, now: float) -> None:
    """Rotate all keys of a vault that are due, as often as they were due since the last call."""
    for item in vault.keys.live.values():
        for _ in range(_MOST_AT_ONCE):
            due = _due(item)
            if due is None or due > now:
                break
            content = item.current.content
            rotate(item, spec_of(content.kty, content.secret).make(), due)


def _due(item: Item[KeyContent]) -> int | None:
    """When the newest version is to be followed by the next one."""
    policy = item.settings.get("rotation")
    if policy is None:
        return None
    attributes = item.current.attributes
    times = []
    for one in policy["lifetimeActions"]:
        if one["action"]["type"] == "Rotate":
            ((name, value),) = one["trigger"].items()
            if name == "timeAfterCreate":
                times.append(attributes.created + seconds(value))
            elif attributes.expires is not None:
                times.append(max(attributes.expires - seconds(value), attributes.created + DAY))
    return min(times, default=None)
