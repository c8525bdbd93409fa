"""What happened, as frozen values: for audit trails, metrics, logs and ``--json``.

    def audit(event: Event) -> None: ...
    unsubscribe = envelope.events.subscribe(audit)

Each event also goes to the logger ``envelope.events``. No event carries key
bytes, plaintext or the value of an encryption context.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from envelope import runtime

__all__ = [
    "ConfigurationUsed",
    "Event",
    "FileFinished",
    "KekCreated",
    "KeyCall",
    "KeyRetry",
    "Notice",
    "Progress",
    "WriteAborted",
    "emit",
    "subscribe",
    "to_json",
]

_log = logging.getLogger("envelope.events")


@dataclass(frozen=True, slots=True)
class Event:
    """Parent of all events."""

    name: ClassVar[str] = "event"
    level: ClassVar[int] = logging.DEBUG


@dataclass(frozen=True, slots=True)
class KeyCall(Event):
    """One call of a master key came back: ``operation`` took ``seconds``, ``error`` is a code."""

    name = "key.call"
    level = logging.INFO
    kid: str
    operation: str
    seconds: float
    error: str | None = None
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class KeyRetry(Event):
    """A call failed in passing and will be made again after ``wait`` seconds."""

    name = "key.retry"
    level = logging.WARNING
    kid: str
    operation: str
    attempt: int
    wait: float
    error: str


@dataclass(frozen=True, slots=True)
class KekCreated(Event):
    """A fresh KEK was wrapped to ``recipients`` (kids)."""

    name = "kek.created"
    level = logging.INFO
    kek_id: str
    recipients: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FileFinished(Event):
    """``operation`` (encrypt, decrypt, verify, rewrap, reencrypt) on ``path`` is complete."""

    name = "file.finished"
    level = logging.INFO
    operation: str
    path: str
    size: int
    """Plaintext bytes."""
    stored_size: int
    seconds: float
    kek_id: str
    target: str | None = None


@dataclass(frozen=True, slots=True)
class Progress(Event):
    """``done`` of ``total`` plaintext bytes (``None`` on a pipe) are through."""

    name = "progress"
    path: str
    done: int
    total: int | None


@dataclass(frozen=True, slots=True)
class WriteAborted(Event):
    """A writer was left by an exception: nothing was published under ``path``."""

    name = "write.aborted"
    level = logging.WARNING
    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class ConfigurationUsed(Event):
    """A configuration file took part; the working directory's is always told."""

    name = "configuration.used"
    level = logging.INFO
    path: str
    origin: str


@dataclass(frozen=True, slots=True)
class Notice(Event):
    """A sentence that a person should read, such as "no backup of this keystore was ever made"."""

    name = "notice"
    level = logging.WARNING
    text: str

    def __str__(self) -> str:
        return self.text


class _Subscribers:
    survives_fork = True

    def __init__(self) -> None:
        # By a token, since one function may be subscribed twice; setting and removing one item is
        # atomic under the GIL, which a lock that a fork can leave locked would not be.
        self.functions: dict[object, Callable[[Event], None]] = {}


def subscribe(function: Callable[[Event], None]) -> Callable[[], None]:
    """Call ``function`` with every event of this process; returns a function that stops it.

    It is called on whatever thread the event happened, so it should be quick;
    what it raises is logged and goes no further.
    """
    functions = runtime.current().state(_Subscribers).functions
    token = object()
    functions[token] = function

    def unsubscribe() -> None:
        functions.pop(token, None)

    return unsubscribe


def emit(event: Event) -> None:
    """Hand ``event`` to all subscribers and to the log."""
    if _log.isEnabledFor(event.level):
        _log.log(event.level, "%s %s", event.name, event, extra={"envelope": event})
    for function in tuple(runtime.current().state(_Subscribers).functions.values()):
        try:
            function(event)
        except Exception:
            _log.exception("a subscriber failed on %s", event.name)


def to_json(event: Event) -> dict[str, Any]:
    """The event as the command line prints it under ``--json``."""
    return {"event": event.name, **asdict(event)}
