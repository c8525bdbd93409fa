"""Rotation policies: the vault's JSON, and its rules told before it is asked.

The vault answers a policy that it does not take with "BadParameter", whatever is
wrong. Its rules are on the vendor's pages "Configure cryptographic key
auto-rotation in Azure Key Vault" and the same for Managed HSM.
"""

from __future__ import annotations

import calendar
import datetime
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from envelope.errors import ConfigurationError
from envelope.keys import RotationPolicy

__all__ = ["body_of", "changed", "due", "policy_of"]

_DURATION = re.compile(r"P(?:(\d{1,4})Y)?(?:(\d{1,4})M)?(?:(\d{1,5})D)?")
_LEAST_EXPIRY = 28  # days
_LEAST_ROTATION = {False: 7, True: 28}  # days: in a vault, in a Managed HSM
_MARGIN = 7  # days between a rotation and the version's end
_AFTER, _BEFORE = "timeAfterCreate", "timeBeforeExpiry"


def policy_of(key: str, document: Mapping[str, Any]) -> RotationPolicy:
    """A policy as the vault tells it; of unknown actions and triggers, nothing."""
    rules: dict[str, str] = {}
    for action in document.get("lifetimeActions") or ():
        kind = str((action.get("action") or {}).get("type")).lower()
        trigger = action.get("trigger") or {}
        names = {("rotate", _AFTER): "rotate_after", ("rotate", _BEFORE): "rotate_before_expiry"}
        names["notify", _BEFORE] = "notify_before_expiry"
        rules |= {
            names[kind, when]: str(length)
            for when, length in trigger.items()
            if length is not None and (kind, when) in names
        }
    expires = (document.get("attributes") or {}).get("expiryTime")
    return RotationPolicy(key, expires_in=expires, **rules)


def changed(
    policy: RotationPolicy, changes: Mapping[str, str | None], *, hsm: bool
) -> RotationPolicy:
    """``policy`` with other rules.

    Args:
        policy: As it is.
        changes: See :meth:`envelope.keys.KeyRotator.set_rotation_policy`.
        hsm: The key is in a Managed HSM.

    Raises:
        ConfigurationError: The vault would not take it, and why.
    """
    given = {name: value.upper() if value else None for name, value in changes.items()}
    if given.get("rotate_after") and given.get("rotate_before_expiry"):
        raise ConfigurationError(
            "a key rotates after a time or before its expiry, not by both",
            next_step="Give --rotate-after or --rotate-before-expiry.",
        )
    # Either of the two takes the place of the other, and "never" is said of the rotation.
    if given.get("rotate_after"):
        given["rotate_before_expiry"] = None
    elif given.get("rotate_before_expiry") or "rotate_after" in given:
        given["rotate_after"] = None
        given.setdefault("rotate_before_expiry", None)
    if "notify_before_expiry" in given and (hsm or given["notify_before_expiry"] is None):
        why = "a Managed HSM sends no notices" if hsm else "a vault always has a rule for notices"
        raise ConfigurationError(
            why, next_step="Who subscribes to them is settled in Event Grid, not here."
        )
    rules: dict[str, Any] = given
    new = replace(policy, **rules)
    _check(new, hsm)
    return new


def _check(policy: RotationPolicy, hsm: bool) -> None:
    least = _LEAST_ROTATION[hsm]
    expires = _days(policy.expires_in, "--expires-in", _LEAST_EXPIRY)
    after = _days(policy.rotate_after, "--rotate-after", least)
    before = _days(policy.rotate_before_expiry, "--rotate-before-expiry", least)
    notice = _days(policy.notify_before_expiry, "--notify-before-expiry", 1)
    if before and not expires:
        raise ConfigurationError(
            "only versions that expire can be rotated before they do",
            next_step="Give --expires-in as well, such as P2Y, or rotate by age: --rotate-after.",
        )
    if expires and (after or before or 0) > expires - _MARGIN:
        rotation = policy.rotate_after or policy.rotate_before_expiry
        raise ConfigurationError(
            f"versions expire in {policy.expires_in}, too soon for a rotation of {rotation}: "
            f"{_MARGIN} days have to be left",
            next_step="Give a longer --expires-in, or a shorter time for the rotation.",
        )
    if expires and notice and notice >= expires:
        raise ConfigurationError(
            f"versions expire in {policy.expires_in}, before the notice of "
            f"{policy.notify_before_expiry} could be given",
            next_step="Give a shorter --notify-before-expiry.",
        )


def _days(duration: str | None, option: str, least: int) -> int | None:
    """About how many days it is: a month of 30, a year of 365."""
    if duration is None:
        return None
    years, months, days = _parts(duration, option)
    found = years * 365 + months * 30 + days
    if found < least:
        raise ConfigurationError(
            f"{option} {duration} is too short", next_step=f"The vault takes P{least}D or more."
        )
    return found


def _parts(duration: str, option: str) -> tuple[int, int, int]:
    match = _DURATION.fullmatch(duration)
    if match is None or not any(match.groups()):
        raise ConfigurationError(
            f"{option} {duration!r} is no duration in years, months and days (ISO 8601)",
            next_step="For example P90D, P18M or P2Y.",
        )
    years, months, days = (int(part or 0) for part in match.groups())
    return years, months, days


def body_of(policy: RotationPolicy, *, hsm: bool) -> dict[str, Any]:
    """The request that sets a policy."""
    actions: list[dict[str, Any]] = []
    for kind, when, length in (
        ("Rotate", _AFTER, policy.rotate_after),
        ("Rotate", _BEFORE, policy.rotate_before_expiry),
        ("Notify", _BEFORE, None if hsm else policy.notify_before_expiry),
    ):
        if length:
            actions.append({"trigger": {when: length}, "action": {"type": kind}})
    return {"lifetimeActions": actions, "attributes": {"expiryTime": policy.expires_in}}


def due(policy: RotationPolicy, bundle: Mapping[str, Any]) -> str | None:
    """About the day on which the vault follows this version by the next one; ``None`` is never."""
    attributes = bundle.get("attributes") or {}
    made, ends = attributes.get("created"), attributes.get("exp")
    try:
        if policy.rotate_after and made is not None:
            return _moved(int(made), policy.rotate_after, 1)
        if policy.rotate_before_expiry and ends is not None:
            return _moved(int(ends), policy.rotate_before_expiry, -1)
    except (ConfigurationError, OverflowError, ValueError):
        pass  # a duration of another form, or beyond the calendar: the rule itself is still told
    return None


def _moved(moment: int, duration: str, sign: int) -> str:
    years, months, days = _parts(duration, "the policy's")
    day = datetime.datetime.fromtimestamp(moment, datetime.UTC).date()
    month = day.month - 1 + sign * (years * 12 + months)
    year, month = day.year + month // 12, month % 12 + 1
    last = calendar.monthrange(year, month)[1]
    moved = datetime.date(year, month, min(day.day, last)) + datetime.timedelta(sign * days)
    return moved.isoformat()
