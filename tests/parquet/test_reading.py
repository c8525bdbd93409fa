from __future__ import annotations

import io
import os
import shutil
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest

import envelope_parquet
from envelope.errors import (
    ConfigurationError,
    ContextMismatch,
    EnvelopeError,
    KeyDisabled,
    NotEncrypted,
    UntrustedKey,
    VaultUnavailable,
)
from envelope.ring import KeyRing
from envelope_parquet import ColumnPolicy, KeyTable, read_table, write_dataset, write_table
from tests.memory_driver import MemoryDriver
from tests.parquet.conftest import PEOPLE, POLICY, Rings

POLICIES = {
    "uniform": ColumnPolicy("local:lake"),
    "columns": POLICY,
    "plain rest": ColumnPolicy("local:lake", {"local:pii": ["name", "address"]}, others="plain"),
    "plaintext footer": ColumnPolicy(
        "local:lake", {"local:pii": ["name", "address"]}, plaintext_footer=True
    ),
}


@pytest.fixture
def people(tmp_path: Path, owner: KeyRing) -> Path:
    path = tmp_path / "people.parquet"
    write_table(PEOPLE, path, keys=owner, policy=POLICY)
    return path


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
def test_what_is_written_is_read(tmp_path: Path, owner: KeyRing, policy: ColumnPolicy) -> None:
    path = tmp_path / "people.parquet"
    write_table(PEOPLE, path, keys=owner, policy=policy, row_group_size=6)
    assert read_table(path, owner).equals(PEOPLE)
    assert read_table(path, owner, columns=["tags", "name"]).equals(PEOPLE.select(["tags", "name"]))
    assert read_table(path, owner, filters=[("name", "=", "person 7")])["id"].to_pylist() == [7]
    plain = path.read_bytes()
    assert b"person 7" not in plain
    assert b"street 7" not in plain


@pytest.mark.parametrize("policy", list(POLICIES.values())[1:], ids=list(POLICIES)[1:])
def test_denied_columns_are_an_error_nulls_or_gone(
    tmp_path: Path, owner: KeyRing, analyst: KeyRing, policy: ColumnPolicy
) -> None:
    path = tmp_path / "people.parquet"
    write_table(PEOPLE, path, keys=owner, policy=policy)
    with pytest.raises(UntrustedKey, match="people"):
        read_table(path, analyst)
    nulls = read_table(path, analyst, denied="null")
    assert nulls.schema.equals(PEOPLE.schema)
    assert nulls["name"].null_count == len(PEOPLE)
    assert nulls.select(["id", "tags"]).equals(PEOPLE.select(["id", "tags"]))
    dropped = read_table(path, analyst, denied="drop", filters=pc.field("id") > 17)
    assert dropped.column_names == ["id", "tags"]
    assert dropped["id"].to_pylist() == [18, 19]
    assert read_table(path, analyst, columns=["id"]).num_rows == len(PEOPLE)


@pytest.mark.parametrize("denied", ["error", "null", "drop"])
@pytest.mark.parametrize(
    "filters",
    [[("name", "=", "x")], [[("id", ">", 1)], [("name", "=", "x")]], pc.field("name") == "x"],
)
def test_filters_by_a_denied_column_are_an_error(
    people: Path, analyst: KeyRing, denied: envelope_parquet.reading.Denied, filters: object
) -> None:
    with pytest.raises(UntrustedKey):
        read_table(people, analyst, columns=["id"], filters=filters, denied=denied)


def test_a_vault_that_is_away_never_reads_as_a_denied_column(
    people: Path, rings: Rings, driver: MemoryDriver
) -> None:
    fresh = rings("local:lake", "local:pii", limits={"deadline": 0.2})
    driver.fail = lambda operation, kid: VaultUnavailable("away") if "pii" in kid else None
    for denied in ("error", "null", "drop"):
        with pytest.raises(VaultUnavailable):
            read_table(people, fresh, denied=denied)  # type: ignore[arg-type]  # a literal


def test_a_plaintext_footer_serves_who_has_no_key_at_all(
    tmp_path: Path, owner: KeyRing, rings: Rings
) -> None:
    path = tmp_path / "people.parquet"
    write_table(PEOPLE, path, keys=owner, policy=POLICIES["plaintext footer"])
    stranger = rings("local:other")
    assert read_table(path, stranger, denied="drop").column_names == ["id", "tags"]
    with pytest.raises(UntrustedKey):
        read_table(path, stranger)


def test_a_plain_file_is_refused_unless_allowed(tmp_path: Path, analyst: KeyRing) -> None:
    path = tmp_path / "people.parquet"
    pq.write_table(PEOPLE, path)
    with pytest.raises(NotEncrypted):
        read_table(path, analyst)
    assert read_table(path, analyst, allow_plaintext=True).equals(PEOPLE)


def test_a_file_that_is_replaced_by_a_plain_one_in_between_is_refused(
    people: Path, owner: KeyRing, monkeypatch: pytest.MonkeyPatch
) -> None:
    from envelope_parquet import scanning

    real = scanning.File.expect_to_be_read

    def late(file: scanning.File) -> None:
        pq.write_table(PEOPLE, people.with_suffix(".tmp"))
        os.replace(people.with_suffix(".tmp"), people)
        real(file)

    monkeypatch.setattr(scanning.File, "expect_to_be_read", late)
    with pytest.raises(NotEncrypted):
        read_table(people, owner)


def test_a_folder_is_read_as_one_table_with_its_partitions(tmp_path: Path, owner: KeyRing) -> None:
    years = PEOPLE.append_column("year", pa.array([2024, 2025] * 10)).append_column(
        "land", pa.array(["a b", "c/d", "é", None] * 5)
    )
    names = write_dataset(
        years, tmp_path / "lake", keys=owner, policy=POLICY, partition_cols=["year", "land"]
    )
    assert len(names) == 4
    (tmp_path / "lake" / "_SUCCESS").touch()
    again = read_table(tmp_path / "lake", owner)
    assert again.sort_by("id").equals(years.sort_by("id"))
    some = read_table(tmp_path / "lake", owner, filters=[("year", "=", 2025), ("id", "<", 6)])
    assert some["id"].to_pylist() == [1, 5, 3] or sorted(some["id"].to_pylist()) == [1, 3, 5]
    one = read_table(tmp_path / "lake" / names[0], owner)
    assert one.num_rows == 5
    assert read_table(tmp_path / "lake" / "year=2024", owner).num_rows == 10
    assert read_table(tmp_path / "lake", owner, root=tmp_path / "lake").num_rows == 20
    with pytest.raises(ContextMismatch):
        read_table(tmp_path / "lake", owner, root=tmp_path)


def test_files_of_a_dataset_do_not_change_places(tmp_path: Path, owner: KeyRing) -> None:
    lake = tmp_path / "lake"
    years = PEOPLE.append_column("year", pa.array([2024, 2025] * 10))
    one, two = write_dataset(years, lake, keys=owner, policy=POLICY, partition_cols=["year"])
    shutil.copy(lake / one, lake / two)
    with pytest.raises(ContextMismatch):
        read_table(lake, owner)
    with pytest.raises(ContextMismatch):
        read_table(lake / two, owner)
    assert read_table(lake, owner, aad=None).num_rows == 20
    lake.rename(tmp_path / "elsewhere")
    shutil.copy(tmp_path / "elsewhere" / one, tmp_path / "elsewhere" / two)
    with pytest.raises(ContextMismatch):
        read_table(tmp_path / "elsewhere", owner)


def test_a_dataset_may_move_as_a_whole(tmp_path: Path, owner: KeyRing) -> None:
    years = PEOPLE.append_column("year", pa.array([2024, 2025] * 10))
    write_dataset(years, tmp_path / "lake", keys=owner, policy=POLICY, partition_cols=["year"])
    (tmp_path / "lake").rename(tmp_path / "moved")
    assert read_table(tmp_path / "moved", owner).num_rows == 20


def test_a_context_binds_and_is_required(tmp_path: Path, owner: KeyRing, rings: Rings) -> None:
    path = tmp_path / "people.parquet"
    write_table(PEOPLE, path, keys=owner, policy=POLICY, context={"tenant": "a"})
    assert read_table(path, owner, context={"tenant": "a"}).num_rows == 20
    with pytest.raises(ContextMismatch):
        read_table(path, owner, context={"tenant": "b"})
    strict = rings("local:lake", "local:pii", required_context=["tenant"])
    assert read_table(path, strict).num_rows == 20
    write_table(PEOPLE, path, keys=owner, policy=POLICY)
    with pytest.raises(ContextMismatch):
        read_table(path, strict)


@pytest.mark.parametrize("how", ["url", "fsspec", "arrow", "object", "native"])
def test_files_lie_on_any_store(owner: KeyRing, tmp_path: Path, how: str) -> None:
    if how == "url":
        url = f"memory://{tmp_path.name}/people.parquet"
        write_table(PEOPLE, url, keys=owner, policy=POLICY)
        assert read_table(url, owner).equals(PEOPLE)
    elif how == "fsspec":
        fs = fsspec.filesystem("memory")
        write_table(PEOPLE, "/some/people.parquet", keys=owner, policy=POLICY, filesystem=fs)
        assert read_table("/some/people.parquet", owner, filesystem=fs).equals(PEOPLE)
    elif how == "arrow":
        fs = pafs.SubTreeFileSystem(str(tmp_path), pafs.LocalFileSystem())
        write_table(PEOPLE, "people.parquet", keys=owner, policy=POLICY, filesystem=fs)
        assert read_table("people.parquet", owner, filesystem=fs).equals(PEOPLE)
        assert (tmp_path / "people.parquet").exists()
    else:
        out = io.BytesIO()
        write_table(PEOPLE, out, keys=owner, policy=POLICY)
        source = io.BytesIO(out.getvalue()) if how == "object" else pa.BufferReader(out.getvalue())
        assert read_table(source, owner).equals(PEOPLE)


def test_a_dataset_on_a_store_is_read_with_its_url(owner: KeyRing, tmp_path: Path) -> None:
    url = f"memory://{tmp_path.name}/lake"
    years = PEOPLE.append_column("year", pa.array([2024, 2025] * 10))
    write_dataset(years, url, keys=owner, policy=POLICY, partition_cols=["year"])
    assert read_table(url, owner).num_rows == 20
    assert read_table(f"{url}/year=2024/part-0.parquet", owner, root=url).num_rows == 10


def test_inside_an_encrypted_file_system_too(owner: KeyRing, analyst: KeyRing) -> None:
    url = "envelope::memory://inside/people.parquet"
    options = {"storage_options": {"keys": analyst}}
    write_table(PEOPLE, url, keys=owner, policy=POLICY, **options)  # type: ignore[arg-type]  # options of a test
    assert read_table(url, owner, **options).equals(PEOPLE)  # type: ignore[arg-type]  # the same
    assert not bytes(fsspec.filesystem("memory").cat_file("/inside/people.parquet")).startswith(
        b"PAR"
    )


def test_a_revoked_key_is_refused_at_once(
    people: Path, owner: KeyRing, driver: MemoryDriver
) -> None:
    assert read_table(people, owner).num_rows == 20
    driver.disabled.add("local:pii/v1")
    assert read_table(people, owner).num_rows == 20  # the KEK was opened less than an hour ago
    envelope_parquet.revoke(owner)
    with pytest.raises(KeyDisabled):
        read_table(people, owner)
    assert read_table(people, owner, denied="drop").column_names == ["id", "tags"]


def test_pages_that_are_not_authenticated_are_warned_of(tmp_path: Path, owner: KeyRing) -> None:
    path = tmp_path / "ctr.parquet"
    ctr = ColumnPolicy("local:lake", algorithm="AES_GCM_CTR_V1", unauthenticated=True)
    write_table(PEOPLE, path, keys=owner, policy=ctr)
    with pytest.warns(UserWarning, match="changes of its data go unnoticed"):
        assert read_table(path, owner).equals(PEOPLE)


def test_no_flipped_byte_of_a_file_reads_as_other_data(tmp_path: Path, owner: KeyRing) -> None:
    path = tmp_path / "people.parquet"
    write_table(PEOPLE, path, keys=owner, policy=POLICY)
    data = path.read_bytes()
    for position in range(0, len(data), 41):
        forged = bytearray(data)
        forged[position] ^= 1
        path.write_bytes(forged)
        try:
            assert read_table(path, owner).equals(PEOPLE)  # what nobody looks at, or
        except (EnvelopeError, OSError, pa.ArrowException):
            pass


def test_names_that_are_not_there_are_told(people: Path, owner: KeyRing) -> None:
    with pytest.raises(ConfigurationError, match="nmae"):
        read_table(people, owner, columns=["nmae"])
    with pytest.raises(ConfigurationError):
        read_table(people, owner, denied="hide")  # type: ignore[arg-type]  # on purpose
    with pytest.raises(FileNotFoundError):
        read_table(people.with_name("none.parquet"), owner)


def test_a_dataset_shows_only_what_opens(people: Path, owner: KeyRing, analyst: KeyRing) -> None:
    made = envelope_parquet.dataset(people, analyst)
    assert isinstance(made, ds.Dataset)
    assert made.schema.names == ["id", "tags"]
    assert made.to_table(filter=ds.field("id") > 17)["id"].to_pylist() == [18, 19]
    with pytest.raises(pa.ArrowInvalid, match="name"):
        made.to_table(filter=ds.field("name") == "x")
    assert envelope_parquet.read_schema(people, owner).equals(PEOPLE.schema)


def test_aliases_say_where_a_files_keys_are(tmp_path: Path, rings: Rings) -> None:
    path = tmp_path / "people.parquet"
    keys = KeyTable(rings("local:lake"), aliases={"f": "local:lake", "pii": "local:pii"})
    policy = ColumnPolicy("f", {"pii": "name"})
    write_table(PEOPLE, path, keys=keys, policy=policy)
    assert envelope_parquet.access(path, keys).column("name").key == "pii"
    assert read_table(path, keys).equals(PEOPLE)
    elsewhere = KeyTable(rings("local:lake"), aliases={"f": "local:lake", "pii": "local:other"})
    with pytest.raises(UntrustedKey):
        read_table(path, elsewhere)


def test_a_frame_comes_back_with_its_index(tmp_path: Path, owner: KeyRing) -> None:
    import pandas as pd

    frame = pd.DataFrame(
        {"name": ["a", "b"], "v": [1, 2]}, index=pd.CategoricalIndex(["x", "y"], name="who")
    )
    policy = ColumnPolicy("local:lake", {"local:pii": ["who", "name"]})
    write_table(frame, tmp_path / "f.parquet", keys=owner, policy=policy)
    pd.testing.assert_frame_equal(
        envelope_parquet.read_pandas(tmp_path / "f.parquet", owner), frame
    )
