"""What `envelope doctor` tries of a secret that is a key: as of a key, with a secret's permissions.

Wrapping and unwrapping are done here, so `get` is all that both take. `list` is
needed only where the newest version is disabled, to find the one in use.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from envelope.errors import AccessDenied, EnvelopeError, KeyDisabled
from envelope.keys import Finding, WrappedKey
from envelope.secret import Secret
from envelope_azure.examine import Walk, walked
from envelope_azure.keyinfo import rfc3339
from envelope_azure.secretkeys import AzureSecrets, SecretKey, exact
from envelope_azure.trying import refused
from envelope_azure.vault import Vault

__all__ = ["examine"]

_AAD = bytes(32)
_LACKING = ("ForbiddenByRbac", "ForbiddenByPolicy")


def examine(
    settings: Mapping[str, Any], kid: str, *, wraps: bool, unwraps: bool
) -> Iterator[Finding]:
    """See :class:`envelope.keys.KeyExaminer`. It ends at what makes the rest pointless."""
    return walked(lambda: _SecretWalk(settings, kid, {"wrap": wraps, "unwrap": unwraps}))


class _Watched(AzureSecrets):
    """Finds secrets with nothing cached, in the vault whose calls the walk counts."""

    def __init__(self, settings: Mapping[str, Any], vault: Vault) -> None:
        super().__init__(settings)
        self._watched = vault

    def vault(self, host: str) -> Vault:  # noqa: ARG002 - there is but one
        return self._watched


class _SecretWalk(Walk):
    def __init__(self, settings: Mapping[str, Any], kid: str, needed: Mapping[str, bool]) -> None:
        super().__init__(settings, kid, needed)
        self._secrets = _Watched(settings, self.trial.vault)
        self._get: EnvelopeError | None = None  # what `get` raised
        self._master: SecretKey | None = None
        self._wrapped: WrappedKey | None = None
        self._secret = Secret.random()

    def steps(self) -> Iterator[tuple[str, Callable[[], Iterator[Finding]]]]:
        for check, step in super().steps():
            if check in ("enabled", "operations", "throttling"):
                continue  # a secret that was got is enabled, has none, and no limits by its kind
            yield check, step

    def used(self) -> Iterator[tuple[str, Callable[[], Iterator[Finding]]]]:
        if not isinstance(self._get, AccessDenied):
            yield from (("wrap", self._wrap), ("unwrap", self._unwrap))
        yield "permission", self._permitted

    def named(self) -> Iterator[Finding]:
        which = f"version {self.name.version}" if self.name.version else "its newest version"
        text = f"{self.kid}: the secret {self.name.name}, {which}, in the vault {self.name.host}"
        yield Finding("ok", "name", text)

    def found(self) -> Iterator[Finding]:
        tail = f"/{self.name.version}" if self.name.version else ""
        try:
            answer = self.trial.vault.ask(
                "GET",
                f"secrets/{self.name.name}{tail}",
                kid=self.kid,
                operation="get",
                sealed="value",
            )
        except AccessDenied as error:
            if error.provider_code not in _LACKING:
                raise
            self._get = error
            yield refused("key", error)
            return
        except KeyDisabled as error:
            if self.name.version is not None:
                raise
            self._get = error
            yield Finding("warn", "version", "the newest is disabled; an older one may be in use")
            return
        answer.pop("value", None)  # it is looked at in its use
        self.trial.bundle = answer
        yield Finding("ok", "key", "found: a secret")

    def version(self) -> Iterator[Finding]:
        answer = self.trial.bundle or {}
        made = rfc3339((answer.get("attributes") or {}).get("created"))
        version = exact(self.name, answer).version
        yield Finding("ok", "version", f"{version}{f', made {made}' if made else ''}")

    def _wrap(self) -> Iterator[Finding]:
        try:
            self._master = self._secrets.resolve(self.kid)
            self._wrapped = self._master.wrap(self._secret, aad=_AAD)
        except EnvelopeError as error:
            yield refused("wrap", error, "fail" if self.needed["wrap"] else "warn")
            return
        text = f"a throw-away key was wrapped here, with {self._master.alg}"
        yield Finding("ok", "wrap", text)

    def _unwrap(self) -> Iterator[Finding]:
        if self._master is None or self._wrapped is None:
            return
        if self._master.unwrap(self._wrapped, aad=_AAD) == self._secret:
            yield Finding("ok", "unwrap", "what was wrapped was unwrapped here")

    def _permitted(self) -> Iterator[Finding]:
        """Each permission alone."""
        lacking = self._get if isinstance(self._get, AccessDenied) else None
        if lacking is not None:
            yield Finding("warn", "permission", "get: not given", lacking.next_step)
        else:
            yield Finding("ok", "permission", "get: given")
        try:
            path = f"secrets/{self.name.name}/versions"
            next(self.trial.vault.pages(path, kid=self.kid, operation="list"), None)
        except AccessDenied as error:
            # Who looks for the newest version needs it once that one is disabled, and only then.
            needed = isinstance(self._get, KeyDisabled)
            text = "list: not given; needed where the newest version is disabled"
            yield Finding(
                "warn" if needed else "ok", "permission", text, error.next_step if needed else None
            )
        else:
            yield Finding("ok", "permission", "list: given")
