"""Events reach every subscriber, survive what subscribers do, and become JSON."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from dataclasses import FrozenInstanceError, fields

import pytest

from envelope import events
from envelope.events import Event, KeyCall, Notice, emit, subscribe, to_json

EXAMPLES: list[Event] = [
    KeyCall("local:lake/v1", "unwrap", 0.25, "ENV-DENIED", "request-1"),
    events.KeyRetry("local:lake/v1", "wrap", 2, 0.5, "ENV-VAULT"),
    events.KekCreated("id", ("local:lake/v1", "local:other/v2")),
    events.FileFinished("encrypt", "/a", 10, 4298, 0.5, "id", "/b"),
    events.Progress("/a", 5, None),
    events.WriteAborted("/a", "ValueError"),
    events.ConfigurationUsed("/a/envelope.toml", "working directory"),
    Notice("no backup was ever made"),
]


@pytest.fixture
def seen() -> Iterator[list[Event]]:
    found: list[Event] = []
    unsubscribe = subscribe(found.append)
    yield found
    unsubscribe()


def test_a_subscriber_gets_every_event_until_it_unsubscribes() -> None:
    found: list[Event] = []
    unsubscribe = subscribe(found.append)
    for event in EXAMPLES:
        emit(event)
    unsubscribe()
    emit(Notice("later"))
    unsubscribe()  # twice does no harm
    assert found == EXAMPLES


def test_a_function_that_is_subscribed_twice_is_unsubscribed_one_at_a_time() -> None:
    found: list[Event] = []
    first, second = subscribe(found.append), subscribe(found.append)
    emit(Notice("both"))
    first()
    emit(Notice("one"))
    second()
    emit(Notice("none"))
    assert found == [Notice("both"), Notice("both"), Notice("one")]


def test_a_subscriber_that_fails_stops_nothing_and_is_logged(
    seen: list[Event], caplog: pytest.LogCaptureFixture
) -> None:
    def fail(event: Event) -> None:
        raise ValueError("this subscriber is broken")

    after: list[Event] = []
    unsubscribes = [subscribe(fail), subscribe(after.append)]
    emit(Notice("text"))
    for unsubscribe in unsubscribes:
        unsubscribe()
    assert seen == after == [Notice("text")]
    assert "a subscriber failed on notice" in caplog.text
    assert "this subscriber is broken" in caplog.text


def test_an_interrupt_in_a_subscriber_is_not_swallowed() -> None:
    def interrupt(event: Event) -> None:
        raise KeyboardInterrupt

    unsubscribe = subscribe(interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            emit(Notice("text"))
    finally:
        unsubscribe()


def test_a_subscriber_may_subscribe_and_unsubscribe_while_it_is_called() -> None:
    found: list[Event] = []
    stops = []

    def once(event: Event) -> None:
        stops.append(subscribe(found.append))
        stop()

    stop = subscribe(once)
    emit(Notice("first"))
    emit(Notice("second"))
    for unsubscribe in stops:
        unsubscribe()
    assert found == [Notice("second")]


def test_no_subscription_is_lost_between_threads() -> None:
    found: list[Event] = []
    stops: list[object] = []

    def work() -> None:
        for _ in range(200):
            stops.append(subscribe(found.append))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    emit(Notice("text"))
    for stop in stops:
        stop()  # type: ignore[operator]  what subscribe returned
    emit(Notice("none"))
    assert len(found) == 1600


def test_events_are_logged_at_their_level_with_the_event_itself(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.DEBUG, "envelope.events"):
        for event in EXAMPLES:
            emit(event)
    assert [record.levelno for record in caplog.records] == [event.level for event in EXAMPLES]
    assert [record.envelope for record in caplog.records] == EXAMPLES  # type: ignore[attr-defined]
    assert "ENV-DENIED" in caplog.text


@pytest.mark.parametrize("event", EXAMPLES, ids=lambda event: event.name)
def test_an_event_is_a_flat_json_object_that_names_its_kind(event: Event) -> None:
    value = json.loads(json.dumps(to_json(event)))
    assert value.pop("event") == event.name
    assert set(value) == {field.name for field in fields(event)}


@pytest.mark.parametrize("event", EXAMPLES, ids=lambda event: event.name)
def test_an_event_cannot_be_changed(event: Event) -> None:
    with pytest.raises(FrozenInstanceError):
        setattr(event, fields(event)[0].name, "x")


def test_every_kind_of_event_is_public_documented_and_has_a_name_of_its_own() -> None:
    public = [value for value in vars(events).values() if isinstance(value, type)]
    kinds = [kind for kind in public if issubclass(kind, Event) and kind is not Event]
    assert {type(event) for event in EXAMPLES} == set(kinds)
    assert {kind.__name__ for kind in kinds} <= set(events.__all__)
    assert all(kind.__doc__ for kind in kinds)
    assert len({kind.name for kind in kinds} | {Event.name}) == len(kinds) + 1
