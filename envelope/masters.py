"""Calls of master keys for one key ring configuration, and what their answers were.

It knows no policy: it is told which key to call. What a wrapped key turned out
to hold is remembered by the wrapped key itself, so that files which repeat it
cost no second call, and never by the KEK's id, which any file can claim.
docs/keys.md, "Forged files", has the attacks behind this.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, TypeVar

from envelope import caller, hierarchy, jose, keyurl, resolvers
from envelope.caches import Cache
from envelope.caller import Allowance
from envelope.errors import EnvelopeError, KeyMismatch, KeyNotFound, KeyUnusable
from envelope.keys import KeyResolver, MasterKey, WrappedKey
from envelope.limits import Limits
from envelope.secret import Secret

__all__ = ["ALGORITHMS", "Kek", "Masters"]

T = TypeVar("T")

ALGORITHMS: Mapping[str, tuple[str, ...]] = {
    "A256KW": (),
    "RSA-OAEP-256": (),
    "A256GCM": ("iv", "tag"),
    "CKM_AES_KEY_WRAP": (),
    "CKM_AES_KEY_WRAP_PAD": (),
}
"""The algorithms that a recipient may name, each with the further members that it takes."""

_BINDING = frozenset({"A256GCM"})  # the KEK's id is their AAD

_FRESH = 30.0  # seconds for which a metered vault's newest version is believed to be still that
_REMEMBERED = 4096  # answers; each is two hashes or an error


@dataclass(frozen=True, slots=True, eq=False)
class Kek:
    """A KEK in the clear: its id, itself (a rewrap wraps it again), and what wraps DEKs."""

    id: bytes
    secret: Secret
    wrapping: Secret

    @classmethod
    def of(cls, secret: Secret) -> Kek:
        """The KEK of these bytes.

        Raises:
            KeyMismatch: They have not the length of a KEK.
        """
        if len(secret) != hierarchy.KEY_BYTES:
            raise KeyMismatch(f"what the key unwrapped has {len(secret)} bytes and is no KEK")
        return cls(hierarchy.kek_id(secret), secret, hierarchy.kek_wrap_key(secret))


class Masters:
    """The master keys that one key ring configuration calls.

    Args:
        identity: Tells this configuration's calls from those of others.
        settings: By scheme, as the drivers resolved them.
        limits: Deadline, rates and ages.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        identity: str,
        settings: Mapping[str, Mapping[str, Any]],
        limits: Limits,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._identity = identity
        self._settings = settings
        self._limits = limits
        self._found: Cache[str, MasterKey] = Cache(_REMEMBERED, limits.refresh, clock=clock)
        self._ids: Cache[bytes, bytes] = Cache(_REMEMBERED, limits.kek_cache_age, clock=clock)
        self._opened: Cache[bytes, Kek] = Cache(
            limits.kek_cache_size, limits.kek_cache_age, clock=clock
        )
        self._refusals: Cache[bytes, EnvelopeError] = Cache(
            _REMEMBERED, limits.negative_age, clock=clock
        )

    def find(self, key: str, *, age: float | None = None) -> MasterKey:
        """The master key of that name.

        Args:
            key: With a version that one, else the newest.
            age: Seconds that a metered vault's earlier answer may be old, ``limits.refresh`` at
                most; others are always asked.

        Raises:
            KeyNotFound, KeyUnusable, VaultUnavailable, LimitExceeded, ConfigurationError: As the
                driver and :mod:`envelope.caller` say.
        """
        return self.looked_up(
            self._found, key, "resolve", lambda resolver: resolver.resolve(key), age=age
        )

    def looked_up(
        self,
        found: Cache[str, T],
        key: str,
        operation: str,
        ask: Callable[[KeyResolver], T],
        *,
        age: float | None = None,
    ) -> T:
        """What a resolver says of ``key``; a metered one's earlier answer out of ``found``."""
        resolver = self._resolver(key)
        if resolver.metered:
            known = found.get(key, age=age)
            if known is not None:
                return known
        answer = caller.current().call(
            key,
            operation,
            lambda: ask(resolver),
            seconds=self._limits.deadline,
            allowance=self._allowance(key, resolver),
            share=self._identity,
        )
        if resolver.metered:
            found.put(key, answer)
        return answer

    def opened(self, kek_id: bytes) -> Kek | None:
        """The KEK of that id, if a recipient of it was unwrapped not long ago.

        One that this process made is not there before its first unwrap, so
        that reading back what was written proves that it can be read.
        """
        return self._opened.get(kek_id)

    def forget(self) -> None:
        """Drop all answers: keys, KEKs and refusals."""
        self._found.clear()
        self._ids.clear()
        self._opened.clear()
        self._refusals.clear()

    def newest(self, key: str) -> MasterKey:
        """The newest version of ``key``; a metered vault was asked half a minute ago at most."""
        return self.find(key, age=_FRESH)

    def wrap(self, kek: Kek, master: MasterKey) -> WrappedKey:
        """The KEK, wrapped to ``master``."""
        wrapped = caller.current().call(
            master.kid,
            "wrap",
            lambda: master.wrap(kek.secret, aad=kek.id),
            seconds=self._limits.deadline,
        )
        # A driver's mistake here would make files that nobody can open.
        if wrapped.alg != master.alg or wrapped.alg not in ALGORITHMS:
            raise EnvelopeError(f"the driver of {master.kid} wrapped with {wrapped.alg}")
        keyurl.parse(wrapped.kid)
        return wrapped

    def unwrap(self, wrapped: WrappedKey, kid: str, claimed: bytes) -> Kek:
        """The KEK in a recipient, if it is the one claimed (reader step 8); it is kept then.

        Args:
            wrapped: The recipient, as the file has it.
            kid: The configured key's version that it is matched to; this one is called.
            claimed: The KEK's id that the file states.

        Raises:
            KeyMismatch: It holds another key or none, or names an algorithm that is not the key's.
            KeyNotFound, KeyUnusable, VaultUnavailable, LimitExceeded: See :meth:`find`.
        """
        digest = _digest(wrapped, claimed)
        known = self._ids.get(digest)
        if known is not None and known != claimed:
            raise _other_kek(kid)

        # Nothing in here may fail for the claimed id: an honest thread may share the answer.
        def ask() -> Kek:
            known = self._ids.get(digest)
            # Not because the KEK is known, but because this very recipient was found to hold it:
            # a rewrap proves by it that a fresh recipient can be opened.
            opened = None if known is None else self._opened.get(known)
            return opened or self._asked(wrapped, digest, kid, claimed)

        kek = caller.current().share(
            (self._identity, "unwrap", digest), ask, seconds=self._limits.deadline
        )
        if kek.id != claimed:  # the answer to another thread's claim
            raise _other_kek(kid)
        if self._opened.get(claimed) is None:
            self._opened.put(claimed, kek)
        return kek

    def _asked(self, wrapped: WrappedKey, digest: bytes, kid: str, claimed: bytes) -> Kek:
        """Make the call, and remember what the wrapped key turned out to hold."""
        refusal = self._refusals.get(digest)
        if refusal is not None:
            raise copy.copy(refusal)
        resolver = self._resolver(kid)
        allowance = self._allowance(kid, resolver)
        try:
            master = self.find(kid)
            _check(master, wrapped, kid)
            kek = caller.current().call(
                kid,
                "unwrap",
                lambda: Kek.of(master.unwrap(_as_called(master, wrapped), aad=claimed)),
                seconds=self._limits.deadline,
                allowance=allowance,
            )
        except (KeyUnusable, KeyNotFound) as error:
            # Quota is what a repeated refusal would cost. Without one, "denied" may be a passphrase
            # that is being corrected; only "this is no wrapped key of mine" never changes.
            if resolver.metered or isinstance(error, KeyMismatch):
                self._refusals.put(digest, copy.copy(error))
            raise
        self._ids.put(digest, kek.id)
        if kek.id != claimed:
            caller.current().count_failure(allowance)
        else:
            self._opened.put(claimed, kek)
        return kek

    def proven(self, wrapped: WrappedKey, kek_id: bytes) -> bool:
        """Whether this wrapped key was really unwrapped, to that KEK, not long ago."""
        return self._ids.get(_digest(wrapped, kek_id)) == kek_id

    def metered(self, key: str) -> bool:
        """Whether calls of that key cost money or a vault's quota."""
        return self._resolver(key).metered

    def _resolver(self, key: str) -> KeyResolver:
        scheme = keyurl.scheme_of(key)
        return resolvers.resolver(scheme, self._settings[scheme])

    def _allowance(self, key: str, resolver: KeyResolver) -> Allowance | None:
        if not resolver.metered:
            return None
        name = keyurl.parse(key)
        vault = f"{name.scheme}://{name.host}" if name.host else name.scheme
        return Allowance(vault, self._limits.unwrap_rate, self._limits.failed_unwrap_rate)


def _check(master: MasterKey, wrapped: WrappedKey, kid: str) -> None:
    """The configured key's type fixes the algorithm, and what is called is what was matched."""
    if master.alg != wrapped.alg:
        raise KeyMismatch(
            f"the file says {wrapped.alg}, and this key is used with {master.alg}", kid=kid
        )
    if keyurl.parse(master.kid) != keyurl.parse(kid):
        raise KeyMismatch("the file does not name an exact version of this key", kid=kid)


def _known_part(wrapped: WrappedKey) -> WrappedKey:
    """Without members that the algorithm does not take, which a forger could vary at will."""
    names = ALGORITHMS.get(wrapped.alg, ())
    params = {name: text for name, text in wrapped.params.items() if name in names}
    return WrappedKey(wrapped.kid, wrapped.alg, wrapped.encrypted_key, params)


def _digest(wrapped: WrappedKey, claimed: bytes) -> bytes:
    """What a wrapped key is remembered by.

    Where the KEK's id takes part in unwrapping, it does here as well: a header
    that repeats an honest recipient under another id must not have the honest
    one refused.
    """
    bound = claimed if wrapped.alg in _BINDING else b""
    return sha256(jose.dumps({**_known_part(wrapped).to_json()}) + bound).digest()


def _as_called(master: MasterKey, wrapped: WrappedKey) -> WrappedKey:
    """The recipient under the name by which its key is called, which an alias may have changed."""
    part = _known_part(wrapped)
    return WrappedKey(master.kid, part.alg, part.encrypted_key, part.params)


def _other_kek(kid: str) -> KeyMismatch:
    return KeyMismatch("the key that it unwraps is not the one that the header claims", kid=kid)
