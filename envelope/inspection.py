"""Looking at encrypted files: what a header claims, and whether all of a file holds."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from envelope import caller, events, floe, jws, message, strength
from envelope import context as contexts
from envelope.errors import EnvelopeError, Malformed, OriginNotProven, UntrustedKey
from envelope.jose import b64u_encode
from envelope.jws import Claims
from envelope.offsets import Layout
from envelope.opening import Opening
from envelope.ring import KeyRing, as_ring
from envelope.sources import Location, OnProgress, Source, counter, open_source
from envelope.workers import DEFAULT_THREADS

__all__ = ["Inspection", "Verification", "inspect", "verify"]


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a file claims. Nothing of it is verified: anybody may have written it.

    Args:
        source: The path, URL or name of the file.
        stored_size: Its size in bytes; ``None`` on a pipe.
        size: The plaintext's size, by arithmetic; ``None`` on a pipe.
        header_size, segment_length: The geometry in bytes.
        context: The encryption context.
        created, writer: What the writer said of itself.
        kek_id: The id of the KEK, base64url: the same for all files that share one.
        recipients: ``(kid, alg)`` of each master key that can open the file.
        strengths: Of each of these, about how many bits of security; ``None``: not known.
        keyset: The opaque id of a keyset, base64url, or ``None``.
        signed: Whether a signature is there.
        signature: What it says, where it has the documented form.
        origin: ``verified`` where a key ring that requires signatures was given and it holds,
            ``refused`` where it does not, else ``unverified``.
        origin_refused: Why it was refused.
    """

    source: str
    stored_size: int | None
    size: int | None
    header_size: int
    segment_length: int
    context: Mapping[str, str]
    created: str | None
    writer: str | None
    kek_id: str
    recipients: tuple[tuple[str, str], ...]
    strengths: tuple[int | None, ...]
    keyset: str | None
    signed: bool
    signature: Claims | None = None
    origin: str = "unverified"
    origin_refused: str | None = None

    def to_json(self) -> dict[str, Any]:
        """One JSON object; docs/schema/inspect.json describes it."""
        return {
            "source": self.source,
            "verified": False,
            "format": "envelope/1",
            "stored_size": self.stored_size,
            "size": self.size,
            "header_size": self.header_size,
            "segment_length": self.segment_length,
            "context": dict(self.context),
            "created": self.created,
            "writer": self.writer,
            "kek_id": self.kek_id,
            "recipients": [
                {"kid": kid, "alg": alg, "strength": bits}
                for (kid, alg), bits in zip(self.recipients, self.strengths, strict=True)
            ],
            "keyset": self.keyset,
            "signed": self.signed,
            "signature": None if self.signature is None else _signature(self.signature),
            "origin": self.origin,
            "origin_refused": self.origin_refused,
        }


@dataclass(frozen=True, slots=True)
class Verification:
    """A file of which every byte was authenticated. ``kid`` opened it; ``None``: the cache did.

    ``signer`` has signed its KEK; ``None``: the key ring requires no signature.
    """

    source: str
    size: int
    stored_size: int
    seconds: float
    context: Mapping[str, str]
    kek_id: str
    kid: str | None
    recipients: tuple[str, ...]
    signer: str | None = None

    def to_json(self) -> dict[str, Any]:
        """One JSON object; docs/schema/verify.json describes it."""
        return {
            "source": self.source,
            "verified": True,
            "size": self.size,
            "stored_size": self.stored_size,
            "seconds": self.seconds,
            "context": dict(self.context),
            "kek_id": self.kek_id,
            "kid": self.kid,
            "recipients": list(self.recipients),
            "signer": self.signer,
        }


def inspect(
    source: Location,
    *,
    keys: Any = None,
    storage_options: Mapping[str, Any] | None = None,
) -> Inspection:
    """What a file's header claims. Needs no key, and proves nothing.

    Args:
        source: A path, a URL, or a binary file object.
        keys: A KeyRing that requires signatures: whether the file's holds is then told. It says
            who made the KEK and which keys it is for, and still nothing about the rest.
        storage_options: Passed to fsspec for a URL.

    Raises:
        NotEncrypted, UnsupportedFormat, Malformed, Truncated, Tampered: The header is none.
        VaultUnavailable, AccessDenied: The signer's public key could not be fetched.
    """
    ring = None if keys is None else as_ring(keys)
    with closing(open_source(source, storage_options)) as stored:
        try:
            return _claims(stored, ring)
        except EnvelopeError as error:
            raise message.explained(error, stored) from None


def _claims(stored: Source, ring: KeyRing | None) -> Inspection:
    header, start = message.read_header(stored)
    origin, refused = "unverified", None
    if ring is not None and ring.require_signed:
        try:
            ring.signer_of(header)
            origin = "verified"
        except (OriginNotProven, UntrustedKey) as error:
            origin, refused = "refused", error.message
    layout = Layout(header.size, floe.segment_length_of(start[header.size :]))
    keys = header.keys
    return Inspection(
        source=stored.name,
        stored_size=stored.size,
        size=None if stored.size is None else layout.plain_size(stored.size),
        header_size=header.size,
        segment_length=layout.segment_length,
        context=dict(header.context),
        created=header.created,
        writer=header.writer,
        kek_id=b64u_encode(keys.kek_id),
        recipients=tuple((wrapped.kid, wrapped.alg) for wrapped in keys.recipients),
        strengths=tuple(map(strength.of_recipient, keys.recipients)),
        keyset=None if keys.keyset is None else b64u_encode(keys.keyset),
        signed=keys.signature is not None,
        signature=_parsed(keys.signature),
        origin=origin,
        origin_refused=refused,
    )


def _parsed(signature: str | None) -> Claims | None:
    try:
        return None if signature is None else jws.parse(signature)
    except Malformed:
        return None


def _signature(claims: Claims) -> dict[str, Any]:
    return {
        "kid": claims.kid,
        "alg": claims.alg,
        "aud": list(claims.audience),
        "iat": claims.issued_at,
    }


def verify(
    source: Location,
    *,
    keys: Any = None,
    context: Mapping[str, str] | None = None,
    threads: int = DEFAULT_THREADS,
    timeout: float | None = None,
    on_progress: OnProgress | None = None,
    bind_path: str | os.PathLike[str] | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> Verification:
    """Authenticate a whole file without writing its plaintext anywhere.

    Args:
        source: A path, a URL, or a binary file object.
        keys: A KeyRing, a key URL, a list of them, or nothing: the configuration.
        context: Pairs that must be in the authenticated context and equal.
        threads: How many threads open segments at most.
        timeout: Seconds for calls of a vault; ``None`` for the ring's limit.
        on_progress: Called with the plaintext bytes done, and those in all.
        bind_path: A folder; the path relative to it must be the one that was bound.
        storage_options: Passed to fsspec for a URL.

    Raises:
        Tampered, Truncated: The message names the first bad segment and its plaintext range.
        EnvelopeError: See docs/errors.md.
    """
    started = time.perf_counter()
    pairs = contexts.expected(context, source, bind_path)
    ring = as_ring(keys)
    with closing(open_source(source, storage_options)) as stored:
        with caller.deadline(timeout):
            # The end comes last here, so that the first bad segment is the one reported.
            incoming = message.accept(stored, ring, pairs, prove_end=False)
        count = counter(on_progress, incoming.plain_size)
        with Opening(incoming, stored, threads) as opening:
            size, body = opening.transfer(None, count)
        stored_size = incoming.layout.body + body
        stored.check_unchanged()
    seconds = time.perf_counter() - started
    kek_id = b64u_encode(incoming.access.kek_id)
    events.emit(events.FileFinished("verify", stored.name, size, stored_size, seconds, kek_id))
    return Verification(
        stored.name,
        size,
        stored_size,
        seconds,
        dict(incoming.header.context),
        kek_id,
        incoming.access.kid,
        tuple(wrapped.kid for wrapped in incoming.header.keys.recipients),
        incoming.access.signer,
    )
