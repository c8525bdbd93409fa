"""Stores that most tests do not run on: another S3, GCS, SFTP, HTTP with and without ranges."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import fsspec
import pytest

import envelope
from tests.filesystem import servers
from tests.filesystem.conftest import Store, make

DATA = os.urandom(3_000_000)


@pytest.fixture(params=["seaweed", "gcs", "sftp"])
def further(
    request: pytest.FixtureRequest, ring: envelope.KeyRing, tmp_path: Path
) -> Iterator[Store]:
    yield from make(request.param, request, ring, tmp_path)


@pytest.mark.parametrize("size", [0, 1, 300_000, 9_000_000])
def test_what_is_written_is_read_again(further: Store, tmp_path: Path, size: int) -> None:
    fs, path = further.fs, further.path("a.bin")
    data = (DATA * 7)[:size]
    with fs.open(path, "wb") as file:
        for start in range(0, size, 700_001):
            file.write(data[start : start + 700_001])
    assert fs.info(path)["size"] == size
    assert fs.cat_file(path) == data
    assert fs.cat_file(path, 1000, 900_000) == data[1000:900_000]
    with fs.open(path) as file:
        assert file.read() == data
    fs.get(path, str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == data
    fs.put(str(tmp_path / "back"), further.path("b.bin"))
    fs.mv(further.path("b.bin"), further.path("c.bin"))
    assert {Path(name).name for name in fs.find(further.root)} == {"a.bin", "c.bin"}
    assert fs.du(further.root) == 2 * size


@pytest.mark.parametrize("size", [100, 9_000_000])
def test_a_write_that_fails_leaves_what_was_there(further: Store, size: int) -> None:
    fs, path = further.fs, further.path("a.bin")
    fs.pipe_file(path, DATA[:1000])
    with suppress(ZeroDivisionError), fs.open(path, "wb") as file:
        file.write((DATA * 4)[:size])
        raise ZeroDivisionError
    assert fs.cat_file(path) == DATA[:1000]
    if further.protocol != "gs":  # whose emulator knows no ifGenerationMatch, which gcsfs sends
        with pytest.raises(FileExistsError):
            fs.pipe_file(path, b"", mode="create")
    assert [Path(name).name for name in further.raw.find(further.root)] == ["a.bin"]


def test_a_changed_object_gives_no_wrong_byte(further: Store) -> None:
    fs, path = further.fs, further.path("a.bin")
    fs.pipe_file(path, DATA)
    changed = bytearray(further.raw.cat_file(path))
    changed[len(changed) // 2] ^= 1
    further.raw.pipe_file(path, bytes(changed))
    with pytest.raises(envelope.errors.Tampered):
        fs.cat_file(path)
    with fs.open(path) as file, pytest.raises(envelope.errors.Tampered):
        file.read()


@pytest.mark.parametrize("ranges", [True, False])
def test_files_are_read_over_http(ring: envelope.KeyRing, tmp_path: Path, ranges: bool) -> None:
    envelope.encrypt_file(_plain(tmp_path), tmp_path / "a.env1", keys=ring)
    with servers.http(tmp_path, ranges) as url:
        fs: Any = fsspec.filesystem("envelope", target_protocol="http", keys=ring)
        path = f"{url}/a.env1"
        assert fs.cat_file(path) == DATA
        assert fs.cat_file(path, 1_000_000, 1_000_100) == DATA[1_000_000:1_000_100]
        assert fs.cat_ranges([path] * 2, [5, 2_999_990], [500_000, 3_000_000]) == [
            DATA[5:500_000],
            DATA[2_999_990:],
        ]
        with fs.open(path) as file:
            assert file.seek(0, os.SEEK_END) == len(DATA)
            file.seek(2_000_000)
            assert file.read(100) == DATA[2_000_000:2_000_100]


def _plain(folder: Path) -> Path:
    (folder / "plain").write_bytes(DATA)
    return folder / "plain"
