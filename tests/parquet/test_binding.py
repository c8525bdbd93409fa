from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envelope.errors import ConfigurationError, ContextMismatch
from envelope_parquet.binding import binding_for_reading, context_for_writing

PARTS = st.lists(st.sampled_from(["a", "b", "y=1", "y=2", "p.parquet"]), min_size=1, max_size=5)


@given(PARTS, PARTS)
def test_a_bound_path_has_to_be_the_end_of_the_files_own_in_whole_parts(
    bound: list[str], at: list[str]
) -> None:
    binding = binding_for_reading("mem://" + "/".join(["s", *at]), "path", None, None)
    matches = ["mem:", "s", *at][-len(bound) :] == bound
    if matches:
        binding.check({"path": "/".join(bound)})
    else:
        with pytest.raises(ContextMismatch):
            binding.check({"path": "/".join(bound)})


def test_a_part_of_a_name_is_no_part_of_a_path() -> None:
    binding = binding_for_reading("/lake/xa.parquet", "path", None, None)
    for other in ("a.parquet", "/lake/xa.parquet", "", "xa.parquet/"):
        with pytest.raises(ContextMismatch):
            binding.check({"path": other})


def test_a_writer_binds_the_path_below_the_root_or_the_name(tmp_path: Path) -> None:
    path = tmp_path / "lake" / "y=1" / "p.parquet"
    assert context_for_writing(path, "path", tmp_path / "lake", None) == {"path": "y=1/p.parquet"}
    assert context_for_writing(path, "path", None, {"t": "a"}) == {"t": "a", "path": "p.parquet"}
    assert context_for_writing("s3://lake/y=1/p", "path", "s3://lake", None) == {"path": "y=1/p"}
    assert context_for_writing(path, None, tmp_path, {"t": "a"}) == {"t": "a"}
    with pytest.raises(ConfigurationError):
        context_for_writing(path, "path", tmp_path / "other", None)
    with pytest.raises(ConfigurationError):
        context_for_writing(path, "PATH", None, None)


def test_with_a_root_the_path_is_equal_and_there() -> None:
    binding = binding_for_reading("/lake/y=1/p.parquet", "path", "/lake", None)
    binding.check({"path": "y=1/p.parquet"})
    for wrong in ({"path": "p.parquet"}, {}):
        with pytest.raises(ContextMismatch):
            binding.check(wrong)


def test_what_has_no_path_is_compared_by_its_context_alone() -> None:
    binding_for_reading(object(), "path", None, None).check({"path": "anything"})
    with pytest.raises(ContextMismatch):
        binding_for_reading(object(), "path", None, {"t": "a"}).check({"path": "anything"})
