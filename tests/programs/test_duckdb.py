"""DuckDB with the file system registered: reads, globs, COPY TO; by the URLs that pandas takes."""

from __future__ import annotations

import duckdb
import pandas as pd
import pytest

from tests.programs.conftest import CANARY, Lake
from tests.programs.frames import frame

STORES = pytest.mark.parametrize("lake", ["local", "memory", "s3"], indirect=True)


@STORES
def test_reading_what_pandas_wrote(lake: Lake) -> None:
    data = frame()
    half = len(data) // 2
    for name, part in (("1", data[:half]), ("2", data[half:])):
        part.to_parquet(lake.url(f"t/{name}.parquet"), storage_options=lake.options)
        part.to_csv(lake.url(f"c/{name}.csv"), index=False, storage_options=lake.options)
    with duckdb.connect() as db:
        db.register_filesystem(lake.fs)
        for query in (
            "select count(*), sum(id), max(name) from '{url}/t/*.parquet'",
            "select count(*), sum(id), max(name) from read_csv('{url}/c/*.csv')",
        ):
            found = db.execute(query.format(url=lake.url())).fetchone()
            assert found == (len(data), int(data["id"].sum()), data["name"].max())
        one = db.execute(f"select name from '{lake.url('t/2.parquet')}' where id = {half + 7}")
        assert one.fetchone() == (data["name"][half + 7],)


@STORES
def test_copy_to_what_pandas_reads(lake: Lake) -> None:
    data = frame(50_000)
    with duckdb.connect() as db:
        db.register_filesystem(lake.fs)
        db.register("data", data)
        for name, how in (("a.parquet", ""), ("a.csv", "(header)"), ("a.json", "")):
            db.execute(f"copy (from data) to '{lake.url(name)}' {how}")
            db.execute(f"copy (from data) to '{lake.plain / name}' {how}")
            mine, plain = (
                db.execute(f"select count(*), sum(id), min(name) from '{place}'").fetchone()
                for place in (lake.url(name), lake.plain / name)
            )
            assert mine == plain
            assert mine is not None
            assert str(mine[2]).startswith(CANARY)
    read = pd.read_parquet(lake.url("a.parquet"), storage_options=lake.options)
    pd.testing.assert_frame_equal(read, pd.read_parquet(lake.plain / "a.parquet"))
    read = pd.read_csv(lake.url("a.csv"), storage_options=lake.options)
    pd.testing.assert_frame_equal(read, pd.read_csv(lake.plain / "a.csv"))


# What is told of it where nobody can raise it: a ResourceWarning, and an event.
@pytest.mark.filterwarnings("ignore:Exception ignored in. <function Writer.__del__")
def test_what_it_leaves_unclosed_is_not_published(lake: Lake) -> None:
    with duckdb.connect() as db:
        db.register_filesystem(lake.fs)
        db.register("data", frame(100))
        db.execute("create table t as from data")
        db.execute(f"export database '{lake.url('out')}' (format parquet)")
    assert [path.rpartition("/")[2] for path in lake.fs.find(lake.path("out"))] == ["t.parquet"]


def test_by_mount(mounted: Lake) -> None:
    import fsspec

    with duckdb.connect() as db:
        db.register_filesystem(fsspec.filesystem("envelope"))
        db.register("data", frame(1000))
        db.execute("copy (from data) to 'envelope://lake/t/a.parquet'")
        found = db.execute("select count(*) from 'envelope://lake/*/*.parquet'").fetchone()
    assert found == (1000,)
