"""Programs that read and write Parquet themselves, with keys from our key rings."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

import envelope_parquet
from envelope.errors import ContextMismatch, UntrustedKey
from envelope.ring import KeyRing
from envelope_parquet import ColumnPolicy, data_keys, read_table, write_table
from tests.parquet.conftest import PEOPLE, POLICY
from tests.public_vectors import folder

FLAT = PEOPLE.select(["id", "name"])
NAMED = ColumnPolicy("local:lake", {"local:pii": "name"})


def test_pandas_writes_and_reads(tmp_path: Path, owner: KeyRing, analyst: KeyRing) -> None:
    import pandas as pd

    frame, path = FLAT.to_pandas(), tmp_path / "people.parquet"
    frame.to_parquet(path, **envelope_parquet.pandas_kwargs(owner, NAMED, path, schema=frame))
    properties = envelope_parquet.decryption_properties(path, owner)
    pd.testing.assert_frame_equal(pd.read_parquet(path, decryption_properties=properties), frame)
    theirs = envelope_parquet.decryption_properties(path, analyst)
    seen = pd.read_parquet(path, columns=["id"], decryption_properties=theirs)
    assert list(seen["id"]) == list(range(20))
    with pytest.raises(UntrustedKey):
        pd.read_parquet(path, decryption_properties=theirs)
    pd.testing.assert_frame_equal(envelope_parquet.read_pandas(path, owner), frame)


def test_dask_reads_and_writes_by_parts(tmp_path: Path, owner: KeyRing) -> None:
    import dask
    import dask.dataframe as dd

    names = envelope_parquet.write_dataset(
        FLAT, tmp_path, keys=owner, policy=NAMED, max_rows_per_file=6
    )
    frame = dd.from_map(
        envelope_parquet.read_pandas,
        [str(tmp_path / name) for name in names],
        keys=owner,
        columns=["id", "name"],
    )
    assert frame.id.sum().compute(scheduler="threads") == sum(range(20))
    parts = [
        dask.delayed(envelope_parquet.write_table)(
            part, str(tmp_path / f"again-{i}.parquet"), policy=NAMED, keys=owner
        )
        for i, part in enumerate(frame.to_delayed())
    ]
    dask.compute(*parts, scheduler="threads")
    again = [read_table(tmp_path / f"again-{i}.parquet", owner) for i in range(len(names))]
    assert pa.concat_tables(again).select(["id", "name"]).cast(FLAT.schema).equals(FLAT)


def test_pyarrow_datasets_write_fresh_keys_for_each_file_and_read_any(
    tmp_path: Path, owner: KeyRing
) -> None:
    table = PEOPLE.append_column("year", pa.array([1, 2] * 10))
    parquet = ds.ParquetFileFormat()
    config = envelope_parquet.dataset_encryption(owner, POLICY, PEOPLE.schema)
    ds.write_dataset(
        table,
        tmp_path,
        format=parquet,
        file_options=parquet.make_write_options(encryption_config=config),
        partitioning=["year"],
        partitioning_flavor="hive",
    )
    files = sorted(tmp_path.rglob("*.parquet"))
    assert len({data_keys(path, owner)[""].reveal() for path in files}) == len(files) == 2
    options = ds.ParquetFragmentScanOptions(
        decryption_config=envelope_parquet.dataset_decryption(owner)
    )
    again = ds.dataset(
        tmp_path,
        format=ds.ParquetFileFormat(default_fragment_scan_options=options),
        partitioning="hive",
    )
    assert again.to_table(filter=ds.field("year") == 2)["id"].to_pylist() == list(range(1, 20, 2))
    assert read_table(tmp_path, owner).num_rows == 20
    with pytest.raises(ContextMismatch):  # they are bound to no place
        read_table(tmp_path, owner, root=tmp_path)


def test_duckdb_reads_files_under_one_key_with_the_key_of_a_session(
    tmp_path: Path, owner: KeyRing
) -> None:
    import duckdb

    path = tmp_path / "people.parquet"
    write_table(FLAT, path, keys=owner, policy=ColumnPolicy("local:lake"))
    key = base64.b64encode(data_keys(path, owner)[""].reveal()).decode()
    with duckdb.connect() as session:
        session.execute(f"PRAGMA add_parquet_key('people', '{key}')")
        file = f"read_parquet('{path}', encryption_config = {{footer_key: 'people'}})"
        session.execute(f"CREATE TEMP TABLE people AS FROM {file}")
        found = session.execute("SELECT name FROM people WHERE id = 7").fetchall()
        assert found == [("person 7",)]
        # DuckDB 2.0.1 takes a filter over a file of pyarrow for a wrong key (docs/upstream.md).
        with pytest.raises(duckdb.InvalidInputException, match="AES tag"):
            session.execute(f"SELECT name FROM {file} WHERE id = 7")


def test_duckdb_has_no_column_keys_yet(tmp_path: Path, owner: KeyRing) -> None:
    import duckdb

    path = tmp_path / "people.parquet"
    write_table(FLAT, path, keys=owner, policy=NAMED)
    keys = {
        name: base64.b64encode(k.reveal()).decode() for name, k in data_keys(path, owner).items()
    }
    with duckdb.connect() as session:
        for name, key in keys.items():
            session.execute(f"PRAGMA add_parquet_key('{name or 'footer'}', '{key}')")
        with pytest.raises(duckdb.NotImplementedException, match="column_keys"):
            session.execute(
                f"SELECT * FROM read_parquet('{path}', "
                "encryption_config = {footer_key: 'footer', column_keys: {'name': 'name'}})"
            )


@pytest.mark.parametrize(
    "policy",
    [
        ColumnPolicy("local:lake"),
        POLICY,
        ColumnPolicy("local:lake", {"local:pii": ["name", "address"]}, others="plain"),
        ColumnPolicy("local:lake", {"local:pii": "name"}, plaintext_footer=True),
    ],
    ids=["uniform", "columns", "plain rest", "plaintext footer"],
)
def test_polars_reads_with_the_keys_of_a_session(
    tmp_path: Path, owner: KeyRing, policy: ColumnPolicy
) -> None:
    import polars as pl

    path = tmp_path / "people.parquet"
    write_table(PEOPLE, path, keys=owner, policy=policy)
    keys = {name: key.reveal() for name, key in data_keys(path, owner).items()}
    properties = pl.ParquetDecryptionProperties(footer_key=keys.pop(""), column_keys=keys or None)
    again = pl.read_parquet(path, decryption=properties)
    assert again.to_arrow().select(["id"]).equals(PEOPLE.select(["id"]))
    assert again["name"].to_list() == PEOPLE["name"].to_pylist()


def test_pyarrow_opens_what_it_gets_properties_for(tmp_path: Path, owner: KeyRing) -> None:
    path = tmp_path / "people.parquet"
    write_table(PEOPLE, path, keys=owner, policy=POLICY)
    properties = envelope_parquet.decryption_properties(path, owner)
    assert pq.read_table(path, decryption_properties=properties).equals(PEOPLE)
    moved = path.rename(tmp_path / "other.parquet")
    with pytest.raises(ContextMismatch):
        envelope_parquet.decryption_properties(moved, owner)
    with pytest.raises(ContextMismatch):  # and properties check for themselves where a key is for
        pq.read_table(moved, decryption_properties=_elsewhere(owner, moved))


def _elsewhere(owner: KeyRing, path: Path) -> object:
    from envelope_parquet import kms
    from envelope_parquet.binding import binding_for_reading
    from envelope_parquet.keytable import as_table

    return kms.decryption(as_table(owner), binding_for_reading(path, "path", None, None))[0]


@pytest.mark.parametrize("name", ["uniform_encryption", "encrypt_columns_and_footer"])
def test_the_public_files_say_that_they_were_written_with_raw_keys(
    name: str, owner: KeyRing
) -> None:
    data = (folder("parquet-testing") / f"{name}.parquet.encrypted").read_bytes()
    found = envelope_parquet.access(io.BytesIO(data), owner)
    assert not found.footer.opens
    assert "raw keys" in str(found)
