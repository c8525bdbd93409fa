from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import envelope_parquet
from envelope.errors import AlreadyExists, ConfigurationError, KeyDisabled
from envelope.ring import KeyRing
from envelope_parquet import ColumnPolicy, ParquetWriter, write_dataset, write_table
from tests.memory_driver import MemoryDriver
from tests.parquet.conftest import PEOPLE, POLICY


def test_nothing_is_written_before_the_policy_fits(tmp_path: Path, owner: KeyRing) -> None:
    for wrong in (
        ColumnPolicy("local:lake", {"local:pii": "nmae"}),
        ColumnPolicy("local:lake", {"local:pii": "name"}, require=["id"]),
    ):
        with pytest.raises(ConfigurationError):
            write_table(PEOPLE, tmp_path / "people.parquet", keys=owner, policy=wrong)
        with pytest.raises(ConfigurationError):
            write_dataset(PEOPLE, tmp_path / "lake", keys=owner, policy=wrong)
    with pytest.raises(ConfigurationError):  # its values would be in the folders' names
        write_dataset(PEOPLE, tmp_path / "lake", keys=owner, policy=POLICY, partition_cols=["name"])
    assert os.listdir(tmp_path) == []


def test_a_key_that_cannot_be_used_leaves_nothing(
    tmp_path: Path, owner: KeyRing, driver: MemoryDriver
) -> None:
    driver.disabled.add("local:pii/v1")
    with pytest.raises(KeyDisabled):
        write_table(PEOPLE, tmp_path / "people.parquet", keys=owner, policy=POLICY)
    assert os.listdir(tmp_path) == []


def test_a_file_is_there_when_it_is_whole_and_not_before(tmp_path: Path, owner: KeyRing) -> None:
    path = tmp_path / "people.parquet"
    with ParquetWriter(path, PEOPLE.schema, keys=owner, policy=POLICY) as writer:
        writer.write_table(PEOPLE.slice(0, 5))
        writer.write_batch(PEOPLE.slice(5).combine_chunks().to_batches()[0])
        assert not path.exists()
    assert envelope_parquet.read_table(path, owner).equals(PEOPLE)
    with pytest.raises(ValueError, match="closed"):
        writer.write_table(PEOPLE)


def test_an_exception_leaves_what_was_there(tmp_path: Path, owner: KeyRing) -> None:
    path = tmp_path / "people.parquet"
    write_table(PEOPLE, path, keys=owner, policy=POLICY)
    before = path.read_bytes()

    def half() -> None:
        with ParquetWriter(path, PEOPLE.schema, keys=owner, policy=POLICY) as writer:
            writer.write_table(PEOPLE)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        half()
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["people.parquet"]
    with pytest.raises(AlreadyExists):
        write_table(PEOPLE, path, keys=owner, policy=POLICY, overwrite=False)


def test_each_file_of_a_dataset_has_data_keys_of_its_own(tmp_path: Path, owner: KeyRing) -> None:
    names = write_dataset(
        PEOPLE,
        tmp_path,
        keys=owner,
        policy=POLICY,
        max_rows_per_file=6,
        basename_template="p{i}.parquet",
    )
    assert names == [f"p{i}.parquet" for i in range(4)]
    keys = [
        each.reveal()
        for name in names
        for each in envelope_parquet.data_keys(tmp_path / name, owner).values()
    ]
    assert len(set(keys)) == len(keys) == 4 * 6  # the footer's, and one a leaf column


def test_encryption_properties_are_for_one_file(tmp_path: Path, owner: KeyRing) -> None:
    path = tmp_path / "people.parquet"
    options = envelope_parquet.pandas_kwargs(owner, POLICY, path, schema=PEOPLE)
    assert "one file" in repr(options)
    pq.write_table(PEOPLE, path, **options)
    assert envelope_parquet.read_table(path, owner).equals(PEOPLE)
    with pytest.raises(ConfigurationError, match="used for a file already"):
        pq.write_table(PEOPLE, tmp_path / "other.parquet", **options)
    assert not (tmp_path / "other.parquet").exists()


def test_pandas_is_asked_for_the_frame_where_columns_have_keys(owner: KeyRing) -> None:
    with pytest.raises(ConfigurationError, match="schema=df"):
        envelope_parquet.pandas_kwargs(owner, POLICY, "x.parquet")
    assert envelope_parquet.pandas_kwargs(owner, ColumnPolicy("local:lake"), "x.parquet")


def test_options_of_pyarrow_are_passed_on(tmp_path: Path, owner: KeyRing) -> None:
    path = tmp_path / "people.parquet"
    write_table(
        PEOPLE, path, keys=owner, policy=POLICY, row_group_size=5, compression="zstd", version="2.4"
    )
    properties = envelope_parquet.decryption_properties(path, owner)
    metadata = pq.ParquetFile(path, decryption_properties=properties).metadata
    assert metadata.num_row_groups == 4
    assert metadata.row_group(0).column(0).compression == "ZSTD"
    with pytest.raises(ConfigurationError):
        write_table(PEOPLE, path, keys=owner, policy=POLICY, encryption_properties=None)


def test_an_empty_table_has_keys_as_well(tmp_path: Path, owner: KeyRing, analyst: KeyRing) -> None:
    path = tmp_path / "people.parquet"
    write_table(PEOPLE.slice(0, 0), path, keys=owner, policy=POLICY)
    assert envelope_parquet.read_table(path, owner).equals(PEOPLE.slice(0, 0))
    assert envelope_parquet.read_table(path, analyst, denied="null").num_rows == 0


def test_batches_and_frames_are_tables_and_nothing_else_is(tmp_path: Path, owner: KeyRing) -> None:
    path = tmp_path / "people.parquet"
    batch = PEOPLE.combine_chunks().to_batches()[0]
    for data in (batch, pa.RecordBatchReader.from_batches(batch.schema, [batch])):
        write_table(data, path, keys=owner, policy=POLICY)
        assert envelope_parquet.read_table(path, owner).equals(PEOPLE)
    with pytest.raises(TypeError):
        write_table([1], path, keys=owner, policy=POLICY)
