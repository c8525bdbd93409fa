"""What the tests of the local Key Vault share."""

from __future__ import annotations

import importlib

import pytest

from tests.keyvault.inprocess import Lab


@pytest.fixture(autouse=True)
def _forgotten_challenges() -> None:
    """The SDKs remember for the whole process where each vault's tokens come from."""
    for package in ("keys", "secrets", "certificates"):
        name = f"azure.keyvault.{package}._shared.http_challenge_cache"
        importlib.import_module(name).clear()


@pytest.fixture
def lab() -> Lab:
    """A world of its own for each test, reached without a socket."""
    return Lab()
