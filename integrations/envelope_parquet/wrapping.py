"""A data key of Parquet, wrapped by a key ring: what stands in ``wrappedDEK``. Pure but for calls.

It is the `keys` object of docs/format.md with two members more (docs/parquet.md,
"Key material"). The DEK of the ring's hierarchy does not encrypt data here: a key
derived from it and from the context wraps Parquet's data key. So a rewrap changes
`kek` and `dek` as it does in any file, and needs neither the data key nor the context.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from hashlib import sha256

from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap

from envelope import context as contexts
from envelope import header, jose
from envelope.errors import Malformed, Tampered, UnsupportedFormat
from envelope.header import Header, KeySection
from envelope.ring import KeyRing, Rekeyed
from envelope.secret import Secret

__all__ = ["DATA_KEY_BYTES", "Wrapped", "parse", "rewrap", "unwrap", "wrap"]

DATA_KEY_BYTES = 32
_KEY_SIZES = (16, 24, DATA_KEY_BYTES)  # the shorter ones in files of others that were adopted
_LABEL = b"envelope/1 Parquet data key wrap A256KW\x00"
_ALG = "A256KW"


@dataclass(frozen=True, slots=True)
class Wrapped:
    """A parsed ``wrappedDEK``: claims, until :func:`unwrap` proved them."""

    section: KeySection
    context: Mapping[str, str]
    encrypted_key: bytes

    @property
    def kids(self) -> tuple[str, ...]:
        """The master keys that the KEK is wrapped to, as the file names them."""
        return tuple(recipient.kid for recipient in self.section.recipients)

    def as_header(self) -> Header:
        """As key rings take it: they look at `keys` alone."""
        return Header(b"", b"", self.context, None, None, self.section)


def wrap(ring: KeyRing, data_key: Secret, context: Mapping[str, str]) -> str:
    """The text of ``wrappedDEK`` for a data key: 256 bits, or as long as it is in an adopted file.

    Args:
        ring: Wraps; its KEK is shared by all files that this process writes.
        data_key: Parquet's key of a column or footer.
        context: Bound to it: who unwraps has to expect it.

    Raises:
        ContextMismatch: The ring requires an entry that ``context`` lacks.
        ConfigurationError, LimitExceeded, KeyNotFound, KeyUnusable, VaultUnavailable: See
            :meth:`envelope.KeyRing.grant`.
    """
    pairs = contexts.validated(context)
    contexts.check(pairs, None, ring.required_context)
    grant = ring.grant()
    wrapped = aes_key_wrap(_wrap_key(grant.dek, pairs).reveal(), data_key.reveal())
    more = {
        "context": pairs,
        "data_key": {"alg": _ALG, "encrypted_key": jose.b64u_encode(wrapped)},
    }
    return (grant.keys[:-1] + b"," + jose.dumps(more)[1:]).decode()


def parse(text: str) -> Wrapped:
    """The parts of a ``wrappedDEK`` that :func:`wrap` made, by itself or after a rewrap.

    Raises:
        UnsupportedFormat: Another program's, or a later release's.
        Malformed: A member is missing or wrong.
    """
    if not text.startswith("{"):
        raise UnsupportedFormat(
            "the data key was not wrapped by envelope but by a KMS client of another program",
            next_step="Read it with that program, or rewrap it there.",
        )
    section = header.parse_keys(text.encode(), "wrappedDEK")
    context, data_key = section.other.get("context"), section.other.get("data_key")
    if not isinstance(context, dict) or not isinstance(data_key, dict):
        raise Malformed("wrappedDEK has no objects `context` and `data_key`")
    if not all(isinstance(value, str) for value in context.values()):
        raise Malformed("a context value of wrappedDEK is not text")
    if data_key.get("alg") != _ALG:
        raise UnsupportedFormat("the data key is wrapped with an unknown algorithm")
    encrypted = jose.b64u_decode(data_key.get("encrypted_key"), "data_key.encrypted_key")
    if len(encrypted) - 8 not in _KEY_SIZES:
        raise Malformed("data_key.encrypted_key must hold 24, 32 or 40 bytes")
    return Wrapped(section, context, encrypted)


def unwrap(
    ring: KeyRing,
    wrapped: Wrapped,
    expected: Mapping[str, str] | None = None,
    required: Collection[str] | None = None,
) -> Secret:
    """The data key.

    Args:
        ring: Opens it.
        wrapped: From :func:`parse`.
        expected: Entries that its context must have.
        required: Names that its context must have; ``None`` for those that the ring requires.

    Raises:
        ContextMismatch: It is bound to another context; nobody was called.
        Tampered: It was not wrapped with this DEK and context.
        UntrustedKey, OriginNotProven, KeyMismatch, KeyNotFound, KeyUnusable, VaultUnavailable,
            LimitExceeded: See :meth:`envelope.KeyRing.open`.
    """
    needed = ring.required_context if required is None else required
    contexts.check(wrapped.context, expected, needed)
    dek = ring.open(wrapped.as_header()).dek
    try:
        key = aes_key_unwrap(_wrap_key(dek, wrapped.context).reveal(), wrapped.encrypted_key)
    except InvalidUnwrap:
        raise Tampered("a wrapped data key does not open with its context") from None
    return Secret(key)


def rewrap(
    ring: KeyRing, text: str, *, to: KeyRing | None = None, replace: bool = False
) -> tuple[str, Rekeyed]:
    """The text of ``wrappedDEK`` after a rotation; the data key and its context stay.

    Args:
        ring: Opens it.
        text: As it is.
        to: Wraps it again; ``None`` for the same ring.
        replace: Make the recipients those of ``to``. See :meth:`envelope.KeyRing.rekey`.

    Raises:
        UntrustedKey: See :func:`unwrap`, and the other errors there.
    """
    wrapped = parse(text)
    unwrap(ring, wrapped)  # nothing is carried on that does not hold
    parsed = wrapped.as_header()
    rekeyed = (to or ring).rekey(parsed, ring.open(parsed), replace=replace)
    return rekeyed.keys.decode(), rekeyed


def _wrap_key(dek: Secret, context: Mapping[str, str]) -> Secret:
    """The key that wraps the data key; another context makes another one."""
    digest = sha256()
    for name, value in sorted((n.encode(), v.encode()) for n, v in context.items()):
        for text in (name, value):
            digest.update(struct.pack(">I", len(text)) + text)
    label = _LABEL + digest.digest()
    return Secret(HKDFExpand(SHA384(), DATA_KEY_BYTES, label).derive(dek.reveal()))
