"""Headers for tests of the key layer: honest ones, and ones that a forger edited."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from envelope import header
from envelope.header import Header
from envelope.ring import KeyRing
from envelope.secret import Secret


def written(ring: KeyRing, context: Mapping[str, str] | None = None) -> Header:
    """The header of a file that ``ring`` just wrote."""
    grant = ring.grant()
    return header.parse(header.build(header.bound_json(context or {}), grant.keys, grant.dek, 4096))


def keys_of(parsed: Header) -> dict[str, Any]:
    """The `keys` object as stored."""
    start = header.FIXED_SIZE + len(parsed.bound)
    length = int.from_bytes(parsed.raw[20:24], "big")
    keys: dict[str, Any] = json.loads(parsed.raw[start : start + length])
    return keys


def edited(parsed: Header, change: Callable[[dict[str, Any]], None]) -> Header:
    """The header with its `keys` changed by somebody who has no key: its MAC does not hold."""
    keys = keys_of(parsed)
    change(keys)
    return with_keys(parsed, json.dumps(keys).encode(), Secret(bytes(32)))


def with_keys(parsed: Header, keys: bytes, dek: Secret) -> Header:
    """The header with another `keys` section, as a rewrap makes it."""
    return header.parse(header.build(parsed.bound, keys, dek, parsed.size))
