"""Canaries: no key byte shows in a repr, a log, an error, a local variable, a pickle or a file.

Every :class:`Secret` that is made while a test runs is a canary, and every key that an AES-GCM
cipher is made of: KEKs, DEKs, what is derived from them, and what master keys unwrap to. The
keystore's own canaries, passphrases among them, are in tests/keystore/test_secrets.py.
"""

from __future__ import annotations

import base64
import io
import json
import logging
import os
import pickle
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, BinaryIO, cast

import pytest

import envelope
from envelope import errors, events, floe
from envelope.ring import KeyRing
from envelope.secret import Secret
from envelope.testing.conformance import spelled, told
from tests.hostile.scene import Pipe
from tests.memory_driver import MemoryDriver
from tests.vectors.scene import flip, text_of

PACKAGE = os.path.dirname(os.path.abspath(envelope.__file__))
PLAIN = text_of(30_000)


class Canaries:
    """The key bytes that were seen."""

    def __init__(self) -> None:
        self.values: set[bytes] = set()

    def add(self, value: bytes) -> None:
        if len(value) >= 16:
            self.values.add(bytes(value))

    def spellings(self) -> set[str]:
        found = set()
        for value in self.values:
            found.update(spelled_like(value))
        return found

    def in_text(self, text: str) -> list[str]:
        return [spelling for spelling in self.spellings() if spelling in text]

    def in_bytes(self, data: bytes) -> list[bytes]:
        raw = [value for value in self.values if value in data]
        return raw + [s.encode() for s in self.spellings() if s.encode() in data]


def spelled_like(value: bytes) -> list[str]:
    upper = value.hex().upper()
    return [*_real_spelled(value), upper, ":".join(f"{byte:02x}" for byte in value)]


def _real_spelled(value: bytes) -> list[str]:
    secret = object.__new__(Secret)  # not through the constructor, which is being watched
    cast(Any, Secret)._value.__set__(secret, value)
    return spelled(secret)


@pytest.fixture
def canaries(monkeypatch: pytest.MonkeyPatch, driver: MemoryDriver) -> Canaries:
    found = Canaries()
    make, cipher = Secret.__init__, cast(Any, floe).AESGCM

    def watched(self: Secret, value: bytes) -> None:
        make(self, value)
        found.add(value)

    def watched_cipher(key: bytes) -> Any:
        if any(key):  # the first one is a placeholder of zeros
            found.add(key)
        return cipher(key)

    monkeypatch.setattr(Secret, "__init__", watched)
    monkeypatch.setattr(floe, "AESGCM", watched_cipher)
    for kid in ("local:lake/v1", "local:lake/v2", "local:other/v1"):
        found.add(driver.resolve(kid)._own())
    return found


@pytest.fixture
def ring(driver: MemoryDriver, canaries: Canaries) -> KeyRing:
    """Made after the canaries, so that all its keys are seen."""
    return KeyRing("local:lake", settings={"local": {"seed": driver.seed}})


def other_ring(driver: MemoryDriver) -> KeyRing:
    keys = ["local:lake", "local:other"]
    settings = {"local": {"seed": driver.seed}}
    return KeyRing(encrypt_to=["local:other"], decrypt_with=keys, settings=settings)


def stored(ring: KeyRing, plain: bytes = PLAIN) -> bytes:
    target = io.BytesIO()
    envelope.encrypt_file(io.BytesIO(plain), target, keys=ring, segment_length=4096)
    return target.getvalue()


def everything(ring: KeyRing, driver: MemoryDriver, folder: Path) -> list[object]:
    """Every verb once, and what they return."""
    file, plain = folder / "file", folder / "plain"
    plain.write_bytes(PLAIN)
    context = {"tenant": "acme"}
    results: list[object] = [
        envelope.decrypt(envelope.encrypt(PLAIN, keys=ring, context=context), keys=ring) == PLAIN,
        envelope.encrypt_file(plain, file, keys=ring, context=context, threads=1),
        envelope.decrypt_file(file, folder / "back", keys=ring, threads=1),
        envelope.inspect(file),
        envelope.verify(file, keys=ring, threads=1),
    ]
    driver.rotate("local:lake")
    results += [
        envelope.rewrap(file, keys=ring),
        envelope.rewrap(file, keys=other_ring(driver), recipients="replace"),
        envelope.reencrypt(file, keys=other_ring(driver), threads=1),
    ]
    with envelope.open(folder / "written", "wb", keys=ring, threads=1) as writer:
        writer.write(PLAIN)
        results += [repr(writer), repr(vars(writer)), repr(vars(writer._sealing))]
    with envelope.open(folder / "written", keys=ring, threads=1) as reader:
        assert reader.read() == PLAIN
        results += [repr(reader), repr(vars(reader)), repr(vars(reader._opening))]
    return results


# --- The search itself --------------------------------------------------------------------------


def test_the_search_finds_what_it_should(canaries: Canaries) -> None:
    secret = Secret.random()
    value = secret.reveal()
    assert value in canaries.values
    texts = [repr(value), repr(bytearray(value)), value.hex(), value.hex().upper()]
    texts += [base64.b64encode(value).decode(), str(list(value))]
    for text in texts:
        assert canaries.in_text(f"so {text} it is"), text
    assert canaries.in_bytes(b"x" + value + b"y")
    assert not canaries.in_text(repr(os.urandom(32)))

    def careless(key: bytes) -> None:
        raise errors.KeyMismatch("oh")

    with pytest.raises(errors.KeyMismatch) as caught:
        careless(secret.reveal())
    assert canaries.in_text(told(caught.value))


# --- Objects, logs, events, output and files ----------------------------------------------------


def test_nothing_that_is_returned_logged_or_printed_shows_a_key(
    canaries: Canaries,
    ring: KeyRing,
    driver: MemoryDriver,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    for name in list(logging.root.manager.loggerDict):
        caplog.set_level(logging.DEBUG, name)  # until the test ends
    heard: list[str] = []
    unsubscribe = events.subscribe(
        lambda event: heard.append(repr(event) + json.dumps(events.to_json(event)))
    )
    results = everything(ring, driver, tmp_path)
    grant = ring.grant()
    things = [*results, grant, vars(type(grant)), grant.keys, grant._writing, grant._writing.kek]
    things += [ring, ring.to_config(), ring._keks, vars(ring._keks), ring.limits]
    unsubscribe()
    output = capfd.readouterr()
    text = "\n".join([*map(repr, things), *map(str, things), *heard, caplog.text])
    assert len(canaries.values) > 20
    assert len(heard) > 8
    assert caplog.text
    assert canaries.in_text(text + output.out + output.err) == []
    for result in results:
        if hasattr(result, "to_json"):
            assert canaries.in_text(json.dumps(result.to_json())) == []


def test_no_pickle_holds_a_key_and_what_holds_one_does_not_pickle(
    canaries: Canaries, ring: KeyRing, driver: MemoryDriver, tmp_path: Path
) -> None:
    results = everything(ring, driver, tmp_path)
    for thing in (ring, other_ring(driver), *results):
        assert canaries.in_bytes(pickle.dumps(thing)) == []
    grant = ring.grant()
    with envelope.open(tmp_path / "file", keys=other_ring(driver)) as reader:
        holders = [grant, grant.dek, grant._writing.kek, reader, reader._incoming.access]
        for holder in holders:
            with pytest.raises(TypeError):
                pickle.dumps(holder)


def test_no_file_holds_a_key(
    canaries: Canaries, ring: KeyRing, driver: MemoryDriver, tmp_path: Path
) -> None:
    everything(ring, driver, tmp_path)
    names = os.listdir(tmp_path)
    assert {"file", "back", "written"} <= set(names)
    for name in names:
        assert canaries.in_bytes((tmp_path / name).read_bytes()) == [], name


def test_a_key_in_an_exception_of_a_driver_is_not_repeated(
    canaries: Canaries, ring: KeyRing, driver: MemoryDriver
) -> None:
    """Drivers are others' code. What they raise unmapped is named by its class alone."""
    secret = Secret.random()
    data = envelope.encrypt(b"x", keys=ring)
    driver.fail = lambda operation, kid: ValueError(f"the key is {secret.reveal().hex()}")
    fresh = KeyRing("local:lake", settings={"local": {"seed": driver.seed, "fresh": 1}})
    with pytest.raises(errors.EnvelopeError) as caught:
        envelope.decrypt(data, keys=fresh)
    assert canaries.in_text(str(caught.value) + repr(caught.value.args)) == []
    assert canaries.in_bytes(pickle.dumps(caught.value)) == []


# --- Errors and their tracebacks ----------------------------------------------------------------


def at_segment(data: bytes, number: int) -> bytes:
    return flip(data, 4096 + 74 + number * 4096 + 100)


Failing = Callable[[KeyRing, MemoryDriver, Path], object]
FAILURES: dict[str, Failing] = {
    "a changed value": lambda ring, driver, folder: envelope.decrypt(
        flip(envelope.encrypt(PLAIN, keys=ring), -1), keys=ring
    ),
    "a changed header": lambda ring, driver, folder: envelope.decrypt(
        flip(stored(ring), 4095), keys=ring
    ),
    "a changed data key": lambda ring, driver, folder: envelope.decrypt(
        exchanged(stored(ring), stored(ring)), keys=ring
    ),
    "a changed FLOE header": lambda ring, driver, folder: envelope.verify(
        io.BytesIO(flip(stored(ring), 4096 + 30)), keys=ring
    ),
    "a changed segment": lambda ring, driver, folder: envelope.decrypt_file(
        io.BytesIO(at_segment(stored(ring), 3)), folder / "x", keys=ring
    ),
    "a changed segment read": lambda ring, driver, folder: envelope.open(
        io.BytesIO(at_segment(stored(ring), 3)), keys=ring
    ).read(),
    "a cut pipe": lambda ring, driver, folder: envelope.decrypt_file(
        cast(BinaryIO, Pipe(stored(ring)[:-5])), io.BytesIO(), keys=ring
    ),
    "a disabled key": lambda ring, driver, folder: disabled(ring, driver),
    "a vault that fails": lambda ring, driver, folder: failing(ring, driver),
    "a vault that fails at a wrap": lambda ring, driver, folder: failing_wrap(driver),
    "a recipient's other KEK": lambda ring, driver, folder: envelope.decrypt(
        other_kek(stored(ring)), keys=ring
    ),
    "a wrong context": lambda ring, driver, folder: envelope.decrypt(
        stored(ring), keys=ring, context={"a": "b"}
    ),
    "a context that does not fit": lambda ring, driver, folder: envelope.encrypt_file(
        io.BytesIO(b""), io.BytesIO(), keys=ring, context={"a": "b" * 4000}
    ),
    "a sink that fails": lambda ring, driver, folder: envelope.encrypt_file(
        io.BytesIO(PLAIN), cast(BinaryIO, Broken()), keys=ring
    ),
    "a sink that fails the reader": lambda ring, driver, folder: envelope.decrypt_file(
        io.BytesIO(stored(ring)), cast(BinaryIO, Broken(0)), keys=ring
    ),
    "a source that fails": lambda ring, driver, folder: envelope.encrypt_file(
        cast(BinaryIO, Broken()), folder / "x", keys=ring
    ),
    "a writer left by an exception": lambda ring, driver, folder: left(ring, folder),
    "a rewrap of a changed file": lambda ring, driver, folder: envelope.rewrap(
        io.BytesIO(flip(stored(ring), 4095)), out=folder / "x", keys=ring
    ),
    "a rewrap that does not fit": lambda ring, driver, folder: envelope.rewrap(
        io.BytesIO(stored(ring)),
        out=cast(BinaryIO, Broken()),
        keys=other_ring(driver),
        recipients="replace",
    ),
    "a reencryption to nowhere": lambda ring, driver, folder: envelope.reencrypt(
        io.BytesIO(stored(ring)), cast(BinaryIO, Broken()), keys=ring
    ),
    "a segment length that cannot be": lambda ring, driver, folder: envelope.encrypt_file(
        io.BytesIO(b""), io.BytesIO(), keys=ring, segment_length=5000
    ),
    "text for bytes": lambda ring, driver, folder: envelope.encrypt(cast(Any, "text"), keys=ring),
    "a secret that is pickled": lambda ring, driver, folder: pickle.dumps(ring.grant()),
    "a secret that is hashed": lambda ring, driver, folder: hash(ring.grant().dek),
}


class Broken(io.RawIOBase):
    """Works so many times."""

    def __init__(self, uses: int = 1) -> None:
        self._left = uses

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        self._use()
        return len(data)

    def readinto(self, buffer: Any, /) -> int:
        self._use()
        return 1

    def _use(self) -> None:
        if not self._left:
            raise OSError(5, "Input/output error")
        self._left -= 1


def exchanged(one: bytes, two: bytes) -> bytes:
    """The first file with the second one's wrapped DEK."""
    mark = b'"dek":{"alg":"A256KW","encrypted_key":"'
    at, other = one.index(mark) + len(mark), two.index(mark) + len(mark)
    return one[:at] + two[other : other + 54] + one[at + 54 :]


def other_kek(data: bytes) -> bytes:
    """The file with another KEK id."""
    at = data.index(b'"id":"') + 6
    return data[:at] + base64.urlsafe_b64encode(bytes(32)).rstrip(b"=") + data[at + 43 :]


def disabled(ring: KeyRing, driver: MemoryDriver) -> None:
    data = stored(ring)
    driver.disabled.add("local:lake/v1")
    fresh = KeyRing("local:lake", settings={"local": {"seed": driver.seed, "fresh": 2}})
    envelope.decrypt(data, keys=fresh)


def failing(ring: KeyRing, driver: MemoryDriver) -> None:
    data = stored(ring)
    driver.fail = lambda operation, kid: ValueError("no") if operation == "unwrap" else None
    fresh = KeyRing("local:lake", settings={"local": {"seed": driver.seed, "fresh": 3}})
    envelope.decrypt(data, keys=fresh)


def failing_wrap(driver: MemoryDriver) -> None:
    driver.fail = lambda operation, kid: ValueError("no") if operation == "wrap" else None
    fresh = KeyRing("local:lake", settings={"local": {"seed": driver.seed, "fresh": 4}})
    envelope.encrypt(b"", keys=fresh)


def left(ring: KeyRing, folder: Path) -> None:
    with envelope.open(folder / "x", "wb", keys=ring) as file:
        file.write(PLAIN)
        raise RuntimeError("left")


@pytest.mark.parametrize("name", FAILURES)
def test_no_traceback_with_locals_shows_a_key(
    name: str,
    canaries: Canaries,
    ring: KeyRing,
    driver: MemoryDriver,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(Exception) as caught:  # noqa: PT011 - what it shows matters here, not what it is
        FAILURES[name](ring, driver, tmp_path)
    text = told(caught.value)
    assert "Traceback" in text
    assert len(canaries.values) >= 3
    assert canaries.in_text(text + caplog.text) == []


# --- Every local variable at every line ----------------------------------------------------------


@contextmanager
def every_local_watched(canaries: Canaries) -> Iterator[dict[str, set[str]]]:
    """Look at the locals of the package's frames at every line that runs on this thread.

    An exception can come between any two lines (Ctrl-C, a signal, no memory), so what holds here
    holds for every traceback there can ever be.
    """
    leaks: dict[str, set[str]] = {}
    exempt = {"Secret.__init__"}  # it has to be given the bytes; nothing in it can fail

    def shows(value: object) -> bool:
        if isinstance(value, (bytes, bytearray, memoryview)):
            data = bytes(value) if len(value) < 200 else b""
            return any(secret in data for secret in canaries.values)
        if isinstance(value, (tuple, list, dict, set)) and len(value) < 50:
            return bool(canaries.in_text(repr(value)[:20_000]))
        if isinstance(value, str) and 16 <= len(value) < 5000:
            return bool(canaries.in_text(value))
        return False

    def look(frame: FrameType, event: str, argument: Any) -> Any:
        for name, value in frame.f_locals.items():
            if shows(value):
                where = f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_code.co_qualname}"
                leaks.setdefault(where, set()).add(name)
        return look

    def enter(frame: FrameType, event: str, argument: Any) -> Any:
        code = frame.f_code
        inside = code.co_filename.startswith(PACKAGE) and "testing" not in code.co_filename
        return look if inside and code.co_qualname not in exempt else None

    before = sys.gettrace()
    sys.settrace(enter)
    try:
        yield leaks
    finally:
        sys.settrace(before)


def test_no_local_variable_ever_holds_a_key(
    canaries: Canaries, ring: KeyRing, driver: MemoryDriver, tmp_path: Path
) -> None:
    with every_local_watched(canaries) as leaks:
        everything(ring, driver, tmp_path)
    assert leaks == {}
    assert len(canaries.values) > 20


def test_the_watch_sees_a_local_variable(canaries: Canaries, monkeypatch: Any) -> None:
    from envelope import hierarchy

    source = "def careless(key):\n    raw = key.reveal()\n    return len(raw)\n"
    names: dict[str, Any] = {}
    exec(compile(source, os.path.join(PACKAGE, "careless.py"), "exec"), names)
    with every_local_watched(canaries) as leaks:
        names["careless"](Secret.random())
        hierarchy.kek_id(Secret.random())
    assert leaks == {"careless.py:careless": {"raw"}}
