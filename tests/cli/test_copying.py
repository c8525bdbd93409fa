"""cp: plaintext into, out of and between mounts and chains."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Cli
from tests.cli.lakes import Far

DATA = b"id,amount\n1,20\n" * 1000


@pytest.fixture
def mounted(store: Far, lake: Cli, mounts: Callable[..., None]) -> Far:
    """Two tenants of the mount ``lake``, and a folder of local files."""
    lake("keys", "create", "local:acme")
    rules = [{"match": "{tenant}/**", "keys": ["local:{tenant}"]}]
    mounts(store.mount("lake", rules=rules))
    Path("in/deep").mkdir(parents=True)
    Path("in/one.csv").write_bytes(DATA)
    Path("in/deep/two.csv").write_bytes(DATA * 2)
    return store


def test_files_go_in_and_out(mounted: Far, lake: Cli) -> None:
    said = lake("cp", "in/one.csv", "envelope://lake/acme/")
    assert said.out == "in/one.csv -> envelope://lake/acme/one.csv (14.6 KiB)\n"
    assert DATA[:50] not in mounted.get("acme/one.csv")
    lake("cp", "envelope://lake/acme/one.csv", "copy.csv")
    assert Path("copy.csv").read_bytes() == DATA
    lake("cp", "envelope://lake/acme/one.csv", f"{mounted.url}/plain.csv", *mounted.given)
    assert mounted.get("plain.csv") == DATA


def test_a_tree_goes_directly_below_the_target(mounted: Far, lake: Cli) -> None:
    said = lake("cp", "-r", "in", "envelope://lake/acme", "--jobs", "2")
    assert said.out == "copied 2 files, 43.9 KiB\n"
    assert mounted.names() == ["acme/deep/two.csv", "acme/one.csv"]
    lake("cp", "-r", "envelope://lake/acme", "out", "--include", "*two*")
    assert [path.name for path in Path("out").rglob("*.csv")] == ["two.csv"]
    assert Path("out/deep/two.csv").read_bytes() == DATA * 2


def test_an_existing_folder_is_one_also_without_a_slash(mounted: Far, lake: Cli) -> None:
    lake("cp", "in/one.csv", "envelope://lake/acme/x/one.csv")
    lake("cp", "in/deep/two.csv", "envelope://lake/acme/x")
    assert mounted.names() == ["acme/x/one.csv", "acme/x/two.csv"]


def test_within_a_key_domain_the_store_copies_and_else_it_is_encrypted_anew(
    mounted: Far, lake: Cli
) -> None:
    lake("cp", "in/one.csv", "envelope://lake/acme/one")
    lake("cp", "envelope://lake/acme/one", "envelope://lake/acme/two")
    assert mounted.get("acme/two") == mounted.get("acme/one")
    lake("cp", "envelope://lake/acme/one", "envelope://lake/lake/one")
    [claims] = lake.objects("inspect", "envelope://lake/lake/one", schema="inspect")
    assert claims["recipients"][0]["kid"].startswith("local:lake/")
    assert lake("cat", "envelope://lake/lake/one").out.encode() == DATA


def test_an_existing_target_is_refused_or_replaced_or_left(mounted: Far, lake: Cli) -> None:
    command = ("cp", "in/one.csv", "envelope://lake/acme/one")
    lake(*command)
    assert "[ENV-EXISTS]" in lake(*command, status=2).err
    within = ("cp", "envelope://lake/acme/one", "envelope://lake/acme/two")
    lake(*within)
    assert "[ENV-EXISTS]" in lake(*within, status=2).err
    before = mounted.get("acme/one")
    assert lake.objects(*command, "--resume", schema="skipped")[0]["skipped"] == "done before"
    assert mounted.get("acme/one") == before
    Path("in/one.csv").write_bytes(DATA[::-1])
    assert "[ENV-EXISTS]" in lake(*command, "--resume", status=2).err
    [done] = lake.objects(*command, "--force", schema="copied")
    assert done["size"] == len(DATA)
    assert lake("cat", "envelope://lake/acme/one").out.encode() == DATA[::-1]


def test_a_dry_run_counts(mounted: Far, lake: Cli) -> None:
    said = lake("cp", "-r", "in", "envelope://lake/acme", "--dry-run")
    assert "would have copied 2 files, 43.9 KiB" in said.out
    assert mounted.names() == []


def test_a_key_error_is_told_and_leaves_no_target(mounted: Far, lake: Cli) -> None:
    said = lake("cp", "-r", "in", "envelope://lake/nobody", status=1)
    assert said.err.count("[ENV-KEY-NOT-FOUND]") == 2
    assert mounted.names() == []
    lake("cp", "in/one.csv", "envelope://lake/acme/one.csv")
    mounted.put("lake/one.csv", mounted.get("acme/one.csv"))
    lake("cp", "envelope://lake/lake/one.csv", "out.csv", status=3)
    assert not Path("out.csv").exists()


def test_what_concerns_no_mount_is_not_for_cp(mounted: Far, lake: Cli) -> None:
    assert "neither" in lake("cp", "in/one.csv", "x", status=2).err
    assert "a target" in lake("cp", "envelope://lake/x", status=2).err
    assert "pipe" in lake("cp", "-", "envelope://lake/x", status=2).err
    lake("cp", "in/one.csv", "envelope://lake/acme/x")
    same = lake("cp", "envelope://lake/acme/x", "envelope://lake/acme/x", "--force", status=2)
    assert "same file" in same.err
