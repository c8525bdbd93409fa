"""A source is removed only if it is still what was read, and nothing is lost."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from unittest import mock

import pytest

from envelope.cli import removal
from envelope.cli.removal import remove_unchanged
from envelope.errors import FileChanged


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(b"data")
    return path


def test_an_unchanged_file_is_removed(source: Path) -> None:
    remove_unchanged(str(source), source.stat())
    assert os.listdir(source.parent) == []


@pytest.mark.parametrize("change", ["content", "replaced", "time"])
def test_a_changed_file_stays_under_its_name(change: str, source: Path) -> None:
    read = source.stat()
    if change == "content":
        source.write_bytes(b"other data")
    elif change == "replaced":
        other = source.with_name("other")
        other.write_bytes(b"data")
        os.utime(other, ns=(read.st_atime_ns, read.st_mtime_ns))
        os.replace(other, source)
    else:
        os.utime(source, ns=(0, 0))
    now = source.read_bytes()
    with pytest.raises(FileChanged):
        remove_unchanged(str(source), read)
    assert source.read_bytes() == now
    assert os.listdir(source.parent) == ["source"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells whether a file is open")
def test_a_file_that_somebody_has_open_for_writing_stays(source: Path) -> None:
    with source.open("ab"), pytest.raises(FileChanged, match="open"):
        remove_unchanged(str(source), source.stat())
    assert source.exists()
    remove_unchanged(str(source), source.stat())


def test_a_new_file_of_the_same_name_and_the_old_one_are_both_kept(source: Path) -> None:
    read = source.stat()

    def made_meanwhile(aside: str, path: str, _read: os.stat_result) -> None:
        Path(path).write_bytes(b"new")
        raise FileChanged("test")

    with mock.patch.object(removal, "_check", made_meanwhile), pytest.raises(FileChanged):
        remove_unchanged(str(source), read)
    assert source.read_bytes() == b"new"
    [aside] = source.parent.glob(".source.*.env1old")
    assert aside.read_bytes() == b"data"


def test_a_file_system_without_hard_links_gets_it_back_too(source: Path) -> None:
    read = source.stat()
    os.utime(source, ns=(0, 0))
    with mock.patch("os.link", side_effect=PermissionError), pytest.raises(FileChanged):
        remove_unchanged(str(source), read)
    assert os.listdir(source.parent) == ["source"]
