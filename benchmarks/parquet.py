"""Parquet with column keys beside plain Parquet, both by pyarrow."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

import envelope_parquet
from benchmarks.plan import Plan
from benchmarks.results import Row, Table, ratios
from benchmarks.rounds import Contestant, interleave
from benchmarks.scene import Scene
from envelope_parquet import ColumnPolicy, KeyTable

__all__ = ["parquet"]

_PLAIN = "plain Parquet"
_COLUMNS = 10
_ROWS = 5_000_000
_TWO = ["c2", "c7"]
_KEYS = {f"key{i}": "local:bench" for i in range(4)}
_POLICIES = {
    "one key": ColumnPolicy("footer"),
    "four column keys": ColumnPolicy(
        "footer", {f"key{i}": [f"c{2 * i}", f"c{2 * i + 1}"] for i in range(4)}
    ),
}
_SMALL = 200


def parquet(plan: Plan) -> Table:
    """Ten columns of numbers, under one key and under five; access; small files."""
    count = 20_000 if plan.tiny else _ROWS
    with plan.folder(plan.memory) as folder:
        # Five names of one master key: each wraps data keys of its own, as five keys do.
        keys = KeyTable(Scene.make(folder).ring, aliases={"footer": "local:bench", **_KEYS})
        table = _numbers(count)
        rows = _whole(plan, folder, keys, table)
        rows += _access(plan, folder, keys)
        rows += _small(plan, folder, keys)
    return Table(
        "parquet",
        "Parquet with column keys",
        f"pyarrow {pa.__version__}; {_COLUMNS} columns of numbers × {count:,} rows, half integers "
        f"and half floats; tmpfs, no fsync; {plan.fewer(7)} paired rounds",
        tuple(rows),
        (
            "Writing replaces the file at its end, plain Parquet writes over it. Both sides read "
            "through pyarrow.dataset; the keys of the other side are probed before, as always.",
        ),
    )


def _numbers(count: int) -> pa.Table:
    made = {}
    for i in range(_COLUMNS):
        random = np.random.default_rng(i)
        made[f"c{i}"] = random.random(count) if i % 2 else random.integers(0, 2**40, count)
    return pa.table(made)


def _whole(plan: Plan, folder: Path, keys: KeyTable, table: pa.Table) -> list[Row]:
    plain = str(folder / "plain.parquet")

    def write(side: str) -> None:
        if side == "plain":
            pq.write_table(table, plain)
        else:
            path = folder / f"{side}.parquet"
            envelope_parquet.write_table(table, path, keys=keys, policy=_POLICIES[side])

    def read(side: str, columns: list[str] | None) -> Any:
        if side == "plain":
            return ds.dataset(plain).to_table(columns=columns)
        return envelope_parquet.read_table(folder / f"{side}.parquet", keys, columns=columns)

    sides = ("plain", *_POLICIES)
    measures: tuple[tuple[str, float, Callable[[str], Any]], ...] = (
        ("write", 1.05, write),
        ("read", 1.05, lambda side: read(side, None)),
        (f"read {len(_TWO)} of {_COLUMNS} columns", 1.10, lambda side: read(side, _TWO)),
    )
    rows = []
    for what, target, run in measures:
        contestants = [Contestant(side, functools.partial(run, side)) for side in sides]
        seconds = interleave(contestants, plan.fewer(7))
        rows += [
            Row(f"{what}, {side}", _PLAIN, ratios(seconds[side], seconds["plain"]), target=target)
            for side in _POLICIES
        ]
    return rows


def _access(plan: Plan, folder: Path, keys: KeyTable) -> list[Row]:
    """Probing reads the footer, as pyarrow's reading of the schema does."""
    path = folder / "four column keys.parquet"
    seconds = interleave(
        [
            Contestant("footer", lambda: pq.read_metadata(folder / "plain.parquet")),
            Contestant("access", lambda: envelope_parquet.access(path, keys)),
        ],
        plan.fewer(7),
    )
    milliseconds = tuple(1000 * each for each in seconds["access"])
    read = 1000 * sorted(seconds["footer"])[len(seconds["footer"]) // 2]
    note = f"pyarrow reads a plain footer in {read:.2f} ms"
    return [Row("access of a file with five keys", "", milliseconds, "ms", note=note)]


def _small(plan: Plan, folder: Path, keys: KeyTable) -> list[Row]:
    """What keys cost where there is little else."""
    table = _numbers(100)
    count = 5 if plan.tiny else _SMALL
    for name in ("small-plain", "small-keys"):
        os.makedirs(folder / name)
    policy = _POLICIES["four column keys"]
    names = [f"{i}.parquet" for i in range(count)]

    def write(side: str) -> None:
        for name in names:
            path = folder / f"small-{side}" / name
            if side == "plain":
                pq.write_table(table, path)
            else:
                envelope_parquet.write_table(table, path, keys=keys, policy=policy)

    def read(side: str) -> None:
        for name in names:
            path = folder / f"small-{side}" / name
            if side == "plain":
                pq.read_table(path)
            else:
                envelope_parquet.read_table(path, keys)

    rows = []
    for what, run in (("write", write), ("read", read)):
        contestants = [Contestant(side, functools.partial(run, side)) for side in ("plain", "keys")]
        seconds = interleave(contestants, plan.fewer(7))
        each = 1000 * sorted(seconds["keys"])[len(seconds["keys"]) // 2] / count
        of = ratios(seconds["keys"], seconds["plain"])
        rows.append(
            Row(f"{what} files of 100 rows, one by one", _PLAIN, of, note=f"{each:.2f} ms a file")
        )
    return rows
