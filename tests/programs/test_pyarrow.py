"""PyArrow: with the file system as an object, and by the URL that Arrow knows for fsspec."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.dataset as ds
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

from tests.programs.conftest import Lake
from tests.programs.frames import frame, table

STORES = pytest.mark.parametrize("lake", ["local", "memory", "s3"], indirect=True)


@STORES
def test_a_dataset_with_partitions(lake: Lake) -> None:
    data, fs = table(50_000), lake.fs
    given = {"format": "parquet", "partitioning": ["group"], "partitioning_flavor": "hive"}
    ds.write_dataset(data, lake.path("t"), filesystem=fs, **given)
    ds.write_dataset(data, str(lake.plain / "t"), **given)
    found = ds.dataset(lake.path("t"), filesystem=fs, partitioning="hive")
    plain = ds.dataset(str(lake.plain / "t"), partitioning="hive")
    assert found.count_rows() == plain.count_rows() == 50_000
    condition = (ds.field("group") == "red") & (ds.field("id") < 1000)
    assert found.to_table(filter=condition).sort_by("id") == plain.to_table(
        filter=condition
    ).sort_by("id")
    assert found.to_table(columns=["id", "day"]).num_rows == 50_000


@STORES
def test_one_file_that_pandas_reads(lake: Lake) -> None:
    fs = lake.fs
    pq.write_table(table(), lake.path("a.parquet"), filesystem=fs, row_group_size=30_000)
    pq.write_table(table(), str(lake.plain / "a.parquet"), row_group_size=30_000)
    with pq.ParquetFile(lake.path("a.parquet"), filesystem=fs) as file:
        plain = pq.ParquetFile(str(lake.plain / "a.parquet"))
        assert file.metadata == plain.metadata
        assert file.read_row_group(3, columns=["name"]) == plain.read_row_group(3, columns=["name"])
    found = pd.read_parquet(lake.url("a.parquet"), storage_options=lake.options)
    pd.testing.assert_frame_equal(found, pd.read_parquet(lake.plain / "a.parquet"))


@STORES
def test_streams_of_csv_and_arrow(lake: Lake) -> None:
    arrow = pa.fs.PyFileSystem(pa.fs.FSSpecHandler(lake.fs))
    with arrow.open_output_stream(lake.path("a.csv")) as file:
        pacsv.write_csv(table(20_000), file)
    with arrow.open_input_stream(lake.path("a.csv")) as file:
        assert pacsv.read_csv(file)["id"].to_pylist() == list(range(20_000))
    with arrow.open_output_stream(lake.path("a.arrow")) as file:
        feather.write_feather(table(20_000), file)
    with arrow.open_input_file(lake.path("a.arrow")) as file:
        assert feather.read_table(file) == table(20_000)
    names = {info.base_name for info in arrow.get_file_info(pa.fs.FileSelector(lake.path()))}
    assert names == {"a.csv", "a.arrow"}


def test_by_its_own_url_for_fsspec(mounted: Lake) -> None:
    fs, path = pa.fs.FileSystem.from_uri("fsspec+envelope://lake/a.parquet")
    pq.write_table(table(1000), path, filesystem=fs)
    assert pq.read_table("fsspec+envelope://lake/a.parquet") == table(1000)
    found = ds.dataset("fsspec+envelope://lake/a.parquet")
    assert found.count_rows() == len(frame(1000))
