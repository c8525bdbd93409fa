"""doctor on URLs: leftovers, plain files, geometries, folders of chains, keys of mounts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Cli
from tests.cli.lakes import Far

DATA = b"id,amount\n1,20\n" * 1000
MOUNT = "envelope://lake"


@pytest.fixture
def sealed(store: Far, lake: Cli, mounts: Callable[..., None]) -> Far:
    """The mount ``lake`` with two files."""
    mounts(store.mount("lake", keys=["local:lake"]))
    Path("one").write_bytes(DATA)
    lake("cp", "one", f"{MOUNT}/one")
    lake("cp", "one", f"{MOUNT}/deep/two")
    return store


def checks(lake: Cli, *arguments: str, status: int = 0) -> dict[str, list[tuple[str, str]]]:
    """Level and text of each check, by its name."""
    found: dict[str, list[tuple[str, str]]] = {}
    for each in lake.objects("doctor", *arguments, schema="check", status=status):
        found.setdefault(each["check"], []).append((each["level"], each["text"]))
    return found


def test_a_mount_that_is_well(sealed: Far, lake: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ENVELOPE_KEYS")  # a mount has its own
    found = checks(lake, MOUNT)
    assert found["plain files"] == [("ok", "none of 2")]
    assert found["leftovers"] == [("ok", "no temporary files")]
    assert found["geometry"] == [("ok", "2 files have the expected one")]
    assert [level for level, _ in found["key"]] == ["ok"]
    if sealed.protocol == "s3":
        assert found["uploads"] == [("ok", "no multipart upload is unfinished")]


def test_plain_files_fail_in_a_mount_and_are_told_with_their_names(sealed: Far, lake: Cli) -> None:
    sealed.put("plain.csv", DATA)
    sealed.put("empty", b"")
    found = checks(lake, MOUNT, status=4)
    [(level, text)] = found["plain files"]
    assert (level, text[:6]) == ("fail", "2 of 4")
    assert "plain.csv" in text
    assert "empty" in text


def test_where_plain_files_are_allowed_they_are_a_warning(
    sealed: Far, lake: Cli, mounts: Callable[..., None]
) -> None:
    sealed.put("plain.csv", DATA)
    mounts(sealed.mount("lake", keys=["local:lake"], on_plaintext="read"))
    assert checks(lake, MOUNT)["plain files"][0][0] == "warn"


def test_files_of_another_geometry_are_counted(sealed: Far, lake: Cli) -> None:
    lake("encrypt", "one", "--segment-length", "4096", "--out", f"{sealed.url}/three",
         *sealed.given)  # fmt: skip
    found = checks(lake, MOUNT, status=4)
    [(level, text)] = found["geometry"]
    assert level == "fail"
    assert text.startswith("1 of 3 have a header of 4096 and segments of 4096 bytes")
    assert "three" in text
    bare = checks(lake, sealed.url, *sealed.given)
    assert [level for level, _ in bare["geometry"]] == ["warn", "warn"]


def test_leftovers_and_folders_of_chains_are_told(sealed: Far, lake: Cli) -> None:
    sealed.put("deep/.x.0123456789abcdef.env1tmp", b"half")
    sealed.put("envelope:s3:/bucket/out.csv", DATA)
    found = checks(lake, MOUNT, status=4)
    assert found["leftovers"][0][0] == "warn"
    assert ".x.0123456789abcdef.env1tmp" in found["leftovers"][0][1]
    [(level, text)] = found["chain folders"]
    assert level == "fail"
    assert "envelope:s3:/bucket/out.csv" in text
    assert found["plain files"] == [("ok", "none of 2")]


def test_unfinished_uploads_and_kept_versions_of_s3_are_told(sealed: Far, lake: Cli) -> None:
    if sealed.protocol != "s3":
        pytest.skip("only S3 has multipart uploads and versions")
    fs = sealed.fs
    fs.call_s3("create_multipart_upload", Bucket=sealed.root, Key="deep/big")
    fs.call_s3(
        "put_bucket_versioning",
        Bucket=sealed.root,
        VersioningConfiguration={"Status": "Enabled"},
    )
    found = checks(lake, MOUNT)
    [(level, text)] = found["uploads"]
    assert (level, "deep/big" in text) == ("warn", True)
    assert "keeps earlier versions" in found["old versions"][0][1]


def test_the_keys_of_rules_are_tried_and_files_without_a_rule_told(
    sealed: Far, lake: Cli, mounts: Callable[..., None]
) -> None:
    rules = [{"match": "{tenant}/**", "keys": ["local:{tenant}"]}]
    mounts(sealed.mount("lake", rules=rules))
    found = checks(lake, MOUNT, status=2)
    assert "no rule matches 1 files: lake/one" in [text for _, text in found["rules"]]
    [(level, text)] = found["key"]
    assert level == "fail"
    assert "local:deep" in text


def test_a_file_of_a_mount_is_opened(sealed: Far, lake: Cli) -> None:
    assert "opens, 15000 bytes" in checks(lake, f"{MOUNT}/one")["file"][0][1]
    sealed.put("one", sealed.get("one")[:-1])
    assert "[ENV-TRUNCATED]" in checks(lake, f"{MOUNT}/one", status=4)["file"][0][1]
    assert "opens" in checks(lake, f"{sealed.url}/deep/two", *sealed.given)["file"][0][1]


def test_what_cannot_be_looked_at_fails_once(sealed: Far, lake: Cli) -> None:
    assert checks(lake, f"{MOUNT}/none", status=5)["store"][0][0] == "fail"
    assert "no configuration" in checks(lake, "envelope://other", status=2)["store"][0][1]


def test_a_file_that_cannot_be_read_is_told(
    sealed: Far, lake: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusing(paths: list[str], *_: Any, **__: Any) -> list[Exception]:
        return [PermissionError(13, "Access Denied", path) for path in paths]

    monkeypatch.setattr(sealed.fs, "cat_ranges", refusing)  # the instance that the command gets
    found = checks(lake, sealed.url, *sealed.given, status=7)
    assert [level for level, _ in found["files"]] == ["fail", "fail"]


def test_a_local_folder_of_a_chain_is_told_where_a_program_ran(lake: Cli) -> None:
    Path("envelope::abfs:/lake").mkdir(parents=True)
    found = checks(lake, status=4)
    assert "took a chain" in found["chain folders"][0][1]
