"""Single segments. The known answers of other implementations are in test_floe_vectors.py."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envelope.errors import EnvelopeError, Tampered, Truncated
from envelope.floe import Opener, Sealer, segment_length_of
from envelope.secret import Secret

KEY = Secret(bytes(range(32)))
AAD = b"some aad"


def sealed(sealer: Sealer, position: int, last: bool, plain: bytes) -> bytearray:
    out = bytearray(len(plain) + 32)
    assert sealer.seal_into(position, last, plain, memoryview(out)) == len(out)
    return out


def opened(opener: Opener, position: int, last: bool, segment: bytes | bytearray) -> bytes:
    out = bytearray(max(0, len(segment) - 32))
    count = opener.open_into(position, last, segment, memoryview(out))
    return bytes(out[:count])


@given(st.binary(max_size=32), st.integers(0, 2**40 - 2))
def test_what_was_sealed_opens_at_its_position(plain: bytes, position: int) -> None:
    sealer = Sealer(KEY, AAD, 64)
    opener = Opener(KEY, AAD, sealer.header)
    last = len(plain) < 32 or position % 2 == 0
    segment = sealed(sealer, position, last, plain)
    assert opened(opener, position, last, segment) == plain


@given(st.integers(0, 2**22), st.integers(0, 2**22))
def test_a_segment_opens_at_no_other_position(one: int, other: int) -> None:
    sealer = Sealer(KEY, AAD, 64)
    opener = Opener(KEY, AAD, sealer.header)
    segment = sealed(sealer, one, False, bytes(32))
    if one != other:
        with pytest.raises(Tampered):
            opened(opener, other, False, segment)


@given(st.integers(0, 63 * 8 - 1))
def test_a_flipped_bit_never_opens(bit: int) -> None:
    sealer = Sealer(KEY, AAD, 64)
    opener = Opener(KEY, AAD, sealer.header)
    segment = sealed(sealer, 3, True, bytes(31))
    segment[bit // 8] ^= 1 << bit % 8
    with pytest.raises(EnvelopeError) as caught:
        opened(opener, 3, True, segment)
    assert isinstance(caught.value, (Tampered, Truncated))


def test_a_segment_that_is_not_the_last_cannot_pass_for_it() -> None:
    sealer = Sealer(KEY, AAD, 64)
    opener = Opener(KEY, AAD, sealer.header)
    segment = sealed(sealer, 0, False, bytes(32))
    with pytest.raises(Truncated):
        opened(opener, 0, True, segment)
    segment[:4] = (64).to_bytes(4, "big")  # the attacker mends the length field
    with pytest.raises(Tampered):
        opened(opener, 0, True, segment)


def test_the_last_segment_cannot_pass_for_another() -> None:
    sealer = Sealer(KEY, AAD, 64)
    opener = Opener(KEY, AAD, sealer.header)
    segment = sealed(sealer, 0, True, bytes(32))
    with pytest.raises(Tampered):
        opened(opener, 0, False, segment)
    segment[:4] = b"\xff" * 4
    with pytest.raises(Tampered):
        opened(opener, 0, False, segment)


@pytest.mark.parametrize("change", [b"another aad", None])
def test_another_aad_or_key_fails_at_the_header(change: bytes | None) -> None:
    sealer = Sealer(KEY, AAD, 64)
    key = KEY if change else Secret(bytes(32))
    with pytest.raises(Tampered, match="header"):
        Opener(key, change or AAD, sealer.header)


def test_a_short_segment_that_is_not_the_last_is_refused() -> None:
    with pytest.raises(ValueError, match="full"):
        sealed(Sealer(KEY, AAD, 64), 0, False, bytes(31))


def test_positions_end_at_2_to_the_40() -> None:
    sealer = Sealer(KEY, AAD, 64)
    sealed(sealer, 2**40 - 1, True, b"")
    for position, last in ((2**40 - 1, False), (2**40, True)):
        with pytest.raises(ValueError, match=r"2\^40"):
            sealed(sealer, position, last, bytes(32))


def test_each_period_has_a_key_of_its_own() -> None:
    """Two positions of one period share the derived key; the next period's does not open them."""
    iv = bytes(12)
    sealer = Sealer(KEY, AAD, 64, iv=bytes(32), rotation_bits=2)
    texts = []
    for position in (2, 3, 4):
        out = bytearray(64)
        sealer.seal_into(position, False, bytes(32), memoryview(out), iv=iv)
        texts.append(bytes(out[16:48]))
    assert texts[0] == texts[1]  # the same key and IV: the same key stream
    assert texts[1] != texts[2]


@pytest.mark.parametrize("length", [0, 1, 2048, 4095, 4097, 2**25, 2**32 - 1])
def test_segment_lengths_outside_the_profile_are_refused(length: int) -> None:
    header = b"\0\0" + length.to_bytes(4, "big") + (32).to_bytes(4, "big") + bytes(64)
    with pytest.raises(Tampered):
        segment_length_of(header)


@pytest.mark.parametrize("length", [2**power for power in range(12, 25)])
def test_segment_lengths_of_the_profile_are_accepted(length: int) -> None:
    header = b"\0\0" + length.to_bytes(4, "big") + (32).to_bytes(4, "big") + bytes(64)
    assert segment_length_of(header) == length


def test_other_parameters_are_refused() -> None:
    for bad in (b"\1\0", b"\0\1"):
        with pytest.raises(Tampered):
            segment_length_of(bad + (4096).to_bytes(4, "big") + (32).to_bytes(4, "big") + bytes(64))
    with pytest.raises(Tampered):
        segment_length_of(b"\0\0" + (4096).to_bytes(4, "big") + (16).to_bytes(4, "big") + bytes(64))
    with pytest.raises(Truncated):
        segment_length_of(bytes(73))
