"""mount: a mount as a read-only folder. The drive is tested without a kernel, and on one."""

from __future__ import annotations

import errno
import importlib.util
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import pytest

from envelope_fsspec.drive import Drive
from tests.cli.conftest import Cli
from tests.cli.lakes import Far, far

DATA = os.urandom(700_000)


@pytest.fixture
def sealed(tmp_path: Path, lake: Cli, mounts: Callable[..., None]) -> Iterator[Far]:
    """The mount ``lake`` of a local folder: a file, a deeper one, and a plain one."""
    with far("local", None, tmp_path) as made:
        mounts(made.mount("lake", keys=["local:lake"]))
        Path("one").write_bytes(DATA)
        Path("deep").mkdir()
        database = sqlite3.connect("deep/rows.db")
        database.execute("create table t as select 7 as x")
        database.commit()
        database.close()
        lake("cp", "one", "envelope://lake/one")
        lake("cp", "-r", "deep", "envelope://lake/deep")
        made.put("plain", b"plain")
        yield made


@pytest.fixture
def drive(sealed: Far) -> Drive:
    return Drive(fsspec.filesystem("envelope", mount="lake"), "lake", lambda _path, _error: None)


def test_files_are_shown_with_the_sizes_of_their_plaintext(drive: Drive) -> None:
    assert drive("readdir", "/", 0) == [".", "..", "deep", "one", "plain"]
    assert drive("getattr", "/one")["st_size"] == len(DATA)
    assert drive("getattr", "/deep")["st_mode"] == 0o040555
    assert drive("getattr", "/")["st_mode"] == 0o040555
    assert drive("statfs", "/")["f_namemax"] == 255


def test_ranges_are_plaintext(drive: Drive) -> None:
    handle = drive("open", "/one", os.O_RDONLY)
    for start, size in ((0, 10), (262_140, 70_000), (699_990, 4096), (800_000, 10)):
        assert drive("read", "/one", size, start, handle) == DATA[start : start + size]
    assert drive("release", "/one", handle) == 0


@pytest.mark.parametrize(("path", "number"), [("/none", errno.ENOENT), ("/plain", errno.EIO)])
def test_what_cannot_be_read_is_an_error_of_the_system(
    drive: Drive, path: str, number: int
) -> None:
    with pytest.raises(OSError) as caught:  # noqa: PT011 - the number is what counts
        drive("open", path, os.O_RDONLY)
    assert caught.value.errno == number


def test_nothing_is_written(drive: Drive) -> None:
    with pytest.raises(OSError) as caught:  # noqa: PT011 - the number is what counts
        drive("open", "/one", os.O_WRONLY)
    assert caught.value.errno == errno.EROFS


def test_a_damaged_file_and_a_denied_key_are_told_beside_the_number(sealed: Far, lake: Cli) -> None:
    told: list[str] = []
    fs = fsspec.filesystem("envelope", mount="lake")
    drive = Drive(fs, "lake", lambda path, error: told.append(f"{path}: {error}"))
    stored = bytearray(sealed.get("one"))
    stored[5000] ^= 1
    sealed.put("one", bytes(stored))
    handle = drive("open", "/one", os.O_RDONLY)
    with pytest.raises(OSError) as caught:  # noqa: PT011 - the number is what counts
        drive("read", "/one", 100, 0, handle)
    assert caught.value.errno == errno.EIO
    lake("keys", "create", "local:other")
    lake("encrypt", "one", "--key", "local:other", "--out", f"{sealed.root}/foreign")
    with pytest.raises(OSError) as caught:  # noqa: PT011 - the number is what counts
        drive("open", "/foreign", os.O_RDONLY)
    assert caught.value.errno == errno.EACCES
    assert [line.partition(":")[0] for line in told] == ["/one", "/foreign"]
    assert "local:other" in told[1]


def test_without_fusepy_the_extra_is_named(
    sealed: Far, lake: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "fuse", None)
    said = lake("mount", "lake", "deep", status=2)
    assert "envelope-encryption[fuse]" in said.err


# --- On a kernel ------------------------------------------------------------------------------


def _why_not() -> str | None:
    if importlib.util.find_spec("fuse") is None:
        return "fusepy is not installed (the extra `fuse`)"
    if shutil.which("fusermount") is None:
        return "fusermount is not installed (Debian: fuse)"
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR))
    except OSError as error:
        return f"/dev/fuse cannot be opened: {error}"
    return None


@pytest.fixture
def mounted(sealed: Far, lake: Cli, tmp_path: Path) -> Iterator[Path]:
    why = _why_not()
    if why is not None:
        pytest.skip(why)
    folder = tmp_path / "mnt"
    folder.mkdir()
    command = [sys.executable, "-m", "envelope", "mount", "lake", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        for _ in range(200):
            if os.path.ismount(folder):
                break
            if process.poll() is not None:
                said = process.communicate()[1]
                if "could not mount" in said:
                    pytest.skip(f"this system does not let mount: {said.strip()}")
                pytest.fail(said)
            time.sleep(0.05)
        yield folder
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
        assert not os.path.ismount(folder)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
        if os.path.ismount(folder):
            subprocess.run(["fusermount", "-uz", folder], check=True)


def test_programs_read_the_folder_and_cannot_write_to_it(mounted: Path, tmp_path: Path) -> None:
    assert sorted(os.listdir(mounted)) == ["deep", "one", "plain"]
    subprocess.run(["cp", "-r", mounted / "deep", mounted / "one", tmp_path], check=True)
    assert (tmp_path / "one").read_bytes() == DATA
    database = sqlite3.connect(f"file:{mounted}/deep/rows.db?mode=ro", uri=True)
    assert database.execute("select x from t").fetchall() == [(7,)]
    database.close()
    with pytest.raises(OSError, match="Input/output error"):
        (mounted / "plain").read_bytes()
    with pytest.raises(OSError, match="Read-only"):
        (mounted / "new").write_bytes(b"")
    subprocess.run(["cmp", mounted / "one", "one"], check=True)
