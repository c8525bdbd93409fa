"""What opening a file takes of the driver, and that managing keys is there all the same."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import envelope
from envelope_azure.driver import AZURE
from tests.azure.conftest import Azure

OF_MANAGING = {
    f"envelope_azure.{name}"
    for name in ("admin", "importing", "keyinfo", "material", "rotating", "rotation", "transfer")
}
OF_SIGNING = {"envelope_azure.signing", "envelope.signers", "envelope.jws"}
OPENS = """
import sys, envelope
with envelope.open(sys.argv[1], keys=sys.argv[2]) as file:
    assert file.read() == b"data"
print(*sys.modules)
"""


def test_opening_a_file_loads_neither_the_management_of_keys_nor_signing(
    azure: Azure, tmp_path: Path
) -> None:
    azure.client().create_rsa_key("lake", size=2048)
    path = tmp_path / "f.env1"
    path.write_bytes(envelope.encrypt(b"data", keys=azure.key()))
    done = subprocess.run(
        [sys.executable, "-c", OPENS, str(path), azure.key()],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    loaded = set(done.stdout.split())
    assert "envelope_azure.driver" in loaded
    assert not loaded & (OF_MANAGING | OF_SIGNING)


def test_whoever_manages_keys_shares_the_resolvers_connections(azure: Azure) -> None:
    resolver = AZURE.resolver(AZURE.settings({}))
    made = resolver.create(azure.key(), bits=2048)
    assert resolver._admin().vault(azure.host) is resolver.vault(azure.host)
    assert [info.kid for info in resolver.list_keys(azure.key())] == [made.kid]
    assert sys.modules.keys() >= OF_MANAGING
