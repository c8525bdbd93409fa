from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envelope.errors import Malformed, UnsupportedFormat
from envelope_parquet.material import Material, Reference, parse

NAMES = st.text("abcXYZ0189._-", min_size=1, max_size=20)


@given(NAMES, NAMES, st.booleans(), st.booleans(), st.booleans())
def test_material_comes_back_as_it_was_written(
    master: str, wrapped: str, footer: bool, internal: bool, double: bool
) -> None:
    urls = {"kms_instance_id": "DEFAULT", "kms_instance_url": "DEFAULT"} if footer else {}
    keks = {"kek_id": "a2Vr", "wrapped_kek": "d3JhcHBlZA=="} if double else {}
    made = Material(master, wrapped, footer, internal, **urls, **keks)
    assert parse(made.to_text().encode()) == made


def test_what_pyarrow_writes_is_understood_and_unknown_members_are_kept() -> None:
    text = (
        '{"keyMaterialType":"PKMT1","internalStorage":true,"isFooterKey":true,'
        '"kmsInstanceID":"DEFAULT","kmsInstanceURL":"https://kms.example","masterKeyID":"lake",'
        '"wrappedDEK":"{\\"kek\\":1}","doubleWrapping":false,"later":[1]}'
    )
    found = parse(text.encode())
    assert isinstance(found, Material)
    assert (found.master_key, found.wrapped_dek) == ("lake", '{"kek":1}')
    assert found.kms_instance_url == "https://kms.example"
    assert found.other == {"later": [1]}
    assert json.loads(found.to_text()) == json.loads(text)


def test_a_reference_names_the_material_beside_the_file() -> None:
    assert parse(Reference("k0").to_text().encode()) == Reference("k0")


def test_raw_key_metadata_is_no_key_material() -> None:
    with pytest.raises(UnsupportedFormat, match="raw keys"):
        parse(b"kc1")


@pytest.mark.parametrize(
    "change",
    [
        {"masterKeyID": None},
        {"masterKeyID": ""},
        {"wrappedDEK": 7},
        {"doubleWrapping": "false"},
        {"doubleWrapping": True},  # without a KEK
        {"isFooterKey": None},
        {"internalStorage": 1},
    ],
)
def test_material_with_a_wrong_member_is_malformed(change: dict[str, object]) -> None:
    value = json.loads(Material("lake", "wrapped").to_text())
    with pytest.raises(Malformed):
        parse(json.dumps(value | change).encode())


def test_another_type_of_material_is_unsupported() -> None:
    with pytest.raises(UnsupportedFormat):
        parse(b'{"keyMaterialType":"PKMT2"}')
