"""Every verb on files and folders behind URLs, in mounts and in chains."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Cli
from tests.cli.lakes import Far

DATA = b"id,amount\n1,20\n" * 1000


@pytest.fixture
def data(store: Far) -> Far:
    """Two plain files in the store, one of them deeper, and one of another kind."""
    store.put("data/one.csv", DATA)
    store.put("data/deep/two.csv", DATA * 2)
    store.put("data/notes.txt", b"note")
    return store


def test_a_file_goes_from_store_to_store_and_back(data: Far, lake: Cli) -> None:
    url = data.url
    lake("encrypt", f"{url}/data/one.csv", "--out", f"{url}/x.env1", *data.given)
    assert DATA[:100] not in data.get("x.env1")
    lake("verify", f"{url}/x.env1", *data.given)
    [claims] = lake.objects("inspect", f"{url}/x.env1", *data.given, schema="inspect")
    assert claims["size"] == len(DATA)
    assert lake("cat", f"{url}/x.env1", *data.given).out.encode() == DATA
    lake("decrypt", f"{url}/x.env1", "--out", f"{url}/back.csv", *data.given)
    assert data.get("back.csv") == DATA


def test_a_file_goes_beside_its_source(data: Far, lake: Cli) -> None:
    said = lake("encrypt", f"{data.url}/data/one.csv", *data.given)
    assert said.out == f"{data.url}/data/one.csv -> {data.url}/data/one.csv.env1 (14.6 KiB)\n"
    assert "[ENV-EXISTS]" in lake("encrypt", f"{data.url}/data/one.csv", *data.given, status=2).err


def test_a_folder_is_mirrored_from_here_there_and_back(data: Far, lake: Cli) -> None:
    url, given = data.url, data.given
    said = lake("encrypt", "-r", f"{url}/data", "--out", f"{url}/sealed", *given, "--jobs", "3")
    assert said.out.startswith("encrypted 3 files, 43.9 KiB")
    assert [name for name in data.names() if name.startswith("sealed")] == [
        "sealed/deep/two.csv.env1",
        "sealed/notes.txt.env1",
        "sealed/one.csv.env1",
    ]
    assert "failed" not in lake("verify", "-r", f"{url}/sealed", *given).out
    lake("decrypt", "-r", f"{url}/sealed", "--out", "local", *given)
    assert Path("local/deep/two.csv").read_bytes() == DATA * 2
    lake("encrypt", "-r", "local", "--out", f"{url}/again", *given)
    lake("decrypt", "-r", f"{url}/again", "--out", f"{url}/plain", *given)
    assert data.get("plain/deep/two.csv") == DATA * 2


def test_a_second_run_skips_what_is_done_and_finds_what_is_not(data: Far, lake: Cli) -> None:
    command = ("encrypt", "-r", f"{data.url}/data", "--out", f"{data.url}/sealed", *data.given)
    lake(*command)
    before = {name: data.get(name) for name in data.names()}
    for more in ((), ("--resume",)):
        found = lake.objects(*command, *more, schema="skipped")
        assert [each["skipped"] for each in found] == ["done before"] * 3
    assert {name: data.get(name) for name in data.names()} == before
    data.put("data/one.csv", DATA[::-1])  # as long as before
    found = lake.objects(*command, schema="skipped", status=1)
    assert [each.get("error") for each in found] == [None, None, "ENV-EXISTS"]
    data.put("sealed/notes.txt.env1", before["sealed/notes.txt.env1"][:-1])
    found = lake.objects(*command, "--resume", schema="skipped", status=1)
    assert {each.get("error") for each in found} == {"ENV-EXISTS", None}
    lake(*command, "--force", "--resume")
    lake("decrypt", "-r", f"{data.url}/sealed", "--out", "back", *data.given)
    assert Path("back/notes.txt").read_bytes() == b"note"


def test_a_local_copy_has_the_time_of_its_source_and_is_then_known_by_it(
    data: Far, lake: Cli
) -> None:
    command = ("encrypt", "-r", f"{data.url}/data", "--out", "sealed", *data.given)
    lake(*command)
    first = Path("sealed/one.csv.env1").stat()
    assert "skipped 3 (done before 3)" in lake(*command).out
    assert Path("sealed/one.csv.env1").stat().st_mtime_ns == first.st_mtime_ns


def test_a_glob_is_our_own(data: Far, lake: Cli) -> None:
    url, given = data.url, data.given
    out = f"{url}/x"
    for glob, names in {
        "data/*.csv": ["one.csv.env1"],
        "data/**": ["deep/two.csv.env1", "notes.txt.env1", "one.csv.env1"],
        "*/deep/t?o.csv": ["data/deep/two.csv.env1"],
        "**/*.csv": ["data/deep/two.csv.env1", "data/one.csv.env1"],
    }.items():
        found = lake.objects(
            "encrypt", f"{url}/{glob}", "--out", out, "--dry-run", *given, schema="planned"
        )
        assert sorted(each["target"] for each in found) == [f"{out}/{name}" for name in names]
    said = lake("encrypt", f"{url}/data/*.none", "--out", out, *given, status=1)
    assert "No file matches" in said.err


def test_a_file_with_the_signs_of_a_glob_in_its_name_is_that_file(data: Far, lake: Cli) -> None:
    data.put("data/[1].csv", DATA)
    data.put("data/1.csv", b"other")
    lake("encrypt", f"{data.url}/data/[1].csv", "--out", "x/", *data.given)
    assert lake("cat", "x/[1].csv.env1").out.encode() == DATA


def test_include_and_exclude_pick_and_a_dry_run_counts(data: Far, lake: Cli) -> None:
    picked = ("--include", "*.csv", "--exclude", "deep/*")
    said = lake(
        "encrypt", "-r", f"{data.url}/data", "--out", "x", "--dry-run", *picked, *data.given
    )
    assert "would have encrypted 1 file, 14.6 KiB; skipped 2 (not asked for 2)" in said.out
    assert not Path("x").exists()


def test_the_progress_bar_has_the_total(data: Far, lake: Cli) -> None:
    said = lake("encrypt", "-r", f"{data.url}/data", "--out", "x", "--progress", *data.given)
    assert "100%" in said.err


def test_what_is_not_there_is_told_as_for_local_files(data: Far, lake: Cli) -> None:
    for command in ("encrypt", "decrypt", "verify", "inspect", "rewrap", "reencrypt"):
        said = lake(command, "-r", f"{data.url}/nothing", *data.given, status=1)
        assert "[ENOENT]" in said.err, command


def test_an_error_of_one_file_is_one_line_and_the_others_go_on(data: Far, lake: Cli) -> None:
    url, given = data.url, data.given
    lake("encrypt", "-r", f"{url}/data", "--out", f"{url}/sealed", *given)
    whole = data.get("sealed/one.csv.env1")
    data.put("sealed/one.csv.env1", whole[:-30] + bytes(30))
    found = lake.objects("verify", "-r", f"{url}/sealed", *given, schema="verify", status=1)
    assert [each.get("error") for each in found] == [None, None, "ENV-TAMPERED"]


def test_a_key_error_is_told_for_each_file_and_never_left_out(data: Far, lake: Cli) -> None:
    url, given = data.url, data.given
    lake("keys", "create", "local:other")
    lake("encrypt", "-r", f"{url}/data", "--out", f"{url}/sealed", *given)
    for command in ("decrypt", "verify", "reencrypt"):
        more = ("--out", "x") if command == "decrypt" else ()
        said = lake(command, "-r", f"{url}/sealed", "--key", "local:other", *more, *given, status=1)
        assert said.err.count("[ENV-UNTRUSTED]") == 3, command


def test_a_folder_that_cannot_be_listed_is_an_error(
    data: Far, lake: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = type(data.fs)
    name = "_lsdir" if data.protocol == "s3" else "ls"
    listing = getattr(kind, name)

    def refusing(self: Any, path: str, *args: Any, **kwargs: Any) -> Any:
        if "deep" in path or data.protocol == "s3":
            raise PermissionError(13, "Access Denied", path)
        return listing(self, path, *args, **kwargs)

    monkeypatch.setattr(kind, name, refusing)
    data.fs.invalidate_cache()
    said = lake("encrypt", "-r", f"{data.url}/data", "--out", "x", *data.given, status=1)
    assert "[EACCES]" in said.err


def test_reencrypting_replaces_the_object(data: Far, lake: Cli) -> None:
    url, given = data.url, data.given
    lake("encrypt", f"{url}/data/one.csv", "--out", f"{url}/x.env1", "-c", "table=a", *given)
    before = data.get("x.env1")
    [done] = lake.objects("reencrypt", f"{url}/x.env1", *given, schema="file")
    assert (done["target"], done["context"]) == (f"{url}/x.env1", {"table": "a"})
    assert data.get("x.env1")[4096:] != before[4096:]
    assert lake("cat", f"{url}/x.env1", *given).out.encode() == DATA


def test_a_bound_path_is_that_below_the_folders_url(data: Far, lake: Cli) -> None:
    url, given = data.url, data.given
    bound = ("--bind-path", f"{url}/sealed")
    lake("encrypt", "-r", f"{url}/data", "--out", f"{url}/sealed", *bound, *given)
    [claims] = lake.objects("inspect", f"{url}/sealed/deep/two.csv.env1", *given, schema="inspect")
    assert claims["context"] == {"path": "deep/two.csv.env1"}
    lake("verify", "-r", f"{url}/sealed", *bound, *given)
    data.put("sealed/moved.env1", data.get("sealed/one.csv.env1"))
    said = lake("verify", "-r", f"{url}/sealed", *bound, *given, status=1)
    assert said.err.count("[ENV-CONTEXT]") == 1


def test_pipes_go_to_stores_and_come_from_them(store: Far, lake: Cli) -> None:
    lake("encrypt", __file__, "--out", f"{store.url}/x", *store.given)
    assert lake("decrypt", f"{store.url}/x", "--out", "-", *store.given).out.encode() == (
        Path(__file__).read_bytes()
    )


def test_a_source_that_changes_while_it_is_read_is_no_target(
    data: Far, lake: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    from envelope.sealing import Sealing

    transfer = Sealing.transfer

    def changing(self: Any, *args: Any) -> None:
        transfer(self, *args)
        data.put("data/one.csv", DATA[::-1] + b"more")

    monkeypatch.setattr(Sealing, "transfer", changing)
    said = lake("encrypt", f"{data.url}/data/one.csv", "--out", "x", *data.given, status=7)
    assert "[ENV-CHANGED]" in said.err
    assert not Path("x").exists()


# --- Mounts and chains ------------------------------------------------------------------------


@pytest.fixture
def mounted(data: Far, lake: Cli, mounts: Callable[..., None], monkeypatch: Any) -> Far:
    """The store as the mount ``lake``, whose folders have keys of their own."""
    monkeypatch.delenv("ENVELOPE_KEYS")
    lake("keys", "create", "local:acme")
    rules = [
        {"match": "data/**", "keys": ["local:lake"]},
        {"match": "{tenant}/**", "keys": ["local:{tenant}"], "context": {"tenant": "{tenant}"}},
    ]
    mounts(data.mount("lake", bind_path=True, segment_length=65536, rules=rules))
    return data


def test_a_mount_is_the_stored_file_where_an_encrypted_one_is_wanted(
    mounted: Far, lake: Cli
) -> None:
    Path("plain").write_bytes(DATA)
    lake("encrypt", "plain", "--out", "envelope://lake/acme/x.csv")
    [claims] = lake.objects("inspect", "envelope://lake/acme/x.csv", schema="inspect")
    assert claims["context"] == {"tenant": "acme", "path": "acme/x.csv"}
    assert claims["segment_length"] == 65536
    assert claims["recipients"][0]["kid"].startswith("local:acme/")
    lake("verify", "envelope://lake/acme/x.csv")
    lake("reencrypt", "envelope://lake/acme/x.csv")
    assert lake("cat", "envelope://lake/acme/x.csv").out.encode() == DATA
    lake("decrypt", "envelope://lake/acme/x.csv", "--out", "back")
    assert Path("back").read_bytes() == DATA
    mounted.put("data/x.csv", mounted.get("acme/x.csv"))  # swapped to where it does not belong
    for command in ("cat", "verify"):
        lake(command, "envelope://lake/data/x.csv", status=4)


def test_a_folder_of_a_mount_keeps_its_names(mounted: Far, lake: Cli) -> None:
    Path("in/deep").mkdir(parents=True)
    Path("in/deep/one.csv").write_bytes(DATA)
    lake("encrypt", "-r", "in", "--out", "envelope://lake/acme")
    assert DATA[:50] not in mounted.get("acme/deep/one.csv")
    assert (
        "skipped 1 (done before 1)"
        in lake("encrypt", "-r", "in", "--out", "envelope://lake/acme").out
    )
    lake("decrypt", "-r", "envelope://lake/acme", "--out", "out")
    assert Path("out/deep/one.csv").read_bytes() == DATA
    assert lake("verify", "-r", "envelope://lake/acme").out.startswith("OK  envelope://lake/acme/")


def test_a_plain_file_in_a_mount_fails_verification(mounted: Far, lake: Cli) -> None:
    said = lake("verify", "-r", "envelope://lake/data", status=1)
    assert said.err.count("[ENV-NOT-ENCRYPTED]") == 3


def test_a_mount_takes_no_keys_beside_its_own(mounted: Far, lake: Cli) -> None:
    for more in (("--key", "local:lake"), ("-c", "a=b")):
        said = lake("cat", "envelope://lake/acme/x", *more, status=2)
        assert "Leave out" in said.err
    said = lake("cat", "envelope://other/x", status=2)
    assert "no configuration has a mount" in said.err


def test_where_no_rule_matches_nothing_is_written(mounted: Far, lake: Cli) -> None:
    Path("plain").write_bytes(DATA)
    said = lake("encrypt", "plain", "--out", "envelope://lake/UPPER/x", status=2)
    assert "no rule matches" in said.err
    assert "UPPER/x" not in mounted.names()


def test_a_mount_of_a_configuration_that_an_option_names(
    data: Far, lake: Cli, tmp_path: Path
) -> None:
    file = tmp_path / "own.toml"
    file.write_text(data.mount("mine", keys=["local:lake"]))
    Path("plain").write_bytes(DATA)
    lake("encrypt", "plain", "--out", "envelope://mine/x", "--config", file)
    assert lake("cat", "envelope://mine/x", "--config", file).out.encode() == DATA
    assert "ENVELOPE_CONFIG" not in os.environ


def test_a_chain_has_the_keys_of_the_options(data: Far, lake: Cli) -> None:
    lake("keys", "create", "local:acme")
    url = f"envelope::{data.url}"
    Path("plain").write_bytes(DATA)
    given = (*data.given, "--key", "local:acme", "-c", "table=a")
    lake("encrypt", "plain", "--out", f"{url}/x", *given)
    assert "[ENV-UNTRUSTED]" in lake("cat", f"{url}/x", *data.given, status=3).err
    assert lake("cat", f"{url}/x", *given).out.encode() == DATA
    [claims] = lake.objects("inspect", f"{data.url}/x", *data.given, schema="inspect")
    assert claims["context"] == {"table": "a"}


def test_keys_of_a_chain_may_stand_beside_its_stores_options(data: Far, lake: Cli) -> None:
    lake("keys", "create", "local:acme")
    options = json.dumps({"keys": "local:acme", data.protocol: dict(data.options)})
    out = f"envelope::{data.url}/x"
    lake("encrypt", f"{data.url}/data/one.csv", "--out", out, "--storage-options", options)
    assert lake("cat", out, "--storage-options", options).out.encode() == DATA


def test_what_has_no_place_beside_it_says_so(mounted: Far, lake: Cli) -> None:
    Path("plain").write_bytes(DATA)
    lake("encrypt", "plain", "--out", "envelope://lake/acme/x")
    assert "--out" in lake("decrypt", "envelope://lake/acme/x", status=2).err
    assert "--out" in lake("decrypt", "-r", "envelope://lake/acme", status=1).err


def test_options_of_stores_are_an_object_and_go_with_urls(lake: Cli) -> None:
    Path("plain").write_bytes(DATA)
    for text in ("nonsense", "[]", '"x"'):
        said = lake("cat", "memory://x", "--storage-options", text, status=2)
        assert "no JSON object" in said.err
    said = lake("encrypt", "plain", "--out", "y", "--storage-options", '{"s3": {}}', status=2)
    assert "go with URLs" in said.err


def test_plaintext_that_goes_into_a_mount_never_waits_in_plain(
    mounted: Far, lake: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tempfile

    waited = []
    unlink = os.unlink
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def looking(path: Any, *args: Any, **kwargs: Any) -> None:
        if os.path.isfile(path) and ".env1tmp" in str(path):
            waited.append(DATA in Path(path).read_bytes())
        unlink(path, *args, **kwargs)

    Path("plain").write_bytes(DATA * 700)  # more than what is kept in memory
    monkeypatch.setenv("ENVELOPE_KEYS", "local:lake")
    lake("encrypt", "plain")
    monkeypatch.setattr(os, "unlink", looking)
    lake("decrypt", "plain.env1", "--out", "envelope://lake/acme/x")
    assert not any(waited)
    assert lake("cat", "envelope://lake/acme/x").out.encode() == DATA * 700
    assert (
        "[ENV-EXISTS]"
        in lake("decrypt", "plain.env1", "--out", "envelope://lake/acme/x", status=2).err
    )


def test_objects_are_rewrapped_in_place_by_urls_mounts_and_chains(mounted: Far, lake: Cli) -> None:
    Path("plain").write_bytes(DATA)
    lake("encrypt", "plain", "--out", "envelope://lake/acme/x")
    key = ("--key", "local:lake", *mounted.given)
    lake("encrypt", "plain", "--out", f"{mounted.url}/bare.env1", *key)
    before = {name: mounted.get(name)[4096:] for name in ("acme/x", "bare.env1")}
    lake("keys", "rotate", "local:acme")
    lake("keys", "rotate", "local:lake")
    [done] = lake.objects("rewrap", "-r", "envelope://lake/acme", schema="rewrap")
    assert (done["source"], done["changed"]) == ("envelope://lake/acme/x", True)
    [done] = lake.objects("rewrap", f"{mounted.url}/bare.env1", *key, schema="rewrap")
    assert done["changed"]
    assert {name: mounted.get(name)[4096:] for name in before} == before
    lake("verify", "envelope://lake/acme/x")
    assert "up to date 1" in lake("rewrap", "-r", "envelope://lake/acme").out
    [count] = lake.objects("rewrap", "-r", "--dry-run", "envelope://lake/acme", schema="kid")
    assert count["kid"].startswith("local:acme/")
