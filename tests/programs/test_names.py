"""Programs find their partitions below a root whose names are encrypted."""

from __future__ import annotations

from typing import Any

import dask.dataframe as dd
import duckdb
import pandas as pd
import pyarrow.dataset as ds
import pytest

import envelope
from tests.programs.conftest import CANARY, Lake
from tests.programs.frames import frame

pytestmark = pytest.mark.filterwarnings(  # what Dask still asks of pandas is Dask's affair
    "ignore:The inplace keyword:pandas.errors.Pandas4Warning",
)
STORES = pytest.mark.parametrize("lake", ["local", "memory", "s3"], indirect=True)


def encrypted(lake: Lake) -> dict[str, Any]:
    return {**lake.options, "names": "encrypt", "root": lake.path("hidden")}


def table() -> pd.DataFrame:
    data = frame(600)
    data["site"] = [f"{CANARY}-zurich", f"{CANARY}-bern", f"{CANARY}-basel"] * 200
    data["year"] = [2025, 2026] * 300
    return data


@STORES
def test_hive_partitions(lake: Lake) -> None:
    data, options = table(), encrypted(lake)
    url = lake.url(f"hidden/{CANARY}-table")
    data.to_parquet(url, partition_cols=["site", "year"], storage_options=options)
    bern = data[data["site"] == f"{CANARY}-bern"]
    found = pd.read_parquet(
        url, filters=[("site", "==", f"{CANARY}-bern")], storage_options=options
    )
    assert sorted(found["id"]) == sorted(bern["id"])
    fs = envelope.filesystem(
        lake.store.protocol,
        keys="local:lake",
        names="encrypt",
        root=lake.path("hidden"),
        **lake.store.options,
    )
    dataset = ds.dataset(lake.path(f"hidden/{CANARY}-table"), filesystem=fs, partitioning="hive")
    assert dataset.count_rows(filter=ds.field("year") == 2026) == 300
    assert len(dataset.files) == 6
    assert all(f"/site={CANARY}-" in path for path in dataset.files)
    read = dd.read_parquet(url, filters=[("site", "==", f"{CANARY}-bern")], storage_options=options)
    assert sorted(read["id"].compute()) == sorted(bern["id"])
    assert not any(text in path for path in lake.stored() for text in (CANARY, "site", "year"))


@STORES
def test_partitions_that_dask_writes_over(lake: Lake) -> None:
    data, options = table(), encrypted(lake)
    url = lake.url("hidden")  # the root itself: what is there before goes, the name key stays
    for rows in (600, 300):
        parts = dd.from_pandas(data.head(rows), npartitions=2)
        parts.to_parquet(url, partition_on="site", overwrite=True, storage_options=options)
        assert len(dd.read_parquet(url, storage_options=options)) == rows
    assert not any(CANARY in path for path in lake.stored())


def test_globs_and_partitions_of_duckdb(lake: Lake) -> None:
    data, options = table(), encrypted(lake)
    data.to_parquet(lake.url("hidden/t"), partition_cols=["site"], storage_options=options)
    options.pop("file")
    fs = envelope.filesystem("file", **options, **lake.store.options)
    connection = duckdb.connect()
    connection.register_filesystem(fs)
    found = connection.sql(
        f"SELECT count(*), min(site) FROM read_parquet('{lake.url('hidden/t')}/*/*.parquet', "
        f"hive_partitioning=true) WHERE site = '{CANARY}-basel'"
    ).fetchall()
    assert found == [(200, f"{CANARY}-basel")]
