from __future__ import annotations

import os
import tracemalloc
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import envelope_parquet
from envelope import errors
from envelope.ring import KeyRing
from envelope_parquet import access, decrypt, encrypt, reencrypt
from envelope_parquet.opened import Reading, opening
from tests.parquet.conftest import PEOPLE, POLICY

HOW: dict[str, dict[str, Any]] = {
    "default": {},
    "zstd by column": {
        "compression": {"id": "zstd", "name": "gzip"},
        "use_dictionary": ["name"],
        "row_group_size": 7,
        "write_page_index": True,
        "write_statistics": ["id"],
    },
    "encodings": {
        "use_dictionary": False,
        "column_encoding": {"id": "DELTA_BINARY_PACKED", "name": "DELTA_BYTE_ARRAY"},
        "version": "2.4",
        "sorting_columns": [pq.SortingColumn(0)],
        "compression": "none",
    },
    "old": {"version": "1.0", "write_statistics": False},
}
TABLE = PEOPLE.replace_schema_metadata({"made": "here"})


def facts(path: Path, **reading: Any) -> dict[str, Any]:
    """What a file says of itself, but for offsets and sizes."""
    metadata = pq.ParquetFile(path, **reading).metadata
    groups = []
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        columns = []
        for index in range(group.num_columns):
            column = group.column(index)
            columns.append(
                {
                    "path": column.path_in_schema,
                    "codec": column.compression,
                    "encodings": sorted(column.encodings),
                    "dictionary": column.has_dictionary_page,
                    "indexed": column.has_offset_index,
                    "statistics": column.statistics and column.statistics.to_dict(),
                }
            )
        groups.append((group.num_rows, group.sorting_columns, columns))
    return {
        "version": metadata.format_version,
        "groups": groups,
        "schema": pq.read_schema(path, **reading),
        "metadata": pq.read_schema(path, **reading).metadata,
    }


@pytest.mark.parametrize("how", HOW)
def test_there_and_back_again_all_is_kept_but_the_encryption(
    tmp_path: Path, owner: KeyRing, how: str
) -> None:
    plain, sealed, back = (tmp_path / f"{n}.parquet" for n in ("plain", "sealed", "back"))
    pq.write_table(TABLE, plain, **HOW[how])
    seen: list[tuple[int, int | None]] = []
    result = encrypt(
        plain, sealed, policy=POLICY, keys=owner, on_progress=lambda *done: seen.append(done)
    )
    assert (result.rows, result.row_groups) == (20, len(seen))
    assert seen[-1] == (20, 20)
    properties = envelope_parquet.decryption_properties(sealed, owner)
    assert facts(sealed, decryption_properties=properties) == facts(plain)
    assert envelope_parquet.read_table(sealed, owner).equals(TABLE)
    assert decrypt(sealed, back, keys=owner).to_json()["target"] == str(back)
    assert facts(back) == facts(plain)
    assert pq.read_table(back, partitioning=None).equals(TABLE)


def data_keys(path: Path, keys: KeyRing) -> set[bytes]:
    return {key.reveal() for key in envelope_parquet.data_keys(path, keys).values()}


def test_fresh_data_keys_in_the_place_of_the_old_ones(tmp_path: Path, owner: KeyRing) -> None:
    path, out = tmp_path / "p.parquet", tmp_path / "out.parquet"
    envelope_parquet.write_table(TABLE, path, keys=owner, policy=POLICY)
    before = data_keys(path, owner)
    reencrypt(path, policy=POLICY, keys=owner)
    after = data_keys(path, owner)
    assert not before & after
    assert os.listdir(tmp_path) == [path.name]
    assert envelope_parquet.read_table(path, owner).equals(TABLE)
    uniform = envelope_parquet.ColumnPolicy(footer="local:pii")
    reencrypt(path, out, policy=uniform, keys=owner)
    assert {each.key for each in access(out, owner).columns} == {"local-pii"}
    assert data_keys(path, owner) == after


def test_files_inside_encrypted_files_are_converted_too(
    tmp_path: Path, owner: KeyRing, analyst: KeyRing
) -> None:
    plain, sealed = tmp_path / "plain.parquet", tmp_path / "sealed.parquet"
    pq.write_table(TABLE, plain)
    chain = f"envelope::file://{tmp_path}/inside.parquet"
    envelope_parquet.encrypt(plain, sealed, policy=POLICY, keys=owner)
    given = {"keys": analyst}
    decrypt(sealed, chain, keys=owner, storage_options=given, aad=None)
    assert (tmp_path / "inside.parquet").read_bytes()[:4] == b"\x89ENV"
    again = tmp_path / "again.parquet"
    encrypt(chain, again, policy=POLICY, keys=owner, storage_options=given)
    assert envelope_parquet.read_table(again, owner).equals(TABLE)
    both = f"envelope::file://{tmp_path}/both.parquet"
    encrypt(plain, both, policy=POLICY, keys=owner, storage_options=given)
    with opening(both, Reading(keys=owner, storage_options=given)) as file:
        file.prove()


def test_a_denied_column_is_an_error_before_anything_is_written(
    tmp_path: Path, owner: KeyRing, analyst: KeyRing
) -> None:
    path, out = tmp_path / "p.parquet", tmp_path / "out.parquet"
    envelope_parquet.write_table(TABLE, path, keys=owner, policy=POLICY)
    before = path.read_bytes()
    for convert in (
        lambda: decrypt(path, out, keys=analyst),
        lambda: reencrypt(path, policy=POLICY, keys=analyst),
    ):
        with pytest.raises(errors.UntrustedKey) as told:
            convert()
        assert told.value.path == str(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [path.name]


def test_the_wrong_kind_of_file_and_the_wrong_target_are_told(
    tmp_path: Path, owner: KeyRing
) -> None:
    plain, sealed, out = (tmp_path / f"{n}.parquet" for n in ("plain", "sealed", "out"))
    pq.write_table(TABLE, plain)
    encrypt(plain, sealed, policy=POLICY, keys=owner)
    with pytest.raises(errors.ConfigurationError, match="already"):
        encrypt(sealed, out, policy=POLICY, keys=owner)
    with pytest.raises(errors.NotEncrypted):
        decrypt(plain, out, keys=owner)
    with pytest.raises(errors.NotEncrypted):
        reencrypt(plain, policy=POLICY, keys=owner)
    with pytest.raises(errors.ConfigurationError, match="same file"):
        encrypt(plain, plain, policy=POLICY, keys=owner)
    with pytest.raises(errors.AlreadyExists):
        encrypt(plain, sealed, policy=POLICY, keys=owner, overwrite=False)
    moved = sealed.rename(tmp_path / "moved.parquet")
    with pytest.raises(errors.ContextMismatch):
        decrypt(moved, out, keys=owner)
    assert not out.exists()


def test_a_changed_page_ends_it_and_leaves_nothing(tmp_path: Path, owner: KeyRing) -> None:
    path, out = tmp_path / "p.parquet", tmp_path / "out.parquet"
    envelope_parquet.write_table(TABLE, path, keys=owner, policy=POLICY)
    data = bytearray(path.read_bytes())
    data[150] ^= 1
    path.write_bytes(data)
    with pytest.raises(errors.Tampered):
        decrypt(path, out, keys=owner)
    with pytest.raises(errors.Tampered):
        reencrypt(path, policy=POLICY, keys=owner)
    assert path.read_bytes() == data
    assert os.listdir(tmp_path) == [path.name]


def test_one_row_group_is_in_memory_at_a_time(tmp_path: Path, owner: KeyRing) -> None:
    path, out = tmp_path / "p.parquet", tmp_path / "out.parquet"
    row = pa.table({"name": [os.urandom(1000) for _ in range(1000)], "id": list(range(1000))})
    with pq.ParquetWriter(path, row.schema, compression="none", use_dictionary=False) as writer:
        for _ in range(30):
            writer.write_table(row)
    policy = envelope_parquet.ColumnPolicy(footer="local:lake", columns={"local:pii": ["name"]})
    before = pa.total_allocated_bytes()
    peaks: list[int] = []
    tracemalloc.start()
    encrypt(
        path,
        out,
        policy=policy,
        keys=owner,
        on_progress=lambda *_: peaks.append(pa.total_allocated_bytes() - before),
    )
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(peaks) == 30
    assert max(peaks) < 8 * 2**20
    assert peak < 8 * 2**20


def test_a_file_without_row_groups_is_converted(tmp_path: Path, owner: KeyRing) -> None:
    plain, sealed = tmp_path / "plain.parquet", tmp_path / "sealed.parquet"
    with pq.ParquetWriter(plain, TABLE.schema):
        pass
    assert encrypt(plain, sealed, policy=POLICY, keys=owner).rows == 0
    assert access(sealed, owner).algorithm == "AES_GCM_V1"


@pytest.mark.parametrize(
    "policy",
    [
        POLICY,
        envelope_parquet.ColumnPolicy("local:pii"),
        envelope_parquet.ColumnPolicy("local:lake", {"local:pii": "name"}, plaintext_footer=True),
        envelope_parquet.ColumnPolicy(
            "local:lake", {"local:pii": "name", "local:lake": "tags"}, others="plain"
        ),
    ],
    ids=["columns", "uniform", "plaintext footer", "plain rest"],
)
def test_without_a_policy_columns_stay_under_their_keys(
    tmp_path: Path, owner: KeyRing, policy: envelope_parquet.ColumnPolicy
) -> None:
    path = tmp_path / "p.parquet"
    envelope_parquet.write_table(TABLE, path, keys=owner, policy=policy)
    before, old = access(path, owner), envelope_parquet.data_keys(path, owner)
    reencrypt(path, keys=owner)
    after, new = access(path, owner), envelope_parquet.data_keys(path, owner)
    assert after == before
    assert envelope_parquet.read_table(path, owner).equals(TABLE)
    assert old.keys() == new.keys()
    assert not {key.reveal() for key in old.values()} & {key.reveal() for key in new.values()}


def test_names_of_keys_stay_where_a_table_gives_them(tmp_path: Path, owner: KeyRing) -> None:
    path, table = (
        tmp_path / "p.parquet",
        envelope_parquet.KeyTable(owner, aliases={"secret": ["local:pii", "local:lake"]}),
    )
    policy = envelope_parquet.ColumnPolicy("local:lake", {"secret": "name"})
    envelope_parquet.write_table(TABLE, path, keys=table, policy=policy)
    before = access(path, table).column("name")
    reencrypt(path, keys=table)
    assert access(path, table).column("name") == before
    assert before.key == "secret"
    assert len(before.kids) == 2
    with pytest.raises(errors.UntrustedKey):
        reencrypt(path, keys=owner)
