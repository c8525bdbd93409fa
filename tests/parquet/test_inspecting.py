from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import envelope_parquet
from envelope.errors import NotEncrypted, Tampered, UntrustedKey
from envelope.ring import KeyRing
from envelope_parquet import ColumnPolicy
from envelope_parquet.inspecting import inspect
from tests.memory_driver import MemoryDriver
from tests.parquet.conftest import PEOPLE, POLICY, Rings
from tests.parquet.files import flipped, published, published_keys, write_theirs


def test_without_keys_an_encrypted_footer_tells_of_its_own_key(
    tmp_path: Path, owner: KeyRing, driver: MemoryDriver
) -> None:
    path = tmp_path / "p.parquet"
    envelope_parquet.write_table(PEOPLE, path, keys=owner, policy=POLICY)
    driver.calls.clear()
    found = inspect(path)
    assert not driver.calls
    assert (found.algorithm, found.plaintext_footer, found.proven) == ("AES_GCM_V1", False, False)
    assert found.columns is None
    assert found.footer.kind == "envelope"
    assert found.footer.alias == "local-lake"
    assert found.footer.recipients == (("local:lake/v1", "A256KW"),)
    assert found.footer.context == {"path": "p.parquet"}
    assert json.loads(json.dumps(found.to_json()))["footer"]["kek_id"]


def test_with_the_footers_key_it_tells_of_columns_that_are_denied_too(
    tmp_path: Path, owner: KeyRing, analyst: KeyRing, rings: Rings
) -> None:
    path = tmp_path / "p.parquet"
    envelope_parquet.write_table(PEOPLE, path, keys=owner, policy=POLICY)
    found = inspect(path, prove=True, keys=analyst)
    assert found.proven
    assert found.row_groups == 1
    columns = {each.column: each for each in found.columns or ()}
    name = columns["name"].key
    assert name is not None
    assert name.recipients == (("local:pii/v1", "A256KW"),)
    with pytest.raises(UntrustedKey):
        inspect(path, prove=True, keys=rings("local:pii"))


def test_a_plaintext_footer_tells_all_and_proves_it_where_asked_to(
    tmp_path: Path, owner: KeyRing
) -> None:
    path = tmp_path / "p.parquet"
    policy = ColumnPolicy(
        footer="local:lake", columns={"local:pii": ["name"]}, plaintext_footer=True
    )
    envelope_parquet.write_table(PEOPLE, path, keys=owner, policy=policy)
    found = inspect(path)
    assert (found.plaintext_footer, found.proven) == (True, False)
    assert [each.column for each in found.columns or () if each.encrypted] == ["name"]
    assert inspect(path, prove=True, keys=owner).proven
    bad = flipped(path, path.stat().st_size - 20, tmp_path / "bad.parquet")
    assert not inspect(bad).proven
    with pytest.raises(Tampered):
        inspect(bad, prove=True, keys=owner, aad=None)


def test_material_of_other_programs_is_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "theirs.parquet"
    table = PEOPLE.select(["id", "name"])
    for double, kind in ((False, "pkmt1"), (True, "pkmt1-double")):
        write_theirs(table, path, double_wrapping=double)
        assert inspect(path).footer.kind == kind
        assert inspect(path).footer.alias == "lake"
    write_theirs(table, path, internal_key_material=False)
    assert inspect(path).footer.kind == "pkmt1-double"
    assert not inspect(path).footer.internal
    (tmp_path / "_KEY_MATERIAL_FOR_theirs.parquet.json").unlink()
    assert inspect(path).footer.kind == "unreadable"


def test_published_files_tell_the_key_names_that_were_given_to_their_writers() -> None:
    for name, path in published().items():
        found = inspect(path)
        assert (found.footer.kind, found.footer.said) == ("other", "kf"), name
        assert found.aad_prefix == (
            "needed" if "disable_aad" in name else "stored" if "_aad" in name else "none"
        )
        if found.aad_prefix != "needed":
            proven = inspect(path, prove=True, raw_keys=published_keys(name))
            assert proven.columns


def test_a_plain_file_is_told(tmp_path: Path) -> None:
    pq.write_table(PEOPLE, tmp_path / "x.parquet")
    with pytest.raises(NotEncrypted):
        inspect(tmp_path / "x.parquet")
