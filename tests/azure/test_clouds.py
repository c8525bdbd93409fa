"""Which hosts are vaults, and whose token they may get."""

from __future__ import annotations

import pytest

from envelope import keyurl
from envelope.errors import ConfigurationError
from envelope_azure.clouds import cloud_of


@pytest.mark.parametrize(
    ("key", "resource", "authority", "hsm"),
    [
        (
            "azurekeyvault://acme/lake",
            "https://vault.azure.net",
            "login.microsoftonline.com",
            False,
        ),
        (
            "https://acme.vault.azure.cn/keys/lake",
            "https://vault.azure.cn",
            "login.chinacloudapi.cn",
            False,
        ),
        (
            "azurekeyvault://acme.vault.usgovcloudapi.net/lake",
            "https://vault.usgovcloudapi.net",
            "login.microsoftonline.us",
            False,
        ),
        (
            "azurekeyvault://acme.managedhsm.azure.net/lake",
            "https://managedhsm.azure.net",
            "login.microsoftonline.com",
            True,
        ),
    ],
)
def test_a_vault_is_known_by_its_suffix(key: str, resource: str, authority: str, hsm: bool) -> None:
    cloud = cloud_of(keyurl.parse(key).host, {})
    assert (cloud.resource, cloud.authority, cloud.hsm) == (resource, authority, hsm)
    assert cloud.verify_challenge


@pytest.mark.parametrize(
    "host",
    [
        "vault.azure.net",
        "acme.vault.azure.net.evil.example",
        "acme.evil.vault.azure.net",
        "acme.vault.azure.net:8443",
        "acme-vault.azure.net",
        "10.0.0.1",
        "localhost",
        "169.254.169.254",
    ],
)
def test_another_host_is_no_vault_and_gets_no_token(host: str) -> None:
    with pytest.raises(ConfigurationError, match="not the host name of a vault"):
        cloud_of(host, {})


def test_a_private_name_is_a_vault_of_the_cloud_that_was_named() -> None:
    cloud = cloud_of("kv.corp.example:8443", {"kv.corp.example:8443": "vault.azure.net"})
    assert cloud.resource == "https://vault.azure.net"
    assert not cloud.verify_challenge  # the SDK would compare the names; Guarded refuses instead


def test_a_private_name_in_no_cloud_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="suffix"):
        cloud_of("kv.corp.example", {"kv.corp.example": "evil.example"})
