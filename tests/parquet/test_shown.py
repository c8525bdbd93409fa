"""Files of other programs are read through our functions: the published vectors, all of them."""

from __future__ import annotations

import base64
import gc
import io
import json
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

import envelope_parquet
from envelope.errors import (
    ConfigurationError,
    ContextMismatch,
    EnvelopeError,
    KeyMismatch,
    KeyNotFound,
    Tampered,
)
from envelope.ring import KeyRing
from envelope_parquet import access, dataset, places, read_pandas, read_schema, read_table
from envelope_parquet.opened import Reading, opening
from envelope_parquet.scanning import File
from tests import public_vectors
from tests.parquet.conftest import PEOPLE
from tests.parquet.files import TheirKms, published, published_keys, published_prefix, write_theirs

# Those with the counter mode warn; what they hold is read all the same.
pytestmark = pytest.mark.filterwarnings("ignore:.*AES_GCM_CTR_V1:UserWarning")

NAMES = [
    "aes256/encrypt_columns_and_footer",
    "aes256/encrypt_columns_and_footer_ctr",
    "aes256/encrypt_columns_and_footer_disable_aad_storage",
    "aes256/encrypt_columns_plaintext_footer",
    "aes256/uniform_encryption",
    "encrypt_columns_and_footer",
    "encrypt_columns_and_footer_aad",
    "encrypt_columns_and_footer_bloom_filter",
    "encrypt_columns_and_footer_ctr",
    "encrypt_columns_and_footer_disable_aad_storage",
    "encrypt_columns_plaintext_footer",
    "uniform_encryption",
]


MASTER_KEYS = {"kf": b"0123456789012345", "kc1": b"1234567890123450", "kc2": b"1234567890123451"}


class InMemoryKms:
    """parquet-java's ``InMemoryKMS``: AES-GCM under the master key, with its name as AAD."""

    def unwrap_key(self, wrapped_key: str, master_key_identifier: str) -> bytes:
        data, name = base64.b64decode(wrapped_key), master_key_identifier
        return AESGCM(MASTER_KEYS[name]).decrypt(data[:12], data[12:], name.encode())


def how(name: str) -> dict[str, Any]:
    return {"raw_keys": published_keys(name), "aad_prefix": published_prefix(name)}


def check_rows(table: pa.Table) -> None:
    """The values that parquet-testing's generator writes (arrow, ``encryption_util``)."""
    count = len(table)
    doubles = table["double_field"].to_pylist()
    assert doubles == pytest.approx([i * 1.1111111 for i in range(count)])
    floats = table["float_field"].to_pylist()
    assert floats == pytest.approx([i * 1.1 for i in range(count)], rel=1e-5)


def test_no_published_file_is_missing() -> None:
    assert sorted(published()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_each_published_file_is_read_with_its_documented_keys(name: str) -> None:
    path = published()[name]
    table = read_table(path, **how(name))
    names = set(table.column_names)
    assert {"double_field", "float_field", "int32_field"} <= names
    if "bloom" not in name:
        assert len(table) == 50
        assert len(names) == 8
        check_rows(table)
    few = read_table(
        path, columns=["double_field"], filters=[("double_field", "<", 4)], **how(name)
    )
    assert few.column_names == ["double_field"]
    assert few.to_pylist() == [row for row in few.to_pylist() if row["double_field"] < 4]
    assert 0 < len(few) < len(table)
    seen = dataset(path, **how(name))
    assert seen.count_rows(filter=pc.field("double_field") < 4) == len(few)
    assert read_schema(path, **how(name)).names == table.column_names
    assert access(path, **how(name)).denied == ()
    with path.open("rb") as file:
        assert read_table(file, **how(name)).equals(table)
    assert len(read_pandas(path, columns=["float_field"], **how(name))) == len(table)


def test_a_column_whose_raw_key_was_not_given_is_denied() -> None:
    name = "aes256/encrypt_columns_and_footer"
    path, given = published()[name], published_keys(name)
    del given["float_field"]
    del given["int64_field.list.element"]
    assert access(path, raw_keys=given).denied == ("int64_field.list.element", "float_field")
    with pytest.raises(KeyNotFound, match="float_field"):
        read_table(path, columns=["float_field"], raw_keys=given)
    with pytest.raises(KeyNotFound):
        read_table(path, filters=[("float_field", "<", 1)], raw_keys=given, denied="drop")
    table = read_table(path, raw_keys=given, denied="drop")
    assert len(table.column_names) == 6
    assert "float_field" not in dataset(path, raw_keys=given).schema.names
    assert read_table(path, raw_keys=given, denied="null")["float_field"].null_count == 50


def test_wrong_keys_and_prefixes_open_nothing() -> None:
    name = "encrypt_columns_and_footer_disable_aad_storage"
    path, keys = published()[name], published_keys(name)
    with pytest.raises(ConfigurationError, match="AAD prefix"):
        read_table(path, raw_keys=keys)
    with pytest.raises(Tampered):
        read_table(path, raw_keys=keys, aad_prefix=b"another")
    with pytest.raises(Tampered):
        read_table(path, raw_keys={**keys, "": b"x" * 16}, aad_prefix=b"tester")
    with pytest.raises(EnvelopeError):
        read_table(path, raw_keys={**keys, "double_field": b"x" * 16}, aad_prefix=b"tester")
    told = published()["encrypt_columns_and_footer_aad"]
    with pytest.raises(ContextMismatch):
        read_table(told, raw_keys=published_keys("encrypt_columns_and_footer_aad"), aad_prefix=b"x")


def test_a_changed_byte_in_a_page_of_a_published_file_is_refused(tmp_path: Path) -> None:
    name = "encrypt_columns_and_footer"
    data, path = bytearray(published()[name].read_bytes()), tmp_path / "changed.parquet"
    with opening(published()[name], Reading(**how(name))) as file:
        file.prove()
        chunk = next(each for each in file.footer.columns if each.path == "double_field")
        metadata = chunk.metadata(file.chain.column(chunk, file.prove))
        start, length = metadata.integer(11), metadata.integer(7)
    assert start
    assert length == 513
    for offset in range(start + 4, start + length, 60):
        data[offset] ^= 1
        path.write_bytes(data)
        with pytest.raises(Tampered):
            read_table(path, **how(name))
        with pytest.raises(Tampered):
            read_table(io.BytesIO(data), **how(name))
        data[offset] ^= 1


@pytest.mark.parametrize("copied", [False, True], ids=["its place", "a copy"])
def test_external_key_material_of_parquet_java_opens_through_a_kms_client(
    tmp_path: Path, copied: bool
) -> None:
    folder = public_vectors.folder("parquet-testing")
    path = folder / "external_key_material_java.parquet.encrypted"
    if copied:
        for each in folder.glob("*external_key_material_java*"):
            shutil.copy(each, tmp_path)
        path = tmp_path / path.name
    shown = access(path, kms=InMemoryKms())
    assert shown.denied == ()
    assert shown.footer.key == "kf"
    assert {each.key for each in shown.columns} >= {"kc1", "kc2"}
    table = read_table(str(path), kms=InMemoryKms())
    assert table["integers"].to_pylist() == list(range(100))
    assert table["strings"][0].as_py() == "a0"
    assert dataset(path, kms=InMemoryKms()).to_table().equals(table)
    assert envelope_parquet.verify(path, kms=InMemoryKms()).pages


def test_external_key_material_becomes_that_of_a_vault(tmp_path: Path, owner: KeyRing) -> None:
    for each in public_vectors.folder("parquet-testing").glob("*external_key_material_java*"):
        shutil.copy(each, tmp_path)
    path = tmp_path / "external_key_material_java.parquet.encrypted"
    before = read_table(path, kms=InMemoryKms())
    changes = {"kf": "local:lake", "kc1": "local:pii", "kc2": "local:pii"}
    envelope_parquet.rewrap(path, changes, keys=owner, kms=InMemoryKms())
    assert read_table(path, owner).equals(before)
    beside = tmp_path / f"_KEY_MATERIAL_FOR_{path.name}.json"
    assert "local-pii" in json.loads(beside.read_text())["columnKey0"]
    beside.unlink()
    with pytest.raises(FileNotFoundError):
        read_table(path, owner)


def test_key_material_of_another_kms_is_read_and_what_it_denies_is_denied(
    tmp_path: Path, owner: KeyRing
) -> None:
    class Denying(TheirKms):
        def unwrap_key(self, wrapped_key: str, master_key_identifier: str) -> bytes:
            if master_key_identifier == "pii":
                raise KeyNotFound("not for you", kid="pii", operation="unwrap")
            return super().unwrap_key(wrapped_key, master_key_identifier)

    table = PEOPLE.select(["id", "name"])
    for number, options in enumerate(({}, {"plaintext_footer": True}, {"double_wrapping": False})):
        path = tmp_path / f"{number}.parquet"
        write_theirs(table, path, **options)
        assert read_table(path, owner, kms=TheirKms()).equals(table)
        assert read_table(path, kms=Denying(), denied="drop").column_names == ["id"]
        with pytest.raises(KeyNotFound):
            read_table(path, kms=Denying())
    folder = read_table(tmp_path, kms=TheirKms(), columns=["name"])
    assert len(folder) == 3 * len(table)

    class Wrong(TheirKms):
        def unwrap_key(self, wrapped_key: str, master_key_identifier: str) -> bytes:
            raise PermissionError("secret text of a client")

    with pytest.raises(KeyMismatch) as caught:
        read_table(path, kms=Wrong(), denied="drop")
    assert "secret" not in str(caught.value)


def test_files_of_polars_are_read_as_they_are(tmp_path: Path) -> None:
    path, keys = tmp_path / "p.parquet", {"": b"f" * 32, "name": b"n" * 16}
    for plaintext in (False, True):
        properties = pl.ParquetEncryptionProperties(
            footer_key=keys[""], column_keys={"name": keys["name"]}, plaintext_footer=plaintext
        )
        frame = pl.DataFrame({"id": [1, 2], "name": ["a", "b"]})
        frame.write_parquet(path, encryption=properties)
        assert read_table(path, raw_keys=keys).to_pydict() == frame.to_dict(as_series=False)
        few = read_table(path, raw_keys={"": keys[""]}, denied="drop")
        assert few.to_pydict() == {"id": [1, 2]}


def test_files_of_others_are_converted(tmp_path: Path, owner: KeyRing) -> None:
    name = "aes256/encrypt_columns_and_footer_disable_aad_storage"
    path, plain, ours = published()[name], tmp_path / "plain.parquet", tmp_path / "ours.parquet"
    policy = envelope_parquet.ColumnPolicy(
        footer="local:lake", columns={"local:pii": ["double_field"]}
    )
    envelope_parquet.decrypt(path, plain, **how(name))
    check_rows(pq.read_table(plain))
    envelope_parquet.reencrypt(path, ours, policy=policy, keys=owner, **how(name))
    check_rows(read_table(ours, owner))


def test_the_keys_go_with_the_last_reader() -> None:
    """pyarrow's factories and clients live on (docs/upstream.md); what they know must not."""
    name = "aes256/encrypt_columns_and_footer"
    seen = dataset(published()[name], **how(name))
    secrets = [one for one in gc.get_objects() if type(one).__name__ == "_Keys"]
    assert len(secrets) >= 1
    before = len(secrets)
    del secrets
    assert seen.count_rows() == 50
    del seen
    gc.collect()
    after = [one for one in gc.get_objects() if type(one).__name__ == "_Keys"]
    assert len(after) < before


def test_no_key_shows_in_what_is_shown() -> None:
    name = "aes256/uniform_encryption"
    reading = Reading(**how(name))
    file = File(places.place(published()[name]), reading)
    told = repr(reading) + repr(file.access) + repr(file.client) + str(vars(file))
    assert "0123456789" not in told
