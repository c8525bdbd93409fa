"""Key material as parquet-java's clients write and read it, under keys of a vault."""

from __future__ import annotations

import json
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

import envelope_parquet
from envelope.cli.app import run
from envelope.errors import (
    AccessDenied,
    AlreadyExists,
    ConfigurationError,
    ContextMismatch,
    KeyDisabled,
    KeyMismatch,
    OriginNotProven,
    UntrustedKey,
)
from envelope.ring import KeyRing
from envelope.secret import Secret
from envelope_parquet import ColumnPolicy, KeyTable, footer, vaultkeys
from tests.azure.conftest import Azure

PEOPLE = pa.table({"id": [1, 2], "name": ["Ada", "Grace"]})


@pytest.fixture
def lake(azure: Azure) -> Azure:
    for name in ("lake", "pii"):
        azure.client().create_rsa_key(name, size=2048)
    return azure


def ring_of(azure: Azure) -> KeyRing:
    return KeyRing([azure.key(), azure.key("pii")])


def policy_of(azure: Azure, **options: Any) -> ColumnPolicy:
    return ColumnPolicy(azure.key(), {azure.key("pii"): "name"}, **options)


def write(azure: Azure, path: Path, **options: Any) -> Path:
    envelope_parquet.write_table(
        PEOPLE, path, keys=ring_of(azure), policy=policy_of(azure), interop="spark", **options
    )
    return path


def material_of(path: Path) -> dict[str, Any]:
    """The key material of the footer."""
    data = path.read_bytes()
    end = footer.read(len(data), lambda offset, count: data[offset : offset + count])
    assert end.key_metadata is not None
    return dict(json.loads(end.key_metadata))


@pytest.mark.parametrize("plaintext_footer", [False, True])
def test_what_is_written_for_spark_is_read_here(
    lake: Azure, tmp_path: Path, plaintext_footer: bool
) -> None:
    path = tmp_path / "people.parquet"
    policy = policy_of(lake, plaintext_footer=plaintext_footer)
    envelope_parquet.write_table(PEOPLE, path, keys=ring_of(lake), policy=policy, interop="spark")
    assert envelope_parquet.read_table(path, ring_of(lake)).equals(PEOPLE)
    assert envelope_parquet.verify(path, keys=ring_of(lake)).plain == (
        ("id",) if plaintext_footer else ()
    )
    found = envelope_parquet.access(path, ring_of(lake))
    assert [column.opens for column in (found.footer, *found.columns)] == [True] * 3


def test_the_key_material_is_standard_and_says_the_version(lake: Azure, tmp_path: Path) -> None:
    footer = material_of(write(lake, tmp_path / "people.parquet"))
    version = lake.client().get_key("lake").properties.version
    assert footer["keyMaterialType"] == "PKMT1"
    assert footer["doubleWrapping"] is True
    assert footer["kmsInstanceURL"] == "DEFAULT"
    assert footer["masterKeyID"] == f"azurekeyvault-{lake.vault.name}-lake"
    assert footer["wrappedKEK"].startswith(f"RSA-OAEP-256.{version}.")


def test_ten_files_cost_a_call_a_key_to_write_and_to_read(lake: Azure, tmp_path: Path) -> None:
    before = len(lake.operations())
    paths = [write(lake, tmp_path / f"{i}.parquet") for i in range(10)]
    assert sorted(lake.operations()[before:]) == ["get_key", "get_key"]  # the public halves wrap
    ring = KeyRing(decrypt_with=f"azurekeyvault://{lake.host}/*")
    before = len(lake.operations())
    for path in paths:
        assert envelope_parquet.read_table(path, ring).equals(PEOPLE)
    assert lake.operations()[before:] == ["unwrapkey", "unwrapkey"]
    footers = [material_of(path) for path in paths]
    assert len({each["wrappedKEK"] for each in footers}) == 1
    assert len({each["wrappedDEK"] for each in footers}) == 10


def test_revoke_forgets_keks_for_reading_and_for_writing(lake: Azure, tmp_path: Path) -> None:
    ring = ring_of(lake)
    one = write(lake, tmp_path / "one.parquet")
    assert envelope_parquet.read_table(one, ring).equals(PEOPLE)
    lake.client().update_key_properties("pii", enabled=False)
    assert envelope_parquet.read_table(one, ring).equals(PEOPLE)
    envelope_parquet.revoke(ring)
    assert envelope_parquet.access(one, ring).denied == ("name",)
    lake.client().update_key_properties("pii", enabled=True)
    other = write(lake, tmp_path / "other.parquet")
    assert material_of(one)["wrappedKEK"] != material_of(other)["wrappedKEK"]


def test_the_vault_denies_an_analyst_the_column(lake: Azure, tmp_path: Path) -> None:
    path = write(lake, tmp_path / "people.parquet")
    analyst = lake.become(f"analyst-{lake.vault.name}")
    lake.vault.grant(analyst, "Key Vault Crypto Service Encryption User", scope="/keys/lake")
    ring = KeyRing(decrypt_with=[lake.key(), lake.key("pii")])
    assert envelope_parquet.access(path, ring).denied == ("name",)
    with pytest.raises(AccessDenied):
        envelope_parquet.read_table(path, ring)
    assert envelope_parquet.read_table(path, ring, denied="drop").column_names == ["id"]
    lake.become("developer")


def test_a_file_calls_no_key_that_is_not_trusted(lake: Azure, tmp_path: Path) -> None:
    path = write(lake, tmp_path / "people.parquet")
    before = len(lake.operations())
    for ring in (
        KeyRing(lake.key("pii")),
        KeyRing(f"{lake.key()}/{'0' * 32}"),  # a version that is not the file's
        KeyTable(KeyRing(lake.key("pii")), aliases={"lake": lake.key()}),
    ):
        with pytest.raises(UntrustedKey):
            envelope_parquet.read_table(path, ring)
    assert lake.operations()[before:] == []


def test_rings_that_ask_for_more_than_the_material_has_refuse_it(
    lake: Azure, tmp_path: Path
) -> None:
    path = write(lake, tmp_path / "people.parquet")
    signed = KeyRing(decrypt_with=lake.key(), require_signed=lake.key("signer"))
    with pytest.raises(OriginNotProven):
        envelope_parquet.read_table(path, signed)
    with pytest.raises(ContextMismatch):
        envelope_parquet.read_table(path, KeyRing(lake.key(), required_context=["tenant"]))
    with pytest.raises(ContextMismatch):
        envelope_parquet.read_table(path, ring_of(lake), context={"tenant": "a"})
    with pytest.raises(ContextMismatch):
        envelope_parquet.read_table(path, ring_of(lake), root=tmp_path)


def test_a_wrapped_key_of_another_algorithm_is_no_question_to_the_vault(
    lake: Azure, tmp_path: Path
) -> None:
    path = write(lake, tmp_path / "people.parquet", material="external")
    beside = tmp_path / "_KEY_MATERIAL_FOR_people.parquet.json"
    beside.write_text(beside.read_text().replace("RSA-OAEP-256.", "RSA1-5."))
    with pytest.raises(KeyMismatch):
        envelope_parquet.read_table(path, ring_of(lake))
    assert "unwrapkey" not in lake.operations()


@pytest.mark.parametrize(
    ("keys", "options", "said"),
    [
        ("local:lake", {}, "cannot be used from Spark"),
        (None, {"context": {"tenant": "a"}}, "no place for a context"),
        (None, {"interop": "trino"}, "interop is"),
        (None, {"material": "beside"}, "material is"),
        (None, {"interop": None, "material": "external"}, "for Spark"),
    ],
)
def test_what_spark_could_not_read_is_refused_before_a_byte_is_written(
    lake: Azure, tmp_path: Path, keys: str | None, options: dict[str, Any], said: str
) -> None:
    path = tmp_path / "people.parquet"
    policy = ColumnPolicy(keys or lake.key())
    with pytest.raises(ConfigurationError, match=said):
        envelope_parquet.write_table(
            PEOPLE, path, keys=keys or lake.key(), policy=policy, **{"interop": "spark", **options}
        )
    assert list(tmp_path.iterdir()) == []


def test_an_alias_of_two_keys_is_refused_for_spark(lake: Azure, tmp_path: Path) -> None:
    table = KeyTable(ring_of(lake), aliases={"both": [lake.key(), lake.key("pii")]})
    with pytest.raises(ConfigurationError, match="under one key"):
        envelope_parquet.write_table(
            PEOPLE, tmp_path / "x", keys=table, policy=ColumnPolicy("both"), interop="spark"
        )


def test_external_key_material_is_published_before_the_file_and_replaces_nothing(
    lake: Azure, tmp_path: Path
) -> None:
    path = write(lake, tmp_path / "people.parquet", material="external")
    beside = tmp_path / "_KEY_MATERIAL_FOR_people.parquet.json"
    assert sorted(tmp_path.iterdir()) == [beside, path]
    assert material_of(path) == {
        "internalStorage": False,
        "keyMaterialType": "PKMT1",
        "keyReference": "footerKey",
    }
    assert envelope_parquet.read_table(path, ring_of(lake)).equals(PEOPLE)
    texts = beside.read_text()
    with pytest.raises(AlreadyExists):
        write(lake, path, material="external")
    path.unlink()
    with pytest.raises(AlreadyExists):
        write(lake, path, material="external")
    assert list(tmp_path.iterdir()) == [beside]
    assert beside.read_text() == texts


def test_a_writer_that_fails_leaves_no_key_material(lake: Azure, tmp_path: Path) -> None:
    with (
        pytest.raises(ZeroDivisionError),
        envelope_parquet.ParquetWriter(
            tmp_path / "people.parquet",
            PEOPLE.schema,
            keys=ring_of(lake),
            policy=policy_of(lake),
            interop="spark",
            material="external",
        ),
    ):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_datasets_pandas_and_pyarrow_write_it_as_well(lake: Azure, tmp_path: Path) -> None:
    ring, policy = ring_of(lake), policy_of(lake)
    envelope_parquet.write_dataset(
        PEOPLE,
        tmp_path / "ours",
        keys=ring,
        policy=ColumnPolicy(lake.key()),
        partition_cols=["id"],
        interop="spark",
        material="external",
    )
    assert len(envelope_parquet.read_table(tmp_path / "ours", ring)) == 2
    PEOPLE.to_pandas().to_parquet(
        tmp_path / "pandas.parquet",
        **envelope_parquet.pandas_kwargs(ring, policy, schema=PEOPLE, interop="spark"),
    )
    config = envelope_parquet.dataset_encryption(ring, policy, PEOPLE.schema, interop="spark")
    parquet = ds.ParquetFileFormat()
    ds.write_dataset(
        PEOPLE,
        tmp_path / "theirs",
        format=parquet,
        file_options=parquet.make_write_options(encryption_config=config),
    )
    for path in (tmp_path / "pandas.parquet", *(tmp_path / "theirs").iterdir()):
        assert material_of(path)["doubleWrapping"] is True
        assert envelope_parquet.read_table(path, ring)["name"].to_pylist() == ["Ada", "Grace"]


@pytest.mark.parametrize("material", ["internal", "external"])
def test_rewrap_moves_it_to_a_new_version_and_keeps_its_form(
    lake: Azure, tmp_path: Path, material: str
) -> None:
    ring = ring_of(lake)
    paths = [write(lake, tmp_path / f"{i}.parquet", material=material) for i in range(3)]
    assert not envelope_parquet.rewrap(paths[0], keys=ring).changed
    newest = lake.client().rotate_key("pii").properties.version
    lake.restart()
    before = len(lake.operations())
    for path in paths:
        result = envelope_parquet.rewrap(path, keys=ring)
        assert result.changed
        (pii,) = (key for key in result.keys if key.parts == ("name",))
        assert pii.refreshed == (f"https://{lake.host}/keys/pii/{newest}",)
        assert pii.proven
    # The KEK is opened once under the old version and once under the new one, for all files.
    assert lake.operations()[before:].count("unwrapkey") == 3
    lake.restart()
    before = len(lake.operations())
    for path in paths:
        assert envelope_parquet.read_table(path, ring).equals(PEOPLE)
    assert lake.operations()[before:].count("unwrapkey") == 2


def test_rewrap_to_another_key_of_the_vault_and_to_one_that_spark_has_not(
    lake: Azure, tmp_path: Path
) -> None:
    path = write(lake, tmp_path / "people.parquet")
    lake.client().create_rsa_key("pii2", size=2048)
    ring = KeyRing([lake.key(), lake.key("pii"), lake.key("pii2")])
    envelope_parquet.rewrap(path, {lake.key("pii"): lake.key("pii2")}, keys=ring)
    only = KeyRing([lake.key(), lake.key("pii2")])
    assert envelope_parquet.read_table(path, only).equals(PEOPLE)
    column = envelope_parquet.inspect(path, prove=True, keys=only).columns
    assert column is not None
    assert column[1].key is not None
    assert column[1].key.kind == "pkmt1-double"
    table = KeyTable(only, aliases={"both": [lake.key("pii2"), lake.key()]})
    envelope_parquet.rewrap(path, {f"azurekeyvault-{lake.vault.name}-pii2": "both"}, keys=table)
    assert envelope_parquet.read_table(path, table).equals(PEOPLE)
    column = envelope_parquet.inspect(path, prove=True, keys=table).columns
    assert column is not None
    assert column[1].key is not None
    assert column[1].key.kind == "envelope"


def test_hadoop_properties_name_the_keys_and_no_secret(lake: Azure) -> None:
    table = KeyTable(
        KeyRing([lake.key(), "local:other"]),
        aliases={"pii": lake.key("pii"), "both": [lake.key(), lake.key("pii")]},
    )
    found = envelope_parquet.hadoop_properties(table)
    named = {name: value for name, value in found.items() if name.startswith("envelope.")}
    assert named == {
        f"envelope.keys.azurekeyvault-{lake.vault.name}-lake": f"https://{lake.host}/keys/lake",
        "envelope.keys.pii": f"https://{lake.host}/keys/pii",
    }
    with pytest.raises(ConfigurationError):
        envelope_parquet.hadoop_properties("local:other")


@pytest.mark.parametrize("material", ["internal", "external"])
def test_who_calls_pyarrow_or_another_program_reads_it_as_well(
    lake: Azure, tmp_path: Path, material: str
) -> None:
    path = write(lake, tmp_path / "people.parquet", material=material)
    properties = envelope_parquet.decryption_properties(path, ring_of(lake))
    with pq.ParquetFile(path, decryption_properties=properties) as file:
        assert file.read().equals(PEOPLE)
    keys = envelope_parquet.data_keys(path, ring_of(lake))
    assert {name: len(key) for name, key in keys.items()} == {"": 32, "id": 32, "name": 32}
    version = lake.client().get_key("lake").properties.version
    assert envelope_parquet.inspect(path).footer.recipients == ((version, "RSA-OAEP-256"),)


def test_symmetric_keys_of_a_managed_hsm(lake: Azure, tmp_path: Path) -> None:
    hsm = lake.local.vault(f"hsm-{lake.vault.name}", suffix="managedhsm.azure.net")
    lake.client(hsm.host).create_oct_key("lake", size=256, hardware_protected=True)
    key, path = f"azurekeyvault://{hsm.host}/lake", tmp_path / "people.parquet"
    policy = ColumnPolicy(key)
    envelope_parquet.write_table(PEOPLE, path, keys=key, policy=policy, interop="spark")
    assert material_of(path)["wrappedKEK"].startswith("A256KW.")
    assert envelope_parquet.read_table(path, key).equals(PEOPLE)


def test_threads_share_keks_and_calls(lake: Azure, tmp_path: Path) -> None:
    before = len(lake.operations())
    with ThreadPoolExecutor(8) as pool:
        paths = list(pool.map(lambda i: write(lake, tmp_path / f"{i}.parquet"), range(16)))
    assert sorted(lake.operations()[before:]) == ["get_key", "get_key"]
    ring = ring_of(lake)
    before = len(lake.operations())
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda p: envelope_parquet.read_table(p, ring).equals(PEOPLE), paths))
    assert lake.operations()[before:] == ["unwrapkey", "unwrapkey"]


def test_no_error_of_a_write_shows_a_kek(
    lake: Azure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Secret] = []  # which no traceback shows
    wrap = vaultkeys.wrap

    def watched(ring: KeyRing, key: Secret) -> str:
        made.append(key)
        return wrap(ring, key)

    monkeypatch.setattr(vaultkeys, "wrap", watched)
    lake.client().update_key_properties("pii", enabled=False)
    with pytest.raises(KeyDisabled) as failure:
        write(lake, tmp_path / "people.parquet")
    shown = "".join(
        traceback.TracebackException.from_exception(failure.value, capture_locals=True).format()
    )
    assert made
    assert list(tmp_path.iterdir()) == []
    for key in made:
        assert repr(key.reveal()) not in shown
        assert key.reveal().hex() not in shown


def test_a_plain_file_becomes_one_for_spark_and_one_for_spark_gets_fresh_keys(
    lake: Azure, tmp_path: Path
) -> None:
    plain, path = tmp_path / "plain.parquet", tmp_path / "people.parquet"
    pq.write_table(PEOPLE, plain)
    ring, policy = ring_of(lake), policy_of(lake)
    envelope_parquet.encrypt(plain, path, policy=policy, keys=ring, interop="spark")
    before = material_of(path)
    envelope_parquet.reencrypt(path, policy=policy, keys=ring, interop="spark")
    after = material_of(path)
    assert after["doubleWrapping"] is before["doubleWrapping"] is True
    assert after["wrappedDEK"] != before["wrappedDEK"]
    envelope_parquet.decrypt(path, plain, keys=ring)
    assert pq.read_table(plain).equals(PEOPLE)
    envelope_parquet.reencrypt(path, policy=policy, keys=ring)
    assert envelope_parquet.inspect(path).footer.kind == "envelope"
    assert envelope_parquet.read_table(path, ring).equals(PEOPLE)


def test_the_command_line_writes_for_spark_and_rewraps_it(lake: Azure, tmp_path: Path) -> None:
    plain, path = tmp_path / "plain.parquet", tmp_path / "people.parquet"
    pq.write_table(PEOPLE, plain)
    columns = ["--footer", lake.key(), "--column", f"name={lake.key('pii')}"]
    keys = ["--key", lake.key(), "--key", lake.key("pii")]
    command = ["parquet", "encrypt", str(plain), "--out", str(path), *keys, "--interop", "spark"]
    command += columns
    assert run([*command, "--external", "--dry-run"]) == 0
    assert run([*command, "--external"]) == 0
    assert (tmp_path / "_KEY_MATERIAL_FOR_people.parquet.json").exists()
    assert envelope_parquet.read_table(path, ring_of(lake)).equals(PEOPLE)
    lake.client().rotate_key("pii")
    assert run(["parquet", "rewrap", str(path), *keys]) == 0
    assert envelope_parquet.read_table(path, ring_of(lake)).equals(PEOPLE)
    local = ["parquet", "encrypt", str(plain), "--out", str(tmp_path / "x"), "--interop", "spark"]
    assert run([*local, "--key", "local:lake", "--footer", "local:lake", "--dry-run"]) == 2
