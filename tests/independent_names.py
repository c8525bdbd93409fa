"""Encrypted names once more, from docs/names.md and RFC 5297 alone: AES, CMAC and CTR.

Shares nothing with the package, and not AESSIV either.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC

ALPHABET = "0123456789abcdefghijklmnopqrstuv"


def cmac(key: bytes, data: bytes) -> bytes:
    mac = CMAC(AES(key))
    mac.update(data)
    return mac.finalize()


def xor(left: bytes, right: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(left, right, strict=True))


def dbl(block: bytes) -> bytes:
    """RFC 5297 section 2.3: multiplication by x in GF(2^128)."""
    number = int.from_bytes(block) << 1
    if number >> 128:
        number = (number ^ 0x87) & (1 << 128) - 1
    return number.to_bytes(16)


def s2v(key: bytes, strings: Sequence[bytes]) -> bytes:
    """RFC 5297 section 2.4, for one string or more; the last one is the plaintext."""
    *before, last = strings
    state = cmac(key, bytes(16))
    for text in before:
        state = xor(dbl(state), cmac(key, text))
    if len(last) >= 16:
        return cmac(key, last[:-16] + xor(last[-16:], state))
    return cmac(key, xor(dbl(state), (last + b"\x80").ljust(16, b"\0")))


def ctr(key: bytes, siv: bytes, data: bytes) -> bytes:
    start = int.from_bytes(siv) & ~(1 << 63 | 1 << 31)
    cipher = Cipher(AES(key), modes.CTR(start.to_bytes(16))).encryptor()
    return cipher.update(data) + cipher.finalize()


def siv_encrypt(key: bytes, associated: Sequence[bytes], plain: bytes) -> bytes:
    """RFC 5297 section 2.6."""
    half = len(key) // 2
    siv = s2v(key[:half], [*associated, plain])
    return siv + ctr(key[half:], siv, plain)


def siv_decrypt(key: bytes, associated: Sequence[bytes], sealed: bytes) -> bytes | None:
    """RFC 5297 section 2.7."""
    half = len(key) // 2
    plain = ctr(key[half:], sealed[:16], sealed[16:])
    return plain if s2v(key[:half], [*associated, plain]) == sealed[:16] else None


def base32hex(data: bytes) -> str:
    """RFC 4648 section 7, without padding, five bits at a time."""
    bits = "".join(f"{byte:08b}" for byte in data)
    bits += "0" * (-len(bits) % 5)
    return "".join(ALPHABET[int(bits[i : i + 5], 2)] for i in range(0, len(bits), 5))


def from_base32hex(text: str) -> bytes | None:
    if any(c not in ALPHABET for c in text):
        return None
    bits = "".join(f"{ALPHABET.index(c):05b}" for c in text)
    data = bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits) // 8 * 8, 8))
    return data if base32hex(data) == text else None


class Refused(Exception):
    """A part that may not be encrypted; its text is the class of the package's error."""


def part_bytes(part: str) -> bytes:
    try:
        data = unicodedata.normalize("NFC", part).encode("utf-8")
    except UnicodeEncodeError:
        raise Refused("ConfigurationError") from None
    if data in (b"", b".", b"..") or b"\0" in data:
        raise Refused("ConfigurationError")
    if len(data) > 143:
        raise Refused("LimitExceeded")
    return data


def encrypted(key: bytes, path: str) -> str:
    """The stored path of a plain one."""
    stored: list[str] = []
    for part in path.split("/"):
        above = "/".join(stored).encode("ascii")
        stored.append(base32hex(siv_encrypt(key, [above], part_bytes(part))))
    return "/".join(stored)


def decrypted(key: bytes, path: str) -> str | None:
    """The plain path of a stored one; None where a part is foreign."""
    stored = path.split("/")
    plain: list[str] = []
    for index, part in enumerate(stored):
        sealed = from_base32hex(part)
        if sealed is None or len(sealed) < 17:
            return None
        data = siv_decrypt(key, ["/".join(stored[:index]).encode("ascii")], sealed)
        try:
            name = (data or b"").decode("utf-8")
            if part_bytes(name) != data or "/" in name:
                return None
        except (UnicodeDecodeError, Refused):
            return None
        plain.append(name)
    return "/".join(plain)
