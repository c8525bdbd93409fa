"""The fixture ``keyvault``, in every test suite that has this package installed.

Nothing is imported before a test asks for it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .keyvault import LocalKeyVault

__all__ = ["keyvault"]


@pytest.fixture
def keyvault(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalKeyVault]:
    """A local Key Vault of this test's own, which the process's environment leads to.

    It is empty; ``keyvault.vault("acme")`` makes a vault. ``DefaultAzureCredential()`` is its
    principal ``developer``, who may do everything in vaults made so.
    """
    from .keyvault import VARIABLES, LocalKeyVault

    with LocalKeyVault() as local:
        given = local.environment()
        for name in VARIABLES:
            if name in given:
                monkeypatch.setenv(name, given[name])
            else:
                monkeypatch.delenv(name, raising=False)
        _forget_challenges()
        try:
            yield local
        finally:
            _forget_challenges()


def _forget_challenges() -> None:
    """Clear what the SDKs keep for the process: which tenant each vault told them to ask.

    A test that moves a vault to another tenant would otherwise be remembered by the next test that
    has a vault of that name.
    """
    for name, module in list(sys.modules.items()):
        if name.startswith("azure.keyvault.") and name.endswith("._shared.http_challenge_cache"):
            module.clear()
