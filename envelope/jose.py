"""The strict subset of JSON, and the base64url, that headers are made of.

docs/format.md, "JSON", has the rules. A parser that is more generous than
another one is how two programs come to read two meanings out of one header, so
whatever is not exactly in the subset is refused.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import Any, NoReturn

from envelope.errors import Malformed

__all__ = ["MAX_DEPTH", "JsonObject", "b64u_decode", "b64u_encode", "dumps", "loads"]

JsonObject = dict[str, Any]

MAX_DEPTH = 8
_LARGEST_INTEGER = 2**53 - 1  # what a double holds exactly, so all languages agree
# The closing quote is optional: an unterminated string must match to the end at once, or each of
# 32,000 escaped quotes starts a scan of its own (8 seconds for one forged header, measured).
# Possessive, so that no way back is remembered: 8 MB for a string of 60,000 bytes otherwise.
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_BRACKET = re.compile(rb"[\[\]{}]")
_B64U = re.compile(r"[A-Za-z0-9_-]*\Z")


def dumps(value: JsonObject) -> bytes:
    """The compact JSON that our writers emit; readers never re-serialise, they keep the bytes."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def loads(data: bytes, what: str) -> JsonObject:
    """Parse one strict JSON object.

    Args:
        data: UTF-8 bytes from ``{`` to ``}``, without a byte order mark.
        what: The name of the part, for the error.

    Raises:
        Malformed: It is not in the subset of docs/format.md.
    """
    if data[:1] != b"{" or data[-1:] != b"}":
        raise Malformed(f"{what} is not one JSON object")
    _check_depth(data, what)
    try:
        value = json.loads(
            data.decode("utf-8"),  # strict: refuses encoded surrogates and over-long forms
            object_pairs_hook=_object_of_distinct_names,
            parse_int=_exact_integer,
            parse_float=_refuse_number,
            parse_constant=_refuse_number,
        )
        # An escape such as \ud800 comes through json as a lone surrogate, which UTF-8 has not.
        # Only escapes can make one, so texts without a backslash need no second look.
        if b"\\" in data:
            dumps(value)
    except (
        ValueError,
        RecursionError,
    ) as error:  # UnicodeError and JSONDecodeError are ValueErrors
        raise Malformed(f"{what} is not strict JSON: {_without_content(error)}") from None
    if not isinstance(value, dict):
        raise Malformed(f"{what} is not one JSON object")
    return value


def _check_depth(data: bytes, what: str) -> None:
    """Count brackets outside strings before the recursive parser sees them."""
    depth = 0
    for bracket in _BRACKET.findall(_STRING.sub(b"", data)):
        if bracket in b"[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise Malformed(f"{what} is nested deeper than {MAX_DEPTH} levels")
        else:
            depth -= 1


def _object_of_distinct_names(pairs: list[tuple[str, Any]]) -> JsonObject:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a name stands twice in one object")
    return value


def _exact_integer(text: str) -> int:
    # The length first: turning an absurdly long number into an int costs quadratic time.
    if len(text) > 17 or abs(int(text)) > _LARGEST_INTEGER or text == "-0":
        raise ValueError("an integer is beyond 2^53")
    return int(text)


def _refuse_number(_text: str) -> NoReturn:
    raise ValueError("only integers are allowed as numbers")


def _without_content(error: Exception) -> str:
    """What is wrong and where, never the text itself, which is the attacker's."""
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at character {error.pos}"
    if isinstance(error, UnicodeError):
        return "the text is not valid UTF-8"
    return str(error)


def b64u_encode(data: bytes) -> str:
    """base64url without padding (RFC 4648 section 5, as RFC 7515 uses it)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def b64u_decode(text: object, what: str, *, length: int | None = None) -> bytes:
    """Decode canonical base64url.

    Args:
        text: What stood in the JSON; anything but a string is refused.
        what: The name of the member, for the error.
        length: The number of bytes that it must hold, where that is fixed.

    Raises:
        Malformed: Another alphabet, padding, left-over bits that are not zero
            (two texts for the same bytes), or another length.
    """
    if not isinstance(text, str) or not _B64U.match(text):
        raise Malformed(f"{what} is not base64url text")
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError):
        raise Malformed(f"{what} is not base64url text") from None
    if b64u_encode(data) != text:
        raise Malformed(f"{what} is not canonical base64url")
    if length is not None and len(data) != length:
        raise Malformed(f"{what} must hold {length} bytes")
    return data
