"""Engines that have Parquet readers of their own, and table formats: what goes with column keys."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import envelope_parquet
from envelope.ring import KeyRing
from envelope_parquet import ColumnPolicy, data_keys, dataset, read_table, write_dataset
from tests.parquet.bare import DIES, run
from tests.parquet.conftest import PEOPLE

FLAT = PEOPLE.select(["id", "name"])
POLICIES = {
    "uniform": ColumnPolicy("local:lake"),
    "columns": ColumnPolicy("local:lake", {"local:pii": "name"}),
    "plaintext footer": ColumnPolicy("local:lake", {"local:pii": "name"}, plaintext_footer=True),
}


def written(path: Path, owner: KeyRing, policy: ColumnPolicy) -> Path:
    envelope_parquet.write_table(FLAT, path, keys=owner, policy=policy)
    return path


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
def test_datafusion_queries_datasets_and_sees_only_what_opens(
    tmp_path: Path, owner: KeyRing, analyst: KeyRing, policy: ColumnPolicy
) -> None:
    import datafusion

    path, session = written(tmp_path / "a.parquet", owner, policy), datafusion.SessionContext()
    session.register_dataset("people", dataset(path, owner))
    found = session.sql("select name from people where id = 7")
    assert found.to_pydict() == {"name": ["person 7"]}
    envelope_parquet.write_table(
        pa.Table.from_batches(found.collect()),
        tmp_path / "b.parquet",
        keys=owner,
        policy=ColumnPolicy("local:pii"),
    )
    assert read_table(tmp_path / "b.parquet", owner)["name"].to_pylist() == ["person 7"]
    if policy.columns:
        session.register_dataset("seen", dataset(path, analyst))
        assert session.sql("select sum(id) as s from seen").to_pydict() == {"s": [sum(range(20))]}
        with pytest.raises(ValueError, match="No field named name"):
            session.sql("select name from seen")


def test_datafusions_own_reader_was_built_without_encryption(
    tmp_path: Path, owner: KeyRing
) -> None:
    import datafusion

    path = written(tmp_path / "a.parquet", owner, POLICIES["uniform"])
    key = data_keys(path, owner)[""].reveal().hex()
    with pytest.raises(ValueError, match="encryption feature is disabled"):
        datafusion.SessionContext().sql(
            f"CREATE EXTERNAL TABLE people STORED AS PARQUET LOCATION '{path}' "
            f"OPTIONS ('format.crypto.file_decryption.footer_key_as_hex' '{key}')"
        )


def test_a_delta_table_keeps_the_list_of_files_that_we_write_and_read(
    tmp_path: Path, owner: KeyRing
) -> None:
    from deltalake import DeltaTable, Schema
    from deltalake.transaction import AddAction

    root = tmp_path / "people"
    names = write_dataset(FLAT, root, keys=owner, policy=POLICIES["columns"], max_rows_per_file=12)
    schema = Schema.from_arrow(FLAT.schema)
    now = int(time.time() * 1000)
    added = [
        AddAction(name, (root / name).stat().st_size, {}, now, True, json.dumps({}))
        for name in names
    ]
    DeltaTable.create(str(root), schema).create_write_transaction(added, "append", schema)
    table = DeltaTable(str(root))
    parts = [read_table(uri, owner, root=root) for uri in sorted(table.file_uris())]
    assert pa.concat_tables(parts).equals(FLAT)
    # Its own readers are given no keys, and say so.
    with pytest.raises(OSError, match="no decryption found"):
        table.to_pyarrow_table()
    with pytest.raises(Exception, match="Failed to fetch metadata"):
        _queried(table)


def _queried(table: Any) -> Any:
    from deltalake import QueryBuilder

    return QueryBuilder().register("t", table).execute("select count(name) from t").read_all()


ICEBERG = """
from pyiceberg.catalog.sql import SqlCatalog
catalog = SqlCatalog("x", uri="sqlite:///:memory:", warehouse="file://" + os.getcwd())
catalog.create_namespace("n")
people = catalog.create_table("n.people", TABLE.schema)
properties = writing(plaintext_footer=sys.argv[1] == "clear")
pq.write_table(TABLE, "a.parquet", encryption_properties=properties)
try:
    people.add_files(["file://" + os.path.abspath("a.parquet")])
except OSError as error:
    assert "no decryption found" in str(error)
    os._exit(3)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("footer", "what"), [("encrypted", 3), ("clear", DIES)])
def test_iceberg_reads_footers_itself_and_has_no_keys_for_them(
    tmp_path: Path, footer: str, what: str | int
) -> None:
    assert run(ICEBERG, tmp_path, 60, footer)[0] == what
