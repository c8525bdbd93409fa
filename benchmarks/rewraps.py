"""rewrap of a large local file, beside ``cp`` and ``sync``."""

from __future__ import annotations

import functools
import os
import subprocess
from pathlib import Path

import envelope
from benchmarks.copies import fill
from benchmarks.machine import file_system
from benchmarks.plan import MIB, Plan
from benchmarks.results import Row, Table, ratios
from benchmarks.rounds import Contestant, interleave
from benchmarks.scene import Scene

__all__ = ["rewraps"]


def rewraps(plan: Plan) -> Table:
    """What rotating a master key costs for one file."""
    rounds = plan.fewer(9)
    size = plan.fitting(plan.disk, 5)
    rows = _on(plan, plan.disk, size, rounds, "never")
    where = f"{file_system(plan.disk)}"
    if plan.reflink is not None:
        rows += _on(plan, plan.reflink, plan.fitting(plan.reflink, 2), rounds, "always")
        where += f"; with reflinks: {file_system(plan.reflink)}"
    else:
        what = "rewrap where blocks are shared"
        rows.append(Row(what, note="no file system with reflinks at hand: give --reflink FOLDER"))
    return Table(
        "rewrap",
        "Rewrap of a local file",
        f"{size // MIB} MiB on {where}; durable: fsync of file and folder; {rounds} paired rounds, "
        "the master key rotated before each; cp and sync: `cp` into a new file, then `sync` of it",
        tuple(rows),
        ("`cp` without `sync` is no match: it returns before anything is on the disk.",),
    )


def _on(plan: Plan, parent: Path, size: int, rounds: int, reflink: str) -> list[Row]:
    with plan.folder(parent) as folder:
        scene = Scene.make(folder, impatient=True)
        sealed, copy = folder / "sealed", folder / "copy"
        plain = fill(folder / "plain", size)
        envelope.encrypt_file(plain, sealed, keys=scene.ring)
        plain.unlink()
        prepare = functools.partial(_settle, scene, copy)
        contestants = [
            Contestant("cp", functools.partial(_cp, sealed, copy, reflink), prepare),
            Contestant("cp and sync", functools.partial(_cp_sync, sealed, copy, reflink), prepare),
            Contestant("rewrap", functools.partial(_rewrap, sealed, scene), prepare),
        ]
        seconds = interleave(contestants, rounds)
    shared = reflink == "always"
    what = "rewrap where blocks are shared" if shared else "rewrap"
    how = "cp --reflink" if shared else "cp"
    note = f"{sorted(seconds['rewrap'])[rounds // 2] * 1000:.0f} ms"
    return [
        Row(
            what,
            f"{how} and sync",
            ratios(seconds["rewrap"], seconds["cp and sync"]),
            target=1.1,
            note=note,
        ),
        Row(what, f"{how} without sync", ratios(seconds["rewrap"], seconds["cp"])),
    ]


def _settle(scene: Scene, copy: Path) -> None:
    scene.rotate()
    copy.unlink(missing_ok=True)
    os.sync()


def _cp(source: Path, target: Path, reflink: str) -> None:
    options = [f"--reflink={reflink}"] if os.uname().sysname == "Linux" else []
    subprocess.run(["cp", *options, source, target], check=True)


def _cp_sync(source: Path, target: Path, reflink: str) -> None:
    _cp(source, target, reflink)
    subprocess.run(["sync", target], check=True)


def _rewrap(sealed: Path, scene: Scene) -> None:
    if not envelope.rewrap(sealed, keys=scene.ring).changed:
        raise AssertionError("the rewrap had nothing to do")
