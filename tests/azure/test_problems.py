"""Each way in which a vault, a credential or a network says no: its error and its next step."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Any

import pytest
import requests

from envelope import caller
from envelope.errors import (
    AccessDenied,
    ConfigurationError,
    EnvelopeError,
    KeyDisabled,
    KeyExpired,
    KeyNotFound,
    KeyNotYetValid,
    KeyOperationForbidden,
    VaultUnavailable,
)
from envelope.keys import WrappedKey
from envelope.ring import KeyRing
from envelope.secret import Secret
from envelope.testing.conformance import spelled, told
from envelope_azure import problems
from envelope_azure.driver import AZURE
from tests.azure.conftest import Azure

pytestmark = pytest.mark.slow

AAD = bytes(32)
SECRET = Secret(b"canary-kek-canary-kek-canary-kek")


def unwrapped(azure: Azure, kid: str, **options: Any) -> Secret:
    """An unwrap by a process that has not asked this vault before."""
    azure.restart()
    resolver = AZURE.resolver(AZURE.settings(options))
    wrapped = WrappedKey(kid, "RSA-OAEP-256", bytes(255) + b"\1")
    with caller.deadline(5):
        return resolver.resolve(kid).unwrap(wrapped, aad=AAD)


def refused(azure: Azure, kind: type[EnvelopeError], kid: str, **options: Any) -> EnvelopeError:
    with pytest.raises(kind) as caught:
        unwrapped(azure, kid, **options)
    assert caught.value.kid == kid
    assert caught.value.operation
    return caught.value


@pytest.fixture
def kid(azure: Azure) -> str:
    return str(azure.client().create_rsa_key("lake", size=2048).id)


FAULTS: list[tuple[str, dict[str, Any], type[EnvelopeError], str, str]] = [
    ("rbac", {"status": 403, "code": "ForbiddenByRbac"}, AccessDenied, "no role", "Crypto Service"),
    ("policy", {"status": 403, "code": "ForbiddenByPolicy"}, AccessDenied, "unwrapKey", "1,024"),
    (
        "firewall",
        {
            "status": 403,
            "code": "ForbiddenByFirewall",
            "message": "Client address is not authorized.\r\nClient address: 203.0.113.9",
        },
        AccessDenied,
        "(203.0.113.9)",
        "network rules",
    ),
    (
        "private link",
        {"status": 403, "code": "ForbiddenByConnection"},
        AccessDenied,
        "private link",
        "DNS",
    ),
    ("disabled", {"status": 403, "code": "KeyDisabled"}, KeyDisabled, "disabled", "enable"),
    ("expired", {"status": 403, "code": "KeyExpired"}, KeyExpired, "past", "end date"),
    ("too early", {"status": 403, "code": "KeyNotYetValid"}, KeyNotYetValid, "start", "start date"),
    (
        "operation",
        {"status": 403, "code": "KeyOperationForbidden"},
        KeyOperationForbidden,
        "not for that",
        "another|allows",
    ),
    ("throttled", {"status": 429}, VaultUnavailable, "throttling", "Try again"),
    ("500", {"status": 500}, VaultUnavailable, "answered 500", "Try again"),
    ("502", {"status": 502}, VaultUnavailable, "answered 502", "Try again"),
    ("503", {"status": 503}, VaultUnavailable, "answered 503", "Try again"),
    ("408", {"status": 408}, VaultUnavailable, "answered 408", "Try again"),
    # On a busy machine the end of a connection may come later than the deadline.
    ("dropped", {"drop": True}, VaultUnavailable, "connection to|no answer of", "Try again"),
]


@pytest.mark.parametrize(
    ("fault", "kind", "message", "step"),
    [pytest.param(*row[1:], id=row[0]) for row in FAULTS],
)
def test_what_the_vault_says_becomes_a_typed_error(
    azure: Azure,
    kid: str,
    fault: dict[str, Any],
    kind: type[EnvelopeError],
    message: str,
    step: str,
) -> None:
    azure.local.world.faults.add(host=azure.host, operation="unwrapkey", times=None, **fault)
    error = refused(azure, kind, kid)
    assert any(part in str(error) for part in message.split("|"))
    assert any(part in error.next_step for part in step.split("|"))


def test_a_role_is_named_with_the_caller(azure: Azure, kid: str) -> None:
    developer = azure.local.world.principal("developer")
    azure.vault.revoke(developer)
    error = refused(azure, AccessDenied, kid)
    assert error.provider_code == "ForbiddenByRbac"
    assert developer.client_id in error.message
    assert error.request_id


@pytest.mark.parametrize(
    ("scheme", "operation", "suffix", "role"),
    [
        ("", "resolve", "vault", "Key Vault Reader"),
        ("", "unwrap", "vault", "Key Vault Crypto Service Encryption User"),
        ("", "sign", "vault", "Key Vault Crypto User"),
        ("", "rotate", "vault", "Key Vault Crypto Officer"),
        ("-secret", "resolve", "vault", "Key Vault Secrets User"),
        ("-certificate", "import", "vault", "Key Vault Certificates Officer"),
        ("", "resolve", "managedhsm", "Managed HSM Crypto Auditor"),
        ("", "unwrap", "managedhsm", "Managed HSM Crypto Service Encryption User"),
        ("", "sign", "managedhsm", "Managed HSM Crypto User"),
        ("", "purge", "managedhsm", "Managed HSM Crypto Officer"),
    ],
)
def test_the_role_is_one_of_that_kind_of_vault(
    scheme: str, operation: str, suffix: str, role: str
) -> None:
    body = {"error": {"code": "Forbidden", "innererror": {"code": "ForbiddenByRbac"}}}
    kid = f"azurekeyvault{scheme}://acme.{suffix}.azure.net/lake"
    error = problems.from_answer(
        403, {}, body, kid=kid, operation=operation, hsm=suffix == "managedhsm"
    )
    assert isinstance(error, AccessDenied)
    assert f"Ask for {role}" in error.next_step


def test_who_may_not_look_at_a_managed_hsms_key_is_told_a_role_of_managed_hsms(
    azure: Azure,
) -> None:
    hsm = azure.local.vault(f"{azure.host.partition('.')[0]}-hsm", suffix="managedhsm.azure.net")
    azure.client(hsm.host).create_oct_key("lake", size=256, hardware_protected=True)
    azure.become("nobody")
    with caller.deadline(5), pytest.raises(AccessDenied) as caught:
        AZURE.resolver(AZURE.settings({})).resolve(f"azurekeyvault://{hsm.host}/lake")
    assert "Managed HSM Crypto Auditor" in caught.value.next_step
    assert "Key Vault" not in caught.value.next_step


def test_an_access_policy_names_the_permission(azure: Azure, kid: str) -> None:
    azure.vault.rbac = False
    azure.vault.set_policy(azure.local.world.principal("developer"), keys=["get", "wrapKey"])
    error = refused(azure, AccessDenied, kid)
    assert (error.provider_code, "unwrapKey" in error.message) == ("ForbiddenByPolicy", True)


def test_the_firewall_names_the_address_that_it_saw(azure: Azure, kid: str) -> None:
    azure.vault.network.allow_only("198.51.100.0/24")
    assert "203.0.113.7" in refused(azure, AccessDenied, kid).message


def test_a_private_vault_says_so(azure: Azure, kid: str) -> None:
    azure.vault.network.private_only()
    assert "private link only" in refused(azure, AccessDenied, kid).message


def test_a_missing_version_is_not_found(azure: Azure, kid: str) -> None:
    refused(azure, KeyNotFound, kid[:-1] + ("0" if kid[-1] != "0" else "1"))


def test_throttling_says_how_long(azure: Azure, kid: str) -> None:
    azure.local.world.faults.add(host=azure.host, operation="unwrapkey", status=429, retry_after=7)
    error = refused(azure, VaultUnavailable, kid)
    assert getattr(error, "retry_after", None) == 7
    assert error.retryable


def test_a_vault_that_hangs_takes_no_longer_than_the_deadline(azure: Azure, kid: str) -> None:
    azure.local.world.faults.add(host=azure.host, operation="unwrapkey", times=None, hang=60)
    resolver = AZURE.resolver(AZURE.settings({}))
    wrapped = WrappedKey(kid, "RSA-OAEP-256", bytes(255) + b"\1")
    started = time.perf_counter()
    with caller.deadline(0.5), pytest.raises(VaultUnavailable, match="in time"):
        resolver.resolve(kid).unwrap(wrapped, aad=AAD)
    assert time.perf_counter() - started < 30


def test_a_vault_that_is_not_there_does_not_resolve(azure: Azure) -> None:
    missing = "https://no-such-vault.vault.azure.net/keys/lake/" + "0" * 32
    error = refused(azure, VaultUnavailable, missing)
    assert "no-such-vault" in error.message
    assert "vault's name" in error.next_step


def test_a_host_that_refuses_connections_says_so(
    azure: Azure, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        host = f"127.0.0.1:{taken.getsockname()[1]}"
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    kid = f"https://{host}/keys/lake/" + "0" * 32
    error = refused(azure, VaultUnavailable, kid, private_hosts={host: "vault.azure.net"})
    assert (error.provider_code, error.retryable) == ("Refused", True)
    assert host in error.message


def test_a_token_for_another_resource_is_told(azure: Azure, kid: str) -> None:
    azure.local.world.faults.add(
        host=azure.host, operation="unwrapkey", times=None, status=401,
        code="Unauthorized", message="AKV10022: Invalid audience.",
    )  # fmt: skip
    assert "for another resource" in refused(azure, AccessDenied, kid).message


def test_the_name_of_a_deleted_key_is_taken_and_how_it_comes_back_is_said(
    azure: Azure, kid: str
) -> None:
    azure.client().begin_delete_key("lake").wait()
    with pytest.raises(KeyDisabled) as caught:
        AZURE.resolver(AZURE.settings({})).create(azure.key())
    assert caught.value.provider_code == "ObjectIsDeletedButRecoverable"
    assert "keys recover" in caught.value.next_step


def test_a_certificate_that_nobody_vouches_for_is_not_taken(
    azure: Azure, kid: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    error = refused(azure, ConfigurationError, kid, credential="environment")
    assert "ca_file" in error.next_step
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", requests.certs.where())
    assert "ca_file" in refused(azure, ConfigurationError, kid, credential="environment").next_step


def test_a_bundle_of_ones_own_is_named_in_the_settings(
    azure: Azure, kid: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # For the vault alone: azure-identity reads the environment, as ever.
    assert refused(azure, EnvelopeError, kid, ca_file=str(azure.local.ca_file)).code == (
        "ENV-KEY-MISMATCH"
    )


def test_a_wrong_client_secret_is_told(
    azure: Azure, kid: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_CLIENT_SECRET", "guessed")
    error = refused(azure, AccessDenied, kid, credential="environment")
    assert error.provider_code == "AADSTS7000215"
    assert "secret is wrong" in error.next_step
    assert "guessed" not in told(error)


def test_no_credential_says_which_were_tried(
    azure: Azure, kid: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AZURE_CLIENT_SECRET")
    error = refused(azure, ConfigurationError, kid, credential="environment")
    assert "no credential" in error.message
    assert "az login" in error.next_step


def test_a_challenge_for_another_resource_gets_no_token(azure: Azure, kid: str) -> None:
    azure.local.world.faults.add(
        host=azure.host, times=None, challenge_resource="https://management.azure.com"
    )
    from azure.keyvault.keys._shared import http_challenge_cache

    http_challenge_cache.clear()
    error = refused(azure, AccessDenied, kid)
    assert error.provider_code == "ChallengeResourceMismatch"


WRONG: list[Callable[[Azure], None]] = [
    lambda azure: azure.vault.revoke(azure.local.world.principal("developer")),
    lambda azure: azure.local.world.faults.add(operation="wrapkey", times=None, drop=True),
    lambda azure: azure.local.world.faults.add(operation="wrapkey", times=None, status=500),
]


@pytest.mark.parametrize("go_wrong", WRONG, ids=["denied", "dropped", "failed"])
def test_no_error_of_a_wrap_shows_the_key(
    azure: Azure, kid: str, go_wrong: Callable[[Azure], None]
) -> None:
    key = AZURE.resolver(AZURE.settings({"wrap": "vault"})).resolve(azure.key())
    go_wrong(azure)
    with pytest.raises(EnvelopeError) as caught:
        key.wrap(SECRET, aad=AAD)
    text = told(caught.value)
    assert not [spelling for spelling in spelled(SECRET) if spelling in text]


def test_an_outage_in_passing_is_ridden_out(azure: Azure, kid: str) -> None:
    ring = KeyRing(azure.key())
    import envelope

    sealed = envelope.encrypt(b"x", keys=ring)
    azure.local.world.faults.add(host=azure.host, operation="unwrapkey", times=2, status=503)
    assert envelope.decrypt(sealed, keys=ring) == b"x"
    assert azure.operations()[-3:] == ["unwrapkey"] * 3
