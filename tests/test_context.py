"""The encryption context: what may be in one, what a reader demands, and bound paths."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envelope import context
from envelope.errors import ConfigurationError, ContextMismatch

names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
contexts = st.dictionaries(names, st.text(st.characters(exclude_categories=["Cs"])), max_size=5)


@given(contexts)
def test_a_valid_context_is_copied_as_it_is(pairs: dict[str, str]) -> None:
    copy = context.validated(pairs)
    assert copy == pairs
    assert copy is not pairs


def test_no_context_is_an_empty_one() -> None:
    assert context.validated(None) == context.validated({}) == {}


@pytest.mark.parametrize(
    "pairs", [{"a": 1}, {1: "a"}, {"a": None}, {"a": b"b"}, {b"a": "b"}, {"a": ["b"]}]
)
def test_names_and_values_that_are_no_text_are_a_type_error(pairs: dict[Any, Any]) -> None:
    with pytest.raises(TypeError, match="are text"):
        context.validated(pairs)


@pytest.mark.parametrize("given", ["tenant", ["tenant"], [("a", "b")], 5, b"ab", {"a"}])
def test_what_is_no_mapping_is_a_type_error(given: Any) -> None:
    with pytest.raises(TypeError):
        context.validated(given)


@pytest.mark.parametrize(
    "pairs",
    [
        {"": "x"},
        {"a" * 129: "x"},
        {"é" * 65: "x"},  # 130 bytes
        {"\ud800": "x"},
        {"x": "\udcff"},
        {str(number): "" for number in range(65)},
    ],
    ids=ascii,
)
def test_what_a_header_could_not_hold_is_refused_before_it_is_written(
    pairs: dict[str, str],
) -> None:
    with pytest.raises(ConfigurationError):
        context.validated(pairs)


def test_the_largest_names_and_numbers_are_allowed() -> None:
    pairs = {f"{number:064}" + "é" * 32: "" for number in range(64)}
    assert {len(name.encode()) for name in pairs} == {128}
    assert context.validated(pairs) == pairs


@given(contexts, st.data())
def test_any_part_of_the_bound_context_may_be_expected(
    bound: dict[str, str], data: st.DataObject
) -> None:
    some = data.draw(st.sets(st.sampled_from(sorted(bound)))) if bound else set()
    context.check(bound, {name: bound[name] for name in some}, sorted(some))


@given(contexts, names, st.text())
def test_a_pair_that_is_missing_or_differs_is_a_mismatch(
    bound: dict[str, str], name: str, value: str
) -> None:
    if bound.get(name) == value:
        context.check(bound, {name: value})
        return
    with pytest.raises(ContextMismatch) as caught:
        context.check(bound, {name: value})
    assert repr(name) in caught.value.message
    if name not in bound:
        with pytest.raises(ContextMismatch, match="requires"):
            context.check(bound, None, [name])


@pytest.mark.parametrize(
    "value", ["Orders", "orders ", "ｏrders", "orders\0", "", "o\u0308rders", "ördersx"]
)
def test_values_are_compared_byte_for_byte(value: str) -> None:
    with pytest.raises(ContextMismatch):
        context.check({"table": value}, {"table": "orders"})
    with pytest.raises(ContextMismatch):
        context.check({"Table": "orders"}, {"table": "orders"})


def test_a_mismatch_does_not_tell_the_value_in_the_file() -> None:
    with pytest.raises(ContextMismatch) as caught:
        context.check({"tenant": "canary"}, {"tenant": "other"})
    assert "canary" not in str(caught.value)


# --- Bound paths --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "root", "bound"),
    [
        ("/data/a/b.csv", "/data", "a/b.csv"),
        ("/data/a/b.csv", "/data/", "a/b.csv"),
        ("/data/./a//b.csv", "/data", "a/b.csv"),
        ("/data/x/../a/b.csv", "/data", "a/b.csv"),
        ("/a", "/", "a"),
        ("a/b", ".", "a/b"),
        ("./b", "", "b"),
        ("s3://lake/a/b", "s3://lake", "a/b"),
        ("s3://lake/a/b", "s3://lake/", "a/b"),
        ("s3://lake/a//b", "s3://lake", "a//b"),  # another object than a/b
    ],
)
def test_a_bound_path_is_relative_to_its_root_in_posix_form(
    path: str, root: str, bound: str
) -> None:
    assert context.bound_path(path, root) == bound


@pytest.mark.parametrize(
    ("path", "root"),
    [
        ("/data", "/data"),
        ("/data/", "/data"),
        ("/database/x", "/data"),
        ("/data/../etc/passwd", "/data"),
        ("/other", "/data"),
        ("../x", "."),
        ("s3://lake/../other/x", "s3://lake"),
        ("s3://lake/a/../../x", "s3://lake/a"),
        ("s3://lakes/x", "s3://lake"),
        ("s3://lake", "s3://lake"),
        ("s3://lake/", "s3://lake"),
        ("S3://lake/x", "s3://lake"),
        ("s3://lake/x", "/data"),
        ("/data/x", "s3://lake"),
    ],
)
def test_a_path_that_does_not_lie_below_its_root_is_refused(path: str, root: str) -> None:
    with pytest.raises(ConfigurationError, match="does not lie below"):
        context.bound_path(path, root)


def test_symbolic_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert context.bound_path(tmp_path / "link" / "x", tmp_path) == "link/x"
    assert context.bound_path(tmp_path / "link" / "x", tmp_path / "link") == "x"


def test_the_same_tree_elsewhere_has_the_same_bound_paths(tmp_path: Path) -> None:
    for root in (tmp_path, Path("/mnt/elsewhere"), Path("relative")):
        assert context.expected({"a": "b"}, root / "x" / "y", root) == {"a": "b", "path": "x/y"}


segments = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1)
parts = st.lists(
    segments.filter(lambda part: part not in (".", "..") and "://" not in part),
    min_size=1,
    max_size=4,
)


@given(parts, parts)
def test_a_path_below_a_root_is_the_root_and_the_bound_path(
    above: list[str], below: list[str]
) -> None:
    root = "/" + "/".join(above)
    assert context.bound_path(f"{root}/{'/'.join(below)}", root) == "/".join(below)


@pytest.mark.parametrize(("pairs", "path"), [({"path": "x"}, "/data/x"), ({}, None), (None, None)])
def test_a_path_is_bound_once_and_only_if_there_is_one(
    pairs: Mapping[str, str] | None, path: str | None
) -> None:
    with pytest.raises(ConfigurationError):
        context.expected(pairs, path, "/data")


def test_without_a_root_the_path_is_not_bound() -> None:
    assert context.expected({"a": "b"}, "/data/x") == {"a": "b"}


def test_a_file_name_that_is_not_unicode_cannot_be_bound() -> None:
    name = os.fsdecode(b"/data/\xff")
    with pytest.raises(ConfigurationError, match="'path' is not valid Unicode"):
        context.expected(None, name, "/data")


def test_the_bound_path_counts_among_the_pairs() -> None:
    pairs = {str(number): "" for number in range(context.MAX_PAIRS)}
    assert context.expected(pairs) == pairs
    with pytest.raises(ConfigurationError, match="at most 64"):
        context.expected(pairs, "/data/x", "/data")
