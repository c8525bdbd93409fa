"""What the frozen files have in common: their keys, and one message in parts that can be spoilt."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.keywrap import aes_key_wrap, aes_key_wrap_with_padding
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tests.independent_floe import Floe
from tests.independent_reader import FIXED, MAGIC, b64u_text, floe_of_file, header_mac
from tests.independent_writer import compact, keys_section, recipient_a256kw, seal_body

Json = dict[str, Any]
RSA_FILE = "rsa-2048-test-key.pem"


def stream(seed: str) -> Callable[[int], bytes]:
    """The randomness of one file: any number of bytes at a time, always the same for a seed."""
    taken = 0

    def take(size: int) -> bytes:
        nonlocal taken
        taken += size
        text = b"envelope/1 test vectors: " + seed.encode()
        return hashlib.shake_256(text).digest(taken)[taken - size :]

    return take


KEK = stream("KEK")(32)
MEKS = {name: stream(f"MEK {name}")(32) for name in ("lake", "other", "hsm", "ckm", "pad")}
KIDS = {
    "lake": "local:lake/3f9c1e5a7b2d4860",
    "other": "local:other/90ab12cd34ef5678",
    "rsa": "local:producers/5566778899aabbcc",
    "hsm": "local:hsm/77aa66bb55cc44dd",
    "ckm": "local:ckm/1a2b3c4d5e6f7081",
    "pad": "local:pad/8f7e6d5c4b3a2910",
}
KEYS: Json = {
    "lake": {"kid": KIDS["lake"], "alg": "A256KW", "key": MEKS["lake"].hex()},
    "other": {"kid": KIDS["other"], "alg": "A256KW", "key": MEKS["other"].hex()},
    "rsa": {"kid": KIDS["rsa"], "alg": "RSA-OAEP-256", "pem": RSA_FILE},
    "hsm": {"kid": KIDS["hsm"], "alg": "A256GCM", "key": MEKS["hsm"].hex()},
    "ckm": {"kid": KIDS["ckm"], "alg": "CKM_AES_KEY_WRAP", "key": MEKS["ckm"].hex()},
    "pad": {"kid": KIDS["pad"], "alg": "CKM_AES_KEY_WRAP_PAD", "key": MEKS["pad"].hex()},
}
LAKE = recipient_a256kw(KIDS["lake"], MEKS["lake"], KEK)
BOUND: Json = {"context": {"table": "orders"}}


@cache
def rsa_key() -> RSAPrivateKey:
    key = load_pem_private_key((Path(__file__).parent / RSA_FILE).read_bytes(), None)
    assert isinstance(key, RSAPrivateKey)
    return key


def hsm_recipient(name: str, said: str | None = None) -> Json:
    """A recipient under one of the keys whose algorithm has PKCS #11's name.

    ``said``: the name of another key whose algorithm it claims to be of.
    """
    alg = KEYS[name]["alg"]
    wrap = aes_key_wrap_with_padding if alg.endswith("_PAD") else aes_key_wrap
    key = b64u_text(wrap(MEKS[said or name], KEK))
    named = KEYS[said or name]
    return {"kid": named["kid"], "alg": named["alg"], "encrypted_key": key}


def recipient_rsa(key: bytes, seed: str, *, label: bytes = b"", sha: str = "sha256") -> Json:
    """RSAES-OAEP (RFC 8017 section 7.1.1) with the seed from a stream, to be the same each time."""
    numbers = rsa_key().public_key().public_numbers()
    size = (numbers.n.bit_length() + 7) // 8
    digest = hashlib.new(sha).digest_size

    def mask(data: bytes, length: int) -> bytes:
        blocks = range(-(-length // digest))
        return b"".join(hashlib.new(sha, data + i.to_bytes(4)).digest() for i in blocks)[:length]

    def xor(a: bytes, b: bytes) -> bytes:
        return bytes(x ^ y for x, y in zip(a, b, strict=True))

    block = (hashlib.new(sha, label).digest()).ljust(size - len(key) - digest - 2, b"\0")
    block += b"\1" + key
    salt = stream(seed)(digest)
    masked = xor(block, mask(salt, len(block)))
    encoded = int.from_bytes(b"\0" + xor(salt, mask(masked, digest)) + masked)
    encrypted = pow(encoded, numbers.e, numbers.n).to_bytes(size)
    return {"kid": KIDS["rsa"], "alg": "RSA-OAEP-256", "encrypted_key": b64u_text(encrypted)}


@dataclass(frozen=True)
class Parts:
    """A file taken apart. ``data`` puts it together, with a header MAC that fits."""

    dek: bytes
    bound: bytes
    keys: bytes
    floe: Floe
    segments: list[bytes]
    size: int = 0  # H; 0: compact
    fixed: Json = field(default_factory=dict)  # other values of the fixed fields than the true ones
    padding: bytes = b""  # other than zero

    def header(self) -> bytes:
        size = self.size or 56 + len(self.bound) + len(self.keys)
        true = {"magic": MAGIC, "version": 1, "suite": 1, "flags": 0, "H": size}
        true |= {"B": len(self.bound), "K": len(self.keys)}
        head = FIXED.pack(*(true | self.fixed).values()) + self.bound + self.keys + self.padding
        head = head.ljust(size - 32, b"\0")
        return head + header_mac(self.dek, head)

    def data(self) -> bytes:
        return self.header() + self.floe.header + b"".join(self.segments)

    def but(self, **changes: Any) -> Parts:
        return replace(self, **changes)


def message(
    seed: str,
    plaintext: bytes = b"one order\n",
    *,
    bound: Json | bytes = BOUND,
    recipients: list[Json] | None = None,
    kek_members: Json | None = None,
    keys_members: Json | None = None,
    segment_length: int = 4096,
    size: int = 0,
) -> Parts:
    """An honest message, whose randomness follows from ``seed``."""
    take = stream(seed)
    dek, iv = take(32), take(32)
    stored = bound if isinstance(bound, bytes) else compact(bound)
    kek = {"recipients": [LAKE] if recipients is None else recipients} | (kek_members or {})
    if "keyset" in kek:
        del kek["recipients"]
    keys = keys_section(KEK, dek, **kek) | (keys_members or {})
    floe = floe_of_file(dek, stored, segment_length, iv)
    segments = seal_body(floe, plaintext, lambda: take(12))
    return Parts(dek, stored, compact(keys), floe, segments, size)


def text_of(size: int) -> bytes:
    """A plaintext of ``size`` bytes in which every place differs from its neighbours."""
    return b"".join(f"{at:07d}\n".encode() for at in range(0, size + 8, 8))[:size]


def flip(data: bytes, at: int, bit: int = 0) -> bytes:
    return data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]
