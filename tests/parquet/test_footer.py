from __future__ import annotations

import io
import random
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe
import pytest

from envelope.errors import (
    ConfigurationError,
    ContextMismatch,
    EnvelopeError,
    Malformed,
    NotEncrypted,
    Tampered,
    Truncated,
)
from envelope.secret import Secret
from envelope_parquet import footer
from envelope_parquet.chunks import Chunk
from envelope_parquet.footer import Footer
from tests.parquet.files import (
    FOOTER_KEY,
    published,
    published_keys,
    published_prefix,
    read_theirs,
    write_theirs,
)

TABLE = pa.table({"id": list(range(100)), "name": [str(i) for i in range(100)]})
KEY = Secret(FOOTER_KEY)


def read(data: bytes) -> Footer:
    return footer.read(len(data), lambda offset, count: data[offset : offset + count])


def uniform(**options: object) -> bytes:
    target = io.BytesIO()
    properties = pe.create_encryption_properties(FOOTER_KEY, **options)
    pq.write_table(TABLE, target, encryption_properties=properties, row_group_size=30)
    return target.getvalue()


def test_each_published_file_is_proven_and_its_end_is_given_back() -> None:
    assert len(published()) == 12
    for name, path in published().items():
        data, keys = path.read_bytes(), published_keys(name)
        found = read(data)
        assert not found.proven
        secret = Secret(keys[""])
        found.prove(secret, published_prefix(name))
        assert found.end(secret) == data[found.start :], name
        for chunk in found.chunks():
            if chunk.encrypted:
                key = Secret(keys[chunk.path]) if chunk.own_key else secret
                assert chunk.metadata(key).integer(9), name
            else:
                assert chunk.metadata(None).integer(9), name


def test_a_wrong_key_or_a_changed_byte_of_the_end_is_refused() -> None:
    for plaintext in (False, True):
        data = uniform(plaintext_footer=plaintext)
        start = read(data).start
        with pytest.raises(Tampered):
            read(data).prove(Secret(b"another key 1234"))
        for offset in range(start, len(data)):
            changed = bytearray(data)
            changed[offset] ^= 1
            with pytest.raises(EnvelopeError):  # of which class depends on the place
                read(bytes(changed)).prove(KEY)


def test_an_aad_prefix_is_taken_from_the_file_or_the_caller() -> None:
    stored, secret = uniform(aad_prefix=b"p"), uniform(aad_prefix=b"p", store_aad_prefix=False)
    read(stored).prove(KEY)
    read(stored).prove(KEY, b"p")
    read(secret).prove(KEY, b"p")
    with pytest.raises(ContextMismatch):
        read(stored).prove(KEY, b"q")
    with pytest.raises(ConfigurationError, match="aad_prefix"):
        read(secret).prove(KEY)
    with pytest.raises(Tampered):
        read(secret).prove(KEY, b"q")


def test_what_is_no_encrypted_parquet_file_is_told() -> None:
    plain = io.BytesIO()
    pq.write_table(TABLE, plain)
    for data, error in (
        (b"", Truncated),
        (b"PAR1PAR1", Truncated),
        (b"x" * 100, Malformed),
        (b"x" * 12 + b"\xff\xff\xff\xffPARE", Malformed),
        (b"x" * 12 + b"\x00\x00\x00\x00PARE", Malformed),
        (plain.getvalue(), NotEncrypted),
        (uniform()[:-1], Malformed),
    ):
        with pytest.raises(error):
            read(data)


@pytest.mark.parametrize("plaintext", [False, True])
def test_changed_key_metadata_is_all_that_changes(plaintext: bool, tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    write_theirs(
        TABLE,
        path,
        plaintext_footer=plaintext,
        double_wrapping=False,
        writing={"row_group_size": 30},
    )
    data = path.read_bytes()
    before = read(data)
    secret = _their_key(before.key_metadata)
    before.prove(secret)
    old = [(c.path, c.key_metadata) for c in before.chunks()]
    assert len(old) == 8

    def longer(chunk: Chunk) -> bytes | None:
        return b"new material" * 50 if chunk.path == "name" else None

    assert before.change(longer) == 4
    before.put_key_metadata(before.key_metadata or b"")  # the same: no change
    after = data[: before.start] + before.end(secret)
    found = read(after)
    assert found.start == before.start
    found.prove(secret)
    new = [(c.path, c.key_metadata) for c in found.chunks()]
    assert new == [(p, b"new material" * 50 if p == "name" else m) for p, m in old]

    def back(chunk: Chunk) -> bytes | None:
        return dict(old)[chunk.path]

    found.change(back)
    again = data[: found.start] + found.end(secret)
    assert len(again) == len(data)
    # The same structures, under another nonce.
    assert read(again).plaintext is plaintext
    path.write_bytes(again)
    assert read_theirs(path).equals(TABLE)


def test_of_a_damaged_file_only_typed_errors_come_in_bounded_memory() -> None:
    numbers = random.Random(6)
    files = [uniform(), uniform(plaintext_footer=True)]
    tracemalloc.start()
    for _ in range(1500):
        data = bytearray(numbers.choice(files))
        start = read(bytes(data)).start if numbers.random() < 0.01 else len(data) - 400
        for _ in range(numbers.randint(1, 4)):
            data[numbers.randrange(max(0, start), len(data))] = numbers.randrange(256)
        try:
            found = read(bytes(data))
            found.assume()
            if found.plaintext:
                for chunk in found.chunks():
                    assert chunk.path is not None
                    chunk.metadata(None)
        except EnvelopeError:
            pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * 2**20


def _their_key(metadata: bytes | None) -> Secret:
    from envelope_parquet import material
    from tests.parquet.files import TheirKms

    found = material.parse(metadata or b"")
    assert isinstance(found, material.Material)
    return Secret(TheirKms().unwrap_key(found.wrapped_dek, found.master_key))
