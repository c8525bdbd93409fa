from __future__ import annotations

import json
import traceback
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from envelope.errors import ContextMismatch, Malformed, Tampered, UnsupportedFormat, UntrustedKey
from envelope.ring import KeyRing
from envelope.secret import Secret
from envelope_parquet import wrapping
from tests.memory_driver import MemoryDriver
from tests.parquet.conftest import Rings

CONTEXTS = st.dictionaries(st.text(min_size=1, max_size=8), st.text(max_size=8), max_size=4)


def texts(value: object) -> bool:
    try:
        repr(value).encode()
    except UnicodeEncodeError:
        return False
    return True


@given(CONTEXTS.filter(texts))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_data_key_comes_back_with_its_context(ring: KeyRing, context: dict[str, str]) -> None:
    key = Secret.random()
    wrapped = wrapping.parse(wrapping.wrap(ring, key, context))
    assert wrapped.context == context
    assert wrapping.unwrap(ring, wrapped, context) == key


def changed(text: str, change: Callable[[Any], object]) -> str:
    value = json.loads(text)
    change(value)
    return json.dumps(value)


def test_another_context_than_the_one_it_was_wrapped_with_does_not_open(ring: KeyRing) -> None:
    text = wrapping.wrap(ring, Secret.random(), {"path": "a", "x": "1"})
    for other in ({"path": "b", "x": "1"}, {"path": "a"}, {"patha": "", "x": "1"}, {}):
        forged = changed(text, lambda value, other=other: value.update(context=other))
        with pytest.raises(Tampered):
            wrapping.unwrap(ring, wrapping.parse(forged))


def test_the_context_is_compared_before_anybody_is_called(
    ring: KeyRing, driver: MemoryDriver
) -> None:
    wrapped = wrapping.parse(wrapping.wrap(ring, Secret.random(), {"path": "a"}))
    driver.calls.clear()
    with pytest.raises(ContextMismatch):
        wrapping.unwrap(ring, wrapped, {"path": "b"})
    assert not driver.calls


def test_a_data_key_of_another_file_does_not_open_in_this_ones_place(ring: KeyRing) -> None:
    one, other = (wrapping.wrap(ring, Secret.random(), {}) for _ in "12")
    theirs = json.loads(other)["data_key"]
    mixed = changed(one, lambda value: value.update(data_key=theirs))
    with pytest.raises(Tampered):
        wrapping.unwrap(ring, wrapping.parse(mixed))


def test_a_rewrap_moves_the_kek_and_leaves_data_key_and_context(
    rings: Rings, driver: MemoryDriver
) -> None:
    ring, key = rings("local:pii"), Secret.random()
    text = wrapping.wrap(ring, key, {"path": "a"})
    driver.rotate("local:pii")
    again, rekeyed = wrapping.rewrap(rings("local:pii"), text)
    assert rekeyed.changed
    assert wrapping.parse(again).kids == ("local:pii/v2",)
    assert json.loads(again)["data_key"] == json.loads(text)["data_key"]
    assert wrapping.unwrap(ring, wrapping.parse(again), {"path": "a"}) == key


def test_a_rewrap_to_another_key_shuts_the_old_one_out(rings: Rings) -> None:
    old, new, key = rings("local:pii"), rings("local:pii2"), Secret.random()
    both = rings(encrypt_to="local:pii2", decrypt_with=["local:pii", "local:pii2"])
    text, _ = wrapping.rewrap(both, wrapping.wrap(old, key, {}), replace=True)
    assert wrapping.unwrap(new, wrapping.parse(text)) == key
    with pytest.raises(UntrustedKey):
        wrapping.unwrap(old, wrapping.parse(text))


def test_required_entries_hold_for_both_directions(rings: Rings) -> None:
    plain, strict = rings("local:pii"), rings("local:pii", required_context=["tenant"])
    with pytest.raises(ContextMismatch):
        wrapping.wrap(strict, Secret.random(), {})
    wrapped = wrapping.parse(wrapping.wrap(plain, Secret.random(), {}))
    with pytest.raises(ContextMismatch):
        wrapping.unwrap(strict, wrapped)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda v: v.pop("context"), Malformed),
        (lambda v: v.update(context={"a": 1}), Malformed),
        (lambda v: v.pop("data_key"), Malformed),
        (lambda v: v["data_key"].update(alg="A128KW"), UnsupportedFormat),
        (lambda v: v["data_key"].update(encrypted_key="AAAA"), Malformed),
        (lambda v: v.pop("kek"), Malformed),
        (lambda v: v["dek"].update(alg="A192KW"), UnsupportedFormat),
        (lambda v: v.update(crit=["later"], later=1), UnsupportedFormat),
    ],
)
def test_wrong_members_are_refused(ring: KeyRing, change: Any, error: type[Exception]) -> None:
    text = wrapping.wrap(ring, Secret.random(), {})
    with pytest.raises(error):
        wrapping.parse(changed(text, change))


def test_another_programs_wrapping_is_told_as_such() -> None:
    with pytest.raises(UnsupportedFormat, match="another program"):
        wrapping.parse("AAECAw==")


def test_no_traceback_shows_a_data_key(ring: KeyRing, driver: MemoryDriver) -> None:
    secret = Secret.random()
    driver.fail = lambda operation, kid: ZeroDivisionError()
    from envelope_parquet.keytable import KeyTable
    from envelope_parquet.kms import Client

    with pytest.raises(Exception) as caught:  # noqa: PT011  any: what it shows is the matter
        Client(KeyTable(ring)).wrap_key(secret.reveal(), "local:lake")
    trace = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    shown = "".join("".join(trace.format()).split("test_wrapping")[-1])
    assert "Secret(<32 bytes>)" in shown
    assert repr(secret.reveal())[2:-1] not in shown
