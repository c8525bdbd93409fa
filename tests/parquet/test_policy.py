from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from envelope.errors import ConfigurationError
from envelope_parquet import ColumnPolicy, KeyTable
from envelope_parquet.policy import leaves
from tests.parquet.conftest import PEOPLE, Rings


@pytest.fixture
def table(rings: Rings) -> KeyTable:
    return KeyTable(
        rings("local:lake"), aliases={"f": "local:lake", "pii": "local:pii", "pay": "local:pay"}
    )


def policy(**options: Any) -> ColumnPolicy:
    return ColumnPolicy(footer="f", **{"others": "plain"} | options)


def test_leaf_columns_have_the_names_of_parquet() -> None:
    assert leaves(PEOPLE.schema) == [
        "id",
        "name",
        "address.street",
        "address.zip",
        "tags.list.element",
    ]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("name", ["name"]),
        ("address", ["address.street", "address.zip"]),
        ("address.*", ["address.street", "address.zip"]),
        ("address.zip", ["address.zip"]),
        ("*.zip", ["address.zip"]),
        ("tags", ["tags.list.element"]),
        ("tag?", ["tags.list.element"]),
        ("[an]*", ["name", "address.street", "address.zip"]),
    ],
)
def test_patterns_find_columns_by_name_path_parent_and_glob(
    table: KeyTable, pattern: str, found: list[str]
) -> None:
    assert policy(columns={"pii": pattern}).assign(PEOPLE.schema, table) == {"pii": found}


def test_a_pattern_that_matches_nothing_is_an_error(table: KeyTable) -> None:
    for pattern in ("nmae", "address.str", "x*", "Name"):
        with pytest.raises(ConfigurationError, match="no such column"):
            policy(columns={"pii": ["name", pattern]}).assign(PEOPLE.schema, table)


def test_a_required_column_that_nothing_covers_is_an_error(table: KeyTable) -> None:
    covered = policy(columns={"pii": ["name"]}, require=["name"])
    assert covered.assign(PEOPLE.schema, table)
    for required in (["id"], ["address"], ["ssn"]):
        with pytest.raises(ConfigurationError):
            policy(columns={"pii": ["name", "address.zip"]}, require=required).assign(
                PEOPLE.schema, table
            )


def test_the_footers_key_is_no_cover_for_a_required_column(table: KeyTable) -> None:
    rest = policy(columns={"pii": ["name"]}, require=["id"], others=None)
    with pytest.raises(ConfigurationError, match="required"):
        rest.assign(PEOPLE.schema, table)


def test_a_column_under_two_keys_is_an_error(table: KeyTable) -> None:
    with pytest.raises(ConfigurationError, match="two keys"):
        policy(columns={"pii": "name", "pay": "na*"}).assign(PEOPLE.schema, table)


def test_other_columns_are_under_the_footers_key_unless_said_otherwise(table: KeyTable) -> None:
    rest = ["id", "address.street", "address.zip", "tags.list.element"]
    named = {"columns": {"pii": "name"}}
    assert policy(**named, others=None).assign(PEOPLE.schema, table) == {"f": rest, "pii": ["name"]}
    assert policy(**named, others="pay").assign(PEOPLE.schema, table) == {
        "pay": rest,
        "pii": ["name"],
    }
    assert policy(**named, others=None, plaintext_footer=True).assign(PEOPLE.schema, table) == {
        "pii": ["name"]
    }


def test_tags_of_fields_and_schemas_choose_keys(table: KeyTable) -> None:
    tagged = pa.schema(
        [
            pa.field("id", pa.int64()),
            pa.field("name", pa.string(), metadata={"envelope.key": "personal"}),
            pa.field(
                "pay",
                pa.struct([pa.field("base", pa.int64(), metadata={"envelope.key": "money"})]),
            ),
        ]
    )
    tags = {"personal": "pii", "money": "pay"}
    assert policy(tags=tags).assign(tagged, table) == {"pii": ["name"], "pay": ["pay.base"]}
    whole = tagged.with_metadata({"envelope.key": "money"})
    assert policy(tags=tags).assign(whole, table) == {"pay": ["id", "pay.base"], "pii": ["name"]}


def test_a_tag_without_a_key_is_an_error_unless_the_column_is_named(table: KeyTable) -> None:
    tagged = pa.schema(
        [pa.field("name", pa.string(), metadata={"envelope.key": "personal"}), ("id", pa.int8())]
    )
    with pytest.raises(ConfigurationError, match="tag"):
        policy(columns={"pii": "id"}).assign(tagged, table)
    assert policy(columns={"pii": "name"}).assign(tagged, table) == {"pii": ["name"]}


@pytest.mark.parametrize("name", ["a,b", "a;b", "a:b", " a", "a "])
def test_a_name_that_pyarrow_would_take_apart_is_refused(table: KeyTable, name: str) -> None:
    schema = pa.schema([(name, pa.int64()), ("id", pa.int64())])
    with pytest.raises(ConfigurationError, match="cannot express"):
        policy(columns={"pii": name}).assign(schema, table)
    assert policy(others=None).assign(schema, table) == {}  # uniform, it needs no name


@given(st.lists(st.sampled_from(leaves(PEOPLE.schema)), min_size=1, unique=True))
def test_every_named_leaf_is_in_one_group_and_no_other_is(chosen: list[str]) -> None:
    groups = policy(columns={"pii": chosen}).assign(
        PEOPLE.schema, KeyTable("local:lake", aliases={"pii": "local:pii", "f": "local:lake"})
    )
    assert set(groups["pii"]) == set(chosen)


def test_a_policy_that_encrypts_nothing_is_an_error(table: KeyTable) -> None:
    with pytest.raises(ConfigurationError, match="encrypts nothing"):
        ColumnPolicy(footer="f", plaintext_footer=True).assign(PEOPLE.schema, table)


def test_pages_that_are_not_authenticated_are_refused_unless_asked_for() -> None:
    with pytest.raises(ConfigurationError, match="does not authenticate"):
        ColumnPolicy(footer="f", algorithm="AES_GCM_CTR_V1")
    assert ColumnPolicy(footer="f", algorithm="AES_GCM_CTR_V1", unauthenticated=True)
    with pytest.raises(ConfigurationError):
        ColumnPolicy(footer="f", algorithm="AES_CBC")
