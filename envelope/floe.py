"""FLOE: sealing and opening single segments (https://c2sp.org/FLOE). Pure.

Parameters here are AEAD 0 (AES-256-GCM), KDF 0 (HKDF-Expand-SHA-384), IV length
32, and any segment length; the profile of docs/format.md is enforced by whoever
calls with ``profile=True``. Randomness enters as an argument, for known answers.

A message key is never used itself: each run of 2^20 segments has a key of its
own, so that no AES-GCM key sees more than 2^20 random IVs.
"""

from __future__ import annotations

import os
import struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.constant_time import bytes_eq
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from envelope.errors import Tampered, Truncated
from envelope.offsets import FLOE_HEADER_SIZE, SEGMENT_OVERHEAD
from envelope.secret import Secret

__all__ = ["MAX_SEGMENTS", "ROTATION_BITS", "Opener", "Sealer", "in_profile", "segment_length_of"]

ROTATION_BITS = 20
MAX_SEGMENTS = 2**40
MIN_SEGMENT_LENGTH = 4096
MAX_SEGMENT_LENGTH = 16 * 2**20

_IV_LENGTH = 32
_PARAMETERS = struct.Struct(">BBII")  # AEAD id, KDF id, encrypted segment length, IV length
_AAD = struct.Struct(">QB")  # position, is it the last
_NOT_LAST = b"\xff\xff\xff\xff"
_SHA384 = SHA384()

Buffer = bytes | bytearray | memoryview


def segment_length_of(floe_header: bytes) -> int:
    """Reader step 10, first half: the segment length, if the parameters are in the profile.

    Raises:
        Tampered: They are not.
        Truncated: The header is cut.
    """
    if len(floe_header) < FLOE_HEADER_SIZE:
        raise Truncated("the file ends inside its FLOE header")
    aead, kdf, length, iv_length = _PARAMETERS.unpack_from(floe_header)
    if (aead, kdf, iv_length) != (0, 0, _IV_LENGTH) or not in_profile(length):
        raise Tampered("the FLOE parameters are not those of this format")
    return int(length)


def in_profile(segment_length: int) -> bool:
    """Whether docs/format.md allows this segment length: a power of two in [4096, 16777216]."""
    power_of_two = segment_length & (segment_length - 1) == 0
    return power_of_two and MIN_SEGMENT_LENGTH <= segment_length <= MAX_SEGMENT_LENGTH


class _Message:
    """What sealing and opening share: the message key, and the segment keys derived from it."""

    def __init__(self, key: Secret, aad: bytes, prefix: bytes, rotation_bits: int) -> None:
        self._prefix = prefix  # encoded parameters and FLOE IV
        self._aad = aad
        self._message_key = Secret(self._kdf(key, b"MESSAGE_KEY:", 48))
        self._rotation_bits = rotation_bits
        self._cipher: tuple[int, AESGCM] = (-1, AESGCM(bytes(32)))

    def _kdf(self, key: Secret, purpose: bytes, length: int) -> bytes:
        return HKDFExpand(_SHA384, length, self._prefix + purpose + self._aad).derive(key.reveal())

    def _cipher_for(self, position: int) -> AESGCM:
        """The cipher of the rotation period of ``position``.

        Several threads may replace the pair at the same time; each takes what it made or
        found, and both are right, since the pair is read and written as one.
        """
        period = position >> self._rotation_bits
        held, cipher = self._cipher
        if held != period:
            first = struct.pack(">Q", period << self._rotation_bits)
            cipher = AESGCM(self._kdf(self._message_key, b"DEK:" + first, 32))
            self._cipher = (period, cipher)
        return cipher


class Sealer(_Message):
    """Seals the segments of one message, in any order and from several threads.

    No position may be sealed twice and exactly one segment is the last: the
    callers in :mod:`envelope.sealing` see to it.

    Args:
        key: 32 bytes, used for this message only.
        aad: Authenticated with every segment, stored nowhere.
        segment_length: S in bytes, overhead included.
        iv: The FLOE IV, 32 random bytes; given only for known answers.
        rotation_bits: log2 of the segments under one key; other than 20 only in known answers.
    """

    def __init__(
        self,
        key: Secret,
        aad: bytes,
        segment_length: int,
        *,
        iv: bytes | None = None,
        rotation_bits: int = ROTATION_BITS,
    ) -> None:
        parameters = _PARAMETERS.pack(0, 0, segment_length, _IV_LENGTH)
        super().__init__(key, aad, parameters + (iv or os.urandom(_IV_LENGTH)), rotation_bits)
        self.segment_length = segment_length
        self.header = self._prefix + self._kdf(key, b"HEADER_TAG:", 32)

    def seal_into(
        self, position: int, last: bool, plain: Buffer, out: memoryview, iv: bytes | None = None
    ) -> int:
        """Seal one segment into ``out``.

        Args:
            position: The segment's number, from 0.
            last: Whether it is the message's last.
            plain: Its plaintext: the full capacity, or less in the last one.
            out: Room for the segment; must not overlap ``plain``.
            iv: 12 random bytes; given only for known answers.

        Returns:
            The bytes written: ``len(plain) + 32``.
        """
        length = len(plain) + SEGMENT_OVERHEAD
        if length > self.segment_length or (length < self.segment_length and not last):
            raise ValueError("a segment that is not the last must be full")
        if not 0 <= position < MAX_SEGMENTS - (not last):
            raise ValueError("a FLOE message has at most 2^40 segments")
        iv = iv or os.urandom(12)
        out[:4] = length.to_bytes(4, "big") if last else _NOT_LAST
        out[4:16] = iv
        aad = _AAD.pack(position, last)
        self._cipher_for(position).encrypt_into(iv, plain, aad, out[16:length])
        return length


class Opener(_Message):
    """Opens the segments of one message, in any order and from several threads.

    Args:
        key: 32 bytes.
        aad: As at sealing.
        header: The 74 bytes of the FLOE header.
        rotation_bits: log2 of the segments under one key; other than 20 only in known answers.

    Raises:
        Tampered: The header's tag does not hold (reader step 10).
    """

    def __init__(
        self, key: Secret, aad: bytes, header: bytes, *, rotation_bits: int = ROTATION_BITS
    ) -> None:
        if len(header) != FLOE_HEADER_SIZE or header[:2] != b"\0\0":
            raise Tampered("the FLOE header is not one of this format")
        _, _, self.segment_length, iv_length = _PARAMETERS.unpack_from(header)
        if iv_length != _IV_LENGTH or self.segment_length <= SEGMENT_OVERHEAD:
            raise Tampered("the FLOE parameters are not those of this format")
        self.header = bytes(header)
        super().__init__(key, aad, header[:-32], rotation_bits)
        if not bytes_eq(self._kdf(key, b"HEADER_TAG:", 32), header[-32:]):
            raise Tampered("the FLOE header's tag does not hold")

    def open_into(self, position: int, last: bool, segment: Buffer, out: memoryview) -> int:
        """Open one segment into ``out`` (reader step 12).

        Args:
            position: The segment's number, from 0.
            last: Whether the stored bytes end with it.
            segment: A private copy of its stored bytes.
            out: Private room for ``len(segment) - 32`` bytes; must not overlap ``segment``.
                After a failure it may hold unauthenticated plaintext, and must not be released.

        Returns:
            The bytes of plaintext.

        Raises:
            Truncated: It says that it is not the last, and the stored bytes end with it.
            Tampered: It is not the segment that was sealed for this position.
        """
        length = len(segment)
        if length < SEGMENT_OVERHEAD or length > self.segment_length:
            raise Truncated(f"{self._named(position, length)} is cut")
        field = bytes(segment[:4])
        if last:
            if field == _NOT_LAST:
                raise Truncated(f"the file ends with segment {position}, which is not its last")
            if int.from_bytes(field, "big") != length:
                raise self._wrong_length(position, int.from_bytes(field, "big"), length)
        elif field != _NOT_LAST or length != self.segment_length:
            raise Tampered(
                f"{self._named(position, length)} says that it is the last, and more bytes follow"
            )
        aad = _AAD.pack(position, last)
        plain = out[: length - SEGMENT_OVERHEAD]
        try:
            return self._cipher_for(position).decrypt_into(segment[4:16], segment[16:], aad, plain)
        except InvalidTag:
            raise Tampered(f"{self._named(position, length)} does not hold") from None

    def _named(self, position: int, length: int) -> str:
        """The segment with its plaintext range, which is what a person can look for."""
        start = position * (self.segment_length - SEGMENT_OVERHEAD)
        end = start + max(length - SEGMENT_OVERHEAD, 1) - 1
        return f"segment {position} (plaintext bytes {start} to {end})"

    def _wrong_length(self, position: int, says: int, length: int) -> Tampered | Truncated:
        """A last segment that can be as long as it says was cut; any other was changed."""
        if length < says <= self.segment_length:
            return Truncated(f"segment {position}, the last, is cut")
        return Tampered(f"segment {position}, the last, is not as long as it says")
