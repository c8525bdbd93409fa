"""The file system ``envelope`` beside the same store without encryption."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec

import envelope
from benchmarks.far_store import LATENCY, RATE, FarStore, reset
from benchmarks.plan import Plan
from benchmarks.results import Row, Table, ratios
from benchmarks.rounds import Contestant, interleave
from benchmarks.scene import Scene
from tests.filesystem.servers import seaweed

__all__ = ["far", "s3"]

_PLAIN = "the store, plain"
_COLUMNS = 10


@dataclass(frozen=True)
class Pair:
    """A store, and the file system on it.

    Args:
        plain: The store.
        sealed: The same, encrypted.
        root: A folder of it.
        protocol: Its name in URLs.
        counts: Counts its requests since the last time; ``None`` where nobody counts.
    """

    plain: Any
    sealed: Any
    root: str
    protocol: str
    counts: Callable[[], int] | None = None

    def url(self, side: str, name: str) -> str:
        """For programs that take URLs."""
        chain = "envelope::" if side == "sealed" else ""
        return f"{chain}{self.protocol}://{self.root}/{side}/{name}"

    def fs(self, side: str) -> Any:
        """The file system of a side."""
        return self.sealed if side == "sealed" else self.plain

    def path(self, side: str, name: str) -> str:
        """A path on it."""
        return f"{self.root}/{side}/{name}"


def far(plan: Plan) -> Table:
    """On a store where each request takes 30 ms."""
    fsspec.register_implementation("far", FarStore, clobber=True)
    with plan.folder(plan.memory) as folder:
        ring = Scene.make(folder).ring
        store = fsspec.filesystem("far", latency=0 if plan.tiny else LATENCY)

        def counted() -> int:
            count = sum(store.requests.values())
            store.requests.clear()
            return count

        sealed = envelope.filesystem("far", keys=ring, latency=store.latency)
        pair = Pair(store, sealed, "lake", "far", counted)
        try:
            rows = _rows(plan, pair, folder)
        finally:
            reset()
    return Table(
        "far",
        "The file system, on a store that is far away",
        f"objects in memory; a request takes {LATENCY * 1000:.0f} ms and then "
        f"{RATE // 10**6} MB/s, those made side by side take that once; {plan.fewer(7)} paired "
        "rounds",
        tuple(rows),
        (
            "A store that costs no processor time shows all of what encryption costs: a client of "
            "S3 spends some milliseconds on each request, beside which 300 small files weigh less "
            "(next table).",
        ),
    )


def s3(plan: Plan) -> Table:
    """On a server of S3 beside the client."""
    with plan.folder(plan.memory) as folder, seaweed() as options:
        ring = Scene.make(folder).ring
        store = fsspec.filesystem("s3", **options)
        store.call_s3("create_bucket", Bucket="lake")
        sealed = envelope.filesystem("s3", keys=ring, **options)
        rows = _rows(plan, Pair(store, sealed, "lake", "s3"), folder)
    return Table(
        "s3",
        "The file system, on a server of S3",
        f"seaweedfs on loopback, through s3fs; {plan.fewer(7)} paired rounds",
        tuple(rows),
    )


def _rows(plan: Plan, pair: Pair, folder: Path) -> list[Row]:
    measures = (_parquet, _csv, _small_files, _listings, _zarr, _peer)
    rows: list[Row] = []
    for measure in measures:
        rows += measure(plan, pair, folder)
    return rows


def _both(
    plan: Plan,
    pair: Pair,
    what: str,
    target: float | None,
    run: Callable[[str], object],
) -> Row:
    """One row: ``run("sealed")`` over ``run("plain")``, with nothing remembered before either."""

    def fresh(side: str) -> None:
        pair.fs(side).invalidate_cache()
        if pair.counts is not None:
            pair.counts()

    counts: dict[str, int] = {}

    def timed(side: str) -> None:
        run(side)
        if pair.counts is not None:
            counts[side] = pair.counts()

    contestants = [
        Contestant(side, functools.partial(timed, side), functools.partial(fresh, side))
        for side in ("plain", "sealed")
    ]
    seconds = interleave(contestants, plan.fewer(7))
    note = f"requests {counts['sealed']}, plain {counts['plain']}" if counts else ""
    of = ratios(seconds["sealed"], seconds["plain"])
    return Row(what, _PLAIN, of, target=target, note=note)


def _parquet(plan: Plan, pair: Pair, _: Path) -> list[Row]:
    import duckdb
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    # The server keeps what was overwritten, and has room for a few gigabytes.
    rows = 20_000 if plan.tiny else 2_000_000 if pair.counts is not None else 600_000
    table = pa.table({f"c{i}": np.random.default_rng(i).random(rows) for i in range(_COLUMNS)})
    for side in ("plain", "sealed"):
        target = pair.path(side, "table.parquet")
        pq.write_table(table, target, filesystem=pair.fs(side), row_group_size=rows // 4)
    # DuckDB would keep what it read of the first side, and of the second.
    connection = duckdb.connect(config={"enable_external_file_cache": "false"})
    for side in ("plain", "sealed"):
        connection.register_filesystem(pair.fs(side))
    every = "+".join(f"c{i}" for i in range(_COLUMNS))

    def arrow(columns: list[str] | None) -> Callable[[str], object]:
        return lambda side: pq.read_table(
            pair.path(side, "table.parquet"), filesystem=pair.fs(side), columns=columns
        )

    def duck(columns: str) -> Callable[[str], object]:
        return lambda side: connection.sql(
            f"select sum({columns}) from '{pair.url(side, 'table.parquet')}'"
        ).fetchall()

    def write(side: str) -> None:
        pq.write_table(table, pair.path(side, "written.parquet"), filesystem=pair.fs(side))

    connection.register("memory_table", table)

    def copy(side: str) -> None:
        connection.sql(f"copy memory_table to '{pair.url(side, 'copied.parquet')}'")

    row = functools.partial(_both, plan, pair)
    return [
        row("PyArrow: read Parquet, all columns", 1.05, arrow(None)),
        row("PyArrow: read Parquet, 2 of 10 columns", 1.10, arrow(["c2", "c7"])),
        row("PyArrow: write Parquet", 1.05, write),
        row("DuckDB: read Parquet, all columns", 1.05, duck(every)),
        row("DuckDB: read Parquet, 2 of 10 columns", 1.10, duck("c2+c7")),
        row("DuckDB: write Parquet", 1.05, copy),
    ]


def _csv(plan: Plan, pair: Pair, _: Path) -> list[Row]:
    import numpy as np
    import pandas as pd

    count = 3_000 if plan.tiny else 300_000
    random_of = np.random.default_rng
    frame = pd.DataFrame({f"c{i}": random_of(i).integers(0, 10**6, count) for i in range(12)})
    for side in ("plain", "sealed"):
        pair.fs(side).pipe_file(pair.path(side, "table.csv"), frame.to_csv(index=False).encode())

    def read(side: str) -> None:
        # The best of fsspec's caches for this, as measured: 8 MiB read ahead.
        best = {} if side == "sealed" else {"cache_type": "readahead", "block_size": 2**23}
        with pair.fs(side).open(pair.path(side, "table.csv"), **best) as file:
            pd.read_csv(file)

    return [_both(plan, pair, "pandas: read_csv, plain with 8 MiB read ahead", 1.05, read)]


def _small_files(plan: Plan, pair: Pair, _: Path) -> list[Row]:
    count = 20 if plan.tiny else 300
    data = {f"small/{i}": random.randbytes(20_000) for i in range(count)}

    def put(side: str) -> None:
        pair.fs(side).pipe({pair.path(side, name): value for name, value in data.items()})

    def cat(side: str) -> None:
        pair.fs(side).cat([pair.path(side, name) for name in data])

    return [
        _both(plan, pair, f"pipe {count} files of 20 kB", 1.2, put),
        _both(plan, pair, f"cat {count} files of 20 kB", 1.2, cat),
    ]


def _listings(plan: Plan, pair: Pair, _: Path) -> list[Row]:
    count = 50 if plan.tiny else 10_000 if pair.counts is not None else 2_000
    for side in ("plain", "sealed"):
        value = pair.sealed.target.sealed_now(pair.path("sealed", "x"), b"x" * 100)
        pair.plain.pipe({pair.path(side, f"many/{i}"): value for i in range(count)})

    def listed(side: str) -> None:
        pair.fs(side).ls(pair.path(side, "many"), detail=True)

    def added(side: str) -> None:
        if side == "sealed":
            pair.sealed.du(pair.path(side, "many"))
        else:  # as du does it where it does it well: fsspec's own asks for each file again
            found = pair.plain.find(pair.path(side, "many"), detail=True)
            sum(info["size"] for info in found.values())

    return [
        _both(plan, pair, f"ls of {count} files", 1.05, listed),
        _both(plan, pair, f"du of {count} files", 1.05, added),
    ]


def _zarr(plan: Plan, pair: Pair, _: Path) -> list[Row]:
    import numpy as np
    import zarr

    side_length = 256 if plan.tiny else 2048  # 64 chunks, of 1 MiB each when not a rehearsal
    chunk = side_length // 8

    def store(side: str) -> Any:
        if side == "plain":
            made = type(pair.plain)(**{**pair.plain.storage_options, "asynchronous": True})
        else:
            made = fsspec.filesystem(
                "envelope",
                target_protocol=pair.protocol,
                target_options=dict(pair.plain.storage_options),
                policy=pair.sealed.policy,
                asynchronous=True,
            )
        return zarr.storage.FsspecStore(made, path=f"{pair.root}/{side}/array.zarr")

    numbers = np.random.default_rng(0).random((side_length, side_length * 4))
    for side in ("plain", "sealed"):
        array = zarr.create_array(
            store(side),
            shape=numbers.shape,
            chunks=(chunk, chunk * 4),
            dtype="f8",
            compressors=None,
            overwrite=True,
        )
        array[:] = numbers

    def read(side: str) -> None:
        zarr.open_array(store(side), mode="r")[:]

    return [_both(plan, pair, "zarr: read 64 chunks of 1 MiB", 1.15, read)]


def _peer(plan: Plan, pair: Pair, folder: Path) -> list[Row]:
    """What people do without a file system: download, decrypt, read."""
    what = "the peers' way: download, decrypt with age (pyrage), read all columns"
    try:
        import pyrage
    except ImportError as error:
        return [Row(what, note=f"not measured: {error}")]
    import pyarrow.parquet as pq

    identity = pyrage.x25519.Identity.generate()
    plain, sealed = folder / "peer.parquet", folder / "peer.age"
    pair.plain.get_file(pair.path("plain", "table.parquet"), str(plain))
    pyrage.encrypt_file(str(plain), str(sealed), [identity.to_public()])
    pair.plain.put_file(str(sealed), pair.path("plain", "table.age"))

    def run(side: str) -> None:
        if side == "plain":
            pq.read_table(pair.path(side, "table.parquet"), filesystem=pair.plain)
            return
        pair.plain.get_file(pair.path("plain", "table.age"), str(sealed))
        pyrage.decrypt_file(str(sealed), str(plain), [identity])
        pq.read_table(plain)

    return [_both(plan, pair, what, None, run)]
