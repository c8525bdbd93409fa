"""Column keys under a vault: the vault denies, and is asked once a key."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

import envelope_parquet
from envelope.errors import AccessDenied, KeyDisabled
from envelope.ring import KeyRing
from envelope_parquet import ColumnPolicy
from tests.azure.conftest import Azure

PEOPLE = pa.table({"id": [1, 2], "name": ["Ada", "Grace"]})


def people(azure: Azure, folder: Path, count: int) -> list[Path]:
    for name in ("lake", "pii"):
        azure.client().create_rsa_key(name, size=2048)
    policy = ColumnPolicy(azure.key(), {azure.key("pii"): "name"})
    paths = [folder / f"{i}.parquet" for i in range(count)]
    for path in paths:
        envelope_parquet.write_table(PEOPLE, path, keys=azure.key(), policy=policy)
    return paths


def test_the_vault_denies_an_analyst_the_column_and_nothing_else(
    azure: Azure, tmp_path: Path
) -> None:
    (path,) = people(azure, tmp_path, 1)
    analyst = azure.become(f"analyst-{azure.vault.name}")
    role = "Key Vault Crypto Service Encryption User"
    azure.vault.grant(analyst, role, scope="/keys/lake")
    # To name the key helps nobody whom the vault does not know.
    ring = KeyRing(decrypt_with=[azure.key(), azure.key("pii")])
    assert envelope_parquet.access(path, ring).denied == ("name",)
    with pytest.raises(AccessDenied):
        envelope_parquet.read_table(path, ring)
    seen = envelope_parquet.read_table(path, ring, denied="null")
    assert seen.to_pydict() == {"id": [1, 2], "name": [None, None]}
    azure.become("developer")
    assert envelope_parquet.read_table(path, ring).equals(PEOPLE)


def test_the_vault_is_asked_once_a_key_and_not_once_a_file(azure: Azure, tmp_path: Path) -> None:
    before = len(azure.operations())
    paths = people(azure, tmp_path, 12)
    created = ["create_key", "create_key"]
    written = [name for name in azure.operations()[before:] if name not in created]
    assert sorted(written) == ["get_key", "get_key"]  # the public halves wrap
    before = len(azure.operations())
    ring = KeyRing(decrypt_with=f"azurekeyvault://{azure.host}/*")
    for path in paths:
        assert envelope_parquet.read_table(path, ring).equals(PEOPLE)
    assert azure.operations()[before:] == ["unwrapkey", "unwrapkey"]


def test_a_disabled_version_is_refused_after_revoke(azure: Azure, tmp_path: Path) -> None:
    (path,) = people(azure, tmp_path, 1)
    ring = KeyRing([azure.key(), azure.key("pii")])
    assert envelope_parquet.read_table(path, ring).equals(PEOPLE)
    azure.client().update_key_properties("pii", enabled=False)
    assert envelope_parquet.read_table(path, ring).equals(PEOPLE)
    envelope_parquet.revoke(ring)
    with pytest.raises(KeyDisabled):
        envelope_parquet.read_table(path, ring)
