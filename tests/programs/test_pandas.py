"""pandas by URL and storage options: each format goes to the store and comes back as without us."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
from pandas.testing import assert_frame_equal

from tests.programs.conftest import Lake
from tests.programs.frames import frame

Write = Callable[..., Any]
FORMATS: dict[str, tuple[Write, Write]] = {
    "a.csv": (lambda f, *a, **k: f.to_csv(*a, index=False, **k), pd.read_csv),
    # From a chain's URL pandas takes no compression; from a mount's it does, see below.
    "a.csv.gz": (
        lambda f, *a, **k: f.to_csv(*a, index=False, compression="gzip", **k),
        lambda *a, **k: pd.read_csv(*a, compression="gzip", **k),
    ),
    "a.csv.zst": (
        lambda f, *a, **k: f.to_csv(*a, index=False, compression="zstd", **k),
        lambda *a, **k: pd.read_csv(*a, compression="zstd", **k),
    ),
    "a.json": (
        lambda f, *a, **k: f.to_json(*a, orient="records", lines=True, date_format="iso", **k),
        lambda *a, **k: pd.read_json(*a, orient="records", lines=True, **k),
    ),
    "a.parquet": (lambda f, *a, **k: f.to_parquet(*a, **k), pd.read_parquet),
    "a.feather": (lambda f, *a, **k: f.to_feather(*a, **k), pd.read_feather),
    "a.orc": (lambda f, *a, **k: f.to_orc(*a, **k), pd.read_orc),
    "a.pkl": (lambda f, *a, **k: f.to_pickle(*a, **k), pd.read_pickle),
    "a.xlsx": (
        lambda f, *a, **k: f.head(500).to_excel(*a, index=False, **k),
        lambda *a, **k: pd.read_excel(*a, **k),
    ),
    "a.xml": (
        lambda f, *a, **k: f.head(500).to_xml(*a, index=False, parser="etree", **k),
        lambda *a, **k: pd.read_xml(*a, parser="etree", **k),
    ),
}
WITHOUT_OPTIONS = {"a.feather", "a.orc"}  # these methods of pandas take a file


@pytest.mark.parametrize("lake", ["local", "memory", "s3"], indirect=True)
@pytest.mark.parametrize("name", FORMATS)
def test_a_format_is_written_and_read(lake: Lake, name: str) -> None:
    write, read = FORMATS[name]
    data = frame(20_000)
    write(data, str(lake.plain / name))
    if name in WITHOUT_OPTIONS:
        with lake.fs.open(lake.path(name), "wb") as file:
            write(data, file)
        with lake.fs.open(lake.path(name)) as file:
            found = read(file)
    else:
        write(data, lake.url(name), storage_options=lake.options)
        found = read(lake.url(name), storage_options=lake.options)
    assert_frame_equal(found, read(str(lake.plain / name)))
    assert len(found) in (500, 20_000)
    first = lake.fs.cat_file(lake.path(name), 0, 2)
    with open(lake.plain / name, "rb") as file:
        assert first == file.read(2)


@pytest.mark.parametrize("lake", ["local", "memory", "s3"], indirect=True)
def test_partitions_and_columns(lake: Lake) -> None:
    data = frame(20_000)
    given = {"partition_cols": ["group"], "index": False}
    data.to_parquet(str(lake.plain / "t"), **given)
    data.to_parquet(lake.url("t"), storage_options=lake.options, **given)
    columns = ["amount", "group"]
    found = pd.read_parquet(lake.url("t"), columns=columns, storage_options=lake.options)
    assert_frame_equal(found, pd.read_parquet(str(lake.plain / "t"), columns=columns))
    filters = [("group", "=", "red"), ("id", "<", 100)]
    found = pd.read_parquet(lake.url("t"), filters=filters, storage_options=lake.options)
    assert len(found) == 50
    # Read by another program, file by file.
    files = lake.fs.glob(lake.path("t/*/*.parquet"))
    assert sum(pq.read_metadata(lake.fs.open(file)).num_rows for file in files) == 20_000


@pytest.mark.parametrize("lake", ["s3"], indirect=True)
def test_a_csv_in_pieces(lake: Lake) -> None:
    data = frame(50_000)
    data.to_csv(lake.url("a.csv"), index=False, chunksize=1000, storage_options=lake.options)
    with pd.read_csv(lake.url("a.csv"), chunksize=7000, storage_options=lake.options) as pieces:
        assert sum(len(piece) for piece in pieces) == 50_000


def test_by_mount_without_any_options(mounted: Lake) -> None:
    data = frame(1000)
    data.to_parquet("envelope://lake/x/a.parquet")
    assert_frame_equal(pd.read_parquet("envelope://lake/x/a.parquet"), data)
    data.to_csv("envelope://lake/a.csv.gz", index=False)
    assert len(pd.read_csv("envelope://lake/a.csv.gz")) == 1000
    assert mounted.fs.cat_file(mounted.path("a.csv.gz"), 0, 2) == b"\x1f\x8b"
