"""Polars takes file objects and Arrow datasets; URLs it reads by itself, without fsspec."""

from __future__ import annotations

import fsspec
import pandas as pd
import polars as pl
import pyarrow.dataset as ds
import pytest
from polars.testing import assert_frame_equal

from tests.programs.conftest import Lake
from tests.programs.frames import frame

STORES = pytest.mark.parametrize("lake", ["local", "memory", "s3"], indirect=True)


@STORES
def test_file_objects_both_ways(lake: Lake) -> None:
    data = pl.from_pandas(frame(50_000))
    fs = lake.fs
    for name in ("a.parquet", "a.csv", "a.arrow", "a.ndjson"):
        kind = name.partition(".")[2].replace("arrow", "ipc")
        with fs.open(lake.path(name), "wb") as file:
            getattr(data, f"write_{kind}")(file)
        getattr(data, f"write_{kind}")(lake.plain / name)
        with fs.open(lake.path(name)) as file:
            found = getattr(pl, f"read_{kind}")(file)
        assert_frame_equal(found, getattr(pl, f"read_{kind}")(lake.plain / name))
    read = pd.read_parquet(lake.url("a.parquet"), storage_options=lake.options)
    pd.testing.assert_frame_equal(read, pd.read_parquet(lake.plain / "a.parquet"))


@STORES
def test_lazily_over_an_arrow_dataset(lake: Lake) -> None:
    data = frame(50_000)
    data.to_parquet(lake.url("t"), partition_cols=["group"], storage_options=lake.options)
    found = pl.scan_pyarrow_dataset(ds.dataset(lake.path("t"), filesystem=lake.fs)).filter(
        pl.col("id") < 1000
    )
    assert found.select(pl.col("amount").sum()).collect().item() == data["amount"][:1000].sum()


def test_a_url_of_a_chain_is_no_place_for_polars(lake: Lake) -> None:
    with fsspec.open(lake.url("a.parquet"), "wb", **lake.options) as file:
        pl.from_pandas(frame(1000)).write_parquet(file)
    with pytest.raises(Exception, match=r"(?i)no such file|not supported|not found|object.store"):
        pl.read_parquet(lake.url("a.parquet"))
    with pytest.raises(Exception, match=r"(?i)no such file|not supported|not found|object.store"):
        pl.from_pandas(frame(10)).write_parquet(lake.url("b.parquet"))
