"""migrate: plain files to encrypted ones and back; nothing plain goes before its copy is proven."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from envelope_fsspec import migration
from tests.cli.conftest import Cli
from tests.cli.lakes import Far, far

DATA = b"id,amount\n1,20\n" * 1000
FILES = {"acme/one.csv": DATA, "acme/deep/two.csv": DATA * 2, "lake/empty": b""}
MOUNT = "envelope://lake"


@pytest.fixture(params=["memory", "s3", "local"])
def plain(
    request: pytest.FixtureRequest, tmp_path: Path, lake: Cli, mounts: Callable[..., None]
) -> Iterator[Far]:
    """A plain lake of two tenants, which is the mount ``lake`` too."""
    given = request.getfixturevalue("s3") if request.param == "s3" else None
    with far(request.param, given, tmp_path) as made:
        _fill(made, lake, mounts)
        yield made


def _fill(made: Far, lake: Cli, mounts: Callable[..., None]) -> None:
    lake("keys", "create", "local:acme")
    rules = [{"match": "{tenant}/**", "keys": ["local:{tenant}"]}]
    mounts(made.mount("lake", rules=rules, bind_path=True, on_plaintext="read"))
    for name, data in FILES.items():
        if made.protocol == "file":
            os.makedirs(os.path.dirname(f"{made.root}/{name}"), exist_ok=True)
        made.put(name, data)


def contents(lake: Cli) -> dict[str, bytes]:
    """All files, as programs read them through the mount."""
    return {name: lake("cat", f"{MOUNT}/{name}").out.encode() for name in FILES}


def is_plain(store: Far) -> dict[str, bool]:
    return {name: store.get(name) == FILES[name] for name in FILES}


def test_a_lake_is_encrypted_in_place_and_decrypted_again(plain: Far, lake: Cli) -> None:
    assert contents(lake) == FILES
    found = lake.objects("migrate", MOUNT, schema="migrated")
    assert sorted(each["source"] for each in found) == sorted(f"{MOUNT}/{name}" for name in FILES)
    assert plain.names() == sorted(FILES)
    assert not any(is_plain(plain).values())
    assert contents(lake) == FILES
    lake("verify", "-r", MOUNT)
    [claims] = lake.objects("inspect", f"{MOUNT}/acme/one.csv", schema="inspect")
    assert claims["context"] == {"path": "acme/one.csv"}
    said = lake("migrate", MOUNT, "--decrypt", "--jobs", "2")
    assert said.out == "decrypted and verified 3 files, 43.9 KiB\n"
    assert plain.names() == sorted(FILES)
    assert all(is_plain(plain).values())


def test_a_second_run_skips_what_is_done(plain: Far, lake: Cli) -> None:
    lake("migrate", MOUNT, "--include", "*.csv")
    said = lake("migrate", MOUNT)
    assert "encrypted and verified 1 files, 0 B; skipped 2 (encrypted already 2)" in said.out
    found = lake.objects("migrate", MOUNT, schema="skipped")
    assert [each["skipped"] for each in found] == ["encrypted already"] * 3


def test_what_is_encrypted_for_others_is_an_error_and_not_done(plain: Far, lake: Cli) -> None:
    Path("x").write_bytes(DATA)
    lake("encrypt", "x", "--key", "local:lake")
    plain.put("acme/foreign", Path("x.env1").read_bytes())
    said = lake("migrate", f"{MOUNT}/acme", status=1)
    assert said.err.count("[ENV-") == 1
    assert "acme/foreign" in said.err
    assert plain.get("acme/foreign") == Path("x.env1").read_bytes()


def test_a_dry_run_counts_and_changes_nothing(plain: Far, lake: Cli) -> None:
    said = lake("migrate", MOUNT, "--dry-run")
    assert "would have encrypted 3 files, 43.9 KiB" in said.out
    assert all(is_plain(plain).values())


def test_a_copy_that_is_not_the_original_is_never_swapped_in(
    plain: Far, lake: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = migration.Migration._written

    def damaged(self: Any, copy: Any, on_progress: Any) -> None:
        written(self, copy, on_progress)
        stored = bytearray(copy.store.cat_file(copy.path))
        stored[-1] ^= 1
        copy.store.pipe_file(copy.path, bytes(stored))

    monkeypatch.setattr(migration.Migration, "_written", damaged)
    said = lake("migrate", MOUNT, status=1)
    assert said.err.count("[ENV-TAMPERED]") == 3
    assert all(is_plain(plain).values())
    assert plain.names() == sorted(FILES)  # no leftover
    monkeypatch.undo()


def test_another_content_is_told_even_if_it_is_authentic(
    plain: Far, lake: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    encrypt = migration.encrypt_file

    def other(source: Any, target: Any, **given: Any) -> Any:
        Path("other").write_bytes(DATA[::-1])
        return encrypt("other", target, **given)

    monkeypatch.setattr(migration, "encrypt_file", other)
    said = lake("migrate", f"{MOUNT}/acme/one.csv", status=7)
    assert "another content" in said.err
    assert plain.get("acme/one.csv") == DATA


def test_an_original_that_is_changed_meanwhile_is_kept(
    plain: Far, lake: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked = migration.Migration._checked

    def late(self: Any, copy: Any, *, made: bool) -> Any:
        found = checked(self, copy, made=made)
        plain.put("acme/one.csv", b"written meanwhile")
        return found

    monkeypatch.setattr(migration.Migration, "_checked", late)
    said = lake("migrate", f"{MOUNT}/acme/one.csv", status=7)
    assert "[ENV-CHANGED]" in said.err
    assert plain.get("acme/one.csv") == b"written meanwhile"
    assert plain.names() == sorted(FILES)


def test_into_another_folder_originals_go_once_their_copy_is_proven(plain: Far, lake: Cli) -> None:
    for name, data in FILES.items():
        if plain.protocol == "file":
            os.makedirs(os.path.dirname(f"{plain.root}/in/{name}"), exist_ok=True)
        plain.put(f"in/{name}", data)
    source = f"{plain.url}/in"
    out = (source, f"{MOUNT}/acme/new", *plain.given)
    lake("migrate", *out, "--keep")
    assert plain.get("in/acme/one.csv") == DATA
    said = lake("migrate", *out)  # what was kept is compared, and then removed
    assert "encrypted and verified 3 files" in said.out
    assert not [name for name in plain.names() if name.startswith("in/")]
    assert lake("cat", f"{MOUNT}/acme/new/acme/deep/two.csv").out.encode() == DATA * 2
    lake("migrate", f"{MOUNT}/acme/new", source, "--decrypt", *plain.given)
    assert {name: plain.get(f"in/{name}") for name in FILES} == FILES
    assert not [name for name in plain.names() if name.startswith("acme/new/")]


def test_a_target_that_is_something_else_is_refused_and_the_original_kept(
    plain: Far, lake: Cli
) -> None:
    plain.put("one.csv", DATA)
    plain.put("two.csv", DATA[::-1])
    lake("cp", f"{plain.url}/two.csv", f"{MOUNT}/acme/x", *plain.given)
    said = lake("migrate", f"{plain.url}/one.csv", f"{MOUNT}/acme/x", *plain.given, status=2)
    assert "[ENV-EXISTS]" in said.err
    assert plain.get("one.csv") == DATA


def test_a_folder_without_a_mount_has_the_keys_of_the_options(plain: Far, lake: Cli) -> None:
    lake("migrate", f"{plain.url}/acme", "--key", "local:acme", *plain.given)
    assert lake("verify", "-r", f"{plain.url}/acme", "--key", "local:acme", *plain.given)
    lake("migrate", f"{plain.url}/acme", "--key", "local:acme", "--decrypt", *plain.given)
    assert plain.get("acme/one.csv") == DATA


def test_what_makes_no_sense_is_refused(plain: Far, lake: Cli, mounts: Any) -> None:
    assert "--keep" in lake("migrate", MOUNT, "--keep", status=2).err
    assert "plain side" in lake("migrate", MOUNT, f"{MOUNT}/x", status=2).err
    lake("migrate", f"{MOUNT}/none", status=5)
    mounts(plain.mount("lake", keys=["local:acme"], names="encrypt"))
    assert "names are encrypted" in lake("migrate", MOUNT, status=2).err


def test_a_local_file_keeps_its_mode_and_its_time(lake: Cli) -> None:
    Path("data").mkdir()
    Path("data/x").write_bytes(DATA)
    Path("data/x").chmod(0o640)
    os.utime("data/x", ns=(10**18, 10**18))
    Path("data/link").symlink_to("x")
    lake("migrate", "data")
    status = os.stat("data/x")
    assert (status.st_mode & 0o777, status.st_mtime_ns) == (0o640, 10**18)
    assert Path("data/link").is_symlink()
    assert lake("cat", "data/x").out.encode() == DATA


class Killed(BaseException):
    """What the machine does when the power goes: nothing happens any more."""


@pytest.mark.parametrize("direction", ["encrypt", "decrypt"])
def test_killed_at_any_call_of_the_store_nothing_is_lost_and_a_second_run_finishes(
    direction: str,
    lake: Cli,
    mounts: Callable[..., None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    back = ("--decrypt",) if direction == "decrypt" else ()
    for moment in range(1, 100):
        with far("memory", None, tmp_path) as made:
            mounts(made.mount("lake", keys=["local:lake"], on_plaintext="read"))
            made.put("one", DATA)
            if back:
                lake("migrate", MOUNT)
            if _killed_at(moment, ("migrate", MOUNT, *back), monkeypatch):
                assert lake("cat", f"{MOUNT}/one").out.encode() == DATA, moment
                lake("migrate", MOUNT, *back)
                assert lake("cat", f"{MOUNT}/one").out.encode() == DATA, moment
                assert (made.get("one") == DATA) == bool(back), moment
            else:
                assert moment > 3
                return
    raise AssertionError("it never ended")


def _killed_at(moment: int, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> bool:
    """Run a command; from its ``moment``-th change of the store on, none is made."""
    from envelope.cli.app import run

    count, dead = 0, False

    def dying(method: Any) -> Any:
        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            nonlocal count, dead
            count += 1
            if dead or count == moment:
                dead = True
                raise Killed
            return method(self, *args, **kwargs)

        return call

    with monkeypatch.context() as patch:
        for name in ("pipe_file", "cp_file", "rm_file", "put_file", "_rm"):
            patch.setattr(MemoryFileSystem, name, dying(getattr(MemoryFileSystem, name)))
        try:
            run(list(command))
        except Killed:
            pass
    return dead


def test_readers_see_the_old_or_the_new_file_at_every_instant(
    lake: Cli, mounts: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with far("memory", None, tmp_path) as made:
        mounts(made.mount("lake", keys=["local:lake"], on_plaintext="read"))
        made.put("one", DATA)
        fs = fsspec.filesystem("envelope", mount="lake")
        seen = []
        with monkeypatch.context() as patch:
            for name in ("pipe_file", "cp_file", "rm_file"):
                method = getattr(MemoryFileSystem, name)

                def looking(self: Any, *args: Any, method: Any = method, **kwargs: Any) -> Any:
                    done = method(self, *args, **kwargs)
                    seen.append(fs.cat_file("lake/one"))
                    return done

                patch.setattr(MemoryFileSystem, name, looking)
            lake("migrate", MOUNT)
        assert len(seen) >= 3
        assert set(seen) == {DATA}


def test_progress_has_a_total(plain: Far, lake: Cli) -> None:
    assert "100%" in lake("migrate", MOUNT, "--progress").err


def test_the_plaintext_is_told_by_no_digest(plain: Far, lake: Cli) -> None:
    found = lake.objects("migrate", MOUNT, schema="migrated")
    assert not any("sha" in json.dumps(each) for each in found)
