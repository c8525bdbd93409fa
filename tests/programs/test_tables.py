"""Tables by ibis and PyIceberg, catalogs of kedro: by object and by mount."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fsspec
import ibis
import pandas as pd
import pyarrow as pa
import pytest
from kedro.io import DataCatalog
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.io import fsspec as iceberg

from tests.programs.conftest import Lake
from tests.programs.frames import frame, table

STORES = pytest.mark.parametrize("lake", ["local", "memory", "s3"], indirect=True)


# How ibis asks DuckDB and pandas is ibis' affair.
@pytest.mark.filterwarnings(
    "ignore:fetch_arrow_table:DeprecationWarning",
    "ignore:The 'future.infer_string' option:pandas.errors.Pandas4Warning",
)
@STORES
def test_ibis(lake: Lake) -> None:
    data = frame(20_000)
    data.to_parquet(lake.url("a.parquet"), storage_options=lake.options)
    connection = ibis.duckdb.connect()
    connection.register_filesystem(lake.fs)
    found = connection.read_parquet(lake.url("a.parquet"))
    assert found.filter(found.group == "red").amount.sum().execute() == pytest.approx(
        data["amount"][data["group"] == "red"].sum()
    )
    connection.to_parquet(found.limit(500), lake.url("b.parquet"))
    assert len(pd.read_parquet(lake.url("b.parquet"), storage_options=lake.options)) == 500
    connection.disconnect()


@pytest.mark.parametrize("lake", ["local", "s3"], indirect=True)
def test_pyiceberg(mounted: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(iceberg.SCHEME_TO_FS, "envelope", lambda *_: fsspec.filesystem("envelope"))
    catalog = SqlCatalog(
        "lake",
        uri=f"sqlite:///{tmp_path}/catalog.db",
        warehouse="envelope://lake/warehouse",
        **{"py-io-impl": "pyiceberg.io.fsspec.FsspecFileIO"},
    )
    catalog.create_namespace("sales")
    data = table(10_000).set_column(4, "day", table(10_000)["day"].cast(pa.timestamp("us")))
    orders = catalog.create_table("sales.orders", data.schema)
    orders.append(data)
    orders.append(data)
    found = catalog.load_table("sales.orders").scan(row_filter="id < 100").to_arrow()
    assert sorted(found["id"].to_pylist()) == sorted([*range(100)] * 2)
    files = [entry.file.file_path for entry in orders.scan().plan_files()]
    assert all(file.startswith("envelope://lake/warehouse/") for file in files)
    catalog.engine.dispose()


@pytest.mark.parametrize("lake", ["local", "s3"], indirect=True)
def test_kedro(mounted: Lake) -> None:
    data = frame(5000)
    # Three slashes: of a scheme that it does not know, kedro leaves out what stands after two.
    catalog: Any = DataCatalog.from_config(
        {
            "orders": {"type": "pandas.ParquetDataset", "filepath": "envelope:///lake/o.parquet"},
            "lines": {
                "type": "pandas.CSVDataset",
                "filepath": "envelope:///lake/o.csv",
                "save_args": {"index": False},
            },
        }
    )
    for name in ("orders", "lines"):
        catalog.save(name, data)
        assert catalog.load(name)["name"].tolist() == data["name"].tolist()
        assert catalog.exists(name)
