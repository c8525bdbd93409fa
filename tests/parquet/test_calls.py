"""How often the vault is asked: by key, not by file and column."""

from __future__ import annotations

from pathlib import Path

import pytest

from envelope.ring import KeyRing
from envelope_parquet import ColumnPolicy, access, read_table, write_table
from tests.memory_driver import MemoryDriver
from tests.parquet.conftest import PEOPLE, Rings

POLICY = ColumnPolicy(
    "local:lake", {"local:pii": ["name", "address"], "local:pay": ["id"], "local:tag": ["tags"]}
)
KEYS = ("local:lake", "local:pii", "local:pay", "local:tag")


def written(folder: Path, ring: KeyRing, count: int) -> list[Path]:
    paths = [folder / f"{i}.parquet" for i in range(count)]
    for path in paths:
        write_table(PEOPLE, path, keys=ring, policy=POLICY)
    return paths


@pytest.mark.parametrize("count", [20, pytest.param(2000, marks=pytest.mark.slow)])
def test_files_with_three_column_keys_cost_four_calls_to_write_and_four_to_read(
    tmp_path: Path, rings: Rings, driver: MemoryDriver, count: int
) -> None:
    paths = written(tmp_path, rings(*KEYS), count)
    assert driver.calls["wrap"] == len(KEYS)
    assert driver.calls["unwrap"] == 0
    for path in paths:  # each with another ring object of the same configuration
        assert read_table(path, rings(*KEYS)).num_rows == len(PEOPLE)
        access(path, rings(*KEYS))
    assert driver.calls["unwrap"] == len(KEYS)
    assert driver.calls["wrap"] == len(KEYS)


def test_columns_that_are_not_read_cost_a_probe_and_those_that_are_denied_nothing(
    tmp_path: Path, rings: Rings, driver: MemoryDriver
) -> None:
    (path,) = written(tmp_path, rings(*KEYS), 1)
    read_table(path, rings("local:lake", "local:pay"), columns=["id"])
    assert driver.calls["unwrap"] == 2
