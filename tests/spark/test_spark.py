"""Files of Spark are read here and files of ours in Spark, under the same keys of a vault."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import envelope_parquet
from envelope.errors import AccessDenied
from envelope.ring import KeyRing
from envelope_parquet import ColumnPolicy, KeyTable
from tests.spark.conftest import Spark

ROWS = [(1, "Ada"), (2, "Grace")]
PEOPLE = pa.table({"id": [1, 2], "name": ["Ada", "Grace"]})


def keys_of(spark: Spark, kind: str) -> tuple[dict[str, str], ColumnPolicy]:
    """The same policy in Spark's options and in ours."""
    lake, pii = spark.azure.key(), spark.azure.key("pii")
    column = {"column_keys": f"{spark.alias('pii')}:name", "footer_key": spark.alias("lake")}
    if kind == "uniform":
        return {"uniform_key": spark.alias("lake")}, ColumnPolicy(lake)
    if kind == "columns":
        return column, ColumnPolicy(lake, {pii: "name"}, others="plain")
    return (
        {**column, "plaintext_footer": "true"},
        ColumnPolicy(lake, {pii: "name"}, plaintext_footer=True),
    )


KINDS = ("uniform", "columns", "plaintext footer")
MATERIALS = ("internal", "external")


def store(material: str) -> dict[str, str]:
    return {"key_material_store_internally": "false"} if material == "external" else {}


@pytest.mark.parametrize("material", MATERIALS)
@pytest.mark.parametrize("kind", KINDS)
def test_spark_reads_what_is_written_here(spark: Spark, kind: str, material: str) -> None:
    path = spark.folder / "people.parquet"
    envelope_parquet.write_table(
        PEOPLE,
        path,
        keys=spark.ring,
        policy=keys_of(spark, kind)[1],
        interop="spark",
        material=material,
    )
    assert spark.read(path) == ROWS


@pytest.mark.parametrize("double", ["true", "false"])
@pytest.mark.parametrize("material", MATERIALS)
@pytest.mark.parametrize("kind", KINDS)
def test_what_spark_writes_is_read_and_proven_here(
    spark: Spark, kind: str, material: str, double: str
) -> None:
    options = keys_of(spark, kind)[0]
    path = spark.write("out", ROWS, **options, **store(material), double_wrapping=double)
    assert envelope_parquet.read_table(path, spark.ring).to_pylist() == PEOPLE.to_pylist()
    found = envelope_parquet.access(path, spark.ring)
    assert found.footer.opens
    assert found.column("name").key == spark.alias("lake" if kind == "uniform" else "pii")
    plain = () if kind == "uniform" else ("id",)
    assert envelope_parquet.verify(path, keys=spark.ring).plain == plain
    assert envelope_parquet.read_table(path.parent, spark.ring).num_rows == 2


def test_ten_files_cost_spark_a_call_a_key(spark: Spark) -> None:
    frame = spark.spark.range(100).selectExpr("id", "cast(id as string) name").repartition(10)
    before = len(spark.azure.operations())
    writer = frame.write.option("parquet.encryption.footer.key", spark.alias("lake"))
    writer = writer.option("parquet.encryption.column.keys", f"{spark.alias('pii')}:name")
    writer.parquet(str(spark.folder / "out"))
    assert spark.azure.operations()[before:] == ["wrapkey", "wrapkey"]
    before = len(spark.azure.operations())
    assert envelope_parquet.read_table(spark.folder / "out", spark.ring).num_rows == 100
    assert spark.azure.operations()[before:] == ["unwrapkey", "unwrapkey"]
    before = len(spark.azure.operations())
    spark.toolkit.removeCacheEntriesForAllTokens()
    assert len(spark.read(spark.folder / "out")) == 100
    assert spark.azure.operations()[before:] == ["unwrapkey", "unwrapkey"]


def test_a_dataset_written_here_is_a_table_of_spark(spark: Spark) -> None:
    envelope_parquet.write_dataset(
        PEOPLE,
        spark.folder / "people",
        keys=spark.ring,
        policy=ColumnPolicy(spark.azure.key(), {spark.azure.key("pii"): "name"}),
        partition_cols=["id"],
        interop="spark",
        material="external",
    )
    assert spark.read(spark.folder / "people", "id", "name") == ROWS


@pytest.mark.parametrize("material", MATERIALS)
@pytest.mark.parametrize("kind", KINDS)
def test_spark_reads_its_file_after_a_rewrap_here(spark: Spark, kind: str, material: str) -> None:
    path = spark.write("out", ROWS, **keys_of(spark, kind)[0], **store(material))
    pages = path.read_bytes()[:400]
    for name in ("lake", "pii"):
        spark.azure.client().rotate_key(name)
    assert envelope_parquet.rewrap(path, keys=spark.ring).changed
    assert path.read_bytes()[:400] == pages
    disable_old_versions(spark)
    spark.forget()
    assert spark.read(path) == ROWS
    assert envelope_parquet.read_table(path, spark.ring).to_pylist() == PEOPLE.to_pylist()


@pytest.mark.parametrize("written", ["by spark", "here"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_rotation_of_parquet_java_is_read_here(spark: Spark, kind: str, written: str) -> None:
    options, policy = keys_of(spark, kind)
    if written == "by spark":
        path = spark.write("out", ROWS, **options, **store("external"))
    else:
        (spark.folder / "out").mkdir()
        path = spark.folder / "out" / "people.parquet"
        envelope_parquet.write_table(
            PEOPLE, path, keys=spark.ring, policy=policy, interop="spark", material="external"
        )
    for name in ("lake", "pii"):
        spark.azure.client().rotate_key(name)
    rotate_in_java(spark, path.parent)
    disable_old_versions(spark)
    spark.forget()
    assert envelope_parquet.read_table(path, spark.ring).to_pylist() == PEOPLE.to_pylist()
    assert spark.read(path) == ROWS


def test_a_column_that_the_vault_denies_is_denied_in_spark_and_the_others_are_read(
    spark: Spark,
) -> None:
    path = spark.write("out", ROWS, **keys_of(spark, "columns")[0])
    name = f"analyst-{spark.azure.vault.name}"
    analyst = spark.azure.local.principal(name)
    role = "Key Vault Crypto Service Encryption User"
    spark.azure.vault.grant(analyst, role, scope="/keys/lake")
    spark.toolkit.removeCacheEntriesForAllTokens()
    token = token_of(spark, name)
    assert spark.read(path, "id", token=token) == [(1,), (2,)]
    with pytest.raises(Exception, match="KeyAccessDenied") as failure:
        spark.read(path, "name", token=token)
    assert "403 Forbidden" in str(failure.value)
    assert token not in str(failure.value)
    spark.azure.become(name)
    with pytest.raises(AccessDenied):
        envelope_parquet.read_table(path, spark.ring)
    seen = envelope_parquet.read_table(path, spark.ring, denied="null")
    assert seen.to_pydict() == {"id": [1, 2], "name": [None, None]}
    spark.azure.become("developer")


def test_the_address_in_a_file_is_called_by_nobody(spark: Spark) -> None:
    hadoop = {"kms_instance_url": "https://evil.vault.azure.net", "kms_instance_id": "evil"}
    path = spark.write("out", ROWS, **keys_of(spark, "uniform")[0], **hadoop)
    assert b"evil.vault" in path.read_bytes()
    spark.forget()
    assert spark.read(path) == ROWS
    assert envelope_parquet.read_table(path, spark.ring).num_rows == 2
    assert not [host for host in spark.azure.local.connections if "evil" in host]


def test_a_key_that_is_not_configured_is_refused(spark: Spark) -> None:
    other = KeyTable(KeyRing(spark.azure.key()), aliases={"unknown": spark.azure.key()})
    path = spark.folder / "people.parquet"
    envelope_parquet.write_table(
        PEOPLE, path, keys=other, policy=ColumnPolicy("unknown"), interop="spark"
    )
    with pytest.raises(Exception, match="unknown is not configured"):
        spark.read(path)
    spark.configure(other)
    with pytest.raises(Exception, match="unknown is not configured"):
        spark.read(path)  # parquet-java keeps the client with what it knew: docs/upstream.md
    spark.forget()
    assert spark.read(path) == ROWS


def test_aliases_are_the_same_names_on_both_sides(spark: Spark) -> None:
    table = KeyTable(spark.ring, aliases={"people.pii": spark.azure.key("pii")})
    spark.configure(table)
    path = spark.write("out", ROWS, uniform_key="people.pii")
    assert envelope_parquet.read_table(path, table).to_pylist() == PEOPLE.to_pylist()


def disable_old_versions(spark: Spark) -> None:
    """From now on, only what is under the newest versions opens."""
    client = spark.azure.client()
    for name in ("lake", "pii"):
        newest = client.get_key(name).properties.version
        for each in client.list_properties_of_key_versions(name):
            if each.version != newest:
                client.update_key_properties(name, each.version, enabled=False)


def rotate_in_java(spark: Spark, folder: Path) -> None:
    """As an administrator of a lake of Spark does it, in a JVM that has not written for a while.

    In one that has, KEKs under the old version would be used again: docs/upstream.md.
    """
    spark.toolkit.removeCacheEntriesForAllTokens()
    configuration = spark.spark.sparkContext._jsc.hadoopConfiguration()
    configuration.set("parquet.encryption.key.material.store.internally", "false")
    try:
        spark.toolkit.rotateMasterKeys(str(folder), configuration)
    finally:
        configuration.unset("parquet.encryption.key.material.store.internally")


def token_of(spark: Spark, principal: str) -> str:
    """A token that somebody else got, as a program passes it to Spark."""
    from azure.identity import ClientSecretCredential

    environment: dict[str, Any] = spark.azure.local.environment(principal)
    credential = ClientSecretCredential(
        environment["AZURE_TENANT_ID"],
        environment["AZURE_CLIENT_ID"],
        environment["AZURE_CLIENT_SECRET"],
    )
    return str(credential.get_token("https://vault.azure.net/.default").token)
