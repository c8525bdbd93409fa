"""envelope.open: writing and reading in pieces of 1 MiB, alone and beside a busy thread."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import envelope
from benchmarks.copies import copy_fresh, copy_over, fill, pump
from benchmarks.machine import file_system
from benchmarks.plan import MIB, Plan
from benchmarks.prefaulted import opened_over
from benchmarks.results import Row, Table, ratios
from benchmarks.rounds import Contestant, interleave
from benchmarks.scene import Scene

__all__ = ["alone", "beside_a_busy_thread"]

_OVER = "copy over an existing file"
_BOTH_OVER = "copy; both over existing files"
_FRESH = "copy into a new file"
_OUT = "read, and write to a file"


def alone(plan: Plan) -> Table:
    """Programs that write and read a stream, against programs that copy a file."""
    size = plan.fitting(plan.memory, 9)
    with plan.folder(plan.memory) as folder:
        seconds = _run(folder, size, plan.rounds)
    rows = (
        Row("write", _BOTH_OVER, ratios(seconds["write over"], seconds["over"]), target=1.0),
        Row("write", _FRESH, ratios(seconds["write"], seconds["fresh"])),
        Row("read", _OVER, ratios(seconds["read"], seconds["over"]), target=1.0),
        Row(_OUT, _OVER, ratios(seconds["out"], seconds["over"]), target=1.0),
    )
    return Table(
        "streams",
        "Streams",
        f"{size // MIB} MiB on {file_system(plan.memory)}, no fsync, {plan.rounds} paired rounds, "
        "1 MiB readinto and write, default threads; copy: the same loop between plain files",
        rows,
        (
            "*Write* reads a plain file and writes to `envelope.open`: over an existing file, as "
            "in the first table, or into a new one that is renamed at the end. *Read* reads from "
            "`envelope.open` into a buffer; *and write to a file* writes that over an existing "
            "plain file as well.",
        ),
    )


def beside_a_busy_thread(plan: Plan) -> Table:
    """The same while a pure-Python thread wants the interpreter lock all the time."""
    # A quarter: beside such a thread, everything takes ten times as long.
    size = max(plan.fitting(plan.memory, 9) // 4, MIB)
    rounds = plan.fewer(7)
    with plan.folder(plan.memory) as folder, _busy():
        seconds = _run(folder, size, rounds, whole=True)
    rate = size / MIB / sorted(seconds["over"])[rounds // 2]
    rows = tuple(
        Row(what, of, ratios(seconds[name], seconds[base]), target=1.0)
        for what, name, of, base in (
            ("encrypt_file", "encrypt_file", _FRESH, "fresh"),
            ("decrypt_file", "decrypt_file", _FRESH, "fresh"),
            ("write", "write", _FRESH, "fresh"),
            ("read", "read", _OVER, "over"),
            (_OUT, "out", _OVER, "over"),
        )
    )
    return Table(
        "busy",
        "Beside one busy pure-Python thread",
        f"{size // MIB} MiB on {file_system(plan.memory)}, no fsync, {rounds} paired rounds, 1 MiB "
        "readinto and write, default threads; copy: the same loop between plain files, beside that "
        f"thread too ({rate:.0f} MiB/s)",
        rows,
    )


def _run(folder: Path, size: int, rounds: int, *, whole: bool = False) -> dict[str, list[float]]:
    scene = Scene.make(folder)
    ring = scene.ring
    plain = fill(folder / "plain", size)
    sealed, written, plainly = folder / "sealed", folder / "written", folder / "plainly"
    envelope.encrypt_file(plain, sealed, keys=ring, durable=False)
    over = fill(folder / "over", size)
    sealed_over = fill(folder / "sealed over", size + 8 * MIB)
    contestants = [
        Contestant("over", functools.partial(copy_over, plain, over)),
        Contestant("fresh", functools.partial(copy_fresh, plain, folder / "fresh")),
        Contestant("write", functools.partial(_write, plain, written, ring)),
        Contestant("write over", functools.partial(_write_over, plain, sealed_over, ring)),
        Contestant("read", functools.partial(_read, sealed, None, ring)),
        Contestant("out", functools.partial(_read, sealed, over, ring)),
    ]
    if whole:
        encrypt = functools.partial(envelope.encrypt_file, plain, written)
        decrypt = functools.partial(envelope.decrypt_file, sealed, plainly)
        for name, verb in (("encrypt_file", encrypt), ("decrypt_file", decrypt)):
            run = functools.partial(verb, keys=ring, durable=False)
            contestants.append(Contestant(name, run))
    return interleave(contestants, rounds)


def _write(plain: Path, target: Path, ring: envelope.KeyRing) -> None:
    with envelope.open(target, "wb", keys=ring, durable=False) as file:
        pump(plain, file)


def _write_over(plain: Path, target: Path, ring: envelope.KeyRing) -> None:
    with opened_over(target):
        _write(plain, target, ring)


def _read(sealed: Path, target: Path | None, ring: envelope.KeyRing) -> None:
    buffer = bytearray(MIB)
    view = memoryview(buffer)
    with envelope.open(sealed, keys=ring) as file:
        if target is None:
            while file.readinto(buffer):
                pass
            return
        with open(target, "r+b", buffering=0) as out:
            while count := file.readinto(buffer):
                out.write(view[:count])


@contextmanager
def _busy() -> Iterator[None]:
    """A thread that counts until it is told to stop."""
    stop = threading.Event()

    def count() -> None:
        number = 0
        while not stop.is_set():
            for _ in range(1000):
                number += 1

    thread = threading.Thread(target=count, name="busy")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
