"""Programs with worker processes of their own: Hugging Face datasets, Ray data, Spark."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.programs.conftest import Lake, needs
from tests.programs.frames import frame, table

# What Ray and Spark say of their own code is theirs.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings(
        "ignore:`use_[a-z0-9_]+` is deprecated:DeprecationWarning",
        "ignore:PySpark does not yet fully support pandas:FutureWarning",
    ),
]


@needs("datasets")
@pytest.mark.parametrize("lake", ["local", "s3"], indirect=True)
def test_datasets(mounted: Lake, tmp_path: Path) -> None:
    import datasets

    data = frame(2000)
    made = datasets.Dataset.from_pandas(data)
    made.save_to_disk("envelope://lake/saved")
    assert datasets.load_from_disk("envelope://lake/saved").to_pandas().equals(data)
    made.to_parquet("envelope://lake/a.parquet")
    streamed = datasets.load_dataset(
        "parquet",
        data_files="envelope://lake/a.parquet",
        split="train",
        streaming=True,
        cache_dir=str(tmp_path / "cache"),
    )
    assert [row["name"] for row in streamed] == data["name"].tolist()


@pytest.fixture
def ray(tmp_path: Path) -> Iterator[Any]:
    import ray

    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        configure_logging=False,
        object_store_memory=150_000_000,
        runtime_env={"env_vars": {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}},
    )
    yield ray
    ray.shutdown()


@needs("ray")
@pytest.mark.parametrize("lake", ["local", "s3"], indirect=True)
def test_ray(lake: Lake, ray: Any) -> None:
    fs = lake.fs
    ray.data.from_arrow(table(20_000)).write_parquet(lake.path("t"), filesystem=fs)
    found = ray.data.read_parquet(lake.path("t"), filesystem=fs)
    assert found.count() == 20_000
    assert found.sum("id") == sum(range(20_000))


@needs("pyspark")
@pytest.mark.skipif(shutil.which("java") is None, reason="Spark needs a JRE")
@pytest.mark.parametrize("lake", ["local", "s3"], indirect=True)
def test_spark(lake: Lake) -> None:
    from pyspark.sql import SparkSession

    fs, folder = lake.fs, lake.path("t")
    spark = (
        SparkSession.builder.master("local[2]")
        .config("spark.ui.enabled", "false")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.executorEnv.PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
        .getOrCreate()
    )
    try:

        def write(parts: Any) -> Any:
            import pandas

            for number, part in enumerate(parts):
                name = f"{folder}/{part['id'].iloc[0]}-{number}.parquet"
                with fs.open(name, "wb") as file:
                    part.to_parquet(file)
                yield pandas.DataFrame({"path": [name], "rows": [len(part)]})

        def read(parts: Any) -> Any:
            import pandas

            for part in parts:
                for path in part["path"]:
                    with fs.open(path) as file:
                        yield pandas.read_parquet(file)

        data = frame(10_000)[["id", "name"]]
        written = spark.createDataFrame(data).mapInPandas(write, "path string, rows long").cache()
        assert written.groupBy().sum("rows").collect()[0][0] == 10_000
        again = written.select("path").mapInPandas(read, "id long, name string")
        assert again.groupBy().sum("id").collect()[0][0] == data["id"].sum()
    finally:
        spark.stop()
    assert fs.glob(f"{folder}/*.parquet") == fs.find(folder)
