"""The bounds of a key ring: which numbers are limits."""

from __future__ import annotations

import pickle
from dataclasses import FrozenInstanceError, fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envelope.errors import ConfigurationError
from envelope.limits import Limits

NAMES = [field.name for field in fields(Limits)]
WHOLE = ["kek_files", "kek_bytes", "kek_cache_size", "header_size"]
seconds = st.floats(min_value=1e-9, max_value=1e12)
given_limits = st.fixed_dictionaries(
    {},
    optional={
        name: st.integers(1, 16).map(lambda n: n * 4096)
        if name == "header_size"
        else (st.integers(1, 2**60) if name in WHOLE else seconds)
        for name in NAMES
    },
)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "value", [0, -1, 0.0, -0.5, float("nan"), float("inf"), float("-inf"), True, None, "1", [1]]
)
def test_what_is_no_finite_number_above_zero_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"limits: {name}"):
        Limits(**{name: value})


@pytest.mark.parametrize("name", WHOLE)
def test_what_is_counted_is_a_whole_number(name: str) -> None:
    for value in (4096.0, 4096.5):
        with pytest.raises(ConfigurationError, match=f"limits: {name} must be a whole number"):
            Limits(**{name: value})


@pytest.mark.parametrize("size", [1, 4095, 4097, 6000, 65537, 69632, 2**20])
def test_a_header_size_is_a_multiple_of_4096_up_to_64_kib(size: int) -> None:
    with pytest.raises(ConfigurationError, match="header_size is a multiple of 4096"):
        Limits(header_size=size)
    assert Limits(header_size=65536).header_size == 65536


@pytest.mark.parametrize("name", ["", "kek_agee", "Kek_age", "__class__", "self"])
def test_an_unknown_limit_is_refused_with_those_that_are_known(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"unknown limit '{name}'") as caught:
        Limits.from_config({name: 1})
    assert "kek_age" in caught.value.next_step


@given(given_limits)
def test_limits_are_the_same_through_their_configuration(given: dict[str, float]) -> None:
    limits = Limits.from_config(given)
    assert Limits.from_config(limits.to_config()) == limits
    assert limits.to_config().items() <= given.items()
    assert pickle.loads(pickle.dumps(limits)) == limits
    assert hash(limits) == hash(Limits(**given))


def test_the_defaults_have_no_configuration() -> None:
    assert Limits().to_config() == {}
    assert Limits.from_config({}) == Limits()


def test_limits_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        Limits().kek_age = 1  # type: ignore[misc]  that it is refused is the point


def test_every_limit_is_documented() -> None:
    assert Limits.__doc__
    for name in NAMES:
        assert f"{name}: " in Limits.__doc__
