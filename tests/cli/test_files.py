"""encrypt, decrypt, reencrypt and cat: files, folders and pipes."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tests.cli.conftest import Cli

DATA = b"id,amount\n1,20\n" * 1000


@pytest.fixture
def tree(lake: Cli) -> Path:
    """data/ with two files, one of them deeper, and a symbolic link."""
    data = lake.folder / "data"
    (data / "deep").mkdir(parents=True)
    (data / "one.csv").write_bytes(DATA)
    (data / "deep" / "two.csv").write_bytes(DATA * 2)
    (data / "link.csv").symlink_to("one.csv")
    os.utime(data / "one.csv", ns=(10**18, 10**18 + 7))
    return data


def test_the_five_promised_lines_work(cli: Cli) -> None:
    Path("file").write_bytes(DATA)
    key = ("--key", "local:lake")
    cli("keys", "create", "local:lake", "--protect", "permissions")
    cli("encrypt", "file", *key, "--out", "file.env1")
    cli("decrypt", "file.env1", *key, "--out", "copy")
    assert cli.objects("inspect", "file.env1", schema="inspect")[0]["verified"] is False
    assert cli("verify", "file.env1", *key).out.startswith("OK  file.env1")
    assert Path("copy").read_bytes() == DATA


def test_a_file_goes_beside_its_source_and_back(lake: Cli) -> None:
    Path("file").write_bytes(DATA)
    Path("file").chmod(0o640)
    assert lake("encrypt", "file").out == "file -> file.env1 (14.6 KiB)\n"
    assert stat.S_IMODE(Path("file.env1").stat().st_mode) == 0o640
    Path("file").unlink()
    lake("decrypt", "file.env1")
    assert Path("file").read_bytes() == DATA


def test_an_existing_target_is_refused_without_force(lake: Cli) -> None:
    Path("file").write_bytes(DATA)
    Path("target").write_bytes(b"precious")
    said = lake("encrypt", "file", "--out", "target", status=2)
    assert "target: the target exists [ENV-EXISTS]" in said.err
    assert Path("target").read_bytes() == b"precious"
    lake("encrypt", "file", "--out", "target", "--force")
    assert Path("target").read_bytes() != b"precious"


def test_results_and_errors_are_objects_under_json(lake: Cli) -> None:
    Path("file").write_bytes(DATA)
    [done] = lake.objects("encrypt", "file", "--context", "table=orders", schema="file")
    assert (done["source"], done["target"], done["size"]) == ("file", "file.env1", len(DATA))
    assert done["context"] == {"table": "orders"}
    found = lake.objects("decrypt", "file.env1", "nothing.env1", "--force", schema="file", status=1)
    assert found[0]["context"] == {"table": "orders"}
    assert (found[1]["error"], found[1]["exit"], found[1]["path"]) == ("ENOENT", 5, "nothing.env1")


def test_some_of_several_failing_is_1_and_the_others_go_on(lake: Cli) -> None:
    Path("one").write_bytes(DATA)
    Path("two").write_bytes(DATA)
    said = lake("encrypt", "one", "missing", "two", status=1)
    assert said.err.count("\n    ") == 1
    assert "envelope: missing: No such file or directory [ENOENT]" in said.err
    assert Path("one.env1").exists()
    assert Path("two.env1").exists()


def test_a_key_that_cannot_be_used_ends_it_once_and_not_for_each_file(lake: Cli) -> None:
    Path("one").write_bytes(DATA)
    Path("two").write_bytes(DATA)
    said = lake("encrypt", "one", "two", "--key", "local:other", status=5)
    assert said.err.count("[ENV-KEY-NOT-FOUND]") == 1


def test_the_context_is_expected_when_reading(lake: Cli) -> None:
    Path("file").write_bytes(DATA)
    lake("encrypt", "file", "-c", "table=orders", "-c", "day=1")
    lake("decrypt", "file.env1", "-c", "table=orders", "--out", "copy")
    said = lake("decrypt", "file.env1", "-c", "table=other", "--out", "wrong", status=4)
    assert "[ENV-CONTEXT]" in said.err
    assert not Path("wrong").exists()
    assert "NAME=VALUE" in lake("encrypt", "file", "-c", "table", status=2).err
    assert "twice" in lake("encrypt", "file", "-c", "a=1", "-c", "a=2", status=2).err


def test_a_folder_needs_r_and_says_so(tree: Path, lake: Cli) -> None:
    assert "Give -r" in lake("encrypt", tree, status=7).err


def test_a_folder_is_mirrored_and_links_are_reported(tree: Path, lake: Cli) -> None:
    said = lake("encrypt", "-r", "data", "--out", "sealed")
    assert "data/link.csv: skipped, a symbolic link" in said.err
    assert said.out.startswith("encrypted 2 files")
    assert sorted(map(str, Path("sealed").rglob("*"))) == [
        "sealed/deep",
        "sealed/deep/two.csv.env1",
        "sealed/one.csv.env1",
    ]
    assert Path("sealed/one.csv.env1").stat().st_mtime_ns == 10**18 + 7
    lake("decrypt", "-r", "sealed", "--out", "back", "--jobs", "3")
    assert Path("back/deep/two.csv").read_bytes() == DATA * 2
    assert Path("back/one.csv").stat().st_mtime_ns == 10**18 + 7


def test_a_second_run_skips_what_is_done(tree: Path, lake: Cli) -> None:
    lake("encrypt", "-r", "data", "--out", "sealed")
    before = Path("sealed/one.csv.env1").read_bytes()
    found = lake.objects("encrypt", "-r", "data", "--out", "sealed", schema="skipped")
    assert [each["skipped"] for each in found] == ["a symbolic link", "done before", "done before"]
    assert Path("sealed/one.csv.env1").read_bytes() == before


def test_what_was_killed_before_its_time_was_set_is_compared(tree: Path, lake: Cli) -> None:
    lake("encrypt", "-r", "data", "--out", "sealed")
    os.utime("sealed/one.csv.env1")
    assert "skipped 3 (" in lake("encrypt", "-r", "data", "--out", "sealed").out
    assert Path("sealed/one.csv.env1").stat().st_mtime_ns == 10**18 + 7


@pytest.mark.parametrize("damage", ["source changed", "target cut", "other context"])
def test_a_target_that_is_not_that_of_the_source_is_not_taken_for_done(
    damage: str, tree: Path, lake: Cli
) -> None:
    command = ["encrypt", "-r", "data", "--out", "sealed"]
    lake(*command)
    sealed = Path("sealed/one.csv.env1")
    if damage == "source changed":
        (tree / "one.csv").write_bytes(DATA[::-1])
    elif damage == "target cut":
        status = sealed.stat()
        sealed.write_bytes(sealed.read_bytes()[:-1])
        os.utime(sealed, ns=(status.st_atime_ns, status.st_mtime_ns))
    else:
        command += ["--context", "table=orders"]
    said = lake(*command, status=1)
    assert "sealed/one.csv.env1: the target exists [ENV-EXISTS]" in said.err
    lake(*command, "--force")
    lake("decrypt", sealed, "--out", "copy")
    assert Path("copy").read_bytes() == (tree / "one.csv").read_bytes()


def test_a_target_inside_the_source_is_not_gone_into(tree: Path, lake: Cli) -> None:
    for _run in range(2):
        lake("encrypt", "-r", ".", "--out", "data/sealed")
    assert not list(Path("data/sealed").rglob("*.env1.env1"))
    assert not Path("data/sealed/data/sealed").exists()


def test_beside_each_file_its_own_suffix_is_left_alone(tree: Path, lake: Cli) -> None:
    lake("encrypt", "-r", "data", "--suffix", ".sealed")
    assert "encrypted 0 files" in lake("encrypt", "-r", "data", "--suffix", ".sealed").out
    assert Path("data/deep/two.csv.sealed").exists()
    (tree / "one.csv").unlink()
    lake("decrypt", "-r", "data", "--suffix", ".sealed")
    assert (tree / "one.csv").read_bytes() == DATA


def test_an_empty_suffix_keeps_names(tree: Path, lake: Cli) -> None:
    lake("encrypt", "-r", "data", "--suffix", "", "--out", "sealed")
    lake("decrypt", "-r", "sealed", "--suffix", "", "--out", "back")
    assert Path("back/deep/two.csv").read_bytes() == DATA * 2
    assert "same file" in lake("encrypt", "-r", "data", "--suffix", "", status=1).err


def test_leftovers_are_not_encrypted(tree: Path, lake: Cli) -> None:
    (tree / ".one.csv.0123456789abcdef.env1tmp").write_bytes(b"half")
    lake("encrypt", "-r", "data", "--out", "sealed")
    assert len(list(Path("sealed").rglob("*env1*"))) == 2


def test_several_inputs_go_into_one_folder_and_do_not_collide(tree: Path, lake: Cli) -> None:
    Path("one.csv").write_bytes(b"other")
    lake("encrypt", "data/deep/two.csv", "one.csv", "--out", "both")
    assert sorted(os.listdir("both")) == ["one.csv.env1", "two.csv.env1"]
    said = lake("encrypt", "data/one.csv", "one.csv", "--out", "clash", "--force", status=1)
    assert "would both become clash/one.csv.env1" in said.err


def test_a_dry_run_does_nothing(tree: Path, lake: Cli) -> None:
    found = lake.objects("encrypt", "-r", "data/deep", "-o", "x", "--dry-run", schema="planned")
    assert found == [
        {
            "source": "data/deep/two.csv",
            "target": "x/two.csv.env1",
            "size": 2 * len(DATA),
            "dry_run": True,
        },
    ]
    said = lake("encrypt", "-r", "data", "-o", "x", "--dry-run")
    assert "would have encrypted 2 files, 43.9 KiB; skipped 1 (a symbolic link 1)" in said.out
    assert not Path("x").exists()


def test_the_source_is_removed_once_the_target_is_proven(tree: Path, lake: Cli) -> None:
    lake("encrypt", "-r", "data", "--remove-source")
    assert sorted(os.listdir("data")) == ["deep", "link.csv", "one.csv.env1"]
    lake("decrypt", "data/one.csv.env1", "--remove-source")
    assert sorted(os.listdir("data")) == ["deep", "link.csv", "one.csv"]
    assert (tree / "one.csv").read_bytes() == DATA


def test_a_second_run_removes_sources_after_comparing_all_of_them(tree: Path, lake: Cli) -> None:
    command = ("encrypt", "-r", "data", "--out", "sealed")
    lake(*command)
    status = (tree / "one.csv").stat()
    (tree / "one.csv").write_bytes(DATA[::-1])  # of the same size and time, as damage would be
    os.utime(tree / "one.csv", ns=(status.st_atime_ns, status.st_mtime_ns))
    lake(*command, "--remove-source", status=1)
    assert (tree / "one.csv").read_bytes() == DATA[::-1]
    assert not (tree / "deep" / "two.csv").exists()


def test_removing_needs_files_and_a_disk(tree: Path, lake: Cli) -> None:
    source = "data/one.csv"
    lake("encrypt", source, "--remove-source", "--no-durable", status=2)
    lake("encrypt", source, "--remove-source", "--out", "-", status=2)
    lake("encrypt", source, "--remove-source", "--out", "/dev/null", status=2)
    lake("encrypt", "memory://x", "--remove-source", "--out", "y", status=2)
    lake("reencrypt", source, "--remove-source", status=2)
    assert Path(source).exists()


def test_a_bound_path_is_that_of_the_encrypted_file(tree: Path, lake: Cli) -> None:
    bound = ("--bind-path", "sealed")
    lake("encrypt", "-r", "data", "--out", "sealed", *bound)
    lake("decrypt", "-r", "sealed", "--out", "back", *bound)
    os.rename("sealed/one.csv.env1", "sealed/moved.csv.env1")
    said = lake("decrypt", "-r", "sealed", "--out", "moved", *bound, status=1)
    assert "[ENV-CONTEXT]" in said.err


def test_reencrypting_replaces_the_file_under_a_fresh_key(tree: Path, lake: Cli) -> None:
    lake("encrypt", "data/one.csv", "-c", "table=orders", "--out", "file.env1")
    before = Path("file.env1").read_bytes()
    [done] = lake.objects("reencrypt", "file.env1", schema="file")
    assert done["context"] == {"table": "orders"}
    after = Path("file.env1").read_bytes()
    assert after[4096:] != before[4096:]
    assert lake("cat", "file.env1").out.encode() == DATA
    lake("reencrypt", "-r", ".", "--out", "anew")
    assert os.listdir("anew") == ["file.env1"]


def test_cat_prints_files_one_after_the_other_and_errors_beside(lake: Cli) -> None:
    for name in ("one", "two"):
        Path(name).write_text(f"{name}\n")
    lake("encrypt", "one", "two")
    said = lake("cat", "one.env1", "missing", "two.env1", status=1)
    assert said.out == "one\ntwo\n"
    assert "missing: No such file" in said.err


def test_urls_are_inputs_and_targets(lake: Cli) -> None:
    Path("file").write_bytes(DATA)
    lake("encrypt", "file", "--out", "memory://sealed.env1")
    lake("decrypt", "memory://sealed.env1", "--out", "copy")
    assert Path("copy").read_bytes() == DATA
    assert "memory://none" in lake("decrypt", "memory://none", "--out", "x", status=5).err
    assert "[ENV-CONFIG]" in lake("decrypt", "nonsense://x", "--out", "y", status=2).err


def test_keys_of_options_replace_those_of_the_configuration(lake: Cli) -> None:
    lake("keys", "create", "local:other")
    Path("file").write_bytes(DATA)
    lake("encrypt", "file", "--encrypt-to", "local:other")
    assert "[ENV-UNTRUSTED]" in lake("cat", "file.env1", status=3).err
    assert lake("cat", "file.env1", "--trust", "local:other").out.encode() == DATA
    said = lake("encrypt", "file", "--trust", "local:other", "--force", status=2)
    assert "only decrypts" in said.err


def test_the_summary_says_why_files_were_skipped(tree: Path, lake: Cli) -> None:
    said = lake("decrypt", "-r", "data")
    assert said.out.endswith("skipped 3 (a symbolic link 1, no .env1 in its name 2)\n")


def test_a_file_that_is_not_there_is_not_found_whatever_its_name(lake: Cli) -> None:
    assert lake("decrypt", "nothing", status=5).err.startswith("envelope: nothing: No such file")
    assert lake("encrypt", "nothing.env1", status=5).err.startswith("envelope: nothing.env1: No")
    said = lake("encrypt", "memory://nothing", "--out", "sealed", status=5).err
    assert said.startswith("envelope: memory://nothing: No such file or directory [ENOENT]")


def test_a_folder_that_is_not_there_is_told_by_the_targets_name(lake: Cli) -> None:
    Path("plain").write_bytes(DATA)
    said = lake("encrypt", "plain", "--out", "missing/sealed", status=5).err
    assert "envelope: missing/sealed: No such file or directory [ENOENT]" in said


def test_a_public_key_without_a_name_is_named_by_an_option(lake: Cli) -> None:
    lake("keys", "create", "local:box", "--kty", "RSA")
    lake("keys", "public", "local:box", "--out", "box.pem")
    kid, _alg, pem = Path("box.pem").read_text().split("\n", 2)
    Path("bare.pem").write_text(pem)
    Path("plain").write_bytes(DATA)
    assert "--kid" in lake("encrypt", "plain", "--encrypt-to", "public:bare.pem", status=2).err
    named = ("--encrypt-to", "public:bare.pem", "--kid", kid.removeprefix("kid: "))
    lake("encrypt", "plain", *named)
    lake("verify", "plain.env1", "--key", "local:box")


def test_folders_can_be_picked_from(tree: Path, lake: Cli) -> None:
    (tree / "three.txt").write_bytes(DATA)
    lake("encrypt", "-r", "data", "--include", "*.csv", "--exclude", "deep/*", "--out", "x")
    assert [path.name for path in Path("x").rglob("*") if path.is_file()] == ["one.csv.env1"]


def test_resume_skips_named_files_too(lake: Cli) -> None:
    Path("file").write_bytes(DATA)
    lake("encrypt", "file")
    lake("encrypt", "file", status=2)
    assert lake.objects("encrypt", "file", "--resume", schema="skipped")[0]["skipped"] == (
        "done before"
    )


def test_the_segment_length_is_chosen(lake: Cli) -> None:
    Path("file").write_bytes(DATA)
    lake("encrypt", "file", "--segment-length", "4096")
    [claims] = lake.objects("inspect", "file.env1", schema="inspect")
    assert claims["segment_length"] == 4096
    assert "power of two" in lake("encrypt", "file", "--segment-length", "5000", status=2).err
