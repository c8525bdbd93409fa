from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envelope.errors import ConfigurationError, Malformed, Tampered
from envelope.secret import Secret
from envelope_parquet import modules
from envelope_parquet.modules import Kind

KEYS = st.sampled_from(modules.KEY_SIZES).flatmap(lambda n: st.binary(min_size=n, max_size=n))


@given(KEYS, st.binary(max_size=300), st.binary(max_size=40))
def test_a_module_opens_to_what_was_sealed(key: bytes, content: bytes, aad: bytes) -> None:
    module = modules.sealed(Secret(key), content, aad)
    assert len(module) == len(content) + modules.OVERHEAD
    assert modules.opened(Secret(key), module, aad, "it") == content
    assert modules.sealed(Secret(key), content, aad) != module  # another nonce each time


@given(st.binary(max_size=50), st.integers(0, 10_000), st.sampled_from([1, 128]))
def test_a_changed_module_is_refused(content: bytes, at: int, bit: int) -> None:
    key = Secret(bytes(16))
    module = bytearray(modules.sealed(key, content, b"aad"))
    module[at % len(module)] ^= bit
    with pytest.raises((Tampered, Malformed)):
        modules.opened(key, bytes(module), b"aad", "it")


def test_a_module_opens_in_its_own_place_alone() -> None:
    key, file = Secret(bytes(32)), b"prefix" + b"unique"
    places = [
        modules.aad(file, kind, *ordinals)
        for kind in Kind
        for ordinals in ((), (0, 0), (0, 1), (1, 0), (0, 0, 0), (0, 0, 1), (256, 0))
    ]
    assert len(set(places)) == len(places)
    module = modules.sealed(key, b"page", places[0])
    for other in (*places[1:], modules.aad(b"another file", Kind.FOOTER)):
        with pytest.raises(Tampered, match="it does not open"):
            modules.opened(key, module, other, "it")


def test_ordinals_are_two_bytes_with_the_lowest_first() -> None:
    assert modules.aad(b"U", Kind.DATA_PAGE, 1, 2, 259) == b"U\x02\x01\x00\x02\x00\x03\x01"
    for wrong in (-1, 2**15):
        with pytest.raises(Malformed):
            modules.aad(b"U", Kind.DATA_PAGE, 0, 0, wrong)


def test_a_signature_holds_for_its_content_key_and_place() -> None:
    key = Secret(bytes(16))
    made = modules.signature(key, b"footer", b"aad")
    assert len(made) == modules.SIGNATURE
    modules.signature(key, b"footer", b"aad", proving=made)
    for other, content, aad in (
        (Secret(bytes(15) + b"\x01"), b"footer", b"aad"),
        (key, b"Footer", b"aad"),
        (key, b"footer", b"another"),
    ):
        with pytest.raises(Tampered, match="signature"):
            modules.signature(other, content, aad, proving=made)


def test_a_key_of_another_length_is_told_without_its_bytes() -> None:
    with pytest.raises(ConfigurationError, match="not 80") as told:
        modules.sealed(Secret(b"0123456789"), b"", b"")
    assert "0123" not in str(told.value)
