"""A key in a vault at work: it wraps and unwraps a throw-away key, and permissions are tried alone.

For :mod:`envelope_azure.examine`.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from azure.core.rest import HttpResponse

from envelope import keyurl
from envelope.errors import AccessDenied, EnvelopeError, KeyMismatch, KeyUnusable
from envelope.jose import b64u_decode
from envelope.keys import Finding, WrappedKey
from envelope.secret import Secret
from envelope_azure.driver import AzureKeys
from envelope_azure.keys import RSA_ALG, AzureKey
from envelope_azure.vault import Vault

__all__ = ["Trial", "bits_of", "refused", "version_of"]

_SLOW = 1.0  # seconds; a vault on the other side of the earth answers in half of that
# Calls in 10 s that use a key, of all clients of a vault, by the bits of an RSA key: protected by
# an HSM, and by software ("Azure Key Vault service limits").
_LIMITS = {2048: (2000, 4000), 3072: (500, 1000), 4096: (250, 500)}
_AAD = bytes(32)


def refused(check: str, error: EnvelopeError, level: str = "fail") -> Finding:
    """What an error says, with the vault's code and the number that its administrators look for."""
    said = [error.code, error.provider_code, error.request_id and f"request {error.request_id}"]
    text = f"{error.message} [{', '.join(part for part in said if part)}]"
    return Finding(level, check, text, error.next_step, error.exit)


class _WatchedVault(Vault):
    """A vault whose calls are timed."""

    def __init__(self, host: str, settings: Mapping[str, Any]) -> None:
        super().__init__(host, settings)
        self.seconds: list[float] = []
        self.throttled = 0

    def _sent(self, method: str, path: str, body: Mapping[str, Any] | None) -> HttpResponse:
        started = time.perf_counter()
        response = super()._sent(method, path, body)
        self.seconds.append(time.perf_counter() - started)
        self.throttled += response.status_code == 429
        return response


class _Watched(AzureKeys):
    """A resolver of its own: what the process has cached already would hide what is wrong now."""

    def vault(self, host: str) -> _WatchedVault:
        with self._lock:
            found = self._vaults.get(host)
            if not isinstance(found, _WatchedVault):
                found = self._vaults[host] = _WatchedVault(host, self._settings)
            return found


class Trial:
    """What a key ring would do with a key, tried.

    Args:
        settings: As :func:`envelope_azure.settings.checked` returned them.
        kid: The key as the key ring names it.
        needed: Whether the key ring needs to ``wrap`` and to ``unwrap``.
    """

    def __init__(self, settings: Mapping[str, Any], kid: str, needed: Mapping[str, bool]) -> None:
        self.kid = kid
        self.name = keyurl.parse(kid)
        self.needed = needed
        self.keys = _Watched(settings)
        self.vault = self.keys.vault(self.name.host)
        self.bundle: dict[str, Any] | None = None  # what the vault told of it, once it did
        #: What each permission's call raised, in the order of asking; None where it is given.
        self.permissions: dict[str, EnvelopeError | None] = {}
        self._master: AzureKey | None = None
        self._wrapped: WrappedKey | None = None
        self._secret = Secret.random()

    def wrap(self) -> Iterator[Finding]:
        """As a key ring wraps; and in the vault, where that is not how."""
        calls = len(self.vault.seconds)
        try:
            self._master = self.keys.resolve(self.kid)
            calls = len(self.vault.seconds)
            self._wrapped = self._master.wrap(self._secret, aad=_AAD)
        except EnvelopeError as error:
            yield self._unable("wrap", error)
            if self._master is None:
                return
            problem: EnvelopeError | None = error
        else:
            problem = None
            here = len(self.vault.seconds) == calls
            where = "here, under the public half" if here else "in the vault"
            text = f"a throw-away key was wrapped {where}, with {self._master.alg}"
            yield Finding("ok", "wrap", text)
        if len(self.vault.seconds) == calls:  # the vault was not asked, so its permission is open
            problem = self._wrapped_in_vault(self._master)
        self.permissions["wrapKey"] = problem

    def _wrapped_in_vault(self, master: AzureKey) -> EnvelopeError | None:
        plain = AzureKey(self.vault, keyurl.parse(master.kid), master.alg)
        try:
            wrapped = plain.wrap(self._secret, aad=_AAD)
        except EnvelopeError as error:
            return error
        self._wrapped = self._wrapped or wrapped
        return None

    def unwrap(self) -> Iterator[Finding]:
        """Unwrap what was wrapped, or what comes closest."""
        if self._master is None:
            return
        wrapped, proven = self._wrapped or self._wrapped_here(), True
        if wrapped is None:
            # Whoever may only unwrap has nothing to unwrap. That the vault finds fault with this
            # one, and not with the caller, shows the permission all the same.
            proven = False
            wrapped = _nonsense(self._master)
        calls = len(self.vault.seconds)
        try:
            same = self._master.unwrap(wrapped, aad=_AAD) == self._secret
        except EnvelopeError as error:
            asked = len(self.vault.seconds) > calls
            mismatch = isinstance(error, KeyMismatch) and asked and not proven
            self.permissions["unwrapKey"] = None if mismatch else error
            if not mismatch:
                yield self._unable("unwrap", error)
                return
            text = "is allowed; there was nothing to unwrap, which takes get or wrapKey"
            yield Finding("ok", "unwrap", text)
            return
        self.permissions["unwrapKey"] = None
        if same:
            yield Finding("ok", "unwrap", "what was wrapped was unwrapped in the vault")
        else:
            message = "the vault unwrapped to something else than was wrapped"
            yield refused("unwrap", KeyMismatch(message))

    def _wrapped_here(self) -> WrappedKey | None:
        """Under the public half, whatever the dates and the operations: only to be unwrapped."""
        if self.bundle is None or self._master is None or self._master.alg != RSA_ALG:
            return None
        name = replace(self.name, version=version_of(self.bundle))
        bundle = {"key": {**self.bundle["key"], "key_ops": ["wrapKey"]}}
        return AzureKey(self.vault, name, RSA_ALG, bundle).wrap(self._secret, aad=_AAD)

    def _unable(self, operation: str, error: EnvelopeError) -> Finding:
        if self.needed[operation] or not isinstance(error, (AccessDenied, KeyUnusable)):
            return refused(operation, error)
        return Finding("ok", operation, f"not possible, and not needed here: {error.message}")

    # --- Permissions and quota ------------------------------------------------------------------

    def permitted(self) -> Iterator[Finding]:
        """Each permission alone, as the calls before showed it."""
        for permission, error in self.permissions.items():
            if isinstance(error, AccessDenied):
                level, text = "warn", f"{permission}: not given"
                if permission == "wrapKey" and self.permissions["get"] is None:
                    text += "; not needed where keys are wrapped here"
                elif permission == "get":
                    text += "; without it, each wrap is a call of the vault"
                if not self.needed.get(permission.removesuffix("Key"), True):
                    level = "ok"
                yield Finding(level, "permission", text, error.next_step)
            elif error is None or isinstance(error, KeyUnusable):
                yield Finding("ok", "permission", f"{permission}: given")
            else:
                yield Finding("warn", "permission", f"{permission}: not known, the call failed")

    def latency(self) -> Iterator[Finding]:
        """How long the vault takes."""
        times = self.vault.seconds
        median, slowest = statistics.median(times), max(times)
        text = f"{median * 1000:.0f} ms a call, the median of {len(times)}; {slowest * 1000:.0f} ms"
        if median < _SLOW:
            yield Finding("ok", "latency", f"{text} the slowest")
        else:
            step = "Use a vault in this region, or look at the network and the proxy."
            yield Finding("warn", "latency", f"{text} the slowest", step)

    def throttling(self) -> Iterator[Finding]:
        """How many calls this took of those that the vault allows."""
        made = f"{len(self.vault.seconds)} calls were made"
        if self.vault.cloud.hsm:
            text = f"{made}; what a Managed HSM takes depends on its size"
        elif self.bundle is None:
            text = f"{made}; what the vault takes depends on the key, which may not be looked at"
        else:
            soft, limits = (
                not _is_hsm(self.bundle),
                _LIMITS.get(bits_of(self.bundle), _LIMITS[2048]),
            )
            text = f"{made} of {limits[soft]:,} in 10 s, for all clients of the vault together"
        if self.vault.throttled:
            step = "Spread the work, keep key rings alive, or give the key a vault of its own."
            yield Finding("warn", "throttling", f"{text}; the vault is throttling now", step)
        else:
            yield Finding("ok", "throttling", text)


def _nonsense(master: AzureKey) -> WrappedKey:
    params = dict.fromkeys(("iv", "tag"), "AAAAAAAAAAAAAAAA") if master.alg.endswith("GCM") else {}
    return WrappedKey(master.kid, master.alg, bytes(255) + b"\1", params)


def version_of(bundle: Mapping[str, Any] | None) -> str | None:
    """The version that an answer of the vault is about."""
    return keyurl.parse(str((bundle or {})["key"]["kid"])).version


def bits_of(bundle: Mapping[str, Any]) -> int:
    """The strength of an RSA key; 0 where it is none."""
    modulus = bundle["key"].get("n")
    return len(b64u_decode(modulus, "n")) * 8 if modulus else 0


def _is_hsm(bundle: Mapping[str, Any]) -> bool:
    return str(bundle["key"].get("kty")).endswith("-HSM")
