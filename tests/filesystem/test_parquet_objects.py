"""Parquet objects are re-keyed in their stores: a footer is sent, and the pages stay there."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe
import pytest

import envelope
import envelope_parquet
from envelope.errors import FileChanged, Tampered
from envelope_parquet import ColumnPolicy, access, adopt, rewrap
from tests.filesystem import faults
from tests.filesystem.conftest import Store, make
from tests.filesystem.test_rewrapping import KINDS, Keys, _interfering, keys, once, stored, url
from tests.parquet.files import TheirKms, write_theirs

pytestmark = pytest.mark.slow

__all__ = ["keys"]  # the fixture

NAMES = ["local:lake", "local:new"]
POLICY = ColumnPolicy(footer="local:lake", columns={"local:new": ["name"]})
SMALL = pa.table({"id": [1, 2, 3], "name": [b"a", b"b", b"c"]})
LARGE = pa.table({"id": list(range(200)), "name": [os.urandom(100_000) for _ in range(200)]})
OTHER = pa.table({"id": [7], "name": [b"somebody else's"]})


def made(
    kind: str, request: pytest.FixtureRequest, ring: envelope.KeyRing, tmp_path: Path, keys: Keys
) -> Iterator[Store]:
    for store in make(kind, request, ring, tmp_path):
        yield replace(store, keys=keys.ring(NAMES))


@pytest.fixture(params=KINDS)
def store(
    request: pytest.FixtureRequest, ring: envelope.KeyRing, tmp_path: Path, keys: Keys
) -> Iterator[Store]:
    yield from made(request.param, request, ring, tmp_path, keys)


def written(store: Store, table: pa.Table) -> str:
    path = store.path("a.parquet")
    envelope_parquet.write_table(
        table,
        url(store, path),
        keys=store.keys,
        policy=POLICY,
        storage_options=store.options,
        use_dictionary=False,
        compression="none",
    )
    return path


def read(store: Store, path: str, ring: Any) -> pa.Table:
    store.raw.invalidate_cache()
    return envelope_parquet.read_table(url(store, path), ring, storage_options=store.options)


def rotated(store: Store, keys: Keys, path: str, options: Any = None) -> Any:
    """Rewrap after both keys got a new version."""
    for name in NAMES:
        keys.resolver.rotate(name)
    return rewrap(url(store, path), keys=keys.ring(NAMES), storage_options=options or store.options)


def newest(store: Store, keys: Keys, path: str) -> bool:
    """The file's keys are wrapped to the newest versions."""
    store.raw.invalidate_cache()
    found = access(url(store, path), keys.ring(NAMES), storage_options=store.options)
    kids = [found.footer.kids, found.column("name").kids]
    return kids == [(keys.resolver.resolve(name).kid,) for name in NAMES]


def pages(data: bytes) -> bytes:
    """All before the footer."""
    return data[: len(data) - 8 - int.from_bytes(data[-8:-4], "little")]


@pytest.mark.parametrize("table", [SMALL, LARGE], ids=["small", "large"])
def test_a_parquet_object_is_rekeyed_in_place_and_its_pages_stay(
    store: Store, keys: Keys, table: pa.Table
) -> None:
    path = written(store, table)
    before = stored(store, path)
    result = rotated(store, keys, path)
    after = stored(store, path)
    assert result.changed
    assert result.source == result.target == url(store, path)
    assert newest(store, keys, path)
    assert after != before
    assert pages(after) == pages(before)
    assert read(store, path, keys.ring(NAMES)).equals(table)
    again = rewrap(url(store, path), keys=keys.ring(NAMES), storage_options=store.options)
    assert not again.changed
    assert stored(store, path) == after
    assert {Path(name).name for name in store.raw.find(store.root)} == {"a.parquet"}
    if store.protocol == "s3":
        found = store.raw.call_s3("list_multipart_uploads", Bucket=store.root)
        assert not found.get("Uploads")


@pytest.mark.parametrize("kind", ["s3", "azure"])
def test_a_footer_is_all_that_is_sent(
    request: pytest.FixtureRequest,
    ring: envelope.KeyRing,
    tmp_path: Path,
    keys: Keys,
    kind: str,
) -> None:
    (store,) = once(made(kind, request, ring, tmp_path, keys), request)
    path = written(store, LARGE)
    rotated(store, keys, path)  # on Azure, the last block is parted here
    footer = len(stored(store, path)) - len(pages(stored(store, path)))
    with faults.between(store.protocol, store.options) as (proxy, options):
        assert rotated(store, keys, path, options).changed
    assert sum(one.sent for one in proxy.log) < 2 * footer + 10_000
    assert sum(one.got for one in proxy.log) < 3 * (65_536 + footer)
    assert newest(store, keys, path)
    assert read(store, path, keys.ring(NAMES)).equals(LARGE)


@pytest.mark.parametrize("table", [SMALL, LARGE], ids=["small", "large"])
def test_what_somebody_else_wrote_meanwhile_is_rekeyed_and_not_overwritten(
    store: Store, keys: Keys, monkeypatch: pytest.MonkeyPatch, table: pa.Table
) -> None:
    path = written(store, table)
    _interfering(monkeypatch, store, lambda: void(written(store, OTHER)))
    assert rotated(store, keys, path).changed
    assert read(store, path, keys.ring(NAMES)).equals(OTHER)
    assert newest(store, keys, path)


def test_who_loses_every_race_says_so(
    store: Store, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(store, SMALL)
    _interfering(monkeypatch, store, lambda: void(written(store, OTHER)), times=1000)
    with pytest.raises(FileChanged):
        rotated(store, keys, path)
    assert read(store, path, keys.ring(NAMES)).equals(OTHER)


def void(_: object) -> None:
    """What a function returns is of no use here."""


def test_a_footer_that_does_not_hold_is_left_as_it_is(store: Store, keys: Keys) -> None:
    path = written(store, SMALL)
    data = bytearray(stored(store, path))
    data[-20] ^= 1
    store.raw.pipe_file(path, bytes(data))
    with pytest.raises(Tampered) as caught:
        rotated(store, keys, path)
    assert caught.value.path == url(store, path)
    assert stored(store, path) == data


def test_raw_keys_are_adopted_in_the_store(store: Store, keys: Keys, tmp_path: Path) -> None:
    raw = b"k" * 32
    local, path = tmp_path / "raw.parquet", store.path("a.parquet")
    properties = pe.create_encryption_properties(raw)
    pq.write_table(LARGE, local, encryption_properties=properties, compression="none")
    store.raw.pipe_file(path, local.read_bytes())
    adopt(
        url(store, path),
        {"": raw},
        footer="local:lake",
        keys=keys.ring(NAMES),
        storage_options=store.options,
    )
    assert pages(stored(store, path)) == pages(local.read_bytes())
    assert read(store, path, keys.ring("local:lake")).equals(LARGE)


def test_key_material_beside_an_object_is_replaced_under_a_condition(
    store: Store, keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local, path = tmp_path / "x.parquet", store.path("x.parquet")
    write_theirs(SMALL, local, internal_key_material=False)
    names = (local.name, f"_KEY_MATERIAL_FOR_{local.name}.json")
    for name in names:
        store.raw.pipe_file(store.path(name), (tmp_path / name).read_bytes())
    given = {"keys": keys.ring(NAMES), "storage_options": store.options}
    rewrap(url(store, path), {"lake": "local:lake"}, kms=TheirKms(), **given)
    beside = store.path(names[1])
    rekeyed = stored(store, beside)
    # Somebody else changes another key of the file, right before ours is written: both stay.
    theirs = [rekeyed]

    def add() -> None:
        theirs[0] = theirs[0].replace(b"{", b'{"extra":"{}",', 1)
        store.raw.pipe_file(beside, theirs[0])

    _interfering(monkeypatch, store, add)
    rewrap(url(store, path), {"pii": "local:new"}, kms=TheirKms(), **given)
    assert stored(store, path) == local.read_bytes()
    assert json.loads(stored(store, beside))["extra"] == "{}"
    assert read(store, path, keys.ring(NAMES)).equals(SMALL)
    # The same key: the first one wins.
    _interfering(monkeypatch, store, lambda: store.raw.pipe_file(beside, rekeyed))
    with pytest.raises(FileChanged):
        rewrap(url(store, path), {"local:new": "local:lake"}, **given)
    assert stored(store, beside) == rekeyed
