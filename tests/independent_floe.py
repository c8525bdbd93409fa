"""FLOE (c2sp.org/FLOE) with AES-256-GCM and HKDF-Expand-SHA-384, from `cryptography` alone.

The part of tests/independent_reader.py that knows nothing of envelope: one message's keys, and
single segments. It writes too, with IVs as arguments, to make known answers and frozen files.
"""

from __future__ import annotations

import struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

NOT_LAST = 0xFFFFFFFF  # the length field of every segment but the last


class Floe:
    """The keys of one FLOE message. Only FLOE's own test vectors rotate at other than 20 bits."""

    def __init__(self, key: bytes, aad: bytes, length: int, iv: bytes, rotation: int = 20) -> None:
        self.length, self.rotation = length, rotation  # of a whole encrypted segment; in bits
        self._aad = aad
        self._start = struct.pack(">BBII", 0, 0, length, len(iv)) + iv
        self.header = self._start + self._kdf(key, b"HEADER_TAG:", 32)
        self.message_key = self._kdf(key, b"MESSAGE_KEY:", 48)

    def _kdf(self, key: bytes, purpose: bytes, length: int) -> bytes:
        return HKDFExpand(hashes.SHA384(), length, self._start + purpose + self._aad).derive(key)

    def segment_key(self, position: int) -> bytes:
        first = position >> self.rotation << self.rotation  # one key for 2^20 segments
        return self._kdf(self.message_key, b"DEK:" + struct.pack(">Q", first), 32)

    def seal(self, position: int, plaintext: bytes, iv: bytes, *, last: bool) -> bytes:
        field = len(plaintext) + 32 if last else NOT_LAST
        sealed = AESGCM(self.segment_key(position)).encrypt(
            iv, plaintext, struct.pack(">QB", position, last)
        )
        return struct.pack(">I", field) + iv + sealed

    def open(self, position: int, segment: bytes, *, last: bool) -> bytes:
        """Decrypt one segment of a length that suits its place, or raise InvalidTag."""
        if int.from_bytes(segment[:4]) != (len(segment) if last else NOT_LAST):
            raise InvalidTag
        aad = struct.pack(">QB", position, last)
        return AESGCM(self.segment_key(position)).decrypt(segment[4:16], segment[16:], aad)
