"""The folder: who may touch it, one writer at a time, whole files or none."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from envelope import errors
from envelope.keystore import store
from envelope.keystore.driver import LocalKeys
from envelope.keystore.store import Folder, check_access
from envelope.secret import Secret
from tests.keystore.conftest import Open

NOBODY = 65534


def folder_of(keys: LocalKeys) -> Path:
    return Path(keys.contents.folder.path)


def status(mode: int, uid: int) -> os.stat_result:
    return os.stat_result((mode, 1, 1, 1, uid, 0, 0, 0, 0, 0))


def test_everything_is_for_its_owner_alone_whatever_the_umask(open_keystore: Open) -> None:
    before = os.umask(0)
    try:
        keys = open_keystore()
        keys.create("local:lake", protect="permissions")
        keys.rotate("local:lake")
    finally:
        os.umask(before)
    assert stat.S_IMODE(folder_of(keys).stat().st_mode) == 0o700
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder_of(keys).iterdir()}
    assert modes == {"keystore.json": 0o600, "lake.key.json": 0o600, ".lock": 0o600}


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
@pytest.mark.parametrize("name", ["keystore.json", "lake.key.json", "."])
def test_what_others_may_write_is_refused(protected: LocalKeys, name: str, mode: int) -> None:
    path = folder_of(protected) / name
    path.chmod(mode | (0o100 if name == "." else 0))
    with pytest.raises(errors.ConfigurationError, match="others than its owner may write"):
        protected.resolve("local:lake")


@pytest.mark.parametrize("name", ["lake.key.json", "."])
def test_plain_keys_that_others_may_read_are_refused(plain: LocalKeys, name: str) -> None:
    path = folder_of(plain) / name
    path.chmod(0o755 if name == "." else 0o644)
    with pytest.raises(errors.ConfigurationError, match="others than its owner may read"):
        plain.resolve("local:lake")


def test_wrapped_keys_may_be_read_by_others(protected: LocalKeys) -> None:
    (folder_of(protected) / "lake.key.json").chmod(0o644)
    folder_of(protected).chmod(0o755)
    protected.resolve("local:lake")


def test_what_belongs_to_another_user_is_refused_and_roots_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    check_access(status(0o100600, 1000), "/k", plain=True)
    check_access(status(0o100600, 0), "/k", plain=True)
    with pytest.raises(errors.ConfigurationError, match="belongs to another user"):
        check_access(status(0o100600, 1001), "/k", plain=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_key_file_given_away_is_refused(plain: LocalKeys) -> None:
    os.chown(folder_of(plain) / "lake.key.json", NOBODY, NOBODY)
    with pytest.raises(errors.ConfigurationError, match="another user"):
        plain.resolve("local:lake")


def test_a_file_is_synced_then_renamed_then_the_folder_is_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, rename = os.fsync, os.rename

    def synced(descriptor: int) -> None:
        kind = "folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"
        steps.append(f"fsync {kind} of {os.fstat(descriptor).st_size if kind == 'file' else '-'}")
        fsync(descriptor)

    def renamed(source: str, target: str) -> None:
        assert os.path.dirname(source) == os.path.dirname(target) == str(tmp_path)
        assert stat.S_IMODE(os.stat(source).st_mode) == 0o600
        steps.append("rename")
        rename(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "rename", renamed)
    Folder(str(tmp_path)).write("x.key.json", Secret(b"whole"))
    assert steps == ["fsync file of 5", "rename", "fsync folder of -"]


@pytest.mark.parametrize("step", ["fsync", "rename"])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    plain: LocalKeys, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    before = {path.name: path.read_bytes() for path in folder_of(plain).iterdir()}

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, step, full)
        with pytest.raises(OSError, match="No space"):
            plain.rotate("local:lake")
    assert {path.name: path.read_bytes() for path in folder_of(plain).iterdir()} == before


def test_leftovers_of_a_crash_are_removed_by_the_next_write(plain: LocalKeys) -> None:
    left = folder_of(plain) / ".lake.key.json.0123456789abcdef.env1tmp"
    left.write_bytes(b"{")
    assert plain.contents.folder.leftovers() == [left.name]
    plain.resolve("local:lake")
    assert left.exists()  # readers change nothing
    plain.rotate("local:lake")
    assert not left.exists()


def test_no_write_is_lost_among_threads(plain: LocalKeys, open_keystore: Open) -> None:
    def work(_: int) -> str:
        return open_keystore().rotate("local:lake").kid

    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(work, range(40)))
    assert {info.kid for info in plain.list_keys()} > set(made)
    assert len(plain.list_keys()) == 41


def test_no_write_is_lost_among_processes(plain: LocalKeys) -> None:
    program = (
        "import sys; from envelope.keystore.driver import LOCAL\n"
        "keys = LOCAL.resolver(LOCAL.settings({'keystore': sys.argv[1]}))\n"
        "for _ in range(15): keys.rotate('local:lake')\n"
    )
    command = [sys.executable, "-c", program, str(folder_of(plain))]
    children = [subprocess.Popen(command, stderr=subprocess.DEVNULL) for _ in range(3)]
    assert [child.wait(60) for child in children] == [0, 0, 0]
    assert len(plain.list_keys()) == 46


def test_only_one_of_many_makers_of_a_key_wins(open_keystore: Open) -> None:
    start = threading.Barrier(6)

    def work(_: int) -> str:
        start.wait(30)
        try:
            return open_keystore().create("local:lake", protect="permissions").kid
        except errors.AlreadyExists:
            return ""

    with ThreadPoolExecutor(6) as pool:
        made = [kid for kid in pool.map(work, range(6)) if kid]
    assert [info.kid for info in open_keystore().list_keys()] == made
    assert len(made) == 1


def test_a_lock_that_is_never_given_back_is_vault_unavailable(
    plain: LocalKeys, monkeypatch: pytest.MonkeyPatch, open_keystore: Open
) -> None:
    monkeypatch.setattr(store, "_LOCK_SECONDS", 0.05)
    with plain.contents.folder.locked():
        with pytest.raises(errors.VaultUnavailable) as caught:
            open_keystore().rotate("local:lake")
        assert caught.value.retryable
        plain.resolve("local:lake")  # readers do not wait
    open_keystore().rotate("local:lake")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_child_forked_during_a_write_does_not_keep_the_lock(
    plain: LocalKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "_LOCK_SECONDS", 0.2)
    reading, writing = os.pipe()
    with plain.contents.folder.locked():
        child = os.fork()
        if child == 0:
            os.close(writing)
            os.read(reading, 1)  # live until the parent is through
            os._exit(0)
    try:
        plain.rotate("local:lake")
    finally:
        os.close(writing)
        os.close(reading)
        os.waitpid(child, 0)


def test_a_folder_that_cannot_be_made_is_a_configuration_error(
    open_keystore: Open, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    for folder in ("file", "file/below"):
        with pytest.raises(errors.ConfigurationError):
            open_keystore(folder).create("local:lake", protect="permissions")


def test_a_key_file_that_is_a_folder_or_absurdly_large_is_malformed(plain: LocalKeys) -> None:
    path = folder_of(plain) / "lake.key.json"
    with path.open("r+b") as file:
        file.truncate(65 * 2**20)
    with pytest.raises(errors.Malformed):
        plain.resolve("local:lake")
    path.unlink()
    path.mkdir(0o700)
    with pytest.raises(errors.Malformed):
        plain.resolve("local:lake")
