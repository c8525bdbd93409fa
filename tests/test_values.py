"""Values in memory."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

import envelope
from envelope.errors import ContextMismatch, EnvelopeError, UntrustedKey
from envelope.ring import KeyRing
from tests.memory_driver import MemoryDriver, installed


@given(
    st.binary(max_size=1000),
    st.dictionaries(st.text(min_size=1, max_size=20), st.text(), max_size=4),
)
def test_a_value_comes_back_with_its_context(data: bytes, context: dict[str, str]) -> None:
    with installed() as driver:
        ring = KeyRing("local:lake", settings={"local": {"seed": driver.seed}})
        stored = envelope.encrypt(data, keys=ring, context=context)
        assert envelope.decrypt(stored, keys=ring, context=context) == data


@pytest.mark.parametrize("size", [0, 1, 262111, 262112, 262113, 3 * 262112, 5_000_000])
def test_large_values_are_many_segments(ring: KeyRing, size: int) -> None:
    data = os.urandom(size)
    assert envelope.decrypt(envelope.encrypt(data, keys=ring), keys=ring) == data


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_bytes_like_object_is_taken(ring: KeyRing, kind: type) -> None:
    stored = envelope.encrypt(kind(b"data"), keys=ring)
    assert envelope.decrypt(kind(stored), keys=ring) == b"data"


def test_text_is_a_type_error(ring: KeyRing) -> None:
    for function in (envelope.encrypt, envelope.decrypt):
        with pytest.raises(TypeError, match="encode"):
            function("text", keys=ring)  # type: ignore[arg-type]


def test_a_value_is_small_and_two_of_equal_data_differ(ring: KeyRing) -> None:
    one, other = (envelope.encrypt(b"x" * 20, keys=ring) for _ in range(2))
    assert one != other
    assert len(one) == len(other) < 500


def test_many_values_cost_one_wrap_and_no_unwrap(ring: KeyRing, driver: MemoryDriver) -> None:
    stored = [envelope.encrypt(b"x", keys=ring) for _ in range(100)]
    for value in stored:
        envelope.decrypt(value, keys=ring)
    assert driver.calls["wrap"] == 1
    assert driver.calls["unwrap"] <= 1


def test_a_value_opens_as_a_file_and_a_file_as_a_value(ring: KeyRing) -> None:
    import io

    stored = envelope.encrypt(b"data", keys=ring)
    with envelope.open(io.BytesIO(stored), keys=ring) as file:
        assert file.read() == b"data"
    assert envelope.verify(io.BytesIO(stored), keys=ring).size == 4
    whole = io.BytesIO()
    envelope.encrypt_file(io.BytesIO(b"data"), whole, keys=ring)
    assert envelope.decrypt(whole.getvalue(), keys=ring) == b"data"


def test_another_context_or_another_key_is_refused(ring: KeyRing) -> None:
    stored = envelope.encrypt(b"x", keys=ring, context={"a": "b"})
    with pytest.raises(ContextMismatch):
        envelope.decrypt(stored, keys=ring, context={"a": "c"})
    with pytest.raises(UntrustedKey):
        envelope.decrypt(stored, keys="local:other")


@given(st.data())
def test_no_cut_value_opens(data: st.DataObject) -> None:
    with installed() as driver:
        ring = KeyRing("local:lake", settings={"local": {"seed": driver.seed}})
        stored = envelope.encrypt(b"some data", keys=ring)
        end = data.draw(st.integers(0, len(stored) - 1))
        with pytest.raises(EnvelopeError):
            envelope.decrypt(stored[:end], keys=ring)
