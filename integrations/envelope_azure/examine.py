"""What `envelope doctor` tries of a key in a vault, from its name to its quota.

The way to the vault is :mod:`envelope_azure.reaching`, the key's use
:mod:`envelope_azure.trying`. Whoever may use a key may examine it: no right is
needed besides those that are reported on, and a lacking one ends nothing.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from envelope import keyurl
from envelope.errors import (
    AccessDenied,
    EnvelopeError,
    KeyDisabled,
    KeyExpired,
    KeyNotYetValid,
    KeyOperationForbidden,
)
from envelope.keys import Finding
from envelope_azure.keys import alg_of
from envelope_azure.reaching import Way
from envelope_azure.trying import Trial, bits_of, refused, version_of

__all__ = ["Walk", "examine", "walked"]

_SOON = 30 * 86400  # seconds


def examine(
    settings: Mapping[str, Any], kid: str, *, wraps: bool, unwraps: bool
) -> Iterator[Finding]:
    """See :class:`envelope.keys.KeyExaminer`. It ends at what makes the rest pointless."""
    return walked(lambda: Walk(settings, kid, {"wrap": wraps, "unwrap": unwraps}))


def walked(begin: Callable[[], Walk]) -> Iterator[Finding]:
    """What is found on a walk, up to the first step that could not be made."""
    try:
        walk = begin()
    except EnvelopeError as error:
        yield refused("name", error)
        return
    for check, step in walk.steps():
        try:
            yield from step()
        except EnvelopeError as error:
            yield refused(check, error)
            return


class Walk:
    """The way to one key, step by step.

    Args:
        settings: As :func:`envelope_azure.settings.checked` returned them.
        kid: The key as the key ring names it.
        needed: What the key ring does with it, and whether it does.
    """

    makes, lasts = "wrap", "still unwraps"  # what dates bound, and what they leave alone

    def __init__(self, settings: Mapping[str, Any], kid: str, needed: Mapping[str, bool]) -> None:
        self.kid = kid
        self.name = keyurl.parse(kid)
        self.needed = needed
        self.way = Way(kid, self.name.host, settings)
        self.trial = Trial(settings, kid, self.needed)

    def steps(self) -> Iterator[tuple[str, Callable[[], Iterator[Finding]]]]:
        way = self.way
        yield "name", self.named
        yield from (("DNS", way.dns), ("TCP", way.tcp), ("TLS", way.tls))
        yield "challenge", way.ask  # silent: it says in which tenant the credential is asked
        yield from (("credential", way.credential), ("challenge", way.challenge))
        yield "key", self.found
        if self.trial.bundle is not None:
            yield from (("version", self.version), ("enabled", self.enabled))
            yield from (("validity", self.validity), ("operations", self.operations))
        yield from self.used()
        yield from (("latency", self.trial.latency), ("throttling", self.trial.throttling))

    def used(self) -> Iterator[tuple[str, Callable[[], Iterator[Finding]]]]:
        """The steps that use the key, and the permissions that they showed."""
        trial = self.trial
        yield from (("wrap", trial.wrap), ("unwrap", trial.unwrap))
        yield "permission", trial.permitted

    # --- The key --------------------------------------------------------------------------------

    def named(self) -> Iterator[Finding]:
        kind = "the Managed HSM" if self.way.cloud.hsm else "the vault"
        which = f"version {self.name.version}" if self.name.version else "its newest version"
        text = f"{self.kid}: the key {self.name.name}, {which}, in {kind} {self.name.host}"
        yield Finding("ok", "name", text)

    def found(self) -> Iterator[Finding]:
        try:
            self.trial.bundle = self.trial.keys.bundle(self.trial.vault, self.name)
        except AccessDenied as error:
            if error.provider_code not in ("ForbiddenByRbac", "ForbiddenByPolicy"):
                raise
            self.trial.permissions["get"] = error
            text = "may not be looked at, so that its state shows in its use alone"
            yield Finding("warn", "key", text, error.next_step)
            return
        self.trial.permissions["get"] = None
        yield Finding("ok", "key", f"found: {_kind(self.trial.bundle)}")

    def version(self) -> Iterator[Finding]:
        newest = version_of(self.trial.bundle)
        if self.name.version is None and not _attributes(self.trial.bundle).get("enabled", True):
            try:
                self.trial.bundle = self.trial.keys.newest_enabled(self.trial.vault, self.name)
            except (KeyDisabled, AccessDenied) as error:
                yield refused("version", error, "warn")
                return
            text = f"the newest, {newest}, is disabled; in use is {version_of(self.trial.bundle)}"
            yield Finding("warn", "version", text, "Enable it, or rotate the key.")
            return
        made = _attributes(self.trial.bundle).get("created")
        yield Finding("ok", "version", f"{newest}{f', made {_day(made)}' if made else ''}")

    def enabled(self) -> Iterator[Finding]:
        if _attributes(self.trial.bundle).get("enabled", True):
            yield Finding("ok", "enabled", "yes")
        else:
            name = self.name.unversioned
            step = f"Enable it: envelope keys enable {name}/{version_of(self.trial.bundle)}"
            error = KeyDisabled("this version is disabled", next_step=step)
            yield refused("enabled", error)

    def validity(self) -> Iterator[Finding]:
        start, end = (_attributes(self.trial.bundle).get(name) for name in ("nbf", "exp"))
        now, level = time.time(), "fail" if self.needed[self.makes] else "warn"
        span = " ".join(
            f"{word} {_day(date)}" for word, date in (("from", start), ("until", end)) if date
        )
        if start is not None and now < start:
            early = KeyNotYetValid(f"{span}: it does not {self.makes} yet")
            yield refused("validity", early, level)
        elif end is not None and now >= end:
            error = KeyExpired(f"{span}: it does not {self.makes} any more, and {self.lasts}")
            yield refused("validity", error, level)
        elif end is not None and now >= end - _SOON:
            yield Finding("warn", "validity", f"{span}: it ends soon", "Rotate the key before.")
        else:
            yield Finding("ok", "validity", span or "no start and no end")

    def operations(self) -> Iterator[Finding]:
        bundle = self.trial.bundle or {}
        alg_of(bundle, self.kid)  # refuses keys that cannot be used at all
        allowed = list(bundle["key"].get("key_ops") or ())
        text = ", ".join(allowed) or "none"
        lacking = [
            f"{operation}Key"
            for operation, needed in self.needed.items()
            if needed and f"{operation}Key" not in allowed
        ]
        if lacking:
            error = KeyOperationForbidden(f"{text}: not {' and '.join(lacking)}")
            yield refused("operations", error)
        else:
            yield Finding("ok", "operations", text)


def _attributes(bundle: Mapping[str, Any] | None) -> Mapping[str, Any]:
    return (bundle or {}).get("attributes") or {}


def _kind(bundle: Mapping[str, Any]) -> str:
    bits = bits_of(bundle)
    return f"{bundle['key'].get('kty')}{f', {bits} bits' if bits else ''}"


def _day(seconds: Any) -> str:
    moment = datetime.datetime.fromtimestamp(int(seconds), datetime.UTC)
    return moment.isoformat().replace("+00:00", "Z")
