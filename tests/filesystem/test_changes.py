"""Files that others write, replace, rewrap or remove, between two looks and while they are open."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest

import envelope
from envelope.errors import EnvelopeError, FileChanged
from tests.filesystem.conftest import Store

FIRST, SECOND = os.urandom(900_000), os.urandom(1_700_000)


def _another_client(store: Store) -> Any:
    """The file system as another process has it: nothing that this one knows is known to it."""
    return store.filesystem(threads=7, skip_instance_cache=True)


def _client(store: Store) -> Any:
    """Another client of the store itself, which tells this one nothing."""
    return fsspec.filesystem(store.protocol, skip_instance_cache=True, **store.options)


def _stored(store: Store, data: bytes) -> bytes:
    fs = _another_client(store)
    where = store.path("scratch/made")
    fs.pipe_file(where, data)
    found = _client(store).cat_file(where)
    _client(store).rm(store.path("scratch"), recursive=True)
    return bytes(found)


READS: dict[str, Callable[[Any, str], Any]] = {
    "cat": lambda fs, path: fs.cat_file(path),
    "range": lambda fs, path: fs.cat_file(path, 0, 10**7),
    "open": lambda fs, path: fs.open(path).read(),
    "read_bytes": lambda fs, path: fs.read_bytes(path),
    "cat_ranges": lambda fs, path: fs.cat_ranges([path], [0], [None], on_error="raise")[0],
    "mapper": lambda fs, path: fs.get_mapper(path.rpartition("/")[0])[path.rpartition("/")[2]],
}


@pytest.mark.slow
@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize(
    "sizes",
    [(FIRST, SECOND), (SECOND, FIRST), (FIRST, FIRST[::-1]), (b"small", b"other"), (b"ab", b"a")],
    ids=["longer", "shorter", "equal", "small", "small and shorter"],
)
def test_what_another_client_wrote_is_read_whole_though_the_listing_is_old(
    store: Store, read: str, sizes: tuple[bytes, bytes]
) -> None:
    """s3fs and adlfs go on telling the size that they listed, and plain reads are then cut."""
    path, (before, after) = store.path("lake/a.bin"), sizes
    store.fs.pipe_file(path, before)
    store.fs.ls(store.path("lake"))
    assert READS[read](store.fs, path) == before
    stored = _stored(store, after)
    _client(store).pipe_file(path, stored)
    assert READS[read](store.fs, path) == after


def test_a_tail_of_a_file_that_grew_is_that_of_the_new_file(store: Store) -> None:
    path = store.path("lake/a.bin")
    store.fs.pipe_file(path, FIRST)
    store.fs.ls(store.path("lake"))
    _client(store).pipe_file(path, _stored(store, SECOND))
    with store.fs.open(path) as file:
        assert file.seek(-10, 2) == len(SECOND) - 10
        assert file.read() == SECOND[-10:]


def test_listings_are_right_after_what_this_client_wrote(store: Store) -> None:
    fs, path = store.fs, store.path("lake/deep/a.bin")
    fs.pipe_file(store.path("lake/b.bin"), b"b")
    assert not fs.exists(store.path("lake/deep"))
    fs.ls(store.path("lake"))
    for size in (10, 20, 5):
        fs.pipe_file(path, b"x" * size)
        assert fs.size(path) == size
        assert fs.find(store.path("lake"), detail=True)[path]["size"] == size
        with fs.open(path, "wb") as file:
            file.write(b"y" * (size + 1))
        assert fs.info(path)["size"] == size + 1
        assert [info["size"] for info in fs.ls(store.path("lake/deep"))] == [size + 1]
    fs.mv(path, store.path("lake/moved.bin"))
    assert not fs.exists(path)
    assert fs.exists(store.path("lake/moved.bin"))


def _large(store: Store, path: str, data: bytes) -> Any:
    store.fs.pipe_file(path, data)
    file = store.fs.open(path)
    assert file.read(10) == data[:10]
    return file


LARGE = os.urandom(6_000_000)


def test_a_file_replaced_while_it_is_open_is_changed_and_gives_no_mixture(store: Store) -> None:
    path = store.path("a.bin")
    other = bytes(reversed(LARGE))
    with _large(store, path, LARGE) as file:
        _client(store).pipe_file(path, _stored(store, other))
        changed = 0
        for position in range(0, len(LARGE), 500_000):
            file.seek(position)
            try:
                found = file.read(1000)
            except FileChanged:
                changed += 1
            else:
                assert found == LARGE[position : position + 1000]
        assert changed


def test_a_local_file_replaced_as_writers_do_is_read_on(store: Store) -> None:
    if store.protocol != "file":
        pytest.skip("only local files are held by a descriptor")
    path = store.path("a.bin")
    with _large(store, path, LARGE) as file:
        store.fs.pipe_file(path, FIRST)
        assert file.read() == LARGE[10:]
    assert store.fs.cat_file(path) == FIRST


def test_a_file_removed_while_it_is_open_is_an_error(store: Store) -> None:
    path = store.path("a.bin")
    with _large(store, path, LARGE) as file:
        store.raw.rm_file(path)
        if store.protocol == "file":
            assert file.read() == LARGE[10:]
            return
        with pytest.raises((FileNotFoundError, EnvelopeError)):
            file.read()


def test_a_file_rewrapped_while_it_is_open_is_read_on(
    store: Store, tmp_path: Path, keystore: str
) -> None:
    path = store.path("a.bin")
    with _large(store, path, LARGE) as file:
        local, out = tmp_path / "stored", tmp_path / "rewrapped"
        local.write_bytes(store.raw.cat_file(path))
        more = envelope.KeyRing(
            encrypt_to=["local:lake", "local:other"],
            decrypt_with=["local:lake"],
            settings={"local": {"keystore": keystore}},
        )
        envelope.rewrap(local, out, keys=more, recipients="replace")
        assert out.read_bytes()[:4096] != local.read_bytes()[:4096]
        assert out.read_bytes()[4096:] == local.read_bytes()[4096:]
        _client(store).pipe_file(path, out.read_bytes())
        assert file.read() == LARGE[10:]
        file.seek(3_000_000)
        assert file.read(9) == LARGE[3_000_000:3_000_009]
    assert store.fs.cat_file(path) == LARGE


def test_ranges_after_a_replacement_are_of_one_file_or_the_other(store: Store) -> None:
    path = store.path("a.bin")
    store.fs.pipe_file(path, FIRST)
    assert store.fs.cat_file(path, 0, 5) == FIRST[:5]
    _client(store).pipe_file(path, _stored(store, SECOND))
    for start in range(0, 800_000, 100_000):
        assert store.fs.cat_file(path, start, start + 10) == SECOND[start : start + 10]
    _client(store).rm_file(path)
    with pytest.raises(FileNotFoundError):
        store.fs.cat_file(path, 0, 5)
