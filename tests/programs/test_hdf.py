"""HDF5 and netCDF: h5py and xarray read them from open files; what they write is put there."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
import xarray as xr

from tests.programs.conftest import CANARY, Lake

STORES = pytest.mark.parametrize("lake", ["local", "memory", "s3"], indirect=True)


@STORES
def test_h5py_reads_parts(lake: Lake) -> None:
    data = np.arange(600_000.0).reshape(1000, 600)
    with h5py.File(lake.plain / "a.h5", "w") as file:
        file.create_dataset("t", data=data, chunks=(100, 100), compression="gzip")
        file.attrs["title"] = CANARY
    lake.fs.put_file(str(lake.plain / "a.h5"), lake.path("a.h5"))
    with lake.fs.open(lake.path("a.h5")) as opened, h5py.File(opened, "r") as file:
        assert np.array_equal(file["t"][500:510, 7:300], data[500:510, 7:300])
        assert file.attrs["title"] == CANARY


@STORES
def test_xarray_reads_netcdf(lake: Lake) -> None:
    data = xr.Dataset({"t": ("x", np.arange(100_000.0))}, attrs={"title": CANARY})
    data.to_netcdf(lake.plain / "a.nc", engine="h5netcdf")
    lake.fs.put_file(str(lake.plain / "a.nc"), lake.path("a.nc"))
    with (
        lake.fs.open(lake.path("a.nc")) as file,
        xr.open_dataset(file, engine="h5netcdf") as found,
    ):
        assert found.load().identical(data)


def test_h5py_does_not_write_through_a_file_object_that_cannot_seek_back(lake: Lake) -> None:
    with (
        pytest.raises(Exception, match=r".+"),
        lake.fs.open(lake.path("b.h5"), "wb") as opened,
        h5py.File(opened, "w") as file,
    ):
        file.create_dataset("t", data=np.arange(1000))
    assert not lake.fs.exists(lake.path("b.h5"))
    lake.fs.pipe_file(lake.path("c"), b"")
