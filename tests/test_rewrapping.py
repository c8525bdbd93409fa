"""Rewrapping: new keys in the header, the body byte for byte, nothing lost on the way."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import threading
from pathlib import Path

import pytest

import envelope
from envelope import replacing
from envelope.errors import (
    ConfigurationError,
    FileChanged,
    LimitExceeded,
    Tampered,
    UntrustedKey,
)
from envelope.ring import KeyRing
from tests.memory_driver import MemoryDriver

DATA = os.urandom(1_000_003)


@pytest.fixture
def path(ring: KeyRing, tmp_path: Path) -> Path:
    target = tmp_path / "e.env1"
    envelope.encrypt_file(io.BytesIO(DATA), target, keys=ring, context={"a": "b"})
    return target


def kids(path: Path) -> list[str]:
    return [kid for kid, _ in envelope.inspect(path).recipients]


def fresh(ring: KeyRing, driver: MemoryDriver) -> KeyRing:
    """The same policy without the other's caches: what another process would have."""
    return KeyRing.from_config({**ring.to_config(), "limits": {"kek_age": 1000}})


def test_a_rotated_key_is_refreshed_and_the_body_stays(
    ring: KeyRing, driver: MemoryDriver, path: Path
) -> None:
    before = path.read_bytes()
    driver.rotate("local:lake")
    result = envelope.rewrap(path, keys=ring)
    after = path.read_bytes()
    assert result.changed
    assert result.proven
    assert (result.refreshed, result.added, result.kept, result.dropped) == (
        ("local:lake/v2",),
        (),
        (),
        (),
    )
    assert kids(path) == ["local:lake/v2"]
    assert before[4096:] == after[4096:]
    driver.disabled.add("local:lake/v1")
    assert envelope.verify(path, keys=fresh(ring, driver)).context == {"a": "b"}


def test_a_second_rewrap_changes_nothing(ring: KeyRing, driver: MemoryDriver, path: Path) -> None:
    driver.rotate("local:lake")
    envelope.rewrap(path, keys=ring)
    inode = path.stat().st_ino
    result = envelope.rewrap(path, keys=ring)
    assert not result.changed
    assert path.stat().st_ino == inode


def test_replace_makes_the_set_the_rings_under_another_kek(
    ring: KeyRing, driver: MemoryDriver, path: Path
) -> None:
    old_kek = envelope.inspect(path).kek_id
    both = KeyRing(
        encrypt_to=["local:new", "local:spare"], decrypt_with=["local:lake", "local:new"]
    )
    result = envelope.rewrap(path, keys=both, recipients="replace")
    assert kids(path) == ["local:new/v1", "local:spare/v1"]
    assert result.kek_id != old_kek
    assert set(result.added) == {"local:new/v1", "local:spare/v1"}
    assert result.dropped == ("local:lake/v1",)
    assert envelope.decrypt(path.read_bytes(), keys="local:new") == DATA
    with pytest.raises(UntrustedKey):
        envelope.verify(path, keys=ring)


def test_refresh_keeps_the_recipients_that_the_ring_does_not_name(
    driver: MemoryDriver, tmp_path: Path
) -> None:
    path = tmp_path / "e"
    writer = KeyRing(encrypt_to=["local:lake", "local:break-glass"])
    envelope.encrypt_file(io.BytesIO(DATA), path, keys=writer)
    before = envelope.inspect(path)
    driver.rotate("local:lake")
    driver.rotate("local:break-glass")
    result = envelope.rewrap(path, keys="local:lake")
    assert kids(path) == ["local:lake/v2", "local:break-glass/v1"]
    assert result.kept == ("local:break-glass/v1",)
    assert envelope.inspect(path).kek_id == before.kek_id


def test_mode_times_and_extended_attributes_stay(
    ring: KeyRing, driver: MemoryDriver, path: Path
) -> None:
    path.chmod(0o640)
    os.setxattr(path, "user.origin", b"a crawler")
    driver.rotate("local:lake")
    envelope.rewrap(path, keys=ring)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert os.getxattr(path, "user.origin") == b"a crawler"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to others")
def test_the_owner_stays(ring: KeyRing, driver: MemoryDriver, path: Path) -> None:
    os.chown(path, 12345, 23456)
    driver.rotate("local:lake")
    envelope.rewrap(path, keys=ring)
    status = path.stat()
    assert (status.st_uid, status.st_gid) == (12345, 23456)


def test_a_reader_that_has_the_file_open_reads_on(
    ring: KeyRing, driver: MemoryDriver, path: Path
) -> None:
    with envelope.open(path, keys=ring) as file:
        assert file.read(1000) == DATA[:1000]
        driver.rotate("local:lake")
        envelope.rewrap(path, keys=ring)
        assert file.read() == DATA[1000:]


def test_a_symbolic_link_stays_one(ring: KeyRing, driver: MemoryDriver, path: Path) -> None:
    link = path.with_name("link")
    link.symlink_to(path)
    driver.rotate("local:lake")
    envelope.rewrap(link, keys=ring)
    assert link.is_symlink()
    assert kids(path) == ["local:lake/v2"]


@pytest.mark.parametrize("every", [1, 2**14, 2**40], ids=["each piece", "some", "never"])
def test_the_body_is_the_same_however_often_it_is_written_back(
    ring: KeyRing, driver: MemoryDriver, path: Path, monkeypatch: pytest.MonkeyPatch, every: int
) -> None:
    monkeypatch.setattr(replacing, "clone", lambda *_: False)
    monkeypatch.setattr(replacing, "_COPY_BYTES", 5000)
    monkeypatch.setattr(replacing, "_WRITE_BACK_BYTES", every)
    driver.rotate("local:lake")
    envelope.rewrap(path, keys=ring)
    assert envelope.decrypt(path.read_bytes(), keys=ring) == DATA


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
def test_a_clone_shares_the_blocks_where_the_file_system_can(
    ring: KeyRing, driver: MemoryDriver, tmp_path: Path
) -> None:
    image, mount = tmp_path / "image", tmp_path / "mount"
    mount.mkdir()
    with image.open("wb") as file:
        file.truncate(400 * 2**20)
    try:
        subprocess.run(
            ["mkfs.xfs", "-q", "-m", "reflink=1", image], check=True, capture_output=True
        )
        subprocess.run(["mount", "-o", "loop", image, mount], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no file system with clones can be mounted here: {error}")
    try:
        path = mount / "e"
        envelope.encrypt_file(io.BytesIO(DATA), path, keys=ring)
        driver.rotate("local:lake")
        cloned: list[bool] = []
        original = replacing.clone
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                replacing, "clone", lambda *fds: cloned.append(original(*fds)) or cloned[-1]
            )
            envelope.rewrap(path, keys=ring)
        assert cloned == [True]
        assert envelope.decrypt(path.read_bytes(), keys=ring) == DATA
        assert kids(path) == ["local:lake/v2"]
    finally:
        subprocess.run(["umount", mount], check=True)


def test_values_and_pipes_are_rewrapped_to_a_target(ring: KeyRing, driver: MemoryDriver) -> None:
    value = envelope.encrypt(b"data", keys=ring)
    driver.rotate("local:lake")
    out = io.BytesIO()
    envelope.rewrap(io.BytesIO(value), keys=ring, target=out)
    assert envelope.decrypt(out.getvalue(), keys=ring) == b"data"
    assert envelope.inspect(io.BytesIO(out.getvalue())).recipients == (("local:lake/v2", "A256KW"),)


def test_a_target_is_another_file_and_may_be_a_url_with_options(
    ring: KeyRing, driver: MemoryDriver, path: Path
) -> None:
    with pytest.raises(ConfigurationError, match="same file"):
        envelope.rewrap(path, keys=ring, target=path)
    driver.rotate("local:lake")
    options = {"skip_instance_cache": True}
    envelope.rewrap(path, keys=ring, target="memory://rewrapped", storage_options=options)
    found = envelope.verify("memory://rewrapped", keys=ring)
    assert found.recipients == ("local:lake/v2",)
    assert found.size == len(DATA)


def test_a_compact_file_may_grow_with_its_recipients(
    ring: KeyRing, driver: MemoryDriver, tmp_path: Path
) -> None:
    path = tmp_path / "value"
    path.write_bytes(envelope.encrypt(b"data", keys=ring))
    more = KeyRing(encrypt_to=["local:lake", "local:x", "local:y"], decrypt_with=["local:lake"])
    envelope.rewrap(path, keys=more, recipients="replace")
    assert envelope.decrypt(path.read_bytes(), keys="local:y") == b"data"


def test_recipients_that_do_not_fit_leave_the_file_alone(
    driver: MemoryDriver, tmp_path: Path
) -> None:
    path = tmp_path / "e"
    context = {"long": "x" * 3000}
    envelope.encrypt_file(io.BytesIO(DATA), path, keys="local:lake", context=context)
    before = path.read_bytes()
    names = [f"local:{'k' * 60}-{n}" for n in range(10)]
    many = KeyRing(encrypt_to=names, decrypt_with=["local:lake"])
    with pytest.raises(LimitExceeded, match="header"):
        envelope.rewrap(path, keys=many, recipients="replace")
    assert path.read_bytes() == before


def test_a_tampered_file_is_not_rewrapped(ring: KeyRing, driver: MemoryDriver, path: Path) -> None:
    bad = bytearray(path.read_bytes())
    bad[100] ^= 1
    path.write_bytes(bad)
    driver.rotate("local:lake")
    with pytest.raises(envelope.errors.IntegrityError):
        envelope.rewrap(path, keys=ring)
    assert path.read_bytes() == bad


def test_a_file_that_was_written_to_meanwhile_is_left_alone(
    ring: KeyRing, driver: MemoryDriver, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = replacing._copy_attributes

    def interfere(*fds: int) -> None:
        path.write_bytes(b"somebody else's new content")
        copy(*fds)

    monkeypatch.setattr(replacing, "_copy_attributes", interfere)
    driver.rotate("local:lake")
    with pytest.raises(FileChanged):
        envelope.rewrap(path, keys=ring)
    assert path.read_bytes() == b"somebody else's new content"
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_file_that_was_replaced_meanwhile_is_left_alone(
    ring: KeyRing, driver: MemoryDriver, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = replacing._copy_attributes

    def interfere(*fds: int) -> None:
        other = path.with_name("other")
        other.write_bytes(b"new")
        other.replace(path)
        copy(*fds)

    monkeypatch.setattr(replacing, "_copy_attributes", interfere)
    driver.rotate("local:lake")
    with pytest.raises(FileChanged):
        envelope.rewrap(path, keys=ring)
    assert path.read_bytes() == b"new"


def test_two_rewraps_at_once_end_with_a_whole_file(
    ring: KeyRing, driver: MemoryDriver, path: Path
) -> None:
    driver.rotate("local:lake")
    outcomes: list[object] = []

    def work() -> None:
        try:
            outcomes.append(envelope.rewrap(path, keys=ring).changed)
        except FileChanged as error:
            outcomes.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert True in outcomes
    assert envelope.verify(path, keys=ring).recipients == ("local:lake/v2",)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_in_place_is_for_what_has_a_place(ring: KeyRing, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match=r"in place.*target="):
        envelope.rewrap(io.BytesIO(envelope.encrypt(b"", keys=ring)), keys=ring)
    monkeypatch.setattr(replacing, "_OBJECTS", "no.such.group")  # where nothing knows stores
    with pytest.raises(ConfigurationError, match=r"in place.*target="):
        envelope.rewrap("memory://x", keys=ring)
    with pytest.raises(ConfigurationError, match="recipients"):
        envelope.rewrap("x", keys=ring, recipients="other")  # type: ignore[arg-type]


def test_ten_files_of_one_kek_cost_one_unwrap_and_one_wrap(
    ring: KeyRing, driver: MemoryDriver, tmp_path: Path
) -> None:
    for n in range(10):
        envelope.encrypt_file(io.BytesIO(b"x"), tmp_path / f"{n}", keys=ring, durable=False)
    driver.rotate("local:lake")
    other = fresh(ring, driver)
    driver.calls.clear()
    for n in range(10):
        assert envelope.rewrap(tmp_path / f"{n}", keys=other, durable=False).changed
    assert driver.calls["wrap"] == 1
    assert driver.calls["unwrap"] == 2  # one to read, one to prove the new wrap


def test_an_encrypt_only_ring_says_that_nothing_is_proven(driver: MemoryDriver, path: Path) -> None:
    half = KeyRing(encrypt_to=["local:archive"], decrypt_with=["local:lake"])
    result = envelope.rewrap(path, keys=half, recipients="replace")
    assert not result.proven
    assert envelope.decrypt(path.read_bytes(), keys="local:archive") == DATA


def test_a_rewrap_through_a_bad_header_cannot_launder_it(
    ring: KeyRing, driver: MemoryDriver, path: Path
) -> None:
    """A file whose keys were exchanged for another file's does not get a valid MAC from us."""
    other = path.with_name("other")
    envelope.encrypt_file(io.BytesIO(b"evil"), other, keys=ring)
    mixed = other.read_bytes()[:4096] + path.read_bytes()[4096:]
    path.write_bytes(mixed)
    driver.rotate("local:lake")
    with pytest.raises(Tampered):
        envelope.rewrap(path, keys=ring)
    assert path.read_bytes() == mixed
