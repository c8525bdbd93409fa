"""Transactions publish what was closed in good order in them, all at the end, or nothing."""

from __future__ import annotations

import contextlib
import gc
from pathlib import Path

import fsspec
import pytest

from envelope.errors import AlreadyExists, UnfinishedWrite
from envelope.sinks import TEMPORARY_SUFFIX
from tests.filesystem.conftest import Store


def _names(store: Store) -> list[str]:
    store.raw.invalidate_cache()
    names = (path.rpartition("/")[2] for path in store.raw.find(store.root))
    return sorted(name for name in names if not name.endswith(TEMPORARY_SUFFIX))


def _write_all_ways(store: Store, folder: Path) -> list[str]:
    fs = store.fs
    (folder / "up").write_bytes(b"up")
    with fs.open(store.path("binary"), "wb") as file:
        file.write(b"binary")
    with fs.open(store.path("text"), "w") as file:
        file.write("text")
    with fs.open(store.path("zipped"), "wt", compression="gzip") as file:
        file.write("zipped")
    file = fs.open(store.path("closed"), "wb")
    file.write(b"closed")
    file.close()
    assert file.closed
    with pytest.raises(ValueError, match="closed"):
        file.write(b"more")
    with fs.open(store.path("exclusive"), "xb") as file:
        file.write(b"exclusive")
    fs.pipe({store.path("piped"): b"piped", store.path("piped2"): b""})
    fs.pipe_file(store.path("piped3"), bytearray(b"piped3"))
    fs.put(str(folder / "up"), store.path("up"))
    fs.write_text(store.path("written"), "written")
    gc.collect()  # a TextIOWrapper that was closed is collected before its transaction ends
    return [
        "binary", "closed", "exclusive", "piped", "piped2", "piped3", "text", "up", "written",
        "zipped",
    ]  # fmt: skip


def test_all_of_it_appears_at_the_end_and_only_then(store: Store, tmp_path: Path) -> None:
    with store.fs.transaction:
        written = _write_all_ways(store, tmp_path)
        assert _names(store) == []
    assert _names(store) == written
    for name in set(written) - {"piped2", "zipped"}:
        assert store.fs.cat_file(store.path(name)) == name.encode()
    with store.fs.open(store.path("zipped"), "rt", compression="gzip") as file:
        assert file.read() == "zipped"


def test_nothing_appears_when_an_exception_leaves_it(store: Store, tmp_path: Path) -> None:
    def write() -> None:
        with store.fs.transaction:
            _write_all_ways(store, tmp_path)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write()
    assert _names(store) == []
    store.fs.pipe_file(store.path("after"), b"x")
    assert _names(store) == ["after"]


def test_without_a_with(store: Store, tmp_path: Path) -> None:
    store.fs.start_transaction()
    written = _write_all_ways(store, tmp_path)
    assert _names(store) == []
    store.fs.end_transaction()
    assert _names(store) == written


@pytest.mark.parametrize(
    "options", [{"mode": "wb"}, {"mode": "w"}, {"mode": "w", "compression": "gzip"}]
)
def test_a_file_whose_with_an_exception_left_is_not_published_with_the_others(
    store: Store, options: dict[str, str]
) -> None:
    with store.fs.transaction:
        with (
            contextlib.suppress(ZeroDivisionError),
            store.fs.open(store.path("a"), **options) as file,
        ):
            file.write("half" if options["mode"] == "w" else b"half")
            raise ZeroDivisionError
        store.fs.pipe_file(store.path("b"), b"whole")
    assert _names(store) == ["b"]


def test_a_file_that_was_not_closed_discards_the_transaction(store: Store) -> None:
    store.fs.start_transaction()
    file = store.fs.open(store.path("a"), "w")
    file.write("half")
    store.fs.pipe_file(store.path("b"), b"whole")
    with pytest.raises(UnfinishedWrite, match="not closed"):
        store.fs.end_transaction()
    assert _names(store) == []


def test_of_two_exclusive_writers_the_second_discards_what_is_left(store: Store) -> None:
    store.fs.start_transaction()
    with store.fs.open(store.path("a"), "xb") as file:
        file.write(b"mine")
    store.raw.pipe_file(store.path("a"), b"theirs")
    store.fs.pipe_file(store.path("b"), b"x")
    with pytest.raises(AlreadyExists):
        store.fs.end_transaction()
    assert _names(store) == ["a"]
    assert store.raw.cat_file(store.path("a")) == b"theirs"


def test_files_opened_together_are_ours_whatever_lies_below(store: Store) -> None:
    """A cache below answered fsspec's open_files in our place, with ciphertext or for plaintext."""
    for chain in (store.protocol, f"simplecache::{store.protocol}"):
        url = f"envelope::{chain}://{store.path(chain.partition(':')[0])}-*"
        options = store.storage_options
        with fsspec.open_files(url, "wb", num=2, **options) as files:
            for file in files:
                file.write(b"canary")
        stored = store.raw.glob(store.path(chain.partition(":")[0]) + "-*")
        assert len(stored) == 2
        for path in stored:
            assert store.raw.cat_file(path)[:8] == b"\x89ENV\r\n\x1a\n"
        with fsspec.open_files(url, "rb", **options) as files:
            assert [file.read() for file in files] == [b"canary", b"canary"]
