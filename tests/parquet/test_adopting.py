from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe
import pytest

import envelope_parquet
from envelope.errors import (
    AlreadyExists,
    ConfigurationError,
    ContextMismatch,
    Tampered,
    UnsupportedFormat,
    UntrustedKey,
)
from envelope.ring import KeyRing
from envelope_parquet import access, data_keys
from envelope_parquet.adopting import adopt
from envelope_parquet.rewrapping import rewrap
from envelope_parquet.verifying import verify
from tests.memory_driver import MemoryDriver
from tests.parquet.conftest import PEOPLE, POLICY
from tests.parquet.files import FOOTER_KEY, published, published_keys
from tests.parquet.test_rewrapping import pages

SMALL = PEOPLE.select(["id", "name"])
KEYS = {"": b"f" * 32, "name": b"n" * 16}


def by_polars(path: Path, keys: dict[str, bytes] = KEYS, **options: Any) -> Path:
    columns = {name: key for name, key in keys.items() if name}
    properties = pl.ParquetEncryptionProperties(
        footer_key=keys[""], column_keys=columns or None, **options
    )
    frame = pl.from_arrow(SMALL)
    assert isinstance(frame, pl.DataFrame)
    frame.write_parquet(path, encryption=properties, row_group_size=6)
    return path


@pytest.mark.parametrize("plaintext", [False, True], ids=["encrypted", "plaintext"])
def test_a_file_of_polars_becomes_one_of_the_vault_without_being_rewritten(
    tmp_path: Path, owner: KeyRing, analyst: KeyRing, plaintext: bool
) -> None:
    path = by_polars(tmp_path / "p.parquet", plaintext_footer=plaintext)
    before = pages(path)
    result = adopt(path, KEYS, footer="local:lake", columns={"name": "local:pii"}, keys=owner)
    assert result.keys == {"(footer)": "local-lake", "name": "local-pii"}
    assert pages(path) == before
    assert envelope_parquet.read_table(path, owner).to_pylist() == SMALL.to_pylist()
    assert access(path, analyst).denied == ("name",)
    assert verify(path, keys=owner).modules
    # Polars reads it still, with the keys that it had and with those that the vault gives.
    for keys in (KEYS, {n: key.reveal() for n, key in data_keys(path, owner).items()}):
        properties = pl.ParquetDecryptionProperties(
            footer_key=keys[""], column_keys={"name": keys["name"]}
        )
        assert pl.read_parquet(path, decryption=properties).to_arrow().num_rows == 20


@pytest.mark.parametrize("bits", [128, 192, 256])
def test_a_uniform_file_of_pyarrow_is_adopted_rotated_and_bound_to_its_place(
    tmp_path: Path, owner: KeyRing, driver: MemoryDriver, bits: int
) -> None:
    path, key = tmp_path / "u.parquet", b"k" * (bits // 8)
    properties = pe.create_encryption_properties(key, aad_prefix=b"somewhere")
    pq.write_table(PEOPLE, path, encryption_properties=properties)
    adopt(path, {"": key}, footer="local:lake", keys=owner)
    assert envelope_parquet.read_table(path, owner).equals(PEOPLE)
    driver.rotate("local:lake")
    assert rewrap(path, keys=owner).keys[0].refreshed == ("local:lake/v2",)
    moved = path.rename(tmp_path / "moved.parquet")
    with pytest.raises(ContextMismatch):
        envelope_parquet.read_table(moved, owner)


def test_published_files_are_adopted_once_their_key_names_may_be_replaced(
    tmp_path: Path, owner: KeyRing, rings: Any
) -> None:
    count = 0
    for name, source in published().items():
        out, keys = tmp_path / name.replace("/", "-"), published_keys(name)
        with pytest.raises(ConfigurationError if "disable_aad" not in name else UnsupportedFormat):
            adopt(source, keys, out, footer="local:lake", keys=owner)
        if "disable_aad" in name:
            continue
        adopt(source, keys, out, footer="local:lake", replace=True, keys=owner)
        assert pages(out) == pages(source)
        assert verify(out, keys=owner).pages
        with pytest.raises(UntrustedKey):
            verify(out, keys=rings("local:pii"))
        count += 1
    assert count == 10


def test_wrong_or_missing_raw_keys_are_told_before_anything_is_written(
    tmp_path: Path, owner: KeyRing
) -> None:
    path = by_polars(tmp_path / "p.parquet")
    before = path.read_bytes()
    wrong: list[tuple[dict[str, bytes], type[Exception], str]] = [
        ({**KEYS, "": b"x" * 32}, Tampered, "footer"),
        ({**KEYS, "name": b"x" * 16}, Tampered, "column 'name'"),
        ({"": KEYS[""]}, ConfigurationError, "column 'name'"),
        ({"name": KEYS["name"]}, ConfigurationError, "the footer"),
        ({**KEYS, "": b"x"}, ConfigurationError, "16, 24 or 32"),
    ]
    for keys, error, says in wrong:
        with pytest.raises(error, match=says):
            adopt(path, keys, footer="local:lake", keys=owner)
    for columns in ({"nmae": "local:pii"}, {"id": "local:pii"}):
        with pytest.raises(ConfigurationError):
            adopt(path, KEYS, footer="local:lake", columns=columns, keys=owner)
    assert path.read_bytes() == before


def test_a_file_that_has_key_material_is_rewrapped_and_not_adopted(
    tmp_path: Path, owner: KeyRing
) -> None:
    path = tmp_path / "p.parquet"
    envelope_parquet.write_table(PEOPLE, path, keys=owner, policy=POLICY)
    keys = data_keys(path, owner)
    with pytest.raises(ConfigurationError, match="material already"):
        adopt(path, keys, footer="local:lake", replace=True, keys=owner)


def test_a_file_of_duckdb_is_told_to_have_no_aads(tmp_path: Path, owner: KeyRing) -> None:
    duckdb = pytest.importorskip("duckdb")
    path = tmp_path / "d.parquet"
    connection = duckdb.connect()
    connection.execute("SET force_mbedtls_unsafe = 'true'")  # its own warning about its nonces
    connection.execute(f"PRAGMA add_parquet_key('k', '{FOOTER_KEY.decode()}')")
    connection.execute(
        f"COPY (SELECT range a FROM range(9)) TO '{path}' (ENCRYPTION_CONFIG {{footer_key: 'k'}})"
    )
    with pytest.raises(UnsupportedFormat, match="DuckDB"):
        adopt(path, {"": FOOTER_KEY}, footer="local:lake", keys=owner)
    with pytest.raises(Tampered):
        adopt(path, {"": b"another key 1234"}, footer="local:lake", keys=owner)


def test_a_target_is_written_and_the_original_stays(tmp_path: Path, owner: KeyRing) -> None:
    path, out = by_polars(tmp_path / "p.parquet"), tmp_path / "out.parquet"
    before = path.read_bytes()
    adopt(path, KEYS, out, footer="local:lake", keys=owner)
    assert path.read_bytes() == before
    assert envelope_parquet.read_table(out, owner).num_rows == 20
    with pytest.raises(AlreadyExists):
        adopt(path, KEYS, out, footer="local:lake", keys=owner, overwrite=False)
