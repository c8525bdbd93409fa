"""Formats of records and their programs: fastparquet, fastavro, uproot, petl, webdataset."""

from __future__ import annotations

import io
from typing import Any

import fastavro
import fastparquet
import intake
import numpy as np
import pandas as pd
import petl
import pytest
import uproot
import webdataset

from tests.programs.conftest import CANARY, Lake
from tests.programs.frames import frame

STORES = pytest.mark.parametrize("lake", ["local", "memory", "s3"], indirect=True)


@STORES
def test_fastparquet(lake: Lake) -> None:
    data = frame(20_000).astype({"name": object, "group": object})
    fs = lake.fs
    fastparquet.write(
        lake.path("a.parquet"), data, open_with=lambda path, mode="rb": fs.open(path, mode)
    )
    found = fastparquet.ParquetFile(lake.path("a.parquet"), fs=fs).to_pandas(["id", "name"])
    assert found["id"].tolist() == data["id"].tolist()
    read = pd.read_parquet(lake.url("a.parquet"), storage_options=lake.options)
    assert read["name"].tolist() == data["name"].tolist()


@STORES
def test_fastavro(lake: Lake) -> None:
    schema = {
        "type": "record",
        "name": "row",
        "fields": [{"name": "id", "type": "long"}, {"name": "name", "type": "string"}],
    }
    rows = [{"id": i, "name": f"{CANARY}{i}"} for i in range(20_000)]
    with lake.fs.open(lake.path("a.avro"), "wb") as file:
        fastavro.writer(file, schema, rows, codec="deflate")
    with lake.fs.open(lake.path("a.avro")) as file:
        assert list(fastavro.reader(file)) == rows


@STORES
def test_uproot_reads(lake: Lake) -> None:
    data = {"energy": np.arange(100_000.0), "n": np.arange(100_000)}
    with uproot.recreate(str(lake.plain / "a.root")) as file:
        tree = file.mktree(CANARY, {name: column.dtype for name, column in data.items()})
        tree.extend(data)
    lake.fs.put_file(str(lake.plain / "a.root"), lake.path("a.root"))
    with lake.fs.open(lake.path("a.root")) as opened, uproot.open(opened) as file:
        found = file[CANARY].arrays(["energy"], library="np", entry_start=5000, entry_stop=6000)
    assert np.array_equal(found["energy"], data["energy"][5000:6000])
    with uproot.open({lake.url("a.root"): CANARY}, **lake.options) as tree:
        assert np.array_equal(tree["n"].array(library="np"), data["n"])


@STORES
def test_petl(lake: Lake) -> None:
    rows = [["id", "name"], *([str(i), f"{CANARY}{i}"] for i in range(5000))]
    place = petl.io.remotes.RemoteSource(lake.url("a.csv.gz"), **lake.options)
    petl.tocsv(rows, place)
    assert [list(row) for row in petl.fromcsv(place)] == rows


def test_webdataset(lake: Lake) -> None:
    with lake.fs.open(lake.path("a.tar"), "wb") as file:
        writer = webdataset.TarWriter(file)
        for i in range(100):
            writer.write({"__key__": f"{i:04}", "txt": f"{CANARY}{i}", "cls": str(i)})
        writer.close()
    with lake.fs.open(lake.path("a.tar")) as file:
        samples = list(webdataset.tariterators.group_by_keys(_members(file)))
    assert [sample["txt"] for sample in samples] == [f"{CANARY}{i}".encode() for i in range(100)]


def _members(file: io.BufferedIOBase) -> Any:
    return webdataset.tariterators.tar_file_expander([{"url": "a.tar", "stream": file}])


@STORES
def test_intake(lake: Lake) -> None:
    data = frame(5000)
    data.to_csv(lake.url("a.csv"), index=False, storage_options=lake.options)
    source = intake.readers.datatypes.CSV(lake.url("a.csv"), storage_options=lake.options)
    reader = intake.readers.readers.PandasCSV(source)
    assert reader.read()["name"].tolist() == data["name"].tolist()
