"""``python -m benchmarks``: measure, print, plot."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import plan as plans
from benchmarks.azure_opens import azure
from benchmarks.fresh_processes import imports, memory, unwraps
from benchmarks.machine import describe, moment
from benchmarks.page import write_page
from benchmarks.parquet import parquet
from benchmarks.peers.measure import peers
from benchmarks.plan import GIB, MIB, Plan
from benchmarks.plot import as_svg
from benchmarks.random_reads import random_reads
from benchmarks.reflinks import mounted, shares_blocks
from benchmarks.render import as_text, summary
from benchmarks.results import Table
from benchmarks.rewraps import rewraps
from benchmarks.stores import far, s3
from benchmarks.streams import alone, beside_a_busy_thread
from benchmarks.values import values
from benchmarks.whole_files import on_disk, on_tmpfs

__all__ = ["MEASURES", "main"]

MEASURES: dict[str, Callable[[Plan], Table]] = {
    "tmpfs": on_tmpfs,
    "disk": on_disk,
    "streams": alone,
    "busy": beside_a_busy_thread,
    "random": random_reads,
    "values": values,
    "memory": memory,
    "unwraps": unwraps,
    "rewrap": rewraps,
    "imports": imports,
    "azure": azure,
    "far": far,
    "s3": s3,
    "parquet": parquet,
    "peers": peers,
}

_ROOT = Path(__file__).resolve().parents[1]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is asked for. A missed target is printed, and is no failure of the program."""
    options = _parse(arguments)
    machine, tables = describe(), {}
    if options.results.exists() and (options.only or options.again):
        found = json.loads(options.results.read_text(encoding="utf-8"))
        machine = found["machine"] if options.again else machine
        tables = {value["name"]: Table.from_json(value) for value in found["tables"]}
    if not options.again:
        print(*(f"{name}: {value}" for name, value in machine.items()), sep="\n", flush=True)
        for table in _measure(options):
            tables[table.name] = table
            print("", as_text(table), sep="\n", flush=True)
            _save(options.results, machine, _ordered(tables))
    rehearsal = "A rehearsal: everything ran, and no number above means anything."
    print("", rehearsal if options.tiny else summary(_ordered(tables)), sep="\n")
    options.images.mkdir(parents=True, exist_ok=True)
    for table in _ordered(tables):
        image = options.images / f"benchmark-{table.name}.svg"
        image.write_text(as_svg(table), encoding="utf-8")
    if options.docs:
        write_page(options.page, options.readme, machine, _ordered(tables))
    return 0


def _measure(options: argparse.Namespace) -> Any:
    plan = _plan(options)
    for name, measure in MEASURES.items():
        if options.only and name not in options.only:
            continue
        with ExitStack() as stack:
            here = plan
            if name == "rewrap" and plan.reflink is None and shares_blocks(plan.disk):
                here = replace(plan, reflink=plan.disk)
            elif name == "rewrap" and plan.reflink is None and options.loop:
                room = stack.enter_context(mounted(plan.disk, 3 * plan.size + GIB))
                here = replace(plan, reflink=room)
            before = moment()
            yield replace(measure(here), measured=before)


def _plan(options: argparse.Namespace) -> Plan:
    size, rounds = (2 * MIB, 1) if options.tiny else (GIB, 15)
    return Plan(
        size=options.size or size,
        rounds=options.rounds or rounds,
        memory=options.memory or plans.tmpfs_folder(),
        disk=options.disk or plans.disk_folder(),
        reflink=options.reflink,
        tiny=options.tiny,
    )


def _ordered(tables: dict[str, Table]) -> list[Table]:
    return [tables[name] for name in MEASURES if name in tables]


def _save(path: Path, machine: dict[str, str], tables: Sequence[Table]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    value = {"machine": machine, "tables": [table.to_json() for table in tables]}
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _bytes(text: str) -> int:
    """``512M``, ``1G``, or plain bytes."""
    factor = {"K": 2**10, "M": MIB, "G": GIB}.get(text[-1:].upper())
    number = int(text[:-1]) * factor if factor else int(text)
    if number < MIB:
        raise argparse.ArgumentTypeError("at least 1M")
    return number


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    add = parser.add_argument
    add("--only", action="append", choices=MEASURES, metavar="NAME", help=", ".join(MEASURES))
    add("--size", type=_bytes, help="of the large file, such as 256M (default 1G)")
    add("--rounds", type=_positive, help="paired rounds (default 15)")
    add("--tiny", action="store_true", help="a rehearsal in seconds; its numbers mean nothing")
    add("--memory", type=Path, metavar="FOLDER", help="on tmpfs (default /dev/shm)")
    add("--disk", type=Path, metavar="FOLDER", help="on a disk (default /var/tmp)")
    add("--reflink", type=Path, metavar="FOLDER", help="on a file system that shares blocks")
    add("--loop", action="store_true", help="as root: mount an XFS or btrfs image for that")
    add("--again", action="store_true", help="measure nothing: print and plot the saved results")
    add(
        "--docs", action="store_true", help="write the tables into docs/benchmarks.md and README.md"
    )
    add("--page", type=Path, default=_ROOT / "docs" / "benchmarks.md", help=argparse.SUPPRESS)
    add("--readme", type=Path, help=argparse.SUPPRESS)
    add("--images", type=Path, metavar="FOLDER", help="for the plots (default docs/images)")
    add("--results", type=Path, metavar="FILE", help="JSON (default build/benchmarks.json)")
    options = parser.parse_args(arguments)
    # A rehearsal's numbers must never stand where real ones are looked for.
    build = _ROOT / "build" / ("rehearsal" if options.tiny else "")
    options.results = options.results or build / "benchmarks.json"
    options.images = options.images or (build if options.tiny else _ROOT / "docs" / "images")
    if options.page == _ROOT / "docs" / "benchmarks.md":
        options.readme = options.readme or _ROOT / "README.md"
    if options.tiny and options.docs and options.readme == _ROOT / "README.md":
        parser.error("a rehearsal's numbers are not for the documentation")
    return options


if __name__ == "__main__":
    sys.exit(main())
