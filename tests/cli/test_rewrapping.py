"""rewrap."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Cli


@pytest.fixture
def tree(lake: Cli) -> Path:
    Path("tree/deep").mkdir(parents=True)
    for name in ("tree/one", "tree/deep/two"):
        Path(name).write_bytes(name.encode())
    lake("encrypt", "-r", "tree")
    Path("tree/deep/two.env1").rename("tree/deep/renamed")
    return Path("tree")


def newest(cli: Cli) -> str:
    [kid] = [info["kid"] for info in cli.objects("keys", "list", schema="key") if info["newest"]]
    return str(kid)


def test_a_dry_run_counts_files_by_kid_and_needs_no_key(
    tree: Path, lake: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = newest(lake)
    lake("keys", "rotate", "local:lake")
    lake("rewrap", "tree/one.env1")
    new = newest(lake)
    monkeypatch.delenv("ENVELOPE_KEYS")
    found = lake.objects("rewrap", "-r", "--dry-run", "tree", schema="kid")
    assert found == sorted(
        [{"kid": old, "files": 1, "of": 2}, {"kid": new, "files": 1, "of": 2}],
        key=lambda each: str(each["kid"]),
    )
    assert "2 encrypted files" in lake("rewrap", "-r", "--dry-run", "tree").out


def test_a_rewrap_moves_to_the_newest_version_and_keeps_the_body(tree: Path, lake: Cli) -> None:
    before = Path("tree/one.env1").read_bytes()
    lake("keys", "rotate", "local:lake")
    [done] = lake.objects("rewrap", "tree/one.env1", schema="rewrap")
    assert done["refreshed"] == [newest(lake)]
    assert Path("tree/one.env1").read_bytes()[4096:] == before[4096:]
    assert "up to date" in lake("rewrap", "tree/one.env1").out


def test_a_tree_is_rewrapped(tree: Path, lake: Cli) -> None:
    lake("keys", "rotate", "local:lake")
    assert lake("rewrap", "-r", "tree", "--jobs", "2").out == "rewrapped 2, up to date 0\n"
    assert lake("rewrap", "-r", "tree").out == "rewrapped 0, up to date 2\n"
    [count] = lake.objects("rewrap", "-r", "-n", "tree", schema="kid")
    assert count == {"kid": newest(lake), "files": 2, "of": 2}


def test_replaced_recipients_are_exactly_those_named(tree: Path, lake: Cli) -> None:
    lake("keys", "create", "local:new")
    [done] = lake.objects(
        "rewrap", "tree/one.env1", "--replace-recipients",
        "--key", "local:new", "--trust", "local:lake", schema="rewrap",
    )  # fmt: skip
    assert len(done["added"]) == len(done["dropped"]) == 1
    lake("cat", "tree/one.env1", status=3)
    assert lake("cat", "tree/one.env1", "--key", "local:new").out == "tree/one"


def test_another_target_leaves_the_file(tree: Path, lake: Cli) -> None:
    before = Path("tree/one.env1").read_bytes()
    lake("keys", "rotate", "local:lake")
    lake("rewrap", "tree/one.env1", "--out", "new.env1")
    assert Path("tree/one.env1").read_bytes() == before
    assert "[ENV-EXISTS]" in lake("rewrap", "tree/one.env1", "--out", "new.env1", status=2).err
    lake("rewrap", "-r", "tree", "--out", "moved")
    assert Path("moved/deep/renamed").exists()


def test_options_that_would_do_nothing_are_refused(tree: Path, lake: Cli) -> None:
    for option in ("--remove-source", "--suffix=.x", "--threads=2"):
        assert "No such option" in lake("rewrap", "tree/one.env1", option, status=2).err
    assert "No such option" in lake("reencrypt", "tree/one.env1", "--suffix=.x", status=2).err


def test_a_pipe_cannot_be_rewrapped(lake: Cli) -> None:
    assert "a pipe cannot be rewrapped" in lake("rewrap", "-", status=2).err
    assert lake("rewrap", "x", "--out", "-", status=2).out == ""


def test_the_data_is_not_looked_at_for_one_file_that_fails(tree: Path, lake: Cli) -> None:
    Path("tree/bad.env1").write_bytes(Path("tree/one.env1").read_bytes()[:100])
    said = lake("rewrap", "-r", "tree", status=1)
    assert "tree/bad.env1" in said.err
    assert said.out == "rewrapped 0, up to date 2; failed 1\n"


def test_the_name_key_of_a_mount_is_rewrapped_with_its_files(lake: Cli) -> None:
    Path("envelope.toml").write_text(
        f'[mount.hidden]\nurl = "file://{Path.cwd()}/store"\noptions = {{auto_mkdir = true}}\n'
        'keys = ["local:lake"]\nnames = "encrypt"\n'
    )
    for command in (
        ("cp", "one", "envelope://hidden/data/one"),
        ("cp", "one", "envelope://hidden/two"),
        ("keys", "rotate", "local:lake"),
    ):
        Path("one").write_bytes(b"one")
        assert lake.program(*command).returncode == 0
    old = {info["kid"] for info in lake.objects("keys", "list", schema="key")} - {newest(lake)}
    assert "3 encrypted files" in lake("rewrap", "-r", "--dry-run", "envelope://hidden").out
    assert lake("rewrap", "-r", "envelope://hidden").out == "rewrapped 3, up to date 0\n"
    assert lake("rewrap", "-r", "envelope://hidden/data").out == "rewrapped 0, up to date 2\n"
    for kid in old:
        lake("keys", "disable", kid)
    said = lake.program("cat", "envelope://hidden/data/one")
    assert (said.returncode, said.stdout) == (0, b"one")
