"""Malformed comes before UnsupportedFormat: what is wrong for every release asks for no upgrade."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.hostile.scene import assert_refused, fresh_ring, parts_of, told, vault

HONEST = parts_of("order of checks", 100)

BOTH: dict[str, tuple[bytes, bytes, str]] = {
    "the data key has no alg": (HONEST.bound, b'"dek":{"ale":', "Malformed"),
    "its alg is no text": (HONEST.bound, b'"dek":{"alg":1,"x":', "Malformed"),
    "its alg is unknown": (HONEST.bound, b'"dek":{"alg":"X","x":', "UnsupportedFormat"),
    "its alg is unknown, and its key too long": (
        HONEST.bound,
        b'"dek":{"encrypted_key":"' + b"A" * 1400 + b'","alg":"X","x":',
        "Malformed",
    ),
    "its alg is unknown, and crit is no list": (
        HONEST.bound,
        b'"crit":1,"dek":{"alg":"X","x":',
        "Malformed",
    ),
    "bound has an unknown extension": (
        b'{"context":{},"crit":["n"],"n":1}',
        b"",
        "UnsupportedFormat",
    ),
    "bound has one, and crit of keys is empty": (
        b'{"context":{},"crit":["n"],"n":1}',
        b'"crit":[],"dek":{"alg":',
        "Malformed",
    ),
}


@pytest.mark.parametrize("case", BOTH)
def test_what_is_malformed_is_not_called_unsupported(case: str, tmp_path: Path) -> None:
    bound, replacement, error = BOTH[case]
    keys = HONEST.keys
    if replacement:
        if b'"encrypted_key"' in replacement:
            keys = keys[: keys.rindex(b',"encrypted_key"')] + b"}}"
        keys = keys.replace(b'"dek":{"alg":', replacement)
    data = HONEST.but(bound=bound, keys=keys).data()
    assert told(data) == error
    with vault() as driver:
        assert_refused(data, {error}, b"", tmp_path, fresh_ring())
        assert not driver.calls
