"""KEKs in a process: the opened ones, and the one that new files go under.

One :class:`Keks` belongs to one key ring configuration and knows no policy.
What it keeps is bounded by size and by age, never leaves the process, and
starts afresh in a forked child. docs/keys.md argues the bounds.
"""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from envelope import caller, header, hierarchy, jose, keyurl
from envelope.caches import Cache
from envelope.errors import EnvelopeError, KeyDisabled, KeyExpired, KeyNotFound, LimitExceeded
from envelope.events import KekCreated, emit
from envelope.keys import MasterKey, WrappedKey
from envelope.limits import Limits
from envelope.masters import Kek, Masters
from envelope.secret import Secret
from envelope.trust import Trust

if TYPE_CHECKING:
    from envelope.signers import Signers

__all__ = ["MAX_CALLS", "Keks", "WritingKek", "member_of"]

MAX_CALLS = 3
"""Recipients of one header that are tried at most (reader step 8)."""


class WritingKek:
    """The KEK that new files go under, with exact counts of what it holds.

    Args:
        kek: The KEK.
        recipients: It, wrapped to each recipient.
        masters: The kids of those recipients when it was made.
        limits: How much it may hold, and until when.
        now: The time at which it was made.
        signature: Who made it, if that is to be proven.
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
        signature: str | None = None,
    ) -> None:
        self.kek = kek
        self.recipients = recipients
        self.masters = masters
        self.member = member_of(kek.id, recipients, limits.header_size, signature)
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


class Keks:
    """All KEKs of one key ring configuration in this process.

    Args:
        identity: Tells this configuration's calls from those of others.
        settings: By scheme, as the drivers resolved them.
        encrypt_to: The recipients of new KEKs.
        limits: All bounds.
        sign_with: The key that signs new KEKs.
        signed_by: The signers that a file's KEK has to be signed by; none: it need not be.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        identity: str,
        settings: Mapping[str, Mapping[str, Any]],
        encrypt_to: Sequence[str],
        limits: Limits,
        *,
        sign_with: str | None = None,
        signed_by: Trust | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.masters = Masters(identity, settings, limits, clock=clock)
        self.signers: Signers | None = None
        if sign_with is not None or (signed_by is not None and signed_by.patterns):
            from envelope.signers import Signers  # most rings neither sign nor ask who signed

            trusted = signed_by or Trust((), {})
            self.signers = Signers(self.masters, sign_with, trusted, limits, clock=clock)
        self._identity = identity
        self._encrypt_to = tuple(encrypt_to)
        self._limits = limits
        self._clock = clock
        self._writing: WritingKek | None = None
        self._rewraps: Cache[tuple[bytes, str], WrappedKey] = Cache(
            limits.kek_cache_size, limits.kek_cache_age, clock=clock
        )

    # --- Reading --------------------------------------------------------------------------------

    def unwrap(
        self, recipients: Sequence[tuple[WrappedKey, str]], claimed: bytes
    ) -> tuple[Kek, str]:
        """Unwrap the first recipient that can be, of :data:`MAX_CALLS` at most.

        Args:
            recipients: Each with the kid to call, in the order in which to try them.
            claimed: The KEK's id that the file states.

        Returns:
            The KEK, and the kid by which the file names the recipient.

        Raises:
            EnvelopeError: All failed. It reports all; it is of the class of one that passes by
                itself, else of one that left the question open, else of the first.
        """
        failures: list[EnvelopeError] = []
        tried = recipients[:MAX_CALLS]
        for index, (wrapped, kid) in enumerate(tried):
            try:
                with caller.share_of_deadline(len(tried) - index):
                    kek = self.masters.unwrap(wrapped, kid, claimed)
            except EnvelopeError as error:
                if len(recipients) == 1:
                    raise
                failures.append(error)
            else:
                return kek, wrapped.kid
        raise _together(failures, len(recipients) - len(tried)) from failures[0]

    # --- Writing --------------------------------------------------------------------------------

    def writing(self) -> WritingKek:
        """The KEK for one more file, which is counted; a fresh one where a limit is reached."""
        while True:
            writing = self.writing_now()
            if writing is not None:
                return writing
            caller.current().flights.share((self._identity, "writing"), self._renew)

    def writing_now(self) -> WritingKek | None:
        """The KEK for one more file, which is counted, if there is one that needs no call."""
        writing = self._writing
        return writing if writing is not None and writing.take(self._clock()) else None

    def look_again(self) -> None:
        """Let the next file see the newest versions, even before ``limits.refresh`` is over."""
        writing = self._writing
        if writing is not None:
            writing.check_at = self._clock()

    def forget(self) -> None:
        """Drop all KEKs and what is known of master keys; the next use asks for them."""
        self._writing = None
        self._rewraps.clear()
        self.masters.forget()

    def recipients(self, *, now: bool = False) -> list[MasterKey]:
        """The newest versions of all recipients, each once; ``now``: as the vault has them now."""
        found: dict[keyurl.KeyName, MasterKey] = {}
        for key in self._encrypt_to:
            master = self.masters.find(key, age=0) if now else self.masters.newest(key)
            found.setdefault(keyurl.parse(master.kid), master)
        return list(found.values())

    def _renew(self) -> None:
        """Look the recipients up; make a fresh KEK where a limit or a new version asks for it."""
        before, now = self._writing, self._clock()
        usable = before is not None and before.usable(now)
        if before is not None and usable:
            if now < before.check_at:
                return  # another thread was here in between
            before.check_at = now + self._limits.refresh  # the others write on meanwhile
        try:
            masters = self.recipients()
        except EnvelopeError as error:
            if before is not None and usable:
                if error.retryable:
                    return  # an outage of the vault does not stop those who have a KEK
                before.check_at = now
            raise
        if before is None or not usable or before.masters != tuple(m.kid for m in masters):
            self._writing = self._made_by(masters)

    def _made_by(self, masters: Sequence[MasterKey]) -> WritingKek:
        try:
            return self._made(masters)
        except (KeyDisabled, KeyExpired, KeyNotFound):
            # A metered vault was asked for its newest versions a moment ago, and one of them has
            # been taken out of service since.
            looked_up = self.recipients(now=True)
            if [master.kid for master in looked_up] == [master.kid for master in masters]:
                raise
        return self._made(looked_up)

    def _made(self, masters: Sequence[MasterKey]) -> WritingKek:
        kek = Kek.of(Secret.random(hierarchy.KEY_BYTES))
        wrapped = tuple(self.masters.wrap(kek, master) for master in masters)
        kids = tuple(master.kid for master in masters)
        signature = None
        if self.signers is not None and self.signers.signs:
            signature = self.signers.sign(kek.id, [each.kid for each in wrapped])
        made = WritingKek(kek, wrapped, kids, self._limits, self._clock(), signature)
        emit(KekCreated(jose.b64u_encode(kek.id), tuple(w.kid for w in wrapped)))
        return made

    # --- Rewrapping -----------------------------------------------------------------------------

    def rewrapped(self, kek: Kek, master: MasterKey) -> WrappedKey:
        """``kek`` wrapped to ``master``: one call for all the files of a KEK."""
        key = (kek.id, master.kid)

        def wrap() -> WrappedKey:
            found = self._rewraps.get(key)
            if found is None:
                found = self.masters.wrap(kek, master)
                self._rewraps.put(key, found)
            return found

        return self._rewraps.get(key) or caller.current().flights.share(
            (self._identity, "rewrap", *key), wrap
        )


def member_of(
    kek_id: bytes,
    recipients: Sequence[WrappedKey],
    header_size: int,
    signature: str | None = None,
) -> bytes:
    """The `kek` member of a header.

    Raises:
        LimitExceeded: A header of ``header_size`` bytes does not hold it, with the least context.
    """
    value: dict[str, Any] = {"id": jose.b64u_encode(kek_id)}
    value["recipients"] = [recipient.to_json() for recipient in recipients]
    if signature is not None:
        value["signature"] = signature
    member = jose.dumps(value)
    keys = header.keys_json(member, bytes(hierarchy.WRAPPED_DEK_BYTES))
    header.check_size(keys, len(header.bound_json({})), header_size)
    return member


def _together(failures: Sequence[EnvelopeError], untried: int) -> EnvelopeError:
    """One error that reports all failures."""
    chosen = min(failures, key=lambda e: (not e.retryable, not isinstance(e, LimitExceeded)))
    said = [f"{e.kid}: {e.message or type(e).__name__} [{e.code}]" for e in failures]
    if untried:
        said.append(f"{untried} more recipients were not tried")
    error = copy.copy(chosen)
    error.message = f"no recipient could be used ({'; '.join(said)})"
    error.args = (error.message,)
    return error
