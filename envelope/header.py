"""The envelope header: bytes in, values out, and back (docs/format.md). Pure.

Parsing does reader steps 1 to 5, all of the checks that need no key. What it
returns is claimed, not proven: only :func:`verify_mac` (step 9) authenticates
it, and nothing of it may be acted on before, except to find the key.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC

from envelope import jose, keyurl
from envelope.context import MAX_NAME_BYTES, MAX_PAIRS
from envelope.errors import (
    ConfigurationError,
    LimitExceeded,
    Malformed,
    NotEncrypted,
    Tampered,
    Truncated,
    UnsupportedFormat,
)
from envelope.hierarchy import DEK_ALG, WRAPPED_DEK_BYTES, header_mac_key
from envelope.keys import WrappedKey
from envelope.secret import Secret

__all__ = [
    "FILE_HEADER_SIZE",
    "FIXED_SIZE",
    "MAC_SIZE",
    "MAGIC",
    "MAX_RECIPIENTS",
    "MAX_SIZE",
    "Header",
    "KeySection",
    "bound_json",
    "build",
    "check_size",
    "keys_json",
    "parse",
    "parse_keys",
    "size_of",
    "used_size",
    "verify_mac",
]

MAGIC = b"\x89ENV\r\n\x1a\n"  # as PNG's: shows 7-bit stripping and line-end conversion at once
FILE_HEADER_SIZE = 4096
MAC_SIZE = 32
MAX_SIZE = 65536
MAX_BOUND_SIZE = 16384
MAX_RECIPIENTS = 16

_PRELUDE = struct.Struct(">8sBBHIII")
FIXED_SIZE = _PRELUDE.size  # 24 bytes: magic, version, suite, flags, H, B, K
_OVERHEAD = FIXED_SIZE + MAC_SIZE
_MIN_SIZE = 60  # fixed part, two empty objects, MAC
_MIN_BODY = 106  # FLOE header 74 + the shortest last segment 32
_VERSION = 1
_SUITE = 1
_SHA256 = SHA256()

# No extension is critical yet: a name in `crit` that a reader does not know ends the reading.
_KNOWN_CRITICAL: frozenset[str] = frozenset()

# Fixed lengths of `encrypted_key` by algorithm; RSA's is the modulus, which only the key knows.
_ENCRYPTED_KEY_LENGTHS = {
    "A256KW": 40,
    "A256GCM": 32,
    "CKM_AES_KEY_WRAP": 40,
    "CKM_AES_KEY_WRAP_PAD": 40,
}
_MAX_ENCRYPTED_KEY = 1024  # RSA-8192
_MAX_PARAMETER = 1024


@dataclass(frozen=True, slots=True)
class KeySection:
    """The `keys` member: who can open the file. A rewrap replaces it.

    Args:
        kek_id: The claimed id of the KEK, 32 bytes.
        recipients: The KEK as wrapped to each master key; empty where a keyset is named.
        keyset: The opaque id of a keyset, 16 bytes.
        signature: A compact JWS, not looked into here.
        dek_encrypted_key: The DEK under the KEK.
        kek: The `kek` object as it was read.
        other: Unknown top-level members, which a rewrap keeps.
    """

    kek_id: bytes
    recipients: tuple[WrappedKey, ...]
    keyset: bytes | None
    signature: str | None
    dek_encrypted_key: bytes
    kek: Mapping[str, Any]
    other: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Header:
    """A parsed header. ``raw`` has the bytes as stored; a reader never re-serialises JSON."""

    raw: bytes
    bound: bytes
    context: Mapping[str, str]
    created: str | None
    writer: str | None
    keys: KeySection

    @property
    def size(self) -> int:
        """H: the bytes before the FLOE header."""
        return len(self.raw)


# --- Writing ------------------------------------------------------------------------------------


def bound_json(
    context: Mapping[str, str], *, created: str | None = None, writer: str | None = None
) -> bytes:
    """The bytes of `bound`.

    Raises:
        ConfigurationError: The context is larger than a header takes.
    """
    value: dict[str, Any] = {"context": dict(context)}
    if created is not None:
        value["created"] = created
    if writer is not None:
        value["writer"] = writer
    bound = jose.dumps(value)
    if len(bound) > MAX_BOUND_SIZE:
        raise ConfigurationError(f"the encryption context takes more than {MAX_BOUND_SIZE} bytes")
    return bound


def keys_json(
    kek: bytes, dek_encrypted_key: bytes, other: Mapping[str, Any] | None = None
) -> bytes:
    """The bytes of `keys` from the serialised `kek` member and a wrapped DEK.

    Joined as bytes, since `kek` is the same for all files of a KEK.
    """
    dek = jose.b64u_encode(dek_encrypted_key).encode("ascii")
    tail = b"," + jose.dumps(dict(other))[1:] if other else b"}"
    return b'{"kek":' + kek + b',"dek":{"alg":"A256KW","encrypted_key":"' + dek + b'"}' + tail


def build(bound: bytes, keys: bytes, dek: Secret, size: int | None = None) -> bytes:
    """A whole header with its MAC.

    Args:
        bound: From :func:`bound_json`, or as stored in the file that is rewrapped.
        keys: From :func:`keys_json`.
        dek: The message's DEK, from which the MAC key comes.
        size: H in bytes; ``None`` for the compact form of values (rule W2).

    Raises:
        LimitExceeded: It does not fit.
    """
    needed = _OVERHEAD + len(bound) + len(keys)
    size = needed if size is None else size
    if needed > min(size, MAX_SIZE):
        raise LimitExceeded(
            f"recipients and context need a header of {needed} bytes, and {min(size, MAX_SIZE)} "
            "are set aside",
            next_step="Use fewer recipients, a shorter context, or a larger header_size=.",
        )
    prelude = _PRELUDE.pack(MAGIC, _VERSION, _SUITE, 0, size, len(bound), len(keys))
    content = b"".join((prelude, bound, keys, bytes(size - needed)))
    mac = HMAC(header_mac_key(dek).reveal(), _SHA256)
    mac.update(content)
    return content + mac.finalize()


def check_size(keys: bytes, bound_reserve: int, size: int) -> None:
    """Refuse early what :func:`build` would refuse late.

    Raises:
        LimitExceeded: ``keys`` and ``bound_reserve`` bytes of context do not fit in ``size``.
    """
    needed = _OVERHEAD + bound_reserve + len(keys)
    if needed > size:
        raise LimitExceeded(
            f"these recipients need a header of {needed} bytes, and header_size is {size}",
            next_step="Use fewer recipients, or a larger limits.header_size.",
        )


def used_size(header: Header) -> int:
    """The bytes of a header without its padding: its own size where it is compact."""
    return _OVERHEAD + int(sum(_PRELUDE.unpack_from(header.raw)[-2:]))


# --- Reading ------------------------------------------------------------------------------------


def size_of(start: bytes, file_size: int | None = None) -> int:
    """Reader steps 1 to 3: the header's size H, from the first 24 bytes.

    Args:
        start: The file's first bytes, 24 or more (fewer: the whole file).
        file_size: The file's size where it is known.

    Raises:
        NotEncrypted, UnsupportedFormat, Malformed, Truncated: See docs/format.md.
    """
    if start[: len(MAGIC)] != MAGIC[: len(start)] or not start:
        raise NotEncrypted("the bytes are not an envelope file")
    if len(start) < FIXED_SIZE:
        raise Truncated("the file ends inside its header")
    _, version, suite, flags, size, bound_size, keys_size = _PRELUDE.unpack_from(start)
    if (version, suite, flags) != (_VERSION, _SUITE, 0):
        raise UnsupportedFormat(
            f"this release reads version 1, suite 1, flags 0, and the file says version {version}, "
            f"suite {suite}, flags {flags}"
        )
    if not _MIN_SIZE <= size <= MAX_SIZE:
        raise Malformed(f"the header's size is {size}, outside {_MIN_SIZE} to {MAX_SIZE}")
    if bound_size > MAX_BOUND_SIZE or _OVERHEAD + bound_size + keys_size > size:
        raise Malformed("the header's parts are longer than the header")
    if file_size is not None and file_size < size + _MIN_BODY:
        raise Truncated("the file ends before its first segment")
    return int(size)


def parse(raw: bytes, file_size: int | None = None) -> Header:
    """Reader steps 1 to 5 on the header's bytes.

    Args:
        raw: At least the H bytes of the header; what follows is left alone.
        file_size: The file's size where it is known.

    Raises:
        NotEncrypted, UnsupportedFormat, Malformed, Truncated: See docs/format.md.
    """
    size = size_of(raw, file_size)
    if len(raw) < size:
        raise Truncated("the file ends inside its header")
    raw = bytes(raw[:size])
    *_, bound_size, keys_size = _PRELUDE.unpack_from(raw)
    bound_end = FIXED_SIZE + bound_size
    keys_end = bound_end + keys_size
    # A retired wrapped key could hide in the padding and outlive a rewrap.
    if raw.count(0, keys_end, size - MAC_SIZE) != size - MAC_SIZE - keys_end:
        raise Malformed("the header's padding is not zero")
    bound = raw[FIXED_SIZE:bound_end]
    bound_value = jose.loads(bound, "bound")
    keys_value = jose.loads(raw[bound_end:keys_end], "keys")
    header = Header(
        raw=raw,
        bound=bound,
        context=_context(bound_value),
        created=_optional_text(bound_value, "created"),
        writer=_optional_text(bound_value, "writer"),
        keys=_key_section(keys_value),
    )
    # Step 5, after all of step 4: what is malformed for every release asks for no upgrade.
    critical = [
        name
        for value, what in ((bound_value, "bound"), (keys_value, "keys"))
        for name in _critical_names(value, what)
        if name not in _KNOWN_CRITICAL
    ]
    if critical:
        raise UnsupportedFormat(f"the header has the critical extension {critical[0][:40]!a}")
    if keys_value["dek"]["alg"] != DEK_ALG:
        raise UnsupportedFormat("the data key is wrapped with an unknown algorithm")
    return header


def parse_keys(data: bytes, what: str = "keys") -> KeySection:
    """A `keys` object that stands somewhere else than in a header: step 4 and 5 for it alone.

    Args:
        data: The bytes of the object.
        what: What it is, for the error.

    Raises:
        Malformed, UnsupportedFormat: See docs/format.md.
    """
    value = jose.loads(data, what)
    section = _key_section(value)
    critical = [name for name in _critical_names(value, what) if name not in _KNOWN_CRITICAL]
    if critical:
        raise UnsupportedFormat(f"{what} has the critical extension {critical[0][:40]!a}")
    if value["dek"]["alg"] != DEK_ALG:
        raise UnsupportedFormat("the data key is wrapped with an unknown algorithm")
    return section


def verify_mac(header: Header, dek: Secret) -> None:
    """Reader step 9: from here on the header is authentic.

    Raises:
        Tampered: The MAC does not hold under this DEK.
    """
    mac = HMAC(header_mac_key(dek).reveal(), _SHA256)
    mac.update(header.raw[:-MAC_SIZE])
    try:
        mac.verify(header.raw[-MAC_SIZE:])  # compares in constant time
    except InvalidSignature:
        raise Tampered("the header's authentication code does not hold") from None


def _context(bound: jose.JsonObject) -> Mapping[str, str]:
    context = bound.get("context")
    if not isinstance(context, dict):
        raise Malformed("bound has no object `context`")
    if len(context) > MAX_PAIRS:
        raise Malformed(f"the context has more than {MAX_PAIRS} pairs")
    for name, value in context.items():
        if not isinstance(value, str):
            raise Malformed("a context value is not text")
        if not 1 <= len(name.encode()) <= MAX_NAME_BYTES:
            raise Malformed("a context name is empty or too long")
    return context


def _key_section(keys: jose.JsonObject) -> KeySection:
    kek, dek = keys.get("kek"), keys.get("dek")
    if not isinstance(kek, dict) or not isinstance(dek, dict):
        raise Malformed("keys has no objects `kek` and `dek`")
    if ("recipients" in kek) == ("keyset" in kek):
        raise Malformed("kek has either `recipients` or `keyset`")
    keyset = _keyset_id(kek["keyset"]) if "keyset" in kek else None
    alg = dek.get("alg")
    if not isinstance(alg, str) or not alg:
        raise Malformed("the data key has no alg")
    wrapped_dek = jose.b64u_decode(
        dek.get("encrypted_key"),
        "dek.encrypted_key",
        length=WRAPPED_DEK_BYTES if alg == DEK_ALG else None,
    )
    if len(wrapped_dek) > _MAX_ENCRYPTED_KEY:
        raise Malformed("dek.encrypted_key is too long for any algorithm")
    return KeySection(
        kek_id=jose.b64u_decode(kek.get("id"), "kek.id", length=32),
        recipients=_recipients(kek["recipients"]) if keyset is None else (),
        keyset=keyset,
        signature=_optional_text(kek, "signature"),
        dek_encrypted_key=wrapped_dek,
        kek=kek,
        other={name: value for name, value in keys.items() if name not in ("kek", "dek")},
    )


def _keyset_id(text: object) -> bytes:
    """A keyset's opaque id: 16 bytes, matched against configured keysets and never an address."""
    return jose.b64u_decode(text, "kek.keyset", length=16)


def _recipients(value: object) -> tuple[WrappedKey, ...]:
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_RECIPIENTS:
        raise Malformed(f"kek.recipients is not a list of 1 to {MAX_RECIPIENTS}")
    recipients = tuple(_recipient(item) for item in value)
    if len({_identity(r.kid) for r in recipients}) != len(recipients):
        raise Malformed("two recipients have the same kid")
    return recipients


def _recipient(value: object) -> WrappedKey:
    if not isinstance(value, dict):
        raise Malformed("a recipient is not an object")
    kid, alg = value.get("kid"), value.get("alg")
    if not isinstance(kid, str) or not isinstance(alg, str) or not kid or not alg:
        raise Malformed("a recipient has no kid or alg")
    if len(kid.encode()) > keyurl.MAX_KID_BYTES:
        raise Malformed(f"a recipient's kid is longer than {keyurl.MAX_KID_BYTES} bytes")
    encrypted_key = jose.b64u_decode(value.get("encrypted_key"), "encrypted_key")
    expected = _ENCRYPTED_KEY_LENGTHS.get(alg)
    if len(encrypted_key) > _MAX_ENCRYPTED_KEY or expected not in (None, len(encrypted_key)):
        raise Malformed(f"a recipient's encrypted_key has a wrong length for {alg[:20]!a}")
    params = {
        name: text
        for name, text in value.items()
        if name not in ("kid", "alg", "encrypted_key")
        and isinstance(text, str)
        and len(text) <= _MAX_PARAMETER
    }
    return WrappedKey(kid, alg, encrypted_key, params)


def _identity(kid: str) -> object:
    """What makes two kids the same: their parsed parts, or the text where they don't parse."""
    try:
        return keyurl.parse(kid)
    except ConfigurationError:
        return kid


def _critical_names(value: jose.JsonObject, what: str) -> list[str]:
    """The names in `crit`. RFC 7515 section 4.1.11 has the same rule."""
    if "crit" not in value:
        return []
    names = value["crit"]
    if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
        raise Malformed(f"{what}.crit is not a list of names")
    if len(set(names)) != len(names) or any(n not in value or n == "crit" for n in names):
        raise Malformed(f"{what}.crit names a member twice, or one that is not there")
    return names


def _optional_text(value: jose.JsonObject, name: str) -> str | None:
    if name not in value:
        return None
    text = value[name]
    if not isinstance(text, str):  # null is not text either
        raise Malformed(f"`{name}` is not text")
    return text
