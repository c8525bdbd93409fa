from __future__ import annotations

import io
import os
import random
import re
import signal
import time
from pathlib import Path

import fsspec
import pyarrow as pa
import pytest

import envelope_parquet
from envelope import errors, events, replacing
from envelope.ring import KeyRing
from envelope_parquet import ColumnPolicy, KeyTable, access, footer
from envelope_parquet.rewrapping import FOOTER, RewrapResult, rewrap
from envelope_parquet.verifying import verify
from tests.memory_driver import MemoryDriver
from tests.parquet.conftest import PEOPLE, Rings
from tests.parquet.files import TheirKms, read_theirs, write_theirs

SMALL = PEOPLE.select(["id", "name"])


@pytest.fixture
def all_keys(rings: Rings) -> KeyRing:
    return rings("local:lake", "local:pii", "local:pii2", "local:lake2")


def pages(path: Path) -> bytes:
    """All bytes before the footer."""
    data = path.read_bytes()
    return data[: footer.read(len(data), lambda at, count: data[at : at + count]).start]


def written(path: Path, keys: KeyRing, **options: object) -> Path:
    policy = ColumnPolicy(
        footer="local:lake",
        columns={"local:pii": ["name", "address"]},
        **options,  # type: ignore[arg-type]
    )
    envelope_parquet.write_table(
        PEOPLE, path, keys=keys, policy=policy, row_group_size=7, write_page_index=True
    )
    return path


def kids(path: Path, keys: KeyRing) -> dict[str, tuple[str, ...]]:
    found = access(path, keys)
    return {each.column: each.kids for each in (found.footer, *found.columns)}


def only(result: RewrapResult, part: str) -> envelope_parquet.rewrapping.KeyChange:
    (found,) = [key for key in result.keys if part in key.parts]
    return found


BOTH = pytest.mark.parametrize("plaintext", [False, True], ids=["encrypted", "plaintext"])


@BOTH
def test_new_versions_of_all_master_keys_and_not_one_byte_of_the_pages_changes(
    tmp_path: Path, driver: MemoryDriver, owner: KeyRing, plaintext: bool
) -> None:
    path = written(tmp_path / "p.parquet", owner, plaintext_footer=plaintext)
    before = pages(path)
    assert not rewrap(path, keys=owner).changed
    assert path.read_bytes().startswith(before)
    driver.rotate("local:pii")
    result = rewrap(path, keys=owner)
    assert only(result, "name").refreshed == ("local:pii/v2",)
    assert set(only(result, "name").parts) == {"name", "address.street", "address.zip"} or (
        sum(bool(key.refreshed) for key in result.keys) == 3
    )
    assert not only(result, FOOTER).changed
    assert pages(path) == before
    found = kids(path, owner)
    assert found["name"] == found["address.zip"] == ("local:pii/v2",)
    assert found[""] == ("local:lake/v1",)
    driver.disabled.add("local:pii/v1")
    envelope_parquet.revoke(owner)
    assert envelope_parquet.read_table(path, owner).equals(PEOPLE)
    assert verify(path, keys=owner).row_groups == 3


@BOTH
def test_another_master_key_for_some_columns(
    tmp_path: Path, all_keys: KeyRing, analyst: KeyRing, rings: Rings, plaintext: bool
) -> None:
    path = written(tmp_path / "p.parquet", all_keys, plaintext_footer=plaintext)
    before = pages(path)
    result = rewrap(path, {"local:pii": "local:pii2"}, keys=all_keys)
    assert result.changed
    assert only(result, "name").alias == "local-pii2"
    assert only(result, "name").was == "local-pii"
    assert only(result, "name").dropped == ("local:pii/v1",)
    assert only(result, "name").proven
    assert pages(path) == before
    assert envelope_parquet.read_table(path, rings("local:lake", "local:pii2")).equals(PEOPLE)
    with pytest.raises(errors.UntrustedKey):
        envelope_parquet.read_table(path, rings("local:lake", "local:pii"))
    assert access(path, analyst).denied == ("name", "address.street", "address.zip")


@BOTH
def test_another_master_key_for_the_footer(
    tmp_path: Path, all_keys: KeyRing, rings: Rings, plaintext: bool
) -> None:
    path = written(tmp_path / "p.parquet", all_keys, plaintext_footer=plaintext)
    before = pages(path)
    result = rewrap(path, footer="local:lake2", keys=all_keys)
    assert only(result, FOOTER).alias == "local-lake2"
    assert [key.alias for key in result.keys if key.changed] == ["local-lake2"]
    assert pages(path) == before
    found = access(path, rings("local:lake", "local:pii"))
    assert isinstance(found.footer.error, errors.UntrustedKey)
    if not plaintext:  # there, no column is under it
        rewrap(path, {"local:lake": "local:lake2"}, keys=all_keys)
    assert pages(path) == before
    assert envelope_parquet.read_table(path, rings("local:lake2", "local:pii")).equals(PEOPLE)


def test_a_single_column_gets_a_key_of_its_own(
    tmp_path: Path, all_keys: KeyRing, rings: Rings
) -> None:
    path = written(tmp_path / "p.parquet", all_keys)
    rewrap(path, columns={"address": "local:pii2"}, keys=all_keys)
    found = access(path, rings("local:lake", "local:pii2"))
    assert found.denied == ("name",)
    assert found.column("address.zip").key == "local-pii2"
    uniform = ColumnPolicy(footer="local:lake", columns={})
    envelope_parquet.write_table(PEOPLE, path, keys=all_keys, policy=uniform)
    with pytest.raises(errors.ConfigurationError, match="no key of its own"):
        rewrap(path, columns={"id": "local:pii2"}, keys=all_keys)


def test_another_name_for_the_same_key(tmp_path: Path, owner: KeyRing, rings: Rings) -> None:
    path = written(tmp_path / "p.parquet", owner)
    table = KeyTable(owner, aliases={"people": "local:pii"})
    result = rewrap(path, {"local-pii": "people"}, keys=table)
    assert only(result, "name").alias == "people"
    assert only(result, "name").kept == ("local:pii/v1",)
    assert access(path, table).column("name").key == "people"
    assert envelope_parquet.read_table(path, table).equals(PEOPLE)
    with pytest.raises(errors.UntrustedKey):
        envelope_parquet.read_table(path, rings("local:lake"), columns=["name"])


@BOTH
@pytest.mark.parametrize("double", [False, True], ids=["single", "double"])
@pytest.mark.parametrize("bits", [128, 256])
def test_key_material_of_pyarrow_moves_under_a_vault(
    tmp_path: Path, owner: KeyRing, double: bool, plaintext: bool, bits: int
) -> None:
    path = tmp_path / "theirs.parquet"
    write_theirs(
        PEOPLE,
        path,
        column_keys={"pii": ["name"], "other": ["address.zip"]},
        double_wrapping=double,
        plaintext_footer=plaintext,
        data_key_length_bits=bits,
    )
    before = pages(path)
    changes = {"lake": "local:lake", "pii": "local:pii", "other": "local:pii"}
    with pytest.raises(errors.UnsupportedFormat, match="another program"):
        rewrap(path, changes, keys=owner)
    assert not rewrap(path, keys=owner, kms=TheirKms()).changed  # theirs are left alone
    result = rewrap(path, changes, keys=owner, kms=TheirKms())
    assert only(result, "name").added == ("local:pii/v1",)
    assert pages(path) == before
    assert verify(path, keys=owner).modules
    assert envelope_parquet.read_table(path, owner).column("name").equals(PEOPLE.column("name"))


def test_some_keys_of_pyarrow_may_stay_with_their_client(tmp_path: Path, owner: KeyRing) -> None:
    path = tmp_path / "theirs.parquet"
    write_theirs(SMALL, path)
    rewrap(path, {"lake": "local:lake"}, keys=owner, kms=TheirKms())
    with pytest.raises(errors.UnsupportedFormat):
        verify(path, keys=owner)
    assert verify(path, keys=owner, kms=TheirKms()).modules


@pytest.mark.parametrize("double", [False, True], ids=["single", "double"])
def test_external_key_material_is_replaced_beside_a_file_that_stays(
    tmp_path: Path, owner: KeyRing, double: bool, driver: MemoryDriver
) -> None:
    path = tmp_path / "x.parquet"
    write_theirs(SMALL, path, internal_key_material=False, double_wrapping=double)
    data, beside = path.read_bytes(), tmp_path / "_KEY_MATERIAL_FOR_x.parquet.json"
    assert beside.is_file()
    rewrap(path, {"lake": "local:lake", "pii": "local:pii"}, keys=owner, kms=TheirKms())
    assert path.read_bytes() == data
    assert sorted(os.listdir(tmp_path)) == [beside.name, path.name]
    assert verify(path, keys=owner).modules
    driver.rotate("local:pii")
    result = rewrap(path, keys=owner)
    assert only(result, "name").refreshed == ("local:pii/v2",)
    out = tmp_path / "out.parquet"
    rewrap(path, target=out, keys=owner)
    assert verify(out, keys=owner, aad=None).modules


def test_a_key_that_opens_nothing_is_not_carried_on(tmp_path: Path, all_keys: KeyRing) -> None:
    """Key material of another column, under a key that the caller may use."""
    path, other = tmp_path / "p.parquet", tmp_path / "other.parquet"
    written(path, all_keys)
    written(other, all_keys)
    data = path.read_bytes()
    found = footer.read(len(data), lambda at, count: data[at : at + count])
    from envelope_parquet.opened import Reading, opening

    with opening(path, Reading(keys=all_keys)) as file:
        key = file.prove()
        name, zip_code = [
            each.key_metadata
            for each in file.footer.columns
            if each.path in ("name", "address.zip")
        ]
        assert name != zip_code
        file.footer.change(lambda chunk: zip_code if chunk.path == "name" else None)
        path.write_bytes(data[: found.start] + file.footer.end(key))
    before = path.read_bytes()
    with pytest.raises(errors.Tampered, match="column 'name'"):
        rewrap(path, {"local:pii": "local:pii2"}, keys=all_keys)
    assert path.read_bytes() == before


def test_a_change_that_fits_nothing_is_told_with_the_names_that_there_are(
    tmp_path: Path, owner: KeyRing
) -> None:
    path = written(tmp_path / "p.parquet", owner)
    for wrong in ({"local:none": "local:pii"}, {"nobody": "local:pii"}):
        with pytest.raises(errors.ConfigurationError, match="local-lake, local-pii"):
            rewrap(path, wrong, keys=owner)
        assert not rewrap(path, wrong, keys=owner, unmatched="ignore").changed
    with pytest.raises(errors.ConfigurationError, match="'nmae'"):
        rewrap(path, columns={"nmae": "local:pii"}, keys=owner)


def test_what_may_not_be_opened_is_not_rewrapped(
    tmp_path: Path, owner: KeyRing, analyst: KeyRing, driver: MemoryDriver
) -> None:
    path = written(tmp_path / "p.parquet", owner)
    before = path.read_bytes()
    driver.rotate("local:lake")
    for changes in (None, {"local-pii": "local:lake"}):
        with pytest.raises(errors.UntrustedKey) as told:
            rewrap(path, changes, keys=analyst)
        assert told.value.path == str(path)
    assert path.read_bytes() == before
    # The keys that are not named need not be opened.
    assert rewrap(path, {"local:lake": "local:lake"}, keys=analyst).changed
    assert envelope_parquet.read_table(path, owner).equals(PEOPLE)


def test_a_footer_that_does_not_hold_is_left_as_it_is(
    tmp_path: Path, owner: KeyRing, driver: MemoryDriver
) -> None:
    path = written(tmp_path / "p.parquet", owner)
    data = bytearray(path.read_bytes())
    data[-40] ^= 1
    path.write_bytes(data)
    driver.rotate("local:lake")
    with pytest.raises(errors.Tampered):
        rewrap(path, keys=owner)
    assert path.read_bytes() == data
    assert os.listdir(tmp_path) == [path.name]


def test_mode_and_names_stay_and_who_has_the_file_open_reads_on(
    tmp_path: Path, owner: KeyRing, driver: MemoryDriver
) -> None:
    path = written(tmp_path / "p.parquet", owner)
    path.chmod(0o640)
    driver.rotate("local:pii")
    with path.open("rb") as before:
        rewrap(path, keys=owner)
        assert access(before, owner).column("name").kids == ("local:pii/v1",)
    assert path.stat().st_mode & 0o777 == 0o640
    assert os.listdir(tmp_path) == [path.name]


def test_somebody_who_writes_meanwhile_wins(
    tmp_path: Path, owner: KeyRing, driver: MemoryDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path / "p.parquet", owner)
    driver.rotate("local:pii")
    copied = replacing._copy_attributes

    def interfere(*fds: int) -> None:
        copied(*fds)
        path.write_bytes(b"another file")

    monkeypatch.setattr(replacing, "_copy_attributes", interfere)
    with pytest.raises(errors.FileChanged):
        rewrap(path, keys=owner)
    assert path.read_bytes() == b"another file"
    assert os.listdir(tmp_path) == [path.name]


def test_objects_are_rewrapped_and_targets_written_anew(
    tmp_path: Path, owner: KeyRing, driver: MemoryDriver
) -> None:
    path = written(tmp_path / "p.parquet", owner)
    before, data = pages(path), path.read_bytes()
    fs = fsspec.filesystem("memory")
    fs.pipe_file("/lake/p.parquet", data)
    driver.rotate("local:pii")
    result = rewrap("memory://lake/p.parquet", keys=owner)
    assert result.target == "memory://lake/p.parquet"
    assert fs.cat_file("/lake/p.parquet").startswith(before)
    assert kids(path, owner)["name"] == ("local:pii/v1",)
    assert access("memory://lake/p.parquet", owner).column("name").kids == ("local:pii/v2",)
    out, memory = tmp_path / "out.parquet", io.BytesIO()
    rewrap(path, target=out, keys=owner)
    rewrap(io.BytesIO(data), target=memory, keys=owner)
    assert path.read_bytes() == data
    assert pages(out) == memory.getvalue()[: len(before)] == before
    for wrong in (path, str(path)):
        with pytest.raises(errors.ConfigurationError, match="same file"):
            rewrap(path, target=wrong, keys=owner)
    with pytest.raises(errors.AlreadyExists):
        rewrap(path, target=out, keys=owner, overwrite=False)
    with pytest.raises(errors.ConfigurationError, match="target="):
        rewrap(io.BytesIO(data), keys=owner)


def test_three_hundred_row_groups_cost_the_calls_of_one(
    tmp_path: Path, owner: KeyRing, driver: MemoryDriver
) -> None:
    path = tmp_path / "many.parquet"
    table = pa.table({"name": [str(i) for i in range(300)], "id": list(range(300))})
    policy = ColumnPolicy(footer="local:lake", columns={"local:pii": ["name"]})
    envelope_parquet.write_table(table, path, keys=owner, policy=policy, row_group_size=1)
    driver.rotate("local:pii")
    envelope_parquet.revoke(owner)
    driver.calls.clear()
    rewrap(path, keys=owner)
    # Footer, column, and the proof that the new wrap opens.
    assert (driver.calls["unwrap"], driver.calls["wrap"]) == (3, 1)
    assert envelope_parquet.read_table(path, owner).equals(table)


def test_an_event_tells_of_it(tmp_path: Path, owner: KeyRing, driver: MemoryDriver) -> None:
    path = written(tmp_path / "p.parquet", owner)
    driver.rotate("local:pii")
    seen: list[object] = []
    stop = events.subscribe(seen.append)
    result = rewrap(path, keys=owner)
    stop()
    (told,) = [each for each in seen if isinstance(each, events.FileFinished)]
    assert told.operation == "rewrap"
    assert result.to_json()["keys"]


def test_files_of_pyarrow_are_never_spoilt_by_reading_them(tmp_path: Path, owner: KeyRing) -> None:
    path = tmp_path / "theirs.parquet"
    write_theirs(SMALL, path)
    rewrap(path, keys=owner, kms=TheirKms())
    assert read_theirs(path).equals(SMALL)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_file_survives_kills(tmp_path: Path, all_keys: KeyRing) -> None:
    """kill -9 all over a rewrap: the file opens, and what lies about is a temporary of ours."""
    path = written(tmp_path / "p.parquet", all_keys)
    before, kills = pages(path), max(8, int(os.environ.get("ENVELOPE_KILLS", "40")) // 4)
    keys = ("local:pii", "local:pii2")
    for number in range(kills):
        child = os.fork()
        if child == 0:
            try:
                step = number
                while True:
                    step += 1
                    columns = {"name": keys[step % 2], "address": keys[step % 2]}
                    rewrap(path, columns=columns, keys=all_keys)
            finally:
                os._exit(1)
        time.sleep(random.Random(number).uniform(0.005, 0.15))
        os.kill(child, signal.SIGKILL)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL
        assert pages(path) == before
        assert verify(path, keys=all_keys).pages
        for name in os.listdir(tmp_path):
            if name != path.name:
                assert re.fullmatch(r"\.p\.parquet\.[0-9a-f]{16}\.env1tmp", name)
                (tmp_path / name).unlink()
    assert envelope_parquet.read_table(path, all_keys).equals(PEOPLE)
