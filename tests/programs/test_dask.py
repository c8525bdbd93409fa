"""Dask, in threads and on a cluster of processes that have no configuration."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import dask.bag as db
import dask.dataframe as dd
import pandas as pd
import pytest
from dask.distributed import Client, LocalCluster

from tests.programs.conftest import CANARY, Lake
from tests.programs.frames import frame

# What Dask still asks of pandas is Dask's affair.
pytestmark = pytest.mark.filterwarnings(
    "ignore:The inplace keyword:pandas.errors.Pandas4Warning",
    "ignore:An error occurred while calling:pandas.errors.Pandas4Warning",
)
STORES = pytest.mark.parametrize("lake", ["local", "memory", "s3"], indirect=True)


@STORES
def test_tables_and_text_in_threads(lake: Lake) -> None:
    data = frame(50_000)
    parts = dd.from_pandas(data, npartitions=5)
    parts.to_parquet(lake.url("t"), storage_options=lake.options)
    parts.to_parquet(str(lake.plain / "t"))
    parts.to_csv(lake.url("c/*.csv"), index=False, storage_options=lake.options)
    found = dd.read_parquet(lake.url("t"), columns=["amount"], storage_options=lake.options)
    assert found["amount"].sum().compute() == data["amount"].sum()
    found = dd.read_csv(lake.url("c/*.csv"), blocksize=100_000, storage_options=lake.options)
    assert found.npartitions > 5
    assert len(found) == 50_000
    assert (found["id"].sum().compute(), found["name"].max().compute()) == (
        data["id"].sum(),
        data["name"].max(),
    )
    lines = db.read_text(lake.url("c/*.csv"), blocksize=70_000, storage_options=lake.options)
    assert lines.count().compute(scheduler="threads") == 50_000 + 5
    read = pd.read_parquet(lake.url("t"), storage_options=lake.options)
    pd.testing.assert_frame_equal(read, pd.read_parquet(lake.plain / "t"))


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    """Two processes that know no keys: what they need comes with their tasks."""
    kept = {n: os.environ.pop(n) for n in list(os.environ) if n.startswith("ENVELOPE_")}
    try:
        with LocalCluster(
            n_workers=2,
            processes=True,
            threads_per_worker=2,
            dashboard_address="127.0.0.1:0",
            local_directory=str(tmp_path / "dask"),
        ) as servers:
            os.environ.update(kept)
            with Client(servers) as client:
                yield client
    finally:
        os.environ.update(kept)


@pytest.mark.slow
@pytest.mark.parametrize("lake", ["local", "s3"], indirect=True)
def test_on_processes(lake: Lake, cluster: Client) -> None:
    data = frame(50_000)
    dd.from_pandas(data, npartitions=8).to_parquet(lake.url("t"), storage_options=lake.options)
    found = dd.read_parquet(lake.url("t"), storage_options=lake.options)
    assert found["amount"].sum().compute() == data["amount"].sum()
    texts = db.from_sequence([f"{CANARY} {i}" for i in range(100)], npartitions=4)
    texts.to_textfiles(lake.url("x/*.txt.gz"), storage_options=lake.options)
    lines = db.read_text(lake.url("x/*.txt.gz"), storage_options=lake.options)
    assert lines.map(str.strip).compute() == [f"{CANARY} {i}" for i in range(100)]


@pytest.mark.slow
def test_on_processes_by_mount(mounted: Lake, cluster: Client) -> None:
    data = frame(10_000)
    dd.from_pandas(data, npartitions=4).to_parquet("envelope://lake/t")
    assert dd.read_parquet("envelope://lake/t")["id"].sum().compute() == data["id"].sum()
