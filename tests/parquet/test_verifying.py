from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe
import pytest

import envelope_parquet
from envelope.errors import (
    ConfigurationError,
    ContextMismatch,
    EnvelopeError,
    NotEncrypted,
    Tampered,
    UntrustedKey,
)
from envelope.ring import KeyRing
from envelope.secret import Secret
from envelope_parquet import ColumnPolicy, footer, modules
from envelope_parquet.footer import Footer
from envelope_parquet.opened import Reading
from envelope_parquet.verifying import verify
from tests.parquet.conftest import PEOPLE, POLICY
from tests.parquet.files import (
    FOOTER_KEY,
    flipped,
    published,
    published_keys,
    published_prefix,
)

INDEXED = {
    "write_page_index": True,
    "data_page_size": 64,
    "row_group_size": 10,
    "max_rows_per_page": 4,
}


@pytest.fixture
def people(tmp_path: Path, owner: KeyRing) -> Path:
    path = tmp_path / "people.parquet"
    envelope_parquet.write_table(PEOPLE, path, keys=owner, policy=POLICY, **INDEXED)
    return path


def test_each_published_file_is_authenticated_with_its_documented_keys() -> None:
    for name, path in published().items():
        found = verify(path, raw_keys=published_keys(name), aad_prefix=published_prefix(name))
        assert found.pages >= 2, name
        ctr = "_ctr" in name
        assert (found.algorithm, found.unproven_pages > 0) == (
            "AES_GCM_CTR_V1" if ctr else "AES_GCM_V1",
            ctr,
        )


def test_all_bytes_before_the_footer_belong_to_a_module_that_was_proven(
    people: Path, owner: KeyRing, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, opened = 0, modules.opened

    def counting(key: object, module: bytes, *rest: object) -> bytes:
        nonlocal seen
        seen += len(module)
        return opened(key, module, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(modules, "opened", counting)
    found = verify(people, keys=owner)
    assert found.row_groups == 2
    assert found.pages > 20
    assert seen > _footer(people).start - 4  # the metadata of columns and the footer lie behind it
    assert found.to_json()["plain"] == []


def test_every_changed_byte_is_found_and_its_page_named(
    people: Path, owner: KeyRing, tmp_path: Path
) -> None:
    size, named = people.stat().st_size, 0
    start = _footer(people).start
    key_material = start + people.read_bytes()[start:].rindex(b"}") + 3
    # What names the footer's key is not authenticated by the format: a change of it finds no key,
    # or changes nothing of what is used.
    places = [*range(4, start, size // 300), *range(key_material, size, 7)]
    for offset in places:
        with pytest.raises(EnvelopeError) as told:
            verify(flipped(people, offset, tmp_path / "bad.parquet"), keys=owner, aad=None)
        named += "in row group" in told.value.message
    assert named > 100


def test_a_bad_page_is_named_by_column_row_group_page_and_offset(
    people: Path, owner: KeyRing, tmp_path: Path
) -> None:
    bad = flipped(people, 4 + 4 + 12, tmp_path / "bad.parquet")
    with pytest.raises(Tampered, match=r"page.* of column 'id' in row group 0, at byte 4"):
        verify(bad, keys=owner, aad=None)


def test_all_bad_parts_are_counted(people: Path, owner: KeyRing, tmp_path: Path) -> None:
    bad = people
    for number, offset in enumerate(range(30, 30 + 200 * 9, 200)):
        bad = flipped(bad, offset, tmp_path / f"{number}.parquet")
    with pytest.raises(Tampered, match=r"; and \d+ more"):
        verify(bad, keys=owner, aad=None)


def test_pages_that_changed_places_are_found(tmp_path: Path, owner: KeyRing) -> None:
    """Two row groups of equal size, exchanged as a whole."""
    table = pa.table({"n": list(range(1000))})
    path = tmp_path / "n.parquet"
    policy = ColumnPolicy(footer="local:lake", columns={"local:pii": ["n"]})
    envelope_parquet.write_table(
        table,
        path,
        keys=owner,
        policy=policy,
        row_group_size=500,
        use_dictionary=False,
        compression="none",
    )
    data = path.read_bytes()
    first = 4 + int.from_bytes(data[4:8], "little") + 4
    first += int.from_bytes(data[first : first + 4], "little") + 4
    length = first - 4
    path.write_bytes(
        data[:4] + data[first : first + length] + data[4:first] + data[first + length :]
    )
    with pytest.raises(Tampered, match="page 0 of column 'n' in row group 0"):
        verify(path, keys=owner)


def test_columns_that_are_denied_are_an_error_or_told(people: Path, analyst: KeyRing) -> None:
    with pytest.raises(UntrustedKey):
        verify(people, keys=analyst)
    found = verify(people, keys=analyst, denied="skip")
    assert found.denied == ("name", "address.street", "address.zip")
    assert found.modules > 0
    with pytest.raises(ConfigurationError):
        verify(people, keys=analyst, denied="null")  # type: ignore[arg-type]


def test_plain_columns_and_plaintext_footers_are_told(tmp_path: Path, owner: KeyRing) -> None:
    path = tmp_path / "p.parquet"
    policy = ColumnPolicy(
        footer="local:lake",
        columns={"local:pii": ["name"]},
        others="plain",
        plaintext_footer=True,
    )
    envelope_parquet.write_table(PEOPLE, path, keys=owner, policy=policy)
    found = verify(path, keys=owner)
    assert found.plaintext_footer
    assert found.plain == ("id", "address.street", "address.zip", "tags.list.element")


def test_bloom_filters_are_proven(tmp_path: Path) -> None:
    path = published()["encrypt_columns_and_footer_bloom_filter"]
    keys = published_keys("encrypt_columns_and_footer_bloom_filter")
    good = verify(path, raw_keys=keys)
    bad = flipped(path, _bloom_filter_at(path, keys) + 300, tmp_path / "bad.parquet")
    with pytest.raises(Tampered, match="the bloom filter of column 'double_field'"):
        verify(bad, raw_keys=keys)
    assert good.modules > good.pages * 2


def test_a_file_that_is_not_where_it_was_written_or_plain_is_refused(
    people: Path, owner: KeyRing, tmp_path: Path
) -> None:
    other = people.rename(tmp_path / "other.parquet")
    with pytest.raises(ContextMismatch, match="another place"):
        verify(other, keys=owner)
    assert verify(other, keys=owner, aad=None).pages
    pq.write_table(PEOPLE, people)
    with pytest.raises(NotEncrypted) as told:
        verify(people, keys=owner)
    assert told.value.path == str(people)


def test_raw_keys_are_asked_for_and_never_shown(tmp_path: Path) -> None:
    path = tmp_path / "raw.parquet"
    properties = pe.create_encryption_properties(FOOTER_KEY)
    pq.write_table(PEOPLE, path, encryption_properties=properties)
    with pytest.raises(ConfigurationError, match="raw_keys="):
        verify(path)
    keys = {"": FOOTER_KEY, "x": FOOTER_KEY}
    assert verify(path, raw_keys=keys).pages == 10
    assert "0123" not in repr(Reading(raw_keys=keys))
    with pytest.raises(ConfigurationError, match="16, 24 or 32"):
        verify(path, raw_keys={"": b"short"})


def _footer(path: Path) -> Footer:
    data = path.read_bytes()
    return footer.read(len(data), lambda offset, count: data[offset : offset + count])


def _bloom_filter_at(path: Path, keys: dict[str, bytes]) -> int:
    found = _footer(path)
    found.prove(Secret(keys[""]))
    for chunk in found.chunks():
        if chunk.own_key:
            offset = chunk.metadata(Secret(keys[chunk.path])).integer(14)
            assert offset is not None
            return offset
    raise AssertionError("no bloom filter")
