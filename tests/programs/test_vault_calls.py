"""A Dask job over 1,000 files in 4 processes: the vault is called once for a KEK and process."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import dask.bag as db
import pytest
from dask.distributed import Client, LocalCluster

import envelope
from envelope_testing.keyvault import LocalKeyVault
from tests.programs.conftest import CANARY

FILES = 1000
PROCESSES = 4


def text(number: int) -> str:
    return f"{CANARY} {number}"


@pytest.mark.slow
def test_a_job_of_a_thousand_files_calls_the_vault_once_for_a_kek_and_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from azure.identity import DefaultAzureCredential
    from azure.keyvault.keys import KeyClient

    monkeypatch.chdir(tmp_path)
    url = f"envelope::file://{tmp_path}/lake/*.txt"
    options: dict[str, Any] = {"keys": "azurekeyvault://acme/lake", "file": {"auto_mkdir": True}}
    with LocalKeyVault() as local:
        local.vault("acme")
        for name, value in local.environment().items():
            monkeypatch.setenv(name, value)
        with KeyClient("https://acme.vault.azure.net", DefaultAzureCredential()) as keys:
            keys.create_rsa_key("lake", size=2048)

        def calls() -> Counter[str]:
            """What was asked since the last time, and answered."""
            found = Counter(call.operation for call in local.world.calls if call.status == 200)
            local.world.calls.clear()
            return found

        calls()
        with (
            LocalCluster(
                n_workers=PROCESSES,
                threads_per_worker=1,
                dashboard_address="127.0.0.1:0",
                local_directory=str(tmp_path / "dask"),
            ) as cluster,
            Client(cluster) as client,
        ):
            numbers = db.from_sequence(range(FILES), npartitions=FILES)
            numbers.map(text).to_textfiles(url, storage_options=options)
            written = calls()
            keks = {envelope.inspect(path).kek_id for path in (tmp_path / "lake").iterdir()}
            client.restart()
            lines = db.read_text(url, storage_options=options)
            assert lines.npartitions == FILES
            assert sorted(lines.map(str.strip).compute()) == sorted(map(text, range(FILES)))
            read = calls()
    assert 0 < len(keks) <= PROCESSES
    assert written["unwrapkey"] == 0
    assert sum(written.values()) <= PROCESSES
    assert 0 < read["unwrapkey"] <= len(keks) * PROCESSES
