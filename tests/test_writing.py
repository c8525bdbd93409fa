"""Ways in which writing ends. Only the ordinary ones may leave a file.

`BROKEN` has ways to fail, found by trying what programs really do around a file
object; plain files are published, whole-looking, by most of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import csv
import gc
import gzip
import io
import os
import signal
import subprocess
import sys
import tarfile
import textwrap
import threading
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import envelope
from envelope import events
from envelope.errors import UnfinishedWrite
from envelope.ring import KeyRing

Opener = Callable[..., Any]


class Expected(Exception):
    """What goes wrong in these tests."""


def fail(*_: object) -> None:
    raise Expected


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "out.env1"


@pytest.fixture
def start(ring: KeyRing, target: Path) -> Opener:
    def opener(mode: str = "wb", **options: Any) -> Any:
        return envelope.open(target, mode, keys=ring, **options)

    return opener


@pytest.fixture
def aborted() -> Iterator[list[events.WriteAborted]]:
    seen: list[events.WriteAborted] = []

    def note(event: events.Event) -> None:
        if isinstance(event, events.WriteAborted):
            seen.append(event)

    unsubscribe = events.subscribe(note)
    yield seen
    unsubscribe()


# --- Ways to fail ---


def in_a_with(start: Opener) -> None:
    with start() as file:
        file.write(b"x" * 100)
        fail()


def in_a_with_after_many_segments(start: Opener) -> None:
    with start(segment_length=4096) as file:
        file.write(bytes(3_000_000))
        fail()


def in_a_with_before_the_first_byte(start: Opener) -> None:
    with start():
        fail()


def in_a_text_file(start: Opener) -> None:
    with start("w") as file:
        file.write("some text\n")
        fail()


def in_a_text_wrapper_of_the_users(start: Opener) -> None:
    with io.TextIOWrapper(start(), encoding="utf-8") as file:
        file.write("some text\n")
        fail()


def in_a_buffered_writer(start: Opener) -> None:
    with io.BufferedWriter(start()) as file:
        file.write(b"x")
        fail()


def in_a_text_wrapper_over_a_buffered_writer(start: Opener) -> None:
    with io.TextIOWrapper(io.BufferedWriter(start())) as file:
        file.write("x")
        fail()


def in_gzip_inside_the_file(start: Opener) -> None:
    with start() as file, gzip.open(file, "wb") as zipped:
        zipped.write(b"x" * 1000)
        fail()


def in_text_gzip(start: Opener) -> None:
    with start() as file, gzip.open(file, "wt") as zipped:
        zipped.write("x" * 1000)
        fail()


def in_a_zip_archive(start: Opener) -> None:
    with start() as file, zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a", b"x")
        fail()


def in_a_zip_member(start: Opener) -> None:
    with start() as file, zipfile.ZipFile(file, "w") as archive, archive.open("a", "w") as member:
        member.write(b"x")
        fail()


def in_a_tar_stream(start: Opener) -> None:
    with start() as file, tarfile.open(fileobj=file, mode="w|") as archive:
        archive.addfile(tarfile.TarInfo("a"))
        fail()


def in_contextlib_closing(start: Opener) -> None:
    with contextlib.closing(start()) as file:
        file.write(b"x")
        fail()


def in_closing_of_a_text_wrapper(start: Opener) -> None:
    with contextlib.closing(start("w")) as file:
        file.write("x")
        fail()


def in_an_exit_stack(start: Opener) -> None:
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(start())
        file.write(b"x")
        fail()


def in_an_exit_stack_that_only_closes(start: Opener) -> None:
    with contextlib.ExitStack() as stack:
        file = start()
        stack.callback(file.close)
        file.write(b"x")
        fail()


def in_an_exit_stack_that_closes_a_text_wrapper(start: Opener) -> None:
    with contextlib.ExitStack() as stack:
        file = start("w")
        stack.callback(file.close)
        file.write("x")
        fail()


def in_a_generator_context_manager(start: Opener) -> None:
    @contextlib.contextmanager
    def opened() -> Iterator[Any]:
        with start() as file:
            yield file

    with opened() as file:
        file.write(b"x")
        fail()


def in_a_generator_that_is_closed(start: Opener) -> None:
    def rows() -> Iterator[None]:
        with start() as file:
            while True:
                file.write(b"x")
                yield

    generator = rows()
    next(generator)
    generator.close()
    raise Expected


def in_a_generator_that_is_thrown_into(start: Opener) -> None:
    def rows() -> Iterator[None]:
        with start() as file:
            file.write(b"x")
            yield

    generator = rows()
    next(generator)
    generator.throw(Expected())


def in_a_csv_writer_whose_rows_fail(start: Opener) -> None:
    def rows() -> Iterator[list[int]]:
        yield [1]
        raise Expected

    with start("w") as file:
        csv.writer(file).writerows(rows())


def in_writelines_whose_lines_fail(start: Opener) -> None:
    def lines() -> Iterator[bytes]:
        yield b"x\n"
        raise Expected

    with start() as file:
        file.writelines(lines())


def by_a_wrong_type(start: Opener) -> None:
    try:
        with start() as file:
            file.write(b"x")
            file.write("text")
    except TypeError:
        raise Expected from None


def by_an_interrupt(start: Opener) -> None:
    try:
        with start() as file:
            file.write(b"x")
            os.kill(os.getpid(), signal.SIGINT)
            signal.pause()
    except KeyboardInterrupt:
        raise Expected from None


def by_exit(start: Opener) -> None:
    try:
        with start("w") as file:
            file.write("x")
            sys.exit(1)
    except SystemExit:
        raise Expected from None


def by_a_cancelled_task(start: Opener) -> None:
    async def work() -> None:
        with start() as file:
            file.write(b"x")
            await asyncio.sleep(60)

    async def main() -> None:
        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        task.cancel()
        await task

    try:
        asyncio.run(main())
    except asyncio.CancelledError:
        raise Expected from None


def in_finally(start: Opener) -> None:
    file = start()
    try:
        file.write(b"x")
        fail()
    finally:
        with contextlib.suppress(UnfinishedWrite):
            file.close()


def in_except_and_raised_again(start: Opener) -> None:
    file = start()
    try:
        file.write(b"x")
        fail()
    except Expected:
        with contextlib.suppress(UnfinishedWrite):
            file.close()
        raise


def in_a_thread(start: Opener) -> None:
    errors: list[BaseException] = []

    def work() -> None:
        try:
            in_a_with(start)
        except Expected as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    raise errors[0]


def in_pandas(start: Opener) -> None:
    pd = pytest.importorskip("pandas")

    class Unprintable:
        def __str__(self) -> str:
            raise Expected

    with start("w") as file:
        pd.DataFrame({"a": ["x", Unprintable()]}).to_csv(file)


def in_a_parquet_writer(start: Opener) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table = pa.table({"a": [1, 2]})
    with start() as file, pq.ParquetWriter(file, table.schema) as writer:
        writer.write_table(table)
        fail()


def by_abort(start: Opener) -> None:
    file = start()
    file.write(b"x")
    file.abort()
    raise Expected


BROKEN = [
    in_a_with,
    in_a_with_after_many_segments,
    in_a_with_before_the_first_byte,
    in_a_text_file,
    in_a_text_wrapper_of_the_users,
    in_a_buffered_writer,
    in_a_text_wrapper_over_a_buffered_writer,
    in_gzip_inside_the_file,
    in_text_gzip,
    in_a_zip_archive,
    in_a_zip_member,
    in_a_tar_stream,
    in_contextlib_closing,
    in_closing_of_a_text_wrapper,
    in_an_exit_stack,
    in_an_exit_stack_that_only_closes,
    in_an_exit_stack_that_closes_a_text_wrapper,
    in_a_generator_context_manager,
    in_a_generator_that_is_closed,
    in_a_generator_that_is_thrown_into,
    in_a_csv_writer_whose_rows_fail,
    in_writelines_whose_lines_fail,
    by_a_wrong_type,
    by_an_interrupt,
    by_exit,
    by_a_cancelled_task,
    in_finally,
    in_except_and_raised_again,
    in_a_thread,
    in_pandas,
    in_a_parquet_writer,
    by_abort,
]


@pytest.mark.parametrize("way", BROKEN, ids=lambda way: way.__name__)
@pytest.mark.parametrize("existing", [None, b"the old file"], ids=["new", "replacing"])
def test_a_way_to_fail_leaves_what_was_there_and_says_so(
    way: Callable[[Opener], None],
    existing: bytes | None,
    start: Opener,
    target: Path,
    aborted: list[events.WriteAborted],
) -> None:
    if existing is not None:
        target.write_bytes(existing)
    with pytest.raises(Expected):
        way(start)
    assert [path.name for path in target.parent.iterdir()] == ([target.name] if existing else [])
    assert existing is None or target.read_bytes() == existing
    assert [event.path for event in aborted] == [str(target)]


# --- Collected instead of closed ---


@pytest.mark.parametrize(
    "wrap",
    [
        lambda file: file,
        lambda file: io.TextIOWrapper(file),
        lambda file: io.BufferedWriter(file),
        lambda file: io.TextIOWrapper(io.BufferedWriter(file)),
    ],
    ids=["itself", "text", "buffered", "text over buffered"],
)
def test_the_garbage_collector_publishes_nothing(
    wrap: Callable[[Any], Any], start: Opener, target: Path, aborted: list[events.WriteAborted]
) -> None:
    file = wrap(start())
    file.write("x" if isinstance(file, io.TextIOWrapper) else b"x")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        del file
        gc.collect()
    assert list(target.parent.iterdir()) == []
    assert len(aborted) == 1


def test_a_warning_that_is_an_error_does_not_keep_the_temporary_file(
    start: Opener, target: Path, aborted: list[events.WriteAborted]
) -> None:
    file = start()
    file.write(b"x")
    said: list[object] = []
    hook, sys.unraisablehook = sys.unraisablehook, said.append
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", ResourceWarning)
            del file
            gc.collect()
    finally:
        sys.unraisablehook = hook
    assert said
    assert list(target.parent.iterdir()) == []
    assert len(aborted) == 1


def test_an_interpreter_that_exits_publishes_nothing(tmp_path: Path) -> None:
    program = textwrap.dedent("""
        import sys
        from tests.memory_driver import installed
        import envelope
        with installed() as driver:
            ring = envelope.KeyRing("local:lake", settings={"local": {"seed": "s"}})
            file = envelope.open(sys.argv[1], "wb", keys=ring)
            file.write(bytes(5_000_000))
            print("written")
    """)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, str(tmp_path / "x")],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "written\n"
    assert not (tmp_path / "x").exists()


# --- close() while an exception is handled ---


def test_close_in_a_handler_of_a_newer_exception_says_that_nothing_was_published(
    start: Opener, target: Path
) -> None:
    file = start()
    file.write(b"x")
    try:
        fail()
    except Expected:
        with pytest.raises(UnfinishedWrite, match="commit"):
            file.close()
    assert not target.exists()
    file.close()  # again: it is closed, and that is all


def test_commit_in_a_handler_publishes(ring: KeyRing, start: Opener, target: Path) -> None:
    file = start()
    file.write(b"x")
    try:
        fail()
    except Expected:
        file.commit()
    assert envelope.decrypt(target.read_bytes(), keys=ring) == b"x"


def test_a_writer_opened_in_a_handler_is_published_there(
    ring: KeyRing, start: Opener, target: Path
) -> None:
    try:
        fail()
    except Expected:
        file = start()
        file.write(b"a report of the error")
        file.close()
    assert envelope.decrypt(target.read_bytes(), keys=ring) == b"a report of the error"


def test_a_with_inside_a_handler_publishes(ring: KeyRing, start: Opener, target: Path) -> None:
    try:
        fail()
    except Expected:
        with start("w") as file:
            file.write("a report")
    assert envelope.decrypt(target.read_bytes(), keys=ring) == b"a report"


def test_an_exception_that_stays_inside_the_with_does_no_harm(
    ring: KeyRing, start: Opener, target: Path
) -> None:
    with start() as file:
        with contextlib.suppress(Expected):
            fail()
        file.write(b"x")
    assert envelope.decrypt(target.read_bytes(), keys=ring) == b"x"


def test_exit_without_an_exception_always_publishes(
    ring: KeyRing, start: Opener, target: Path
) -> None:
    file = start()
    file.write(b"x")
    try:
        fail()
    except Expected:
        file.__exit__(None, None, None)
    assert envelope.decrypt(target.read_bytes(), keys=ring) == b"x"


# --- Ways to succeed ---


def test_a_file_is_not_there_before_it_is_closed(
    ring: KeyRing, start: Opener, target: Path
) -> None:
    file = start()
    file.write(bytes(3_000_000))
    file.flush()
    assert not target.exists()
    (temporary,) = target.parent.iterdir()
    assert temporary.name.startswith(".out.env1.")
    assert temporary.name.endswith(".env1tmp")
    assert temporary.stat().st_mode & 0o777 == 0o600
    file.close()
    assert list(target.parent.iterdir()) == [target]
    assert envelope.decrypt(target.read_bytes(), keys=ring) == bytes(3_000_000)


def test_after_a_failed_write_nothing_can_be_published(start: Opener, target: Path) -> None:
    file = start()
    file.write(b"x")
    with pytest.raises(TypeError):
        file.write(3.5)
    file.write(b"y")  # that argument was refused before anything was taken
    file.close()
    assert target.exists()


def test_a_full_disk_fails_the_writer_for_good(
    start: Opener, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = start(segment_length=4096, threads=1)

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("envelope.sinks.os.pwrite", full)
    with pytest.raises(OSError, match="space"):
        file.write(bytes(10_000_000))
    monkeypatch.undo()
    with pytest.raises(UnfinishedWrite, match="earlier write"):
        file.close()
    assert list(target.parent.iterdir()) == []


def test_a_closed_writer_takes_nothing(start: Opener) -> None:
    with start() as file:
        pass
    for action in (lambda: file.write(b""), file.tell, file.flush):
        with pytest.raises(ValueError, match="closed"):
            action()


def test_exclusive_mode_refuses_an_existing_file(start: Opener, target: Path) -> None:
    target.write_bytes(b"old")
    with pytest.raises(envelope.errors.AlreadyExists):
        start("xb")
    with pytest.raises(envelope.errors.AlreadyExists):
        start("wb", overwrite=False)
    assert target.read_bytes() == b"old"


def test_of_two_exclusive_writers_one_wins(ring: KeyRing, start: Opener, target: Path) -> None:
    one, other = start("xb"), start("xb")
    one.write(b"one")
    other.write(b"other")
    one.close()
    with pytest.raises(envelope.errors.AlreadyExists):
        other.close()
    assert envelope.decrypt(target.read_bytes(), keys=ring) == b"one"
    assert list(target.parent.iterdir()) == [target]
