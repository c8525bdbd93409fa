"""Faults between us and the store: no wrong byte comes out, nothing half-written opens."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import envelope
from tests.filesystem import faults
from tests.filesystem.conftest import Store, make

pytestmark = pytest.mark.slow

DATA = os.urandom(1_000_000) * 12


@pytest.fixture(params=["s3", "azure"])
def direct(
    request: pytest.FixtureRequest, ring: envelope.KeyRing, tmp_path: Path
) -> Iterator[Store]:
    yield from make(request.param, request, ring, tmp_path)


@pytest.fixture
def way(direct: Store) -> Iterator[tuple[faults.Proxy, Store]]:
    """The store, as one reaches it through a proxy, and that proxy."""
    with faults.between(direct.protocol, direct.options) as (proxy, options):
        through = replace(direct, options=options)
        _impatient(through.raw)
        yield proxy, through


def _impatient(store: Any) -> None:
    """Azure's client waits half a minute in all, by default."""
    if hasattr(store, "service_client"):
        policies = store.service_client._pipeline._impl_policies
        for policy in policies:
            policy = getattr(policy, "_policy", policy)
            if hasattr(policy, "total_retries"):
                policy.total_retries, policy.initial_backoff, policy.increment_base = 1, 0, 0
                policy.random_jitter_range = 0
    else:
        store.retries = 1


@contextmanager
def during(proxy: faults.Proxy, fault: faults.Fault) -> Iterator[None]:
    proxy.fault = fault
    try:
        yield
    finally:
        proxy.fault = lambda _request: None


def on(pattern: str, kind: str, times: int = 10**9) -> faults.Fault:
    """``kind`` for the first requests, given as METHOD and path, that match ``pattern``."""
    left = [times]

    def fault(request: faults.Request) -> str | None:
        if left[0] and re.search(pattern, f"{request.method} {request.path}"):
            left[0] -= 1
            return kind
        return None

    return fault


def reads(fs: Any, path: str) -> dict[str, Callable[[], bytes]]:
    def opened() -> bytes:
        with fs.open(path) as file:
            return bytes(file.read())

    def jumped() -> bytes:
        with fs.open(path) as file:
            file.seek(6_000_000)
            return bytes(file.read(2_000_000))

    return {
        "cat": lambda: fs.cat_file(path),
        "open": opened,
        "seek": jumped,
        "range": lambda: fs.cat_file(path, 2_000_000, 5_000_000),
    }


EXPECTED = {
    "cat": slice(None), "open": slice(None), "seek": slice(6_000_000, 8_000_000),
    "range": slice(2_000_000, 5_000_000),
}  # fmt: skip


@pytest.mark.parametrize("read", list(EXPECTED))
@pytest.mark.parametrize("kind", ["drop", "500", "short", "lose"])
def test_a_read_gives_all_its_bytes_or_an_error(
    way: tuple[faults.Proxy, Store], read: str, kind: str
) -> None:
    proxy, store = way
    path = store.path("a.bin")
    store.fs.pipe_file(path, DATA)
    expected = DATA[EXPECTED[read]]
    for times in (1, 10**9):
        _forget(store)
        with during(proxy, on("^GET .*a.bin", kind, times)):
            try:
                found = reads(store.fs, path)[read]()
            except Exception:
                assert kind  # an error of the store's or ours; what counts is that it is one
            else:
                assert times == 1, "nothing got through, and there was an answer"
                assert found == expected
        _forget(store)
    assert reads(store.fs, path)[read]() == expected


def _forget(store: Store) -> None:
    store.fs.invalidate_cache()
    store.fs.target.forget(store.path("a.bin"))


def test_a_slow_store_is_waited_for(way: tuple[faults.Proxy, Store]) -> None:
    proxy, store = way
    path = store.path("a.bin")
    with during(proxy, on("a.bin", "slow", 6)):
        with store.fs.open(path, "wb") as file:
            file.write(DATA)
        assert store.fs.cat_file(path) == DATA


def test_an_object_that_changes_under_a_reader_is_told_or_read_whole(
    way: tuple[faults.Proxy, Store], direct: Store
) -> None:
    proxy, store = way
    path = store.path("a.bin")
    other = DATA[::-1]
    for at in range(1, 5):
        store.fs.pipe_file(path, DATA)
        _forget(store)
        seen = [0]

        def swap(request: faults.Request, seen: list[int] = seen, at: int = at) -> None:
            if request.method == "GET" and "a.bin" in request.path:
                seen[0] += 1
                if seen[0] == at:
                    direct.fs.pipe_file(path, other)

        with during(proxy, swap):
            for read, take in reads(store.fs, path).items():
                try:
                    found = take()
                except envelope.errors.EnvelopeError:
                    continue
                assert found in (DATA[EXPECTED[read]], other[EXPECTED[read]])


WRITES = {
    "s3": ["^POST .*uploads", "^PUT .*partNumber=1", "^PUT .*partNumber=2", "^POST .*uploadId"],
    "abfs": ["^PUT .*comp=block&", "^PUT .*comp=blocklist"],
}


@pytest.mark.parametrize("which", range(4))
@pytest.mark.parametrize("kind", ["drop", "500", "lose"])
@pytest.mark.parametrize("times", [1, 10**9], ids=["once", "always"])
def test_a_write_publishes_the_whole_file_or_nothing(
    way: tuple[faults.Proxy, Store], direct: Store, which: int, kind: str, times: int
) -> None:
    proxy, store = way
    if which >= len(WRITES[store.protocol]):
        pytest.skip("S3 has more kinds of requests")
    path = store.path("a.bin")
    failed = False
    with during(proxy, on(WRITES[store.protocol][which], kind, times)):
        try:
            with store.fs.open(path, "wb") as file:
                file.write(DATA)
        except Exception:
            failed = True
    direct.raw.invalidate_cache()
    if failed:
        assert not direct.raw.exists(path)
        if store.protocol == "s3" and which:  # an upload whose number never came cannot be ended
            left = direct.raw.call_s3("list_multipart_uploads", Bucket=direct.root)
            assert not left.get("Uploads")
    else:
        assert direct.fs.cat_file(path) == DATA
    if times == 1 and kind != "lose":
        assert not failed, "once is tried again"


@pytest.mark.parametrize("kind", ["drop", "500", "lose", "short"])
@pytest.mark.parametrize("size", [100_000, 12_000_000], ids=["small", "large"])
@pytest.mark.parametrize("times", [1, 10**9], ids=["once", "always"])
def test_a_rewrap_leaves_the_old_or_the_new_header_before_the_whole_body(
    way: tuple[faults.Proxy, Store], direct: Store, kind: str, size: int, times: int
) -> None:
    proxy, store = way
    path = store.path("a.bin")
    with direct.fs.open(path, "wb") as file:
        file.write(DATA[:size])
    other = envelope.KeyRing(
        encrypt_to=["local:other"],
        decrypt_with=["local:lake", "local:other"],
        settings=store.keys.to_config()["settings"],
    )
    for pattern in ("^PUT", "^POST", "^GET", "^HEAD"):
        with during(proxy, on(f"{pattern} .*a.bin", kind, times)):
            try:
                envelope.rewrap(
                    f"{store.protocol}://{path}",
                    keys=other,
                    recipients="replace",
                    storage_options=store.options,
                )
            except Exception:
                assert pattern  # it failed, and said so
        direct.raw.invalidate_cache()
        assert envelope.decrypt(direct.raw.cat_file(path), keys=other) == DATA[:size]
    if store.protocol == "s3":
        found = direct.raw.call_s3("list_multipart_uploads", Bucket=direct.root)
        left = len(found.get("Uploads", []))
        # An upload whose number was lost cannot be ended.
        assert left <= (kind in ("lose", "short")) * 2


@settings(
    max_examples=15,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.integers(0, 2**32), st.floats(0.02, 0.3))
def test_whatever_happens_at_random_there_is_no_wrong_byte(
    way: tuple[faults.Proxy, Store], direct: Store, seed: int, rate: float
) -> None:
    proxy, store = way
    dice = random.Random(seed)
    kinds = ["drop", "500", "503", "lose", "short"]
    path = store.path("a.bin")
    data, before = DATA[: dice.choice([1000, 9_000_000, 12_000_000])], None
    if direct.raw.exists(path):
        before = direct.fs.cat_file(path)

    def fault(_request: faults.Request) -> str | None:
        return dice.choice(kinds) if dice.random() < rate else None

    with during(proxy, fault):
        try:
            with store.fs.open(path, "wb") as file:
                file.write(data)
        except Exception:
            pass  # it may not be there, and that was said
        try:
            found = store.fs.cat_file(path)
        except Exception:
            found = None
    assert found in (None, data, before)
    direct.raw.invalidate_cache()
    direct.fs.target.forget(path)
    if direct.raw.exists(path):
        assert direct.fs.cat_file(path) in (data, before)


def test_lost_parts_are_no_file(direct: Store) -> None:
    """A store that forgot a part has made another file, and that does not open."""
    path = direct.path("a.bin")
    direct.fs.pipe_file(path, DATA)
    stored = direct.raw.cat_file(path)
    part = 8 * 2**20
    for start in range(0, len(stored), part):
        direct.raw.pipe_file(path, stored[:start] + stored[start + part :])
        for read, take in reads(direct.fs, path).items():
            direct.fs.target.forget(path)
            try:
                found = take()
            except envelope.errors.EnvelopeError:
                continue
            # Segments prove themselves, so a range before the gap is right, and may be read.
            assert read == "range"
            assert found == DATA[EXPECTED[read]]
            assert start > 0
