"""zarr, alone and under xarray; and kerchunk's references to files that are encrypted."""

from __future__ import annotations

import fsspec
import h5py
import numpy as np
import pytest
import xarray as xr
import zarr
from kerchunk.hdf import SingleHdf5ToZarr
from zarr.storage import FsspecStore

from tests.programs.conftest import CANARY, Lake

STORES = pytest.mark.parametrize("lake", ["local", "memory", "s3"], indirect=True)
MESSAGE = f"{CANARY} " * 50


def numbers() -> np.ndarray:
    """More than one segment; its bytes are of the canary."""
    return np.frombuffer((MESSAGE.encode() * 4000)[: 8 * 150_000], dtype="f8").reshape(300, 500)


@STORES
@pytest.mark.parametrize("version", [2, 3])
def test_arrays_by_url(lake: Lake, version: int) -> None:
    data = numbers()
    store = FsspecStore.from_url(lake.url("a.zarr"), storage_options=lake.options)
    array = zarr.create_array(
        store, shape=data.shape, chunks=(100, 100), dtype="f8", zarr_format=version,
        compressors=None, attributes={"title": MESSAGE},
    )  # fmt: skip
    array[:] = data
    array[7, 11] = 5.0
    read = zarr.open_array(
        FsspecStore.from_url(lake.url("a.zarr"), storage_options=lake.options), mode="r"
    )
    expected = data.copy()
    expected[7, 11] = 5.0
    assert np.array_equal(np.nan_to_num(read[:]), np.nan_to_num(expected))
    assert np.array_equal(np.nan_to_num(read[250:, 3:9]), np.nan_to_num(expected[250:, 3:9]))
    assert read.attrs["title"] == MESSAGE


@STORES
def test_a_data_set_of_xarray(lake: Lake) -> None:
    data = xr.Dataset(
        {"t": (("x", "y"), np.arange(120_000.0).reshape(300, 400))},
        coords={"x": np.arange(300)},
        attrs={"title": MESSAGE},
    )
    data.to_zarr(
        lake.url("d.zarr"), storage_options=lake.options, zarr_format=3, consolidated=False
    )
    data.to_zarr(lake.plain / "d.zarr", zarr_format=3, consolidated=False)
    with (
        xr.open_zarr(lake.url("d.zarr"), storage_options=lake.options, consolidated=False) as found,
        xr.open_zarr(lake.plain / "d.zarr", consolidated=False) as plain,
    ):
        assert found.identical(plain)
        assert float(found["t"].sel(x=slice(10, 20)).sum()) == float(plain["t"][10:21].sum())


def test_a_missing_chunk_is_the_fill_value_and_a_changed_one_an_error(lake: Lake) -> None:
    store = FsspecStore.from_url(lake.url("a.zarr"), storage_options=lake.options)
    array = zarr.create_array(store, shape=(40,), chunks=(10,), dtype="i4", fill_value=7)
    array[:30] = 1
    assert array[:].tolist() == [1] * 30 + [7] * 10
    raw, chunk = lake.store.raw, lake.path("a.zarr/c/1")
    stored = bytearray(raw.cat_file(chunk))
    stored[-1] ^= 1
    raw.pipe_file(chunk, bytes(stored))
    with pytest.raises(Exception, match=r"ENV-TAMPERED"):
        array[:]


@pytest.mark.parametrize("lake", ["local", "s3"], indirect=True)
def test_references_of_kerchunk(mounted: Lake) -> None:
    data = np.arange(1.0, 60_001.0).reshape(300, 200)
    with h5py.File(mounted.plain / "a.h5", "w") as file:
        file.create_dataset("t", data=data, chunks=(50, 50))
        file.attrs["title"] = MESSAGE
    mounted.fs.put_file(str(mounted.plain / "a.h5"), mounted.path("a.h5"))
    url = "envelope://lake/a.h5"
    with fsspec.open(url) as file:
        references = SingleHdf5ToZarr(file, url, inline_threshold=0).translate()
    with xr.open_dataset(
        "reference://",
        engine="zarr",
        backend_kwargs={
            "consolidated": False,
            "storage_options": {
                "fo": references,
                "remote_protocol": "envelope",
                "remote_options": {"asynchronous": True},
            },
        },
    ) as found:
        assert np.array_equal(found["t"].values, data)
