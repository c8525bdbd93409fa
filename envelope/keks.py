"""KEKs in a process: opened ones, refused ones, and the one that new files go under.

One :class:`Keks` belongs to one key ring configuration and knows no policy: it
is told which key to call. What it keeps is bounded by size and by age, never
leaves the process, and starts afresh in a forked child. docs/keys.md argues
the bounds.
"""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from envelope import caller, header, hierarchy, jose, keyurl, resolvers
from envelope.caches import Cache
from envelope.caller import Allowance
from envelope.errors import EnvelopeError, KeyMismatch, KeyNotFound, KeyUnusable, LimitExceeded
from envelope.events import KekCreated, emit
from envelope.keys import KeyResolver, MasterKey, WrappedKey
from envelope.limits import Limits
from envelope.secret import Secret

__all__ = ["ALGORITHMS", "MAX_CALLS", "Kek", "Keks", "WritingKek", "member_of"]

ALGORITHMS: Mapping[str, tuple[str, ...]] = {"A256KW": (), "RSA-OAEP-256": ()}
"""The algorithms that a recipient may name, each with the further members that it takes."""

MAX_CALLS = 3
"""Recipients of one header that are tried at most (reader step 8)."""

_FRESH = 30.0  # seconds for which a metered vault's newest version is believed to be still that

_REMEMBERED = 4096  # answers to wrapped keys; each is two hashes or an error


@dataclass(frozen=True, slots=True, eq=False)
class Kek:
    """A KEK in the clear: its id, itself (a rewrap wraps it again), and what wraps DEKs."""

    id: bytes
    secret: Secret
    wrapping: Secret

    @classmethod
    def of(cls, secret: Secret) -> Kek:
        """
        Raises:
            KeyMismatch: It has not the length of a KEK.
        """
        if len(secret) != hierarchy.KEY_BYTES:
            raise KeyMismatch(f"what the key unwrapped has {len(secret)} bytes and is no KEK")
        return cls(hierarchy.kek_id(secret), secret, hierarchy.kek_wrap_key(secret))


class WritingKek:
    """The KEK that new files go under, with exact counts of what it holds.

    Args:
        kek: The KEK.
        recipients: It, wrapped to each recipient.
        masters: The kids of those recipients when it was made.
        limits: How much it may hold, and until when.
        now: The time at which it was made.
    """

    __slots__ = (
        "_lock", "bytes", "check_at", "files", "kek", "masters", "max_bytes", "max_files",
        "member", "recipients", "until",
    )  # fmt: skip

    def __init__(
        self,
        kek: Kek,
        recipients: tuple[WrappedKey, ...],
        masters: tuple[str, ...],
        limits: Limits,
        now: float,
    ) -> None:
        self.kek = kek
        self.recipients = recipients
        self.masters = masters
        self.member = member_of(kek.id, recipients, limits.header_size)
        self.files = 0
        self.bytes = 0
        self.max_files = limits.kek_files
        self.max_bytes = limits.kek_bytes
        self.until = now + limits.kek_age
        self.check_at = now + limits.refresh
        self._lock = threading.Lock()

    def take(self, now: float) -> bool:
        """Count one file, unless a limit is reached or the recipients are due to be looked up."""
        with self._lock:
            if (
                self.files >= self.max_files
                or self.bytes >= self.max_bytes
                or now >= self.until
                or now >= self.check_at
            ):
                return False
            self.files += 1
            return True

    def count_bytes(self, count: int) -> None:
        """Add to the plaintext bytes under this KEK."""
        with self._lock:
            self.bytes += count

    def usable(self, now: float) -> bool:
        """Whether only the look-up of its recipients may be due."""
        return self.files < self.max_files and self.bytes < self.max_bytes and now < self.until


def member_of(kek_id: bytes, recipients: Sequence[WrappedKey], header_size: int) -> bytes:
    """The `kek` member of a header.

    Raises:
        LimitExceeded: A header of ``header_size`` bytes does not hold it, with the least context.
    """
    member = jose.dumps(
        {"id": jose.b64u_encode(kek_id), "recipients": [r.to_json() for r in recipients]}
    )
    keys = header.keys_json(member, bytes(hierarchy.WRAPPED_DEK_BYTES))
    header.check_size(keys, len(header.bound_json({})), header_size)
    return member


class Keks:
    """All KEKs of one key ring configuration in this process.

    Args:
        identity: Tells this configuration's calls from those of others.
        settings: By scheme, as the drivers resolved them.
        encrypt_to: The recipients of new KEKs.
        limits: All bounds.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        identity: str,
        settings: Mapping[str, Mapping[str, Any]],
        encrypt_to: Sequence[str],
        limits: Limits,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._identity = identity
        self._settings = settings
        self._encrypt_to = tuple(encrypt_to)
        self._limits = limits
        self._clock = clock
        self._writing: WritingKek | None = None
        many, lag = limits.kek_cache_size, limits.kek_cache_age
        self._opened: Cache[bytes, Kek] = Cache(many, lag, clock=clock)
        self._rewraps: Cache[tuple[bytes, str], WrappedKey] = Cache(many, lag, clock=clock)
        self._ids: Cache[bytes, bytes] = Cache(_REMEMBERED, lag, clock=clock)
        self._refusals: Cache[bytes, EnvelopeError] = Cache(
            _REMEMBERED, limits.negative_age, clock=clock
        )
        self._masters: Cache[str, MasterKey] = Cache(many, limits.refresh, clock=clock)

    # --- Looking keys up ------------------------------------------------------------------------

    def master(self, key: str, *, age: float | None = None) -> MasterKey:
        """The master key of that name.

        Args:
            key: With a version that one, else the newest.
            age: Seconds that a metered vault's earlier answer may be old; others are always asked.

        Raises:
            KeyNotFound, KeyUnusable, VaultUnavailable, LimitExceeded, ConfigurationError: As the
                driver and :mod:`envelope.caller` say.
        """
        resolver = self._resolver(key)
        if resolver.metered:
            known = self._masters.get(key, age=age)
            if known is not None:
                return known
        found = caller.current().call(
            key,
            "resolve",
            lambda: resolver.resolve(key),
            seconds=self._limits.deadline,
            allowance=self._allowance(key, resolver),
            share=self._identity,
        )
        if resolver.metered:
            self._masters.put(key, found)
        return found

    def newest(self, key: str) -> MasterKey:
        """The newest version of ``key``, looked up half a minute ago at most."""
        return self.master(key, age=_FRESH)

    def _resolver(self, key: str) -> KeyResolver:
        scheme = keyurl.scheme_of(key)
        return resolvers.resolver(scheme, self._settings[scheme])

    def _allowance(self, key: str, resolver: KeyResolver) -> Allowance | None:
        if not resolver.metered:
            return None
        name = keyurl.parse(key)
        vault = f"{name.scheme}://{name.host}" if name.host else name.scheme
        return Allowance(vault, self._limits.unwrap_rate, self._limits.failed_unwrap_rate)

    # --- Reading --------------------------------------------------------------------------------

    def opened(self, kek_id: bytes) -> Kek | None:
        """The KEK of that id, if a recipient of it was unwrapped not long ago."""
        return self._opened.get(kek_id)

    def unwrap_any(
        self, recipients: Sequence[tuple[WrappedKey, str]], claimed: bytes
    ) -> tuple[Kek, str]:
        """Unwrap the first recipient that can be, of :data:`MAX_CALLS` at most.

        Args:
            recipients: Each with the kid to call, in the order in which to try them.
            claimed: The KEK's id that the file states.

        Returns:
            The KEK, and the kid by which the file names the recipient.

        Raises:
            EnvelopeError: All failed; see :func:`_together` for which one this is.
        """
        failures: list[EnvelopeError] = []
        tried = recipients[:MAX_CALLS]
        for index, (wrapped, kid) in enumerate(tried):
            try:
                with caller.share_of_deadline(len(tried) - index):
                    return self.unwrap(wrapped, kid, claimed), wrapped.kid
            except EnvelopeError as error:
                failures.append(error)
        raise _together(failures, len(recipients) - len(tried)) from failures[0]

    def unwrap(self, wrapped: WrappedKey, kid: str, claimed: bytes) -> Kek:
        """Unwrap a recipient, and keep the KEK if it is the one claimed (reader step 8).

        What a wrapped key was found to hold is remembered by the wrapped key,
        never by the claimed id: an honest id beside a garbage key must not
        block honest files, nor an honest wrapped key beside a forged id.

        Args:
            wrapped: The recipient, as the file has it.
            kid: The configured key's version that it is matched to; this one is called.
            claimed: The KEK's id that the file states.

        Raises:
            KeyMismatch: It holds another key, nothing, or names an algorithm that is not the key's.
            KeyNotFound, KeyUnusable, VaultUnavailable, LimitExceeded: See :meth:`master`.
        """
        digest = _digest(wrapped)
        refusal = self._refusals.get(digest)
        if refusal is not None:
            raise copy.copy(refusal)
        known = self._ids.get(digest)
        if known is not None and known != claimed:
            raise _other_kek(kid)
        resolver = self._resolver(kid)
        allowance = self._allowance(kid, resolver)
        try:
            master = self.master(kid)
            self._check(master, wrapped, kid)
            kek = caller.current().call(
                kid,
                "unwrap",
                lambda: Kek.of(master.unwrap(_for(master, wrapped), aad=claimed)),
                seconds=self._limits.deadline,
                allowance=allowance,
                share=(self._identity, digest),
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
            raise _other_kek(kid)
        self._opened.put(claimed, kek)
        return kek

    def _check(self, master: MasterKey, wrapped: WrappedKey, kid: str) -> None:
        """The configured key's type fixes the algorithm; its driver fixes the version."""
        if master.alg != wrapped.alg:
            raise KeyMismatch(
                f"the file says {wrapped.alg}, and this key is used with {master.alg}", kid=kid
            )
        if keyurl.parse(master.kid) != keyurl.parse(kid):
            raise KeyMismatch("the file does not name an exact version of this key", kid=kid)

    # --- Writing --------------------------------------------------------------------------------

    def writing(self) -> WritingKek:
        """The KEK for one more file, which is counted; a fresh one where a limit is reached."""
        while True:
            writing = self._writing
            if writing is not None and writing.take(self._clock()):
                return writing
            caller.current().flights.share((self._identity, "writing"), self._renew)

    def look_again(self) -> None:
        """Let the next file see the newest versions, even before ``limits.refresh`` is over."""
        writing = self._writing
        if writing is not None:
            writing.check_at = self._clock()

    def _renew(self) -> None:
        """Look the recipients up; make a fresh KEK where a limit or a new version asks for it."""
        before, now = self._writing, self._clock()
        usable = before is not None and before.usable(now)
        if before is not None and usable and now < before.check_at:
            return  # another thread was here in between
        if before is not None:
            before.check_at = now + self._limits.refresh  # the other threads write on meanwhile
        try:
            masters = self.recipients()
        except EnvelopeError as error:
            if usable and error.retryable:
                return  # an outage of the vault does not stop those who have a KEK
            if before is not None:
                before.check_at = now
            raise
        if before is not None and usable and before.masters == tuple(m.kid for m in masters):
            return
        self._writing = self._made(masters)

    def recipients(self) -> list[MasterKey]:
        """The newest versions of all recipients, each once."""
        found: dict[keyurl.KeyName, MasterKey] = {}
        for key in self._encrypt_to:
            master = self.newest(key)
            found.setdefault(keyurl.parse(master.kid), master)
        return list(found.values())

    def _made(self, masters: Sequence[MasterKey]) -> WritingKek:
        kek = Kek.of(Secret.random(hierarchy.KEY_BYTES))
        wrapped = tuple(self._wrap(kek, master) for master in masters)
        emit(KekCreated(jose.b64u_encode(kek.id), tuple(w.kid for w in wrapped)))
        kids = tuple(master.kid for master in masters)
        return WritingKek(kek, wrapped, kids, self._limits, self._clock())

    def _wrap(self, kek: Kek, master: MasterKey) -> WrappedKey:
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

    # --- Rewrapping -----------------------------------------------------------------------------

    def rewrapped(self, kek: Kek, master: MasterKey) -> WrappedKey:
        """``kek`` wrapped to ``master``: one call for all the files of a KEK."""
        key = (kek.id, master.kid)

        def wrap() -> WrappedKey:
            found = self._rewraps.get(key)
            if found is None:
                found = self._wrap(kek, master)
                self._rewraps.put(key, found)
            return found

        return self._rewraps.get(key) or caller.current().flights.share(
            (self._identity, "rewrap", *key), wrap
        )

    def proven(self, wrapped: WrappedKey, kek_id: bytes) -> bool:
        """Whether this wrapped key was really unwrapped to that KEK, not only found in a cache."""
        return self._ids.get(_digest(wrapped)) == kek_id


def _digest(wrapped: WrappedKey) -> bytes:
    """What a wrapped key is remembered by. An algorithm with AAD would need the KEK's id in it."""
    return sha256(jose.dumps({**_known_part(wrapped).to_json()})).digest()


def _known_part(wrapped: WrappedKey) -> WrappedKey:
    """The recipient without members that its algorithm does not take, which a forger can vary."""
    names = ALGORITHMS.get(wrapped.alg, ())
    params = {name: text for name, text in wrapped.params.items() if name in names}
    return WrappedKey(wrapped.kid, wrapped.alg, wrapped.encrypted_key, params)


def _for(master: MasterKey, wrapped: WrappedKey) -> WrappedKey:
    """The recipient under the name by which its key is called, which an alias may have changed."""
    cleaned = _known_part(wrapped)
    return WrappedKey(master.kid, cleaned.alg, cleaned.encrypted_key, cleaned.params)


def _together(failures: Sequence[EnvelopeError], untried: int) -> EnvelopeError:
    """One error that reports all failures.

    It is the one that passes by itself, where there is one: trying again may
    help. Else it is one that left the question open, else the first.
    """
    chosen = min(failures, key=lambda e: (not e.retryable, not isinstance(e, LimitExceeded)))
    if len(failures) == 1 and not untried:
        return chosen
    said = [f"{e.kid}: {e.message or type(e).__name__} [{type(e).code}]" for e in failures]
    if untried:
        said.append(f"{untried} more recipients were not tried")
    error = copy.copy(chosen)
    error.message = f"no recipient could be used ({'; '.join(said)})"
    error.args = (error.message,)
    return error


def _other_kek(kid: str) -> KeyMismatch:
    return KeyMismatch("the key that it unwraps is not the one that the header claims", kid=kid)
