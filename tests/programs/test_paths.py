"""Programs that open paths and files: universal_pathlib, joblib, Pillow, zip files, tar files."""

from __future__ import annotations

import io
import tarfile
import zipfile

import fsspec
import joblib
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from upath import UPath

from tests.programs.conftest import CANARY, Lake

# universal_pathlib says that nobody has written a class for this file system; it needs none.
UPATH = pytest.mark.filterwarnings("ignore:UPath 'envelope' filesystem:UserWarning")
STORES = pytest.mark.parametrize("lake", ["local", "memory", "s3"], indirect=True)


@UPATH
@STORES
def test_universal_pathlib(lake: Lake) -> None:
    root = UPath(lake.url(), **lake.options)
    folder = root / "x" / "y"
    (folder / "a.txt").write_text(CANARY * 100)
    (folder / "b.bin").write_bytes(CANARY.encode())
    assert (root / "x/y/a.txt").read_text() == CANARY * 100
    assert (folder / "a.txt").stat().st_size == len(CANARY) * 100
    assert sorted(path.name for path in root.rglob("*.*")) == ["a.txt", "b.bin"]
    assert [path.name for path in (root / "x").iterdir()] == ["y"]
    assert (folder / "a.txt").suffix == ".txt"
    assert not (folder / "c.txt").exists()
    (folder / "b.bin").unlink()
    assert lake.fs.find(lake.path()) == [lake.path("x/y/a.txt")]


@UPATH
def test_universal_pathlib_on_a_mount(mounted: Lake) -> None:
    path = UPath("envelope://lake/x/a.csv")
    path.write_text(f"a,b\n1,{CANARY}\n")
    assert pd.read_csv(str(path))["b"][0] == CANARY
    assert [str(found) for found in UPath("envelope://lake").rglob("*.csv")] == [str(path)]
    assert path.parent.name == "x"


@STORES
def test_zip_and_tar_over_and_under(lake: Lake) -> None:
    with lake.fs.open(lake.path("a.zip"), "wb") as file, zipfile.ZipFile(file, "w") as packed:
        packed.writestr("in/a.txt", CANARY * 1000)
    with lake.fs.open(lake.path("a.tar"), "wb") as file, tarfile.open(fileobj=file, mode="w|") as t:
        info = tarfile.TarInfo("in/a.txt")
        info.size = len(CANARY) * 1000
        t.addfile(info, io.BytesIO(CANARY.encode() * 1000))
    for kind in ("zip", "tar"):
        url = f"{kind}://in/a.txt::{lake.url(f'a.{kind}')}"
        options = {"envelope": {"keys": "local:lake"}, lake.store.protocol: lake.store.options}
        with fsspec.open(url, **options) as opened:
            assert opened.read() == CANARY.encode() * 1000


@STORES
def test_joblib(lake: Lake) -> None:
    data = {"name": CANARY, "numbers": np.arange(100_000)}
    for compress in (0, 3):
        with lake.fs.open(lake.path("a.joblib"), "wb") as file:
            joblib.dump(data, file, compress=compress)
        with lake.fs.open(lake.path("a.joblib")) as file:
            found = joblib.load(file)
        assert np.array_equal(found["numbers"], data["numbers"])


@STORES
def test_pillow(lake: Lake) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (300, 400, 3), dtype="u1")
    for kind in ("png", "bmp", "webp"):
        picture = Image.fromarray(pixels)
        with lake.fs.open(lake.path(f"a.{kind}"), "wb") as file:
            picture.save(file, format=kind)
        with lake.fs.open(lake.path(f"a.{kind}")) as file, Image.open(file) as found:
            assert found.size == (400, 300)
            assert kind == "webp" or np.array_equal(np.asarray(found), pixels)


@STORES
def test_numpy(lake: Lake) -> None:
    data = np.arange(200_000)
    with lake.fs.open(lake.path("a.npy"), "wb") as file:
        np.save(file, data)
    with lake.fs.open(lake.path("a.npz"), "wb") as file:
        np.savez_compressed(file, data=data)
    with lake.fs.open(lake.path("a.npy")) as file:
        assert np.array_equal(np.load(file), data)
    with lake.fs.open(lake.path("a.npz")) as file:
        assert np.array_equal(np.load(file)["data"], data)
