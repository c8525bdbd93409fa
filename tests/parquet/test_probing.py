from __future__ import annotations

import io
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import envelope_parquet
from envelope.errors import (
    ContextMismatch,
    EnvelopeError,
    KeyDisabled,
    Malformed,
    NotEncrypted,
    Tampered,
    Truncated,
    UntrustedKey,
)
from envelope.ring import KeyRing
from envelope_parquet import ColumnPolicy, access, footer
from tests.memory_driver import MemoryDriver
from tests.parquet.conftest import PEOPLE, POLICY, Rings


@pytest.fixture
def people(tmp_path: Path, owner: KeyRing) -> Path:
    path = tmp_path / "people.parquet"
    envelope_parquet.write_table(PEOPLE, path, keys=owner, policy=POLICY)
    return path


def test_it_tells_each_columns_key_and_whether_it_opens(
    people: Path, owner: KeyRing, analyst: KeyRing
) -> None:
    mine = access(people, owner)
    assert mine.denied == ()
    assert mine.algorithm == "AES_GCM_V1"
    assert {each.column: each.key for each in mine.columns} == {
        "id": "local-lake",
        "name": "local-pii",
        "address.street": "local-pii",
        "address.zip": "local-pii",
        "tags.list.element": "local-lake",
    }
    assert mine.column("name").kids == ("local:pii/v1",)
    theirs = access(people, analyst)
    assert theirs.denied == ("name", "address.street", "address.zip")
    assert isinstance(theirs.column("name").error, UntrustedKey)
    assert theirs.column("id").opens
    assert "name" in str(theirs)
    assert "ENV-UNTRUSTED" in str(theirs)


def test_it_reads_the_footer_once_and_no_data(
    people: Path, analyst: KeyRing, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, reads = people.read_bytes(), []

    class Counted(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            reads.append(size)
            return super().read(size)

    big = pa.table({"id": list(range(100_000))})
    out = io.BytesIO()
    envelope_parquet.write_table(big, out, keys=analyst, policy=ColumnPolicy("local:lake"))
    assert access(Counted(data), analyst, aad=None).denied
    assert len(reads) == 1
    reads.clear()
    assert access(Counted(out.getvalue()), analyst).denied == ()
    assert reads == [65536]
    monkeypatch.setattr(footer, "_FIRST_READ", 100)
    reads.clear()
    assert access(Counted(data), analyst, aad=None).denied
    assert len(reads) == 2


def test_it_calls_each_key_once_and_those_that_are_not_trusted_never(
    people: Path, rings: Rings, owner: KeyRing, analyst: KeyRing, driver: MemoryDriver
) -> None:
    driver.called.clear()
    access(people, analyst)
    assert driver.calls["unwrap"] == 1
    assert not [kid for _, kid in driver.called if "pii" in kid]
    access(people, owner)
    assert [each for each in driver.called if each[0] == "unwrap"] == [
        ("unwrap", "local:lake/v1"),  # once for both, who have the same credentials
        ("unwrap", "local:pii/v1"),
    ]


def test_a_disabled_key_is_a_row_of_the_answer(
    people: Path, rings: Rings, driver: MemoryDriver
) -> None:
    driver.disabled.add("local:pii/v1")
    assert isinstance(
        access(people, rings("local:lake", "local:pii")).column("name").error, KeyDisabled
    )
    driver.disabled.add("local:lake/v1")
    found = access(people, rings("local:lake", "local:other", limits={"deadline": 9}))
    assert not found.footer.opens
    assert isinstance(found.footer.error, KeyDisabled)
    assert found.columns == ()


def test_a_plaintext_footer_tells_the_columns_to_everybody(
    tmp_path: Path, owner: KeyRing, rings: Rings
) -> None:
    path = tmp_path / "people.parquet"
    policy = ColumnPolicy("local:lake", {"local:pii": "name"}, plaintext_footer=True)
    envelope_parquet.write_table(PEOPLE, path, keys=owner, policy=policy)
    found = access(path, rings("local:other"))
    assert found.plaintext_footer
    assert not found.footer.opens
    assert found.denied == ("name",)
    assert found.column("id").key is None
    # The column's key alone does not help: pyarrow wants the footer's first.
    assert access(path, rings("local:pii")).denied == ("name",)
    assert access(path, owner).denied == ()


def test_a_plain_file_has_no_keys(tmp_path: Path, analyst: KeyRing) -> None:
    pq.write_table(PEOPLE, tmp_path / "plain.parquet")
    found = access(tmp_path / "plain.parquet", analyst)
    assert (found.algorithm, found.columns) == (None, ())
    with pytest.raises(NotEncrypted):
        envelope_parquet.decryption_properties(tmp_path / "plain.parquet", analyst)


def test_a_file_in_another_place_is_told_as_such(people: Path, owner: KeyRing) -> None:
    other = people.rename(people.parent / "other.parquet")
    assert isinstance(access(other, owner).footer.error, ContextMismatch)
    assert access(other, owner, aad=None).footer.opens


def test_it_works_on_any_store(people: Path, owner: KeyRing) -> None:
    fs = fsspec.filesystem("memory")
    fs.pipe_file("/access/people.parquet", people.read_bytes())
    assert access("memory://access/people.parquet", owner).denied == ()
    assert access("/access/people.parquet", owner, filesystem=fs).denied == ()


def test_a_damaged_end_is_a_typed_error_for_every_byte(people: Path, owner: KeyRing) -> None:
    data = people.read_bytes()
    length = int.from_bytes(data[-8:-4], "little")
    whole = access(io.BytesIO(data), owner, aad=None)
    for position in range(len(data) - length - 8, len(data), 7):
        forged = bytearray(data)
        forged[position] ^= 4
        try:
            found = access(io.BytesIO(bytes(forged)), owner, aad=None)
        except EnvelopeError:
            continue
        # What it says in the clear about a vault is used by nobody, so it may say anything.
        assert not found.footer.opens or found == whole
    for cut in (0, 4, 11, 12, 100, len(data) - 1):
        with pytest.raises((Malformed, Truncated, Tampered)):
            access(io.BytesIO(data[:cut]), owner, aad=None)
