"""Key bytes do not leave a Secret by accident."""

from __future__ import annotations

import copy
import json
import logging
import pickle
import traceback
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envelope.secret import Secret

CANARY = b"canary-key-bytes-0123456789abcdef"


def shows_canary(text: str) -> bool:
    return "canary" in text or CANARY.hex() in text


@pytest.mark.parametrize(
    "show",
    [
        repr,
        str,
        ascii,
        "{}".format,
        "{!r:>60}".format,
        "{:>60}".format,
        lambda secret: "%s %r" % (secret, secret),  # noqa: UP031  one of the ways to print
        lambda secret: f"{[secret]} {(secret,)} { ({'key': secret}) }",
        lambda secret: json.dumps({"key": secret}, default=str),
        lambda secret: str(dir(secret)),
    ],
)
def test_no_way_of_printing_shows_the_bytes(show: Any) -> None:
    text = show(Secret(CANARY))
    assert not shows_canary(text)
    assert text


def test_neither_a_log_nor_a_traceback_with_locals_shows_the_bytes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def use(secret: Secret) -> None:
        raise RuntimeError(f"failed with {secret}")

    with caplog.at_level(logging.DEBUG):
        logging.debug("%s %r", Secret(CANARY), {"key": Secret(CANARY)})
    try:
        use(Secret(CANARY))
    except RuntimeError as error:
        text = "".join(
            traceback.TracebackException.from_exception(error, capture_locals=True).format()
        )
    assert "secret = Secret(<33 bytes>)" in text
    assert not shows_canary(text + caplog.text)
    assert "Secret(<33 bytes>)" in caplog.text


@pytest.mark.parametrize(
    "send", [pickle.dumps, copy.copy, copy.deepcopy, lambda secret: pickle.dumps([secret], 0)]
)
def test_a_secret_cannot_be_pickled_or_copied(send: Any) -> None:
    with pytest.raises(TypeError, match="send the wrapped key instead") as caught:
        send(Secret(CANARY))
    assert not shows_canary(str(caught.value))


def test_a_secret_is_no_key_of_a_dictionary() -> None:
    with pytest.raises(TypeError, match="unhashable"):
        hash(Secret(CANARY))


@pytest.mark.parametrize("convert", [bytes, list, iter, bytearray, memoryview])
def test_the_bytes_come_out_by_reveal_alone(convert: Any) -> None:
    with pytest.raises(TypeError):
        convert(Secret(CANARY))
    assert Secret(CANARY).reveal() == CANARY


@pytest.mark.parametrize(
    "value", ["text", bytearray(b"x"), memoryview(b"x"), 32, None, [1], Secret(b"x")]
)
def test_a_secret_is_made_from_bytes_alone(value: Any) -> None:
    with pytest.raises(TypeError, match="made from bytes"):
        Secret(value)


def test_a_secret_takes_no_further_attributes() -> None:
    with pytest.raises(AttributeError):
        Secret(CANARY).name = "x"  # type: ignore[attr-defined]  that it is refused is the point


@given(st.binary(), st.binary())
def test_secrets_are_equal_exactly_if_their_bytes_are(first: bytes, second: bytes) -> None:
    assert (Secret(first) == Secret(second)) == (first == second)
    assert Secret(first) == Secret(bytes(first))
    assert Secret(first) != first
    assert len(Secret(first)) == len(first)


def test_random_secrets_have_the_length_asked_for_and_differ() -> None:
    made = [Secret.random(), Secret.random(), Secret.random(16)]
    assert [len(secret) for secret in made] == [32, 32, 16]
    assert made[0] != made[1]
