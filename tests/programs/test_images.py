"""Rasters and vectors: rasterio, tifffile, geopandas."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

from tests.programs.conftest import CANARY, Lake, needs

STORES = pytest.mark.parametrize("lake", ["local", "memory", "s3"], indirect=True)


@STORES
def test_tifffile(lake: Lake) -> None:
    pixels = np.random.default_rng(1).integers(0, 4096, (3, 512, 512), dtype="u2")
    tifffile.imwrite(
        lake.plain / "a.tif", pixels, tile=(128, 128), photometric="minisblack", description=CANARY
    )
    lake.fs.put_file(str(lake.plain / "a.tif"), lake.path("a.tif"))
    with lake.fs.open(lake.path("a.tif")) as file, tifffile.TiffFile(file) as found:
        assert np.array_equal(found.asarray(), pixels)
        assert found.pages[0].description == CANARY


@needs("rasterio")
@STORES
def test_rasterio(lake: Lake) -> None:
    import rasterio

    pixels = np.random.default_rng(1).integers(0, 4096, (1, 700, 900), dtype="u2")
    with rasterio.open(
        lake.plain / "a.tif", "w", driver="GTiff", width=900, height=700, count=1, dtype="uint16",
        tiled=True, blockxsize=256, blockysize=256, transform=rasterio.Affine.scale(2),
    ) as file:  # fmt: skip
        file.write(pixels)
        file.update_tags(title=CANARY)
    lake.fs.put_file(str(lake.plain / "a.tif"), lake.path("a.tif"))
    window = rasterio.windows.Window(300, 200, 100, 50)
    with lake.fs.open(lake.path("a.tif")) as opened, rasterio.open(opened) as found:
        assert np.array_equal(found.read(1, window=window), pixels[0, 200:250, 300:400])
        assert found.tags()["title"] == CANARY


@needs("geopandas")
@STORES
def test_geopandas(lake: Lake) -> None:
    import geopandas

    points = geopandas.points_from_xy(np.arange(2000) / 100, np.arange(2000) / 50)
    data = geopandas.GeoDataFrame(
        {"name": [f"{CANARY}{i}" for i in range(2000)]}, geometry=points, crs="EPSG:4326"
    )
    fs = lake.fs
    data.to_parquet(lake.path("a.parquet"), filesystem=fs)
    found = geopandas.read_parquet(lake.url("a.parquet"), storage_options=lake.options)
    assert found.equals(data)
    with fs.open(lake.path("a.geojson"), "w") as file:
        file.write(data.to_json())
    with fs.open(lake.path("a.geojson")) as opened:
        assert geopandas.read_file(opened)["name"].tolist() == data["name"].tolist()
