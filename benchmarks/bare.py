"""The bare primitives of docs/format.md with nothing around them: the floor of what can be reached.

No checks, no errors, no ring, no classes. What is written here is a valid value
of the format all the same, and what is read comes from valid files: the tests
hand both to the library.
"""

from __future__ import annotations

import base64
import os
import struct
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, Hash
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from cryptography.hazmat.primitives.keywrap import aes_key_unwrap, aes_key_wrap

__all__ = ["message_cipher", "open_file", "open_value", "seal_file", "seal_value"]

_PRELUDE = b"\x89ENV\r\n\x1a\n\x01\x01\x00\x00"
_PARAMETERS = struct.pack(">BBII", 0, 0, 262144, 32)
_OPEN = "envelope/1 suite 1 "
_MAC_LABEL = f"{_OPEN}header MAC".encode()
_FLOE_LABEL = f"{_OPEN}FLOE key".encode()
_BOUND_LABEL = f"{_OPEN}bound\0".encode()
_LAST = struct.pack(">QB", 0, 1)
_SHA256 = SHA256()
_SHA384 = SHA384()


def _expand(key: bytes, label: bytes, length: int = 32) -> bytes:
    return HKDFExpand(_SHA384, length, label).derive(key)


def _digest(data: bytes) -> bytes:
    digest = Hash(_SHA256)
    digest.update(data)
    return digest.finalize()


def seal_value(plain: bytes, kek_wrap: bytes, kek_member: bytes, bound: bytes) -> bytes:
    """A compact envelope of one segment.

    Args:
        plain: The value.
        kek_wrap: The key that wraps DEKs.
        kek_member: The JSON of `kek`, the same for all values of a KEK.
        bound: The JSON of `bound`.
    """
    dek = os.urandom(32)
    wrapped = base64.urlsafe_b64encode(aes_key_wrap(kek_wrap, dek)).rstrip(b"=")
    keys = b'{"kek":%b,"dek":{"alg":"A256KW","encrypted_key":"%b"}}' % (kek_member, wrapped)
    size = 56 + len(bound) + len(keys)
    content = _PRELUDE + struct.pack(">III", size, len(bound), len(keys)) + bound + keys
    mac = HMAC(_expand(dek, _MAC_LABEL), _SHA256)
    mac.update(content)
    floe_key = _expand(dek, _FLOE_LABEL)
    aad = _BOUND_LABEL + _digest(bound)
    prefix = _PARAMETERS + os.urandom(32)
    tag = _expand(floe_key, prefix + b"HEADER_TAG:" + aad)
    message_key = _expand(floe_key, prefix + b"MESSAGE_KEY:" + aad, 48)
    segment_key = _expand(message_key, prefix + b"DEK:" + bytes(8) + aad)
    iv = os.urandom(12)
    sealed = AESGCM(segment_key).encrypt(iv, plain, _LAST)
    length = struct.pack(">I", len(sealed) + 16)
    return b"".join((content, mac.finalize(), prefix, tag, length, iv, sealed))


def open_value(stored: bytes, kek_wrap: bytes) -> bytes:
    """Open what :func:`seal_value` made, verifying all that has to be verified."""
    size, bound_size, keys_size = struct.unpack_from(">III", stored, 12)
    bound = stored[24 : 24 + bound_size]
    keys_end = 24 + bound_size + keys_size
    wrapped = stored[keys_end - 57 : keys_end - 3]  # 54 characters, then `"}}`
    dek = aes_key_unwrap(kek_wrap, base64.urlsafe_b64decode(wrapped + b"=="))
    mac = HMAC(_expand(dek, _MAC_LABEL), _SHA256)
    mac.update(stored[: size - 32])
    mac.verify(stored[size - 32 : size])
    cipher = message_cipher(dek, bound, stored[size : size + 74])
    start = size + 74
    return cipher.decrypt(stored[start + 4 : start + 16], stored[start + 16 :], _LAST)


def message_cipher(dek: bytes, bound: bytes, floe_header: bytes) -> AESGCM:
    """The cipher of a message's first 2^20 segments, once its FLOE header's tag holds."""
    floe_key = _expand(dek, _FLOE_LABEL)
    aad = _BOUND_LABEL + _digest(bound)
    prefix = floe_header[:42]
    if _expand(floe_key, prefix + b"HEADER_TAG:" + aad) != floe_header[42:]:
        raise ValueError("the FLOE header's tag does not hold")
    message_key = _expand(floe_key, prefix + b"MESSAGE_KEY:" + aad, 48)
    return AESGCM(_expand(message_key, prefix + b"DEK:" + bytes(8) + aad))


_SEGMENT = 262144
_BATCH = 4
_TAG_AND_IV = 28


def seal_file(source: Path, target: Path) -> None:
    """Read, encrypt segment by segment, write over: what one thread can do at the best."""
    cipher = AESGCM(bytes(32))
    plain = memoryview(bytearray(_BATCH * _SEGMENT))
    sealed = memoryview(bytearray(_BATCH * (_SEGMENT + _TAG_AND_IV)))
    with open(source, "rb", buffering=0) as file, open(target, "r+b", buffering=0) as out:
        while count := file.readinto(plain):
            end = 0
            for start in range(0, count, _SEGMENT):
                piece = plain[start : min(start + _SEGMENT, count)]
                sealed[end : end + 12] = iv = os.urandom(12)
                place = sealed[end + 12 : end + _TAG_AND_IV + len(piece)]
                cipher.encrypt_into(iv, piece, _LAST, place)
                end += _TAG_AND_IV + len(piece)
            out.write(sealed[:end])


def open_file(source: Path, target: Path) -> None:
    """Undo :func:`seal_file`."""
    cipher = AESGCM(bytes(32))
    sealed = memoryview(bytearray(_BATCH * (_SEGMENT + _TAG_AND_IV)))
    plain = memoryview(bytearray(_BATCH * _SEGMENT))
    with open(source, "rb", buffering=0) as file, open(target, "r+b", buffering=0) as out:
        while count := file.readinto(sealed):
            end = 0
            for start in range(0, count, _SEGMENT + _TAG_AND_IV):
                piece = sealed[start : min(start + _SEGMENT + _TAG_AND_IV, count)]
                place = plain[end : end + len(piece) - _TAG_AND_IV]
                end += cipher.decrypt_into(piece[:12], piece[12:], _LAST, place)
            out.write(plain[:end])
