"""Large files go to the store while they are written, and are there at the commit or not at all."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import json
import os
import subprocess
import sys
import textwrap
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

import envelope
from envelope.errors import AlreadyExists, FileChanged
from envelope_fsspec import sinks, uploads
from tests.filesystem.conftest import Store, make

LARGE = os.urandom(1_000_000) * 30
SMALL = LARGE[:100_000]
KINDS = ("memory", "s3", "seaweed", "azure", "sftp")


@pytest.fixture(params=KINDS)
def store(
    request: pytest.FixtureRequest, ring: envelope.KeyRing, tmp_path: Path
) -> Iterator[Store]:
    yield from make(request.param, request, ring, tmp_path)


@pytest.fixture(params=["s3", "azure"])
def in_parts(
    request: pytest.FixtureRequest, ring: envelope.KeyRing, tmp_path: Path
) -> Iterator[Store]:
    yield from make(request.param, request, ring, tmp_path)


def blocks(store: Store, path: str, which: str) -> list[int]:
    """The sizes of a blob's blocks, ``committed`` or ``uncommitted``."""

    async def listed() -> Any:
        container, blob, _ = store.raw.split_path(path)
        async with store.raw.service_client.get_blob_client(container, blob) as client:
            return await client.get_block_list("all")

    try:
        committed, uncommitted = fsspec.asyn.sync(store.raw.loop, listed)
    except Exception:
        return []  # there is no such blob, nor blocks for one
    return [block.size for block in (committed if which == "committed" else uncommitted)]


def under_way(store: Store, path: str) -> int:
    """How many parts of the file the store has, that nobody can see."""
    if store.protocol == "abfs":
        return len(blocks(store, path, "uncommitted"))
    bucket, key, _ = store.raw.split_path(path)
    found = store.raw.call_s3("list_multipart_uploads", Bucket=bucket).get("Uploads", [])
    ids = [upload["UploadId"] for upload in found if upload["Key"] == key]
    return sum(
        len(store.raw.call_s3("list_parts", Bucket=bucket, Key=key, UploadId=id_).get("Parts", []))
        for id_ in ids
    )


def uploads_left(store: Store) -> int:
    """Multipart uploads, with parts or without. Azure has no such thing to be left."""
    if store.protocol != "s3":
        return 0
    found = store.raw.call_s3("list_multipart_uploads", Bucket=store.root)
    return len(found.get("Uploads", []))


def names(store: Store) -> set[str]:
    store.raw.invalidate_cache()
    return {path.rpartition("/")[2] for path in store.raw.find(store.root)}


def stored(store: Store, path: str) -> bytes:
    """The ciphertext."""
    store.raw.invalidate_cache()
    return store.raw.cat_file(path)


def plain(store: Store, path: str) -> bytes:
    return envelope.decrypt(stored(store, path), keys=store.keys)


def _fail_after_writing(file: Any, data: bytes) -> None:
    file.write(data)
    raise ZeroDivisionError


def test_a_large_file_is_on_its_way_before_it_is_closed(in_parts: Store) -> None:
    path = in_parts.path("a.bin")
    with in_parts.fs.open(path, "wb") as file:
        for start in range(0, len(LARGE), 2**20):
            file.write(LARGE[start : start + 2**20])
        end = time.monotonic() + 20
        while under_way(in_parts, path) < 2 and time.monotonic() < end:
            time.sleep(0.05)
        assert under_way(in_parts, path) >= 2
        assert names(in_parts) == set()
    assert plain(in_parts, path) == LARGE
    assert uploads_left(in_parts) == 0


@pytest.mark.parametrize("write", ["open", "pipe", "put"])
def test_the_header_is_a_block_of_its_own(
    request: pytest.FixtureRequest, ring: envelope.KeyRing, tmp_path: Path, write: str
) -> None:
    (store,) = list_of(make("azure", request, ring, tmp_path), request)
    fs, path = store.fs, store.path("a.bin")
    if write == "open":
        with fs.open(path, "wb") as file:
            file.write(LARGE)
    elif write == "pipe":
        fs.pipe_file(path, LARGE)
    else:
        (tmp_path / "a").write_bytes(LARGE)
        fs.put_file(str(tmp_path / "a"), path)
    sizes = blocks(store, path, "committed")
    assert sizes[0] == 4096
    assert max(sizes) <= 8 * 2**20
    assert fs.cat_file(path) == LARGE


def list_of(stores: Iterator[Store], request: pytest.FixtureRequest) -> list[Store]:
    """The store of a generator, cleaned up with the test."""
    made = next(stores)
    request.addfinalizer(lambda: next(stores, None))
    return [made]


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("end", ["exception", "abort", "collected"])
def test_what_is_given_up_leaves_nothing(store: Store, data: bytes, end: str) -> None:
    path = store.path("a.bin")
    if end == "exception":
        with pytest.raises(ZeroDivisionError), store.fs.open(path, "wb") as file:
            _fail_after_writing(file, data)
    elif end == "abort":
        file = store.fs.open(path, "wb")
        file.write(data)
        file.abort()
    else:
        file = store.fs.open(path, "wb")
        file.write(data)
        holder = [file]
        del file
        with pytest.warns(ResourceWarning):
            holder.clear()
    assert names(store) == set()
    assert uploads_left(store) == 0


def test_a_writer_collected_on_the_event_loops_own_thread_blocks_nothing(in_parts: Store) -> None:
    async def collect() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()

    gc.disable()  # not before
    try:
        file = in_parts.fs.open(in_parts.path("a.bin"), "wb")
        file.write(LARGE)
        circle: list[Any] = [file]
        circle.append(circle)
        del file, circle
        asyncio.run_coroutine_threadsafe(collect(), in_parts.raw.loop).result(10)
    finally:
        gc.enable()
    end = time.monotonic() + 20
    while uploads_left(in_parts) and time.monotonic() < end:
        time.sleep(0.05)
    assert uploads_left(in_parts) == 0
    assert names(in_parts) == set()


def test_a_part_that_fails_ends_the_write_and_leaves_nothing(
    in_parts: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = uploads.MultipartUpload if in_parts.protocol == "s3" else uploads.BlockUpload
    send = kind._part

    async def lose_the_third(self: Any, number: int, data: bytes) -> None:
        if number == 2:
            raise ConnectionResetError("gone")
        await send(self, number, data)

    monkeypatch.setattr(kind, "_part", lose_the_third)
    with pytest.raises(ConnectionResetError), in_parts.fs.open(in_parts.path("a"), "wb") as file:
        file.write(LARGE)
    assert names(in_parts) == set()
    assert uploads_left(in_parts) == 0


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
def test_of_two_exclusive_writers_the_second_is_refused_and_the_first_file_stays(
    store: Store, data: bytes
) -> None:
    path = store.path("a.bin")
    first, second = store.fs.open(path, "xb"), store.fs.open(path, "xb")
    first.write(data)
    second.write(data[::-1])
    first.close()
    with pytest.raises(AlreadyExists):
        second.close()
    assert plain(store, path) == data
    assert names(store) == {"a.bin"}
    assert uploads_left(store) == 0
    with pytest.raises(AlreadyExists):
        store.fs.open(path, "xb")
    with pytest.raises(AlreadyExists):
        store.fs.pipe_file(path, b"later", mode="create")


def test_a_writer_whose_answer_is_lost_has_published(
    in_parts: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = uploads.MultipartUpload if in_parts.protocol == "s3" else uploads.BlockUpload
    complete = kind.complete

    async def and_lose_the_answer(self: Any) -> None:
        await complete(self)
        raise ConnectionResetError("no answer")

    monkeypatch.setattr(kind, "complete", and_lose_the_answer)
    for mode, name in (("wb", "a.bin"), ("xb", "b.bin")):
        with in_parts.fs.open(in_parts.path(name), mode) as file:
            file.write(LARGE)
        assert plain(in_parts, in_parts.path(name)) == LARGE


def test_a_small_file_whose_answer_is_lost_is_there(
    in_parts: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = type(in_parts.raw)
    pipe = kind._pipe_file

    async def and_lose_the_answer(self: Any, *args: Any, **kwargs: Any) -> None:
        await pipe(self, *args, **kwargs)
        raise ConnectionResetError("no answer")

    with monkeypatch.context() as patch:
        patch.setattr(kind, "_pipe_file", and_lose_the_answer)
        in_parts.fs.pipe_file(in_parts.path("a.bin"), SMALL, mode="create")
        with in_parts.fs.open(in_parts.path("b.bin"), "xb") as file:
            file.write(SMALL)
    assert plain(in_parts, in_parts.path("a.bin")) == SMALL
    assert plain(in_parts, in_parts.path("b.bin")) == SMALL


def test_blocks_that_another_writer_made_azure_drop_are_told(
    request: pytest.FixtureRequest, ring: envelope.KeyRing, tmp_path: Path
) -> None:
    (store,) = list_of(make("azure", request, ring, tmp_path), request)
    path = store.path("a.bin")
    slow = store.fs.open(path, "wb")
    slow.write(LARGE)
    concurrent.futures.wait(slow._sink._under_way)
    store.fs.pipe_file(path, LARGE[::-1])
    with pytest.raises(FileChanged, match="drops the blocks"):
        slow.close()
    assert plain(store, path) == LARGE[::-1]


def test_a_killed_writer_leaves_nothing_that_is_seen(in_parts: Store, tmp_path: Path) -> None:
    program = textwrap.dedent(
        """
        import json, os, signal, sys
        import fsspec
        given = json.load(sys.stdin)
        fs = fsspec.filesystem("envelope", **given["fs"])
        file = fs.open(given["path"], "wb")
        file.write(bytes(30_000_000))
        os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    options = {
        "target_protocol": in_parts.protocol,
        "target_options": in_parts.options,
        "keys": in_parts.keys.to_config(),
    }
    path = in_parts.path("a.bin")
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=json.dumps({"fs": options, "path": path}).encode(),
        capture_output=True,
    )
    assert done.returncode == -9, done.stderr
    assert names(in_parts) == set()


def test_the_temporary_file_beside_its_place_is_renamed(
    request: pytest.FixtureRequest, ring: envelope.KeyRing, tmp_path: Path
) -> None:
    (store,) = list_of(make("sftp", request, ring, tmp_path), request)
    path = store.path("a.bin")
    store.fs.pipe_file(path, SMALL)
    with store.fs.open(path, "wb") as file:
        file.write(LARGE)
        (temporary,) = names(store) - {"a.bin"}
        assert temporary.endswith(".env1tmp")
        assert plain(store, path) == SMALL
    assert names(store) == {"a.bin"}
    assert plain(store, path) == LARGE


def test_through_a_folder_of_a_store_files_go_in_parts_too(in_parts: Store) -> None:
    fs = fsspec.filesystem(
        "envelope",
        keys=in_parts.keys,
        fs=fsspec.filesystem("dir", path=in_parts.root, fs=in_parts.raw),
    )
    with fs.open("a.bin", "wb") as file:
        file.write(LARGE)
        assert isinstance(file._sink, sinks.Streamed)
    assert plain(in_parts, in_parts.path("a.bin")) == LARGE


def test_the_sizes_of_parts_reach_the_largest_object_that_the_store_takes() -> None:
    held = bytearray()
    multipart = uploads.MultipartUpload.__new__(uploads.MultipartUpload)
    multipart._store = object()
    parts = [multipart.part_length(number, held) for number in range(10_000)]
    assert min(parts) >= 5 * 2**20
    assert max(parts) <= 5 * 2**30
    assert sum(parts) >= 5 * 2**40
    block = uploads.BlockUpload.__new__(uploads.BlockUpload)
    assert sum(block.part_length(number, held) for number in range(1, 50_000)) >= 2 * 2**40
