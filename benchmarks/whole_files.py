"""encrypt_file and decrypt_file of a large file, on tmpfs and on a disk, beside a copy loop."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

import envelope
from benchmarks.bare import open_file, seal_file
from benchmarks.copies import copy_fresh, copy_over, fill
from benchmarks.machine import file_system
from benchmarks.plan import MIB, Plan
from benchmarks.prefaulted import into_existing
from benchmarks.results import Row, Table, ratios
from benchmarks.rounds import Contestant, interleave
from benchmarks.scene import Scene

__all__ = ["on_disk", "on_tmpfs"]

_VERBS = {"encrypt_file": envelope.encrypt_file, "decrypt_file": envelope.decrypt_file}
_LIMITS = {4: 0.80, 1: 1.35}  # threads: target
_BOTH_OVER = "copy; both over existing files"
_BOTH_FRESH = "copy; both into new files"
_BARE = "the raw cipher in a loop; both over existing files"
_MIXED = "copy over an existing file; it into a new one"


def on_tmpfs(plan: Plan) -> Table:
    """What the library costs where the disk costs nothing."""
    size = plan.fitting(plan.memory, 11)
    with plan.folder(plan.memory) as folder:
        scene = Scene.make(folder)
        plain = fill(folder / "plain", size)
        sealed = folder / "sealed"
        envelope.encrypt_file(plain, sealed, keys=scene.ring, durable=False)
        existing = {name: fill(folder / f"{name}.over", size + 8 * MIB) for name in _VERBS}
        fill(folder / "copy.over", size)
        # One for both would have its bytes opened that the other contestant did not seal.
        bare, opened = folder / "bare", fill(folder / "opened", size)
        fill(bare, size)
        seal_file(plain, bare)
        contestants = [
            Contestant("over", functools.partial(copy_over, plain, folder / "copy.over")),
            Contestant("fresh", functools.partial(copy_fresh, plain, folder / "copy.fresh")),
            Contestant("encrypt_file bare", functools.partial(seal_file, plain, bare)),
            Contestant("decrypt_file bare", functools.partial(open_file, bare, opened)),
        ]
        for name, verb in _VERBS.items():
            source = plain if name == "encrypt_file" else sealed
            for threads in _LIMITS:
                options: dict[str, Any] = {"keys": scene.ring, "threads": threads, "durable": False}
                run_over = functools.partial(into_existing, verb, source, existing[name], **options)
                run_fresh = functools.partial(verb, source, folder / f"{name}.fresh", **options)
                contestants.append(Contestant(f"{name} {threads} over", run_over))
                contestants.append(Contestant(f"{name} {threads} fresh", run_fresh))
        seconds = interleave(contestants, plan.rounds)
    rows = []
    for name in _VERBS:
        for threads, target in _LIMITS.items():
            what = f"{name}, {threads} thread{'s' if threads > 1 else ''}"
            over, fresh = seconds[f"{name} {threads} over"], seconds[f"{name} {threads} fresh"]
            rows += [
                Row(what, _BOTH_OVER, ratios(over, seconds["over"]), target=target),
                Row(what, _BOTH_FRESH, ratios(fresh, seconds["fresh"])),
                Row(what, _MIXED, ratios(fresh, seconds["over"])),
            ]
            if threads == 1:
                rows.append(Row(what, _BARE, ratios(over, seconds[f"{name} bare"])))
    costs = ratios(seconds["fresh"], seconds["over"])
    rate = _rate(size, seconds["over"])
    rows.append(Row("copy into a new file", "copy over an existing file", costs, note=rate))
    return Table(
        "tmpfs",
        "Whole files in memory",
        f"{size // MIB} MiB on {file_system(plan.memory)}, no fsync, {plan.rounds} paired rounds; "
        "copy: Python, 1 MiB readinto and write, one thread",
        tuple(rows),
        (
            "*Both over existing files*: pages of all targets are faulted in, and the verb's sink "
            "is replaced by one that writes over an existing file; all else of the verb runs. "
            "*Both into new files*: the verb as it is, which writes a new file and renames it over "
            "the old one, and a copy loop that does so too. "
            "*The raw cipher*: read, AES-GCM of each segment, write, and nothing else; that loop "
            "divided by the copy is the least that one thread can reach on this machine.",
        ),
    )


def on_disk(plan: Plan) -> Table:
    """What a user waits for who wants the file to outlast a power failure."""
    size = plan.fitting(plan.disk, 5)
    with plan.folder(plan.disk) as folder:
        scene = Scene.make(folder)
        plain = fill(folder / "plain", size)
        sealed = folder / "sealed"
        envelope.encrypt_file(plain, sealed, keys=scene.ring)
        target = folder / "target"
        prepare = functools.partial(_settle, target)
        copy = functools.partial(copy_fresh, plain, target, durable=True)
        contestants = [Contestant("copy", copy, prepare)]
        for name, verb in _VERBS.items():
            source = plain if name == "encrypt_file" else sealed
            run = functools.partial(verb, source, target, keys=scene.ring)
            contestants.append(Contestant(name, run, prepare))
        seconds = interleave(contestants, plan.rounds)
    rate = _rate(size, seconds["copy"])
    rows = tuple(
        Row(name, "copy and fsync", ratios(seconds[name], seconds["copy"]), target=1.15)
        for name in _VERBS
    )
    return Table(
        "disk",
        "Whole files on disk, durable",
        f"{size // MIB} MiB on {file_system(plan.disk)}, source in the page cache, fsync of file "
        f"and folder on both sides, {plan.rounds} paired rounds; copy: Python, 1 MiB readinto and "
        f"write, into a new file, renamed ({rate})",
        rows,
    )


def _settle(target: Path) -> None:
    """No dirty pages of the last run, and no file to replace."""
    target.unlink(missing_ok=True)
    os.sync()


def _rate(size: int, seconds: list[float]) -> str:
    slow, fast = size / MIB / max(seconds), size / MIB / min(seconds)
    return f"copy at {slow:.0f} to {fast:.0f} MiB/s"
