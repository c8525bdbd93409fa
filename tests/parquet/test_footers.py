from __future__ import annotations

import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from envelope.errors import EnvelopeError, NotEncrypted
from envelope_parquet import footers
from tests.public_vectors import folder


@given(st.binary(max_size=300), st.booleans())
def test_any_footer_is_a_footer_or_a_typed_error(data: bytes, sealed: bool) -> None:
    magic = b"PARE" if sealed else b"PAR1"
    file = b"PAR1" + data + len(data).to_bytes(4, "little") + magic
    try:
        footers.read(len(file), lambda at, count: file[at : at + count])
    except EnvelopeError:
        pass


def test_a_plain_file_is_told_as_such() -> None:
    out = io.BytesIO()
    pq.write_table(pa.table({"a": [1]}), out)
    data = out.getvalue()
    with pytest.raises(NotEncrypted):
        footers.read(len(data), lambda at, count: data[at : at + count])


def test_the_public_encrypted_files_tell_their_keys_names() -> None:
    found = {}
    for path in sorted(folder("parquet-testing").glob("*.parquet.encrypted")):
        data = path.read_bytes()
        footer = footers.read(len(data), lambda at, count, data=data: data[at : at + count])
        found[path.name.removesuffix(".parquet.encrypted")] = footer
    assert found["uniform_encryption"].key_metadata == b"kf"
    plain = found["encrypt_columns_plaintext_footer"]
    assert plain.plaintext
    assert {each.metadata for each in plain.columns} >= {b"kc1", b"kc2", None}
    assert found["encrypt_columns_and_footer_ctr"].algorithm == "AES_GCM_CTR_V1"
    assert found["encrypt_columns_and_footer_disable_aad_storage"].needs_aad_prefix


def test_an_encrypted_footer_opens_with_its_documented_key() -> None:
    from envelope.secret import Secret

    data = Path(
        folder("parquet-testing"), "encrypt_columns_and_footer.parquet.encrypted"
    ).read_bytes()
    footer = footers.read(len(data), lambda at, count: data[at : at + count])
    columns = footers.decrypted_columns(footer, Secret(b"0123456789012345"))
    assert {each.metadata for each in columns} >= {b"kc1", b"kc2"}
