"""A second reader of `envelope/1`, written from docs/format.md with `cryptography` alone.

It imports nothing of envelope, so that a misreading of the format shows up as two programs that
disagree. It is also the format as code: the reader's steps stand below in the order, and under the
numbers, of docs/format.md. Whole files in memory, no caches, no threads: to read, not to use.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import struct
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NoReturn

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.constant_time import bytes_eq
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from cryptography.hazmat.primitives.keywrap import (
    InvalidUnwrap,
    aes_key_unwrap,
    aes_key_unwrap_with_padding,
)

from tests import independent_jws
from tests.independent_floe import NOT_LAST, Floe
from tests.independent_jws import PublicKey, name_of

MAGIC = bytes.fromhex("89454e560d0a1a0a")
FIXED = struct.Struct(">8sBBHIII")  # magic, version, suite, flags, H, B, K
# Each with the keys that it goes with.
ALGORITHMS = {
    "A256KW": bytes,
    "A256GCM": bytes,
    "CKM_AES_KEY_WRAP": bytes,
    "CKM_AES_KEY_WRAP_PAD": bytes,
    "RSA-OAEP-256": RSAPrivateKey,
}
ENCRYPTED_KEY_BYTES = {
    "A256KW": 40,
    "A256GCM": 32,
    "CKM_AES_KEY_WRAP": 40,
    "CKM_AES_KEY_WRAP_PAD": 40,
}  # RSA-OAEP-256: the modulus, which only the key tells


class Refused(Exception):
    """A file is not opened: the documented error's class name, the step that found it, and why."""

    def __init__(self, error: str, step: int, why: str) -> None:
        super().__init__(f"{error}, step {step}: {why}")
        self.error, self.step = error, step


def require(holds: object, error: str, step: int, why: str) -> None:
    if not holds:
        raise Refused(error, step, why)


# --- Keys ---------------------------------------------------------------------------------------


def kdf(key: bytes, label: str) -> bytes:
    return HKDFExpand(hashes.SHA384(), 32, label.encode()).derive(key)


def kek_id(kek: bytes) -> bytes:
    return kdf(kek, "envelope/1 KEK id")


def kek_wrap(kek: bytes) -> bytes:
    return kdf(kek, "envelope/1 DEK wrap A256KW")


def header_mac(dek: bytes, header: bytes) -> bytes:
    mac = hmac.HMAC(kdf(dek, "envelope/1 suite 1 header MAC"), hashes.SHA256())
    mac.update(header)
    return mac.finalize()


def floe_of_file(dek: bytes, bound: bytes, length: int, iv: bytes) -> Floe:
    aad = b"envelope/1 suite 1 bound\0" + hashlib.sha256(bound).digest()
    return Floe(kdf(dek, "envelope/1 suite 1 FLOE key"), aad, length, iv)


# --- Steps 1 to 5: what the header says ---------------------------------------------------------


def parse(file: bytes) -> tuple[int, bytes, dict[str, Any], dict[str, Any]]:
    """Steps 1 to 5: the header's size, the bytes of `bound`, and both of its JSON objects."""
    require(file and MAGIC.startswith(file[:8]), "NotEncrypted", 1, "magic")
    require(len(file) >= FIXED.size, "Truncated", 3, "ends in the fixed part")
    _, version, suite, flags, h, b, k = FIXED.unpack_from(file)
    require((version, suite, flags) == (1, 1, 0), "UnsupportedFormat", 2, "version, suite, flags")
    require(60 <= h <= 65536 and b <= 16384 and 56 + b + k <= h, "Malformed", 3, "H, B, K")
    require(len(file) >= h + 106, "Truncated", 3, "no room for the header and one segment")
    require(not any(file[24 + b + k : h - 32]), "Malformed", 4, "padding is not zero")
    raw = {"bound": file[24 : 24 + b], "keys": file[24 + b : 24 + b + k]}
    bound, keys = (strict_json(text, name) for name, text in raw.items())
    check_bound(bound)
    check_keys(keys)
    critical = critical_names(bound) | critical_names(keys)  # this version knows no extension
    require(not critical, "UnsupportedFormat", 5, "crit names what this reader does not know")
    require(keys["dek"]["alg"] == "A256KW", "UnsupportedFormat", 5, "dek.alg")
    return h, raw["bound"], bound, keys


def strict_json(data: bytes, what: str) -> dict[str, Any]:
    require(data[:1] == b"{" and data[-1:] == b"}", "Malformed", 4, f"{what} is no JSON object")
    depth = 0
    # The closing quote is optional, or unterminated strings would cost quadratic time.
    for token in re.finditer(rb'"(?:\\.|[^"\\])*"?|[\[{]|[\]}]', data, re.DOTALL):
        depth += {b"[": 1, b"{": 1, b"]": -1, b"}": -1}.get(token[0], 0)
        require(depth <= 8, "Malformed", 4, f"{what} is nested too deeply")

    def refuse(_: object) -> NoReturn:
        raise ValueError("not an integer")

    def integer(text: str) -> int:
        if len(text) > 17 or abs(int(text)) >= 2**53 or text == "-0":
            raise ValueError("not exact in a double")
        return int(text)

    def distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({name for name, _ in pairs}) < len(pairs):
            raise ValueError("a name stands twice")
        return dict(pairs)

    try:
        value = json.loads(
            data.decode(),
            object_pairs_hook=distinct,
            parse_int=integer,
            parse_float=refuse,
            parse_constant=refuse,
        )
        json.dumps(value, ensure_ascii=False).encode()  # fails on a lone surrogate
    except ValueError as error:  # JSONDecodeError and UnicodeError are ValueErrors
        raise Refused("Malformed", 4, f"{what}: {error}") from None
    return dict(value)


def text(value: object, most: int = 65536) -> str:
    good = isinstance(value, str) and 1 <= len(value.encode()) <= most
    require(good, "Malformed", 4, "not a text of an allowed length")
    return str(value)


def b64u(value: object, size: int | None = None) -> bytes:
    require(isinstance(value, str), "Malformed", 4, "not base64url")
    try:
        data = base64.b64decode(f"{value}{'=' * (-len(str(value)) % 4)}", b"-_", validate=True)
    except ValueError:
        raise Refused("Malformed", 4, "not base64url") from None
    require(b64u_text(data) == value, "Malformed", 4, "not canonical base64url")
    require(size in (None, len(data)), "Malformed", 4, f"not {size} bytes")
    return data


def b64u_text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def member(of: dict[str, Any], name: str, kind: type) -> Any:
    require(isinstance(of.get(name), kind), "Malformed", 4, f"{name} is absent or of another type")
    return of[name]


def check_bound(bound: dict[str, Any]) -> None:
    context = member(bound, "context", dict)
    require(len(context) <= 64, "Malformed", 4, "too many context pairs")
    for name, value in context.items():
        text(name, 128)
        require(isinstance(value, str), "Malformed", 4, "a context value is no text")
    for name in bound.keys() & {"created", "writer"}:
        member(bound, name, str)


def check_keys(keys: dict[str, Any]) -> None:
    kek, dek = member(keys, "kek", dict), member(keys, "dek", dict)
    b64u(kek.get("id"), 32)
    require(("recipients" in kek) != ("keyset" in kek), "Malformed", 4, "recipients or keyset")
    if "signature" in kek:
        member(kek, "signature", str)  # nothing is verified here; step 7 does, where required
    if "keyset" in kek:
        b64u(kek["keyset"], 16)
    recipients = member(kek, "recipients", list) if "recipients" in kek else []
    require("keyset" in kek or 1 <= len(recipients) <= 16, "Malformed", 4, "1 to 16 recipients")
    for wrapped in [*recipients, dek]:
        require(isinstance(wrapped, dict), "Malformed", 4, "a recipient is no object")
        size = ENCRYPTED_KEY_BYTES.get(text(wrapped.get("alg")))
        require(len(b64u(wrapped.get("encrypted_key"), size)) <= 1024, "Malformed", 4, "too long")
    kids = {parse_kid(text(recipient.get("kid"), 512)) for recipient in recipients}
    require(len(kids) == len(recipients), "Malformed", 4, "a kid stands twice")


def critical_names(part: dict[str, Any]) -> set[str]:
    if "crit" not in part:
        return set()
    crit = member(part, "crit", list)
    names = {name for name in crit if isinstance(name, str)}
    require(0 < len(crit) == len(names), "Malformed", 4, "crit is no list of distinct names")
    require(names <= part.keys() - {"crit"}, "Malformed", 4, "crit names what is not there")
    return names


def parse_kid(kid: str) -> tuple[str, ...]:
    """A kid in parts, so that two spellings of one key are equal; else the text itself."""
    if local := re.fullmatch(r"(?i:local):([a-z0-9-]{1,63})/([a-z0-9]{1,64})", kid):
        return ("local", *local.groups())
    vault = r"(?i:azurekeyvault://([a-z0-9.-]+)(?::443)?|https://([a-z0-9.-]+)(?::443)?/keys)"
    if found := re.fullmatch(vault + r"/([A-Za-z0-9-]{1,127})/([A-Za-z0-9]{1,64})/?", kid):
        host = (found[1] or found[2]).lower()
        host = host if "." in host else f"{host}.vault.azure.net"
        return ("azurekeyvault", host, found[3].lower(), found[4].lower())
    return (kid,)


# --- Steps 6 to 12: whether it holds ------------------------------------------------------------


def start(
    file: bytes,
    keys: Mapping[str, bytes | RSAPrivateKey],  # kid to key, in the order to try them
    keks: Collection[bytes] = (),  # KEKs at hand already: a cache, or a keyset
    context: Mapping[str, str] | None = None,
    required: Collection[str] = (),
    signers: Mapping[str, PublicKey] | None = None,  # kid to key; None: no signature is required
) -> tuple[Floe, bytes]:
    """Steps 1 to 10: the keys to the segments, and the segments."""
    size, bound_bytes, bound, section = parse(file)
    expected = (context or {}).items()
    require(bound["context"].items() >= expected, "ContextMismatch", 6, "context")
    require(bound["context"].keys() >= set(required), "ContextMismatch", 6, "required names")
    dek = unwrap(kek_wrap(find_kek(section["kek"], keys, keks, signers)), section["dek"], b"")
    require(dek and len(dek) == 32, "Tampered", 9, "the DEK does not unwrap")
    assert dek is not None
    mac = header_mac(dek, file[: size - 32])
    require(bytes_eq(mac, file[size - 32 : size]), "Tampered", 9, "header MAC")
    aead, hash_, length, iv_length = struct.unpack_from(">BBII", file, size)
    good = 4096 <= length <= 16777216 and length & (length - 1) == 0
    require((aead, hash_, iv_length, good) == (0, 0, 32, True), "Tampered", 10, "FLOE parameters")
    floe = floe_of_file(dek, bound_bytes, length, file[size + 10 : size + 42])
    require(bytes_eq(floe.header, file[size : size + 74]), "Tampered", 10, "FLOE header tag")
    return floe, file[size + 74 :]


def find_kek(
    kek: dict[str, Any],
    keys: Mapping[str, bytes | RSAPrivateKey],
    keks: Collection[bytes],
    signers: Mapping[str, PublicKey] | None,
) -> bytes:
    """Steps 7 and 8. The key's type decides on the algorithm; what a recipient says must agree."""
    wanted = b64u(kek["id"])
    named = {parse_kid(r["kid"]): r for r in kek.get("recipients", ()) if r["alg"] in ALGORITHMS}
    ours = [(key, named[name]) for kid, key in keys.items() if (name := parse_kid(kid)) in named]
    at_hand = {kek_id(k): k for k in keks}
    by_keyset = "keyset" in kek and wanted in at_hand
    require(ours or by_keyset, "UntrustedKey", 7, "no recipient or keyset that is configured")
    if signers is not None:
        try:
            how = (signers, strict_json, b64u, parse_kid)
            allowed = independent_jws.audience(kek.get("signature"), kek["id"], *how)
        except (Refused, independent_jws.NoSignature) as error:
            raise Refused("OriginNotProven", 7, str(error)) from None
        ours = [(key, r) for key, r in ours if name_of(parse_kid(r["kid"]), r["kid"]) in allowed]
        require(ours, "OriginNotProven", 7, "no recipient in the signature's audience")
    if wanted in at_hand:
        return at_hand[wanted]
    fitting = [(key, r) for key, r in ours if isinstance(key, ALGORITHMS[r["alg"]])]
    for key, recipient in fitting[:3]:
        found = unwrap(key, recipient, wanted)
        if found and len(found) == 32 and bytes_eq(kek_id(found), wanted):
            return found
    raise Refused("KeyMismatch", 8, "no recipient unwraps to the KEK that the header names")


def unwrap(key: bytes | RSAPrivateKey, recipient: dict[str, Any], wanted: bytes) -> bytes | None:
    encrypted_key = b64u(recipient["encrypted_key"])
    try:
        if isinstance(key, RSAPrivateKey):
            oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), label=None)
            return key.decrypt(encrypted_key, oaep)
        if recipient["alg"] in ("A256KW", "CKM_AES_KEY_WRAP"):
            return aes_key_unwrap(key, encrypted_key)
        if recipient["alg"] == "CKM_AES_KEY_WRAP_PAD":
            return aes_key_unwrap_with_padding(key, encrypted_key)
        iv, tag = (b64u(recipient.get(name)) for name in ("iv", "tag"))
        if (len(iv), len(tag)) != (12, 16):
            return None
        return AESGCM(key).decrypt(iv, encrypted_key + tag, wanted)
    except (InvalidUnwrap, InvalidTag, Refused, ValueError):  # ValueError: RSA's answer, lengths
        return None


def unseal(floe: Floe, position: int, segment: bytes, *, last: bool) -> bytes:
    try:
        return floe.open(position, segment, last=last)
    except InvalidTag:
        raise Refused("Tampered", 11 if last else 12, f"segment {position}") from None


def read(file: bytes, keys: Mapping[str, bytes | RSAPrivateKey], **how: Any) -> bytes:
    """All plaintext of a file whose size is known. ``how``: see :func:`start`."""
    floe, body = start(file, keys, **how)
    *others, last = (body[at : at + floe.length] for at in range(0, len(body), floe.length))
    field = int.from_bytes(last[:4])
    cut = len(last) < 32 or field == NOT_LAST or len(last) < field <= floe.length
    require(not cut, "Truncated", 11, "the last segment's end is missing")
    require(field == len(last), "Tampered", 11, "the last segment's length field")
    end = unseal(floe, len(others), last, last=True)  # proves the end before anything is released
    opened = [unseal(floe, i, segment, last=False) for i, segment in enumerate(others)]
    return b"".join([*opened, end])


def read_pipe(
    file: bytes, keys: Mapping[str, bytes | RSAPrivateKey], **how: Any
) -> Iterator[bytes]:
    """The plaintext segment by segment, each as it is proven, as from a pipe of unknown length."""
    floe, body = start(file, keys, **how)
    last, at = False, 0
    while not last:
        segment = body[at : at + floe.length]
        field = int.from_bytes(segment[:4])
        last = len(segment) >= 4 and field != NOT_LAST
        size = field if last else floe.length
        require(32 <= size <= floe.length, "Tampered", 12, "length field")
        require(len(segment) >= size, "Truncated", 11, "ends before a last segment's end")
        yield unseal(floe, at // floe.length, segment[:size], last=last)
        at += size
    require(at == len(body), "Tampered", 12, "bytes after the last segment")
