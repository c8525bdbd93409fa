"""ls and du."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from envelope.cli.output import amount
from envelope.header import FILE_HEADER_SIZE
from envelope.offsets import DEFAULT_SEGMENT_LENGTH, Layout
from tests.cli.conftest import Cli
from tests.cli.lakes import Far

DATA = b"id,amount\n1,20\n" * 1000
STORED = Layout(FILE_HEADER_SIZE, DEFAULT_SEGMENT_LENGTH).stored_size(len(DATA))


@pytest.fixture
def sealed(store: Far, lake: Cli, mounts: Callable[..., None]) -> Far:
    """The mount ``lake`` with two files, and one that is too short to be ours."""
    mounts(store.mount("lake", keys=["local:lake"]))
    Path("one.csv").write_bytes(DATA)
    lake("cp", "one.csv", "envelope://lake/x/one.csv")
    lake("cp", "one.csv", "envelope://lake/x/deep/two.csv")
    store.put("x/short", b"plain")
    return store


def test_a_folder_is_listed_with_the_sizes_of_its_plaintext(sealed: Far, lake: Cli) -> None:
    found = lake.objects("ls", "envelope://lake/x", schema="listing")
    assert [(each["path"], each["type"], each["size"]) for each in found] == [
        ("envelope://lake/x/deep", "folder", None),
        ("envelope://lake/x/one.csv", "file", len(DATA)),
        ("envelope://lake/x/short", "file", None),
    ]
    assert found[1]["stored_size"] == STORED
    assert lake("ls", "envelope://lake/x").out.splitlines() == [
        "envelope://lake/x/deep/",
        "envelope://lake/x/one.csv",
        "envelope://lake/x/short",
    ]


def test_a_file_a_glob_and_all_that_is_below_are_listed(sealed: Far, lake: Cli) -> None:
    for arguments, names in {
        ("envelope://lake/x/one.csv",): ["x/one.csv"],
        ("envelope://lake/*",): ["x/"],
        ("envelope://lake/**/*.csv",): ["x/deep/two.csv", "x/one.csv"],
        ("-r", "envelope://lake"): ["x/deep/two.csv", "x/one.csv", "x/short"],
    }.items():
        said = lake("ls", *arguments).out.splitlines()
        assert [line.removeprefix("envelope://lake/") for line in said] == names
    line = lake("ls", "-l", "envelope://lake/x").out.splitlines()[2]
    assert line.split()[:4] == ["14.6", "KiB", *amount(STORED).split()]


def test_without_a_url_the_mounts_are_listed(sealed: Far, lake: Cli) -> None:
    assert lake("ls").out == f"envelope://lake/  {sealed.url}\n"


def test_several_are_told_apart_and_what_is_missing_is_an_error(sealed: Far, lake: Cli) -> None:
    said = lake("ls", "envelope://lake/x", "envelope://lake/none", status=1)
    assert said.out.startswith("envelope://lake/x:\n")
    assert "envelope://lake/none: No such file" in said.err
    lake("ls", "envelope://lake/none", status=5)


def test_a_chain_is_listed_with_its_options(sealed: Far, lake: Cli) -> None:
    said = lake("ls", f"envelope::{sealed.url}/x/deep", *sealed.given)
    assert said.out == f"envelope::{sealed.url}/x/deep/two.csv\n"


def test_du_adds_up(sealed: Far, lake: Cli) -> None:
    [use] = lake.objects("du", "envelope://lake/x", schema="usage")
    assert (use["files"], use["size"], use["unknown"]) == (3, 2 * len(DATA), 1)
    assert use["stored_size"] == 2 * STORED + len(b"plain")
    assert "29.3 KiB  envelope://lake/x  (3 files" in lake("du", "envelope://lake/x").out
    assert "1 of another form" in lake("du", "envelope://lake/*").out


def test_a_url_of_the_store_is_refused_with_the_chain_to_write(sealed: Far, lake: Cli) -> None:
    for command in ("ls", "du"):
        said = lake(command, f"{sealed.url}/x", status=2)
        assert f"Name it envelope::{sealed.url}/x." in said.err
