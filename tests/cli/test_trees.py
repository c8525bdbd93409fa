"""Walking folders, and naming what comes of their files."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from envelope.cli.targets import Direction, Targets, adding, in_place, removing
from envelope.cli.trees import Broken, Input, Skipped, inputs, leftover, total_size
from envelope.errors import ConfigurationError


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("tree/b/deep").mkdir(parents=True)
    Path("tree/a").mkdir()
    for name in ("tree/z", "tree/a/one", "tree/b/deep/two"):
        Path(name).write_bytes(b"data")
    return Path("tree")


def test_files_come_in_the_order_of_names_with_their_place_below_the_root(tree: Path) -> None:
    found = list(inputs(["tree"], recursive=True))
    assert [each.path for each in found] == ["tree/z", "tree/a/one", "tree/b/deep/two"]
    relative = [each.relative for each in found if isinstance(each, Input)]
    assert relative == ["z", "a/one", "b/deep/two"]
    assert total_size(found) == 12


def test_several_roots_keep_their_names(tree: Path) -> None:
    found = inputs(["tree/a", "tree/b/"], recursive=True)
    assert [each.relative for each in found if isinstance(each, Input)] == ["a/one", "b/deep/two"]


def test_links_sockets_and_leftovers_are_skipped_and_loops_are_no_trap(tree: Path) -> None:
    (tree / "a" / "loop").symlink_to("..")
    (tree / "a" / ".x.0123456789abcdef.env1tmp").touch()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("tree/a/socket")
        found = [each for each in inputs(["tree/a"], recursive=True) if isinstance(each, Skipped)]
    assert [(os.path.basename(each.path), each.told) for each in found] == [
        (".x.0123456789abcdef.env1tmp", False),
        ("loop", True),
        ("socket", True),
    ]


def test_a_link_to_a_folder_that_was_named_is_gone_into(tree: Path) -> None:
    Path("link").symlink_to("tree/a")
    assert [each.path for each in inputs(["link"], recursive=True)] == ["link/one"]


def test_a_folder_that_cannot_be_read_is_one_error_and_the_others_go_on(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scandir = os.scandir

    def refusing(path: str) -> object:
        if path == "tree/a":
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    found = list(inputs(["tree"], recursive=True))
    assert [each.path for each in found if isinstance(each, Broken)] == ["tree/a"]
    assert [each.path for each in found if isinstance(each, Input)] == ["tree/z", "tree/b/deep/two"]


def test_the_target_folder_is_not_gone_into_however_it_is_spelt(tree: Path) -> None:
    found = inputs(["tree"], recursive=True, beneath="tree/../tree/b")
    assert [each.path for each in found] == ["tree/z", "tree/a/one"]


def test_only_our_own_leftovers_are_taken_for_some() -> None:
    assert leftover(".name.0123456789abcdef.env1tmp")
    assert not leftover(".name.env1tmp")
    assert not leftover("name.0123456789abcdef.env1tmp")
    assert not leftover(".name.0123456789abcdeg.env1tmp")


def targets(*paths: str, out: str | None = None, suffix: str = ".env1", naming: object = adding,
            recursive: bool = False) -> list[str | None]:  # fmt: skip
    direction = Direction("done", naming)  # type: ignore[arg-type]
    made = Targets(direction, paths, recursive=recursive, out=out, suffix=suffix)
    return [made.of(each) if isinstance(each, Input) else None for each in made.inputs()]


def test_one_file_goes_beside_or_to_out(tree: Path) -> None:
    assert targets("tree/z") == ["tree/z.env1"]
    assert targets("tree/z", out="x") == ["x"]
    assert targets("tree/z", out="new/") == ["new/z.env1"]
    assert targets("tree/z", out="tree/a") == ["tree/a/z.env1"]
    assert targets("memory://bucket/z", out="tree/a") == ["tree/a/z.env1"]


def test_decrypting_takes_the_suffix_away(tree: Path) -> None:
    assert targets("x.env1", naming=removing) == ["x"]
    assert targets("x.env1", naming=removing, out="tree") == ["tree/x"]
    assert targets("x", naming=removing) == [None]
    assert targets(".env1", naming=removing) == [None]


def test_a_file_with_the_suffix_is_not_encrypted_once_more_unless_named_so(tree: Path) -> None:
    assert targets("x.env1") == [None]
    assert targets("x.env1", out="twice.env1") == ["twice.env1"]


def test_a_tree_is_mirrored_or_stays(tree: Path) -> None:
    assert targets("tree", recursive=True, out="o") == ["o/z.env1", "o/a/one.env1",
                                                       "o/b/deep/two.env1"]  # fmt: skip
    assert targets("tree/a", recursive=True) == ["tree/a/one.env1"]
    assert targets("tree/a", recursive=True, naming=in_place) == [None]  # it is not encrypted


def test_a_suffix_is_no_path() -> None:
    with pytest.raises(ConfigurationError):
        targets("x", suffix="/../x")
