"""A small writer of `envelope/1`, the counterpart of tests/independent_reader.py.

It makes the examples of docs/format.md and the frozen files in tests/vectors. All randomness is
an argument, so that what it writes can be written again.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import aes_key_wrap

from tests.independent_floe import Floe
from tests.independent_reader import FIXED, MAGIC, b64u_text, header_mac, kek_id, kek_wrap


def compact(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def recipient_a256kw(kid: str, mek: bytes, kek: bytes) -> dict[str, str]:
    return {"kid": kid, "alg": "A256KW", "encrypted_key": b64u_text(aes_key_wrap(mek, kek))}


def recipient_a256gcm(kid: str, mek: bytes, kek: bytes, iv: bytes) -> dict[str, str]:
    sealed = AESGCM(mek).encrypt(iv, kek, kek_id(kek))
    return {
        "kid": kid,
        "alg": "A256GCM",
        "encrypted_key": b64u_text(sealed[:-16]),
        "iv": b64u_text(iv),
        "tag": b64u_text(sealed[-16:]),
    }


def keys_section(kek: bytes, dek: bytes, **recipients_or_keyset: Any) -> dict[str, Any]:
    wrapped = b64u_text(aes_key_wrap(kek_wrap(kek), dek))
    return {
        "kek": {"id": b64u_text(kek_id(kek)), **recipients_or_keyset},
        "dek": {"alg": "A256KW", "encrypted_key": wrapped},
    }


def build_header(dek: bytes, bound: bytes, keys: bytes, size: int | None = None) -> bytes:
    size = size or 56 + len(bound) + len(keys)
    head = FIXED.pack(MAGIC, 1, 1, 0, size, len(bound), len(keys)) + bound + keys
    head = head.ljust(size - 32, b"\0")
    return head + header_mac(dek, head)


def seal_body(floe: Floe, plaintext: bytes, segment_iv: Callable[[], bytes]) -> list[bytes]:
    """The FLOE segments; the last one is empty only where the whole message is."""
    room = floe.length - 32
    pieces = [plaintext[at : at + room] for at in range(0, len(plaintext), room)] or [b""]
    final = len(pieces) - 1
    return [floe.seal(i, part, segment_iv(), last=i == final) for i, part in enumerate(pieces)]
