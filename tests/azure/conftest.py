"""A local Key Vault that the unmodified SDKs believe, once for the session; fresh vaults in it."""

from __future__ import annotations

import gc
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from envelope import runtime
from envelope_testing.keyvault import LocalKeyVault

_names = itertools.count(1)


@dataclass
class Azure:
    """A vault of one test, and the signed-in developer, who administers it."""

    local: LocalKeyVault
    vault: Any
    patch: pytest.MonkeyPatch

    @property
    def host(self) -> str:
        return str(self.vault.host)

    def key(self, name: str = "lake") -> str:
        return f"azurekeyvault://{self.host}/{name}"

    def client(self, host: str | None = None) -> Any:
        """The vendor's own client, as an administrator would use it."""
        from azure.identity import DefaultAzureCredential
        from azure.keyvault.keys import KeyClient

        return KeyClient(f"https://{host or self.host}", DefaultAzureCredential())

    def become(self, principal: str) -> Any:
        """Sign in as somebody else from now on; returns who that is, without any role."""
        for name, value in self.local.environment(principal).items():
            self.patch.setenv(name, value)
        self.restart()
        return self.local.world.principal(principal)

    def restart(self) -> None:
        """Forget what this process knows of vaults, as a new process would not know it."""
        self.patch.setattr(runtime, "_current", runtime.current().for_child())

    def operations(self) -> list[str]:
        """What was asked of this vault and answered, in order; challenges left out."""
        return [
            call.operation
            for call in self.local.world.calls
            if call.host == self.host and call.status != 401
        ]


@pytest.fixture(scope="session")
def local_key_vault() -> Iterator[LocalKeyVault]:
    with LocalKeyVault() as local:
        yield local


@pytest.fixture
def azure(local_key_vault: LocalKeyVault, monkeypatch: pytest.MonkeyPatch) -> Iterator[Azure]:
    for name, value in local_key_vault.environment().items():
        monkeypatch.setenv(name, value)
    vault = local_key_vault.vault(f"acme-{next(_names)}")
    azure = Azure(local_key_vault, vault, monkeypatch)
    azure.restart()
    yield azure
    azure.restart()
    gc.collect()  # the SDK's clients and credentials are in cycles, and hold connections
    local_key_vault.world.faults.clear()
