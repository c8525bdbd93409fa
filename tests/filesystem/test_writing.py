"""However a writing ends badly, a store shows nothing of it; however it ends well, the whole file.

The ways of :mod:`tests.test_writing`, and those that only fsspec and the programs over it have.
Plain fsspec publishes a partial file in most of them.
"""

from __future__ import annotations

import contextlib
import gc
import gzip
import io
import os
import pickle
import shutil
import signal
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from envelope import events
from envelope.errors import UnfinishedWrite
from tests.filesystem.conftest import Store
from tests.forking import holds_in_child
from tests.test_writing import BROKEN, Expected, fail

DATA = os.urandom(700_000)
NAME = "out.bin"


class Writing:
    """What a way gets: a file to write, and ways to open it.

    Args:
        store: Where.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.fs = store.fs
        self.path = store.path(NAME)
        self.url = f"{store.url}/{NAME}"
        self.options = store.storage_options

    def __call__(self, mode: str = "wb", segment_length: int | None = None, **given: Any) -> Any:
        """As the ways of the core's tests open it."""
        fs = (
            self.fs
            if segment_length is None
            else self.store.filesystem(segment_length=segment_length)
        )
        return fs.open(self.path, mode, **given)

    def chained(self, mode: str = "wb", **given: Any) -> Any:
        """As fsspec.open opens it."""
        return fsspec.open(self.url, mode, **self.options, **given)


@pytest.fixture
def writing(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Writing]:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    yield Writing(store)
    assert list((tmp_path / "temporary").iterdir()) == []


@pytest.fixture(scope="module", autouse=True)
def _what_is_there_already() -> Iterator[None]:
    """Collections look at what these tests make, and not at all that is in the process."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@contextlib.contextmanager
def _collecting() -> Iterator[None]:
    """Files that are collected warn, and are meant to here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        yield
        gc.collect()


def _there(store: Store) -> list[str]:
    store.raw.invalidate_cache()
    return sorted(path.rpartition("/")[2] for path in store.raw.find(store.root))


def _uploads(store: Store) -> list[Any]:
    """Parts of uploads that were begun and neither ended nor taken back: they cost money."""
    if store.protocol != "s3":
        return []
    found = store.raw.call_s3("list_multipart_uploads", Bucket=store.root)
    return list(found.get("Uploads", []))


# --- Ways to fail that only fsspec has ---


def in_open_file(writing: Writing) -> None:
    with writing.chained() as file:
        file.write(DATA)
        fail()


def in_open_file_with_text(writing: Writing) -> None:
    with writing.chained("w") as file:
        file.write("half")
        fail()


def in_open_file_with_compression(writing: Writing) -> None:
    with writing.chained(compression="gzip") as file:
        file.write(DATA)
        fail()


def in_open_file_with_compressed_text(writing: Writing) -> None:
    with writing.chained("wt", compression="xz") as file:
        file.write("half" * 100)
        fail()


def in_compression_of_the_file_system(writing: Writing) -> None:
    with writing.fs.open(writing.path, "wb", compression="gzip") as file:
        file.write(DATA)
        fail()


def in_compressed_text_of_the_file_system(writing: Writing) -> None:
    with writing.fs.open(writing.path, "wt", compression="bz2") as file:
        file.write("half" * 100)
        fail()


def in_closing_of_a_compressed_file(writing: Writing) -> None:
    with contextlib.closing(writing.fs.open(writing.path, "wb", compression="gzip")) as file:
        file.write(DATA)
        fail()


def by_a_compressor_that_fails_at_the_end(writing: Writing) -> None:
    class Breaking(io.BytesIO):
        def close(self) -> None:
            fail()

    from envelope_fsspec.writing import Compressed

    with Compressed(Breaking(), writing()) as file:
        file.write(DATA)


def in_open_files(writing: Writing) -> None:
    pattern = writing.url.replace(NAME, "*.bin")
    with fsspec.open_files(pattern, "wb", num=3, **writing.options) as files:
        for file in files:
            file.write(DATA)
        fail()


def in_open_files_with_text_and_compression(writing: Writing) -> None:
    pattern = writing.url.replace(NAME, "*.bin")
    options = {"num": 2, "compression": "gzip", **writing.options}
    with fsspec.open_files(pattern, "wt", **options) as files:
        for file in files:
            file.write("half")
        fail()


def in_an_exit_stack_with_open_file(writing: Writing) -> None:
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(writing.chained("w"))
        file.write("half")
        fail()


def in_open_file_that_is_opened_and_closed_by_hand(writing: Writing) -> None:
    opened = writing.chained().open()
    try:
        opened.write(DATA)
        fail()
    finally:
        with contextlib.suppress(UnfinishedWrite):
            opened.close()


def by_collecting_the_file(writing: Writing) -> None:
    with _collecting():
        file = writing()
        file.write(DATA)
        del file
    raise Expected


def by_collecting_a_text_file(writing: Writing) -> None:
    with _collecting():
        file = writing("w")
        file.write("half")
        del file
    raise Expected


def by_collecting_a_compressed_file(writing: Writing) -> None:
    with _collecting():
        file = writing.fs.open(writing.path, "wb", compression="gzip")
        file.write(DATA)
        del file
    raise Expected


def by_collecting_a_compressed_text_file(writing: Writing) -> None:
    with _collecting():
        file = writing.fs.open(writing.path, "wt", compression="gzip")
        file.write("half")
        del file
    raise Expected


def by_collecting_a_buffered_writer(writing: Writing) -> None:
    with _collecting():
        file = io.BufferedWriter(writing())
        file.write(b"half")
        del file
    raise Expected


def by_collecting_a_text_wrapper_over_compression(writing: Writing) -> None:
    with _collecting():
        file = io.TextIOWrapper(writing.fs.open(writing.path, "wb", compression="bz2"))
        file.write("half")
        del file
    raise Expected


def by_collecting_gzip_around_it(writing: Writing) -> None:
    with _collecting():
        file = gzip.GzipFile(fileobj=writing(), mode="wb")
        file.write(DATA)
        del file
    raise Expected


def by_collecting_a_zip_archive_around_it(writing: Writing) -> None:
    with _collecting():
        archive = zipfile.ZipFile(writing(), "w")
        archive.writestr("a", DATA)
        del archive
    raise Expected


def by_collecting_what_open_file_opened(writing: Writing) -> None:
    with _collecting():
        file = writing.chained("wt", compression="gzip").open()
        file.write("half")
        del file
    raise Expected


def by_collecting_a_generator(writing: Writing) -> None:
    def rows() -> Iterator[None]:
        with writing.chained("w") as file:
            file.write("half")
            yield

    with _collecting():
        generator = rows()
        next(generator)
        del generator
    raise Expected


def in_to_csv(writing: Writing) -> None:
    pd = pytest.importorskip("pandas")

    class Unprintable:
        def __str__(self) -> str:
            raise Expected

    frame = pd.DataFrame({"a": ["x"] * 10_000 + [Unprintable()]})
    frame.to_csv(writing.url, storage_options=writing.options)


def in_to_csv_with_compression(writing: Writing) -> None:
    pd = pytest.importorskip("pandas")

    class Unprintable:
        def __str__(self) -> str:
            raise Expected

    frame = pd.DataFrame({"a": ["x", Unprintable()]})
    frame.to_csv(writing.url, storage_options=writing.options, compression="gzip")


def in_to_json(writing: Writing) -> None:
    pd = pytest.importorskip("pandas")

    def unable(_: object) -> None:
        raise Expected

    frame = pd.DataFrame({"a": [object()]})
    frame.to_json(writing.url, storage_options=writing.options, default_handler=unable)


def in_a_parquet_writer_with_a_valid_footer(writing: Writing) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table = pa.table({"a": [1, 2]})
    with writing.chained() as file:
        writer = pq.ParquetWriter(file, table.schema)
        writer.write_table(table)
        writer.close()  # the footer is written: a reader would take the file for whole
        fail()


def in_a_parquet_writer_of_pyarrows_file_system(writing: Writing) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table = pa.table({"a": [1, 2]})
    with (
        _collecting(),
        writing.fs.open(writing.path, "wb") as file,
        pq.ParquetWriter(file, table.schema) as writer,
    ):
        writer.write_table(table)
        fail()


def in_copyfileobj(writing: Writing) -> None:
    class Breaking(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell() > 300_000:
                raise Expected
            return super().read(size)

    with writing.chained() as file:
        shutil.copyfileobj(Breaking(DATA), file)


def in_an_interrupted_copy(writing: Writing) -> None:
    try:
        with writing.chained("w") as file:
            file.write("half")
            os.kill(os.getpid(), signal.SIGINT)
            signal.pause()
    except KeyboardInterrupt:
        raise Expected from None


def in_a_transaction(writing: Writing) -> None:
    with writing.fs.transaction:
        with writing() as file:
            file.write(DATA)
        writing.fs.pipe_file(writing.path + "2", DATA)
        fail()


def in_a_file_in_a_transaction(writing: Writing) -> None:
    with writing.fs.transaction, writing("w") as file:
        file.write("half")
        fail()


def by_pickling_the_writer(writing: Writing) -> None:
    try:
        with writing() as file:
            file.write(DATA)
            pickle.dumps(file)
    except TypeError:
        raise Expected from None


def in_a_forked_child(writing: Writing) -> None:
    """Whatever the child does with its copy; the parent gives up afterwards."""
    file = writing()
    file.write(DATA)

    def child() -> bool:
        for do in (lambda: file.write(b"x"), file.close, file.commit):
            with contextlib.suppress(UnfinishedWrite, ValueError):
                do()
        return True

    assert holds_in_child(child)
    file.abort()
    raise Expected


def by_a_put_whose_source_is_missing(writing: Writing) -> None:
    try:
        writing.fs.put_file("/nowhere/at/all", writing.path)
    except FileNotFoundError:
        raise Expected from None


def by_a_put_whose_source_breaks(writing: Writing) -> None:
    class Breaking(io.BytesIO):
        def readinto(self, buffer: Any, /) -> int:
            raise Expected

        def read(self, size: int | None = -1, /) -> bytes:
            raise Expected

    writing.fs.put_file(Breaking(DATA), writing.path)


ONLY_FSSPEC = [
    in_open_file, in_open_file_with_text, in_open_file_with_compression,
    in_open_file_with_compressed_text, in_compression_of_the_file_system,
    in_compressed_text_of_the_file_system, in_closing_of_a_compressed_file,
    by_a_compressor_that_fails_at_the_end, in_open_files, in_open_files_with_text_and_compression,
    in_an_exit_stack_with_open_file, in_open_file_that_is_opened_and_closed_by_hand,
    by_collecting_the_file, by_collecting_a_text_file, by_collecting_a_compressed_file,
    by_collecting_a_compressed_text_file, by_collecting_a_buffered_writer,
    by_collecting_a_text_wrapper_over_compression, by_collecting_gzip_around_it,
    by_collecting_a_zip_archive_around_it, by_collecting_what_open_file_opened,
    by_collecting_a_generator, in_to_csv, in_to_csv_with_compression, in_to_json,
    in_a_parquet_writer_with_a_valid_footer, in_a_parquet_writer_of_pyarrows_file_system,
    in_copyfileobj, in_an_interrupted_copy, in_a_transaction, in_a_file_in_a_transaction,
    by_pickling_the_writer, in_a_forked_child, by_a_put_whose_source_is_missing,
    by_a_put_whose_source_breaks,
]  # fmt: skip


@pytest.mark.parametrize("way", [*BROKEN, *ONLY_FSSPEC], ids=lambda way: way.__name__)
def test_a_way_to_fail_leaves_what_was_there(
    way: Callable[[Writing], None], writing: Writing
) -> None:
    store = writing.store
    # Over a network only the harder case, where a file is there: it is to stay what it was.
    for existing in (b"the old file",) if store.raw.async_impl else (None, b"the old file"):
        if existing is not None:
            writing.fs.pipe_file(writing.path, existing)
        with pytest.raises(Expected):
            way(writing)
        gc.collect()
        assert _there(store) == ([NAME] if existing is not None else [])
        assert existing is None or writing.fs.cat_file(writing.path) == existing
        assert _uploads(store) == []
        writing.fs.pipe_file(writing.path, b"and it can be written again")
        assert writing.fs.cat_file(writing.path) == b"and it can be written again"


def test_large_files_that_fail_leave_nothing(writing: Writing) -> None:
    """Larger than what waits in memory: parts or temporary files have to be taken back."""
    large = os.urandom(9_500_000)

    def write(**given: Any) -> None:
        with writing.chained(**given) as file:
            file.write(large)
            file.write(large)
            fail()

    for given in ({}, {"compression": "gzip"}):
        with pytest.raises(Expected):
            write(**given)
        assert _there(writing.store) == []
        assert _uploads(writing.store) == []
    with _collecting():
        file = writing()
        file.write(large)
        file.write(large)
        del file
    assert _there(writing.store) == []
    assert _uploads(writing.store) == []


# --- Ways to succeed ---


def _with_open(writing: Writing) -> None:
    with writing() as file:
        file.write(DATA)


def _by_close(writing: Writing) -> None:
    file = writing()
    file.write(DATA)
    file.close()


def _by_commit(writing: Writing) -> None:
    file = writing()
    file.write(DATA)
    file.commit()


def _exclusively(writing: Writing) -> None:
    with writing("xb") as file:
        file.write(DATA)


def _with_open_file(writing: Writing) -> None:
    with writing.chained() as file:
        file.write(DATA)


def _with_open_file_by_hand(writing: Writing) -> None:
    file = writing.chained().open()
    file.write(DATA)
    file.close()


def _with_open_files(writing: Writing) -> None:
    with fsspec.open_files([writing.url], "wb", **writing.options) as [file]:
        file.write(DATA)


def _in_a_handler(writing: Writing) -> None:
    try:
        fail()
    except Expected:
        with writing.chained() as file:
            file.write(DATA)


def _opened_before_a_handler_and_left_by_its_with(writing: Writing) -> None:
    with writing() as file:
        try:
            file.write(DATA)
            fail()
        except Expected:
            pass


def _commit_in_a_handler(writing: Writing) -> None:
    file = writing()
    file.write(DATA)
    try:
        fail()
    except Expected:
        file.commit()


def _in_a_generator(writing: Writing) -> None:
    def rows() -> Iterator[None]:
        with writing.chained() as file:
            for start in range(0, len(DATA), 1000):
                file.write(DATA[start : start + 1000])
                yield

    for _ in rows():
        pass


def _in_a_transaction(writing: Writing) -> None:
    with writing.fs.transaction, writing() as file:
        file.write(DATA)


def _in_a_transaction_by_open_file(writing: Writing) -> None:
    with writing.fs.transaction, writing.chained() as file:
        file.write(DATA)


def _through_a_buffered_writer(writing: Writing) -> None:
    with io.BufferedWriter(writing()) as file:
        file.write(DATA)


def _by_put(writing: Writing) -> None:
    writing.fs.put_file(io.BytesIO(DATA), writing.path)


def _with_pieces_of_a_reused_buffer(writing: Writing) -> None:
    buffer = bytearray(1000)
    with writing() as file:
        for start in range(0, len(DATA), 1000):
            buffer[:] = DATA[start : start + 1000]
            file.write(buffer)


def _after_a_fork(writing: Writing) -> None:
    file = writing()
    file.write(DATA[:5000])
    assert holds_in_child(lambda: True)
    file.write(DATA[5000:])
    file.close()


WELL = [
    _with_open, _by_close, _by_commit, _exclusively, _with_open_file, _with_open_file_by_hand,
    _with_open_files, _in_a_handler, _opened_before_a_handler_and_left_by_its_with,
    _commit_in_a_handler, _in_a_generator, _in_a_transaction, _in_a_transaction_by_open_file,
    _through_a_buffered_writer, _by_put, _with_pieces_of_a_reused_buffer, _after_a_fork,
]  # fmt: skip


@pytest.mark.parametrize("way", WELL, ids=lambda way: way.__name__.strip("_"))
def test_a_way_to_succeed_publishes_all_of_it(
    way: Callable[[Writing], None], writing: Writing
) -> None:
    way(writing)
    assert _there(writing.store) == [NAME]
    assert writing.fs.cat_file(writing.path) == DATA


@pytest.mark.parametrize("compression", ["gzip", "bz2", "xz", "zip"])
def test_compressed_files_are_published_whole(writing: Writing, compression: str) -> None:
    for start in (
        writing.chained,
        lambda mode, **given: writing.fs.open(writing.path, mode, **given),
    ):
        with start("wb", compression=compression) as file:
            file.write(DATA)
        with start("rb", compression=compression) as file:
            assert file.read() == DATA
        if compression == "zip":
            continue
        with start("wt", compression=compression, encoding="utf-8") as file:
            file.write("Zürich\n")
        with start("rt", compression=compression, encoding="utf-8") as file:
            assert file.read() == "Zürich\n"


def test_close_in_a_handler_says_that_nothing_was_published(writing: Writing) -> None:
    file = writing()
    file.write(DATA)
    try:
        fail()
    except Expected:
        with pytest.raises(UnfinishedWrite):
            file.close()
    assert _there(writing.store) == []


def test_an_abort_is_told_with_the_path(writing: Writing) -> None:
    seen: list[events.Event] = []
    unsubscribe = events.subscribe(seen.append)
    try:
        with pytest.raises(Expected):
            in_open_file(writing)
    finally:
        unsubscribe()
    told = [event.path for event in seen if isinstance(event, events.WriteAborted)]
    assert len(told) == 1
    assert told[0].endswith(NAME)


def test_of_two_exclusive_writers_the_second_to_end_is_refused(writing: Writing) -> None:
    first, second = writing("xb"), writing("xb")
    first.write(b"first")
    second.write(b"second")
    second.close()
    with pytest.raises(FileExistsError, match="ENV-EXISTS"):
        first.close()
    assert writing.fs.cat_file(writing.path) == b"second"
    with pytest.raises(FileExistsError, match="ENV-EXISTS"):
        writing("xb")


def test_a_writer_tells_its_position_and_has_no_descriptor(writing: Writing) -> None:
    with writing() as file:
        file.write(DATA)
        assert file.tell() == len(DATA)
        assert not file.readable()
        assert file.writable()
        for call in (file.fileno, file.read, lambda: file.seek(0)):
            with pytest.raises(OSError, match=r"."):
                call()
    assert file.closed
    with pytest.raises(ValueError, match="closed"):
        file.write(b"x")
