"""One store with its policy: everything that is done to it, for plaintext paths."""

from __future__ import annotations

from envelope import caller, message
from envelope.message import Outgoing
from envelope.ring import Grant
from envelope.sealing import seal_run
from envelope_fsspec.listing import Listing
from envelope_fsspec.policy import Domain
from envelope_fsspec.ranges import Ranges
from envelope_fsspec.steps import Steps, Work
from envelope_fsspec.stored import QUICK

__all__ = ["Target"]


class Target(Listing, Ranges):
    """See the module. It describes and reads by what it is made of, and seals."""

    def begin(
        self, path: str, domain: Domain | None = None, grant: Grant | None = None
    ) -> Outgoing:
        """A fresh message for a path; may call the vault, unless it is given the ring's grant."""
        domain = domain or self.domain(path)
        length = self.policy.layout.segment_length
        with caller.deadline(self.policy.timeout):
            return message.begin(domain.ring, domain.context, segment_length=length, grant=grant)

    def sealed(self, path: str, plain: bytes | memoryview) -> Steps[bytes]:
        """The stored bytes of a small file."""
        domain = self.domain(path)
        if len(plain) <= QUICK and (grant := domain.ring.grant_now()) is not None:
            return self.sealed_now(path, plain, domain, grant)
        stored: bytes = yield Work(lambda: self.sealed_now(path, plain, domain))
        return stored

    def sealed_now(
        self,
        path: str,
        plain: bytes | memoryview,
        domain: Domain | None = None,
        grant: Grant | None = None,
    ) -> bytes:
        """As :meth:`sealed`, on this thread."""
        outgoing = self.begin(path, domain, grant)
        view = memoryview(plain).cast("B")
        stored = bytearray(outgoing.layout.stored_size(len(view)))
        stored[: len(outgoing.prefix)] = outgoing.prefix
        seal_run(outgoing.sealer, 0, True, view, memoryview(stored)[len(outgoing.prefix) :])
        outgoing.grant.count_bytes(len(view))
        return bytes(stored)
