"""Credentials: for one resource, in time, made once."""

from __future__ import annotations

import copy
import pickle
import threading
import time
from typing import Any

import pytest
from azure.core.credentials import AccessToken, AccessTokenInfo

import envelope
from envelope import caller
from envelope.errors import AccessDenied, ConfigurationError, VaultUnavailable
from envelope.ring import KeyRing
from envelope_azure import process_credential
from envelope_azure.clouds import cloud_of
from envelope_azure.credentials import Guarded, credential_for
from envelope_azure.settings import checked
from tests.azure.conftest import Azure
from tests.forking import holds_in_child

SCOPE = "https://vault.azure.net/.default"
CLOUD = cloud_of("acme.vault.azure.net", {})


class Fixed:
    def __init__(self) -> None:
        self.asked: list[tuple[tuple[str, ...], Any]] = []

    def get_token_info(self, *scopes: str, options: Any = None) -> AccessTokenInfo:
        self.asked.append((scopes, options))
        return AccessTokenInfo("token", 9999999999)


class Old:
    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        return AccessToken(f"{scopes[0]} {options.get('tenant_id')}", 9999999999)


class Slow:
    def __init__(self) -> None:
        self.free = threading.Event()

    def get_token_info(self, *scopes: str, options: Any = None) -> AccessTokenInfo:
        self.free.wait(60)
        raise AssertionError("nobody waits for this")


def test_a_token_is_for_the_vaults_own_resource() -> None:
    fixed = Fixed()
    guarded = Guarded(fixed, CLOUD.resource)
    assert guarded.get_token_info(SCOPE, options={"tenant_id": "t"}).token == "token"
    assert fixed.asked == [((SCOPE,), {"tenant_id": "t"})]


@pytest.mark.parametrize(
    "scopes",
    [("https://management.azure.com/.default",), ("https://graph.microsoft.com/.default",), ()],
)
def test_a_challenge_for_another_resource_gets_no_token(scopes: tuple[str, ...]) -> None:
    fixed = Fixed()
    with pytest.raises(AccessDenied, match="only"):
        Guarded(fixed, CLOUD.resource).get_token_info(*scopes)
    assert fixed.asked == []


def test_a_credential_of_the_older_protocol_works() -> None:
    token = Guarded(Old(), CLOUD.resource).get_token_info(SCOPE, options={"tenant_id": "t"})
    assert token.token == f"{SCOPE} t"


def test_an_end_point_that_does_not_answer_takes_no_longer_than_the_deadline() -> None:
    slow = Slow()
    started = time.perf_counter()
    with caller.deadline(0.2), pytest.raises(VaultUnavailable, match="no token in time"):
        Guarded(slow, CLOUD.resource).get_token_info(SCOPE)
    assert time.perf_counter() - started < 30  # of the 60 that it would have taken
    slow.free.set()


def test_a_credential_object_works_in_its_process_and_is_shared() -> None:
    fixed = Fixed()
    settings = checked(process_credential(fixed))
    assert credential_for(settings, CLOUD) is fixed
    assert "Fixed" not in repr(settings)


def test_a_credential_object_of_another_process_is_explained() -> None:
    settings = checked({"credential": "process:0123456789abcdef"})
    with pytest.raises(ConfigurationError, match="another process"):
        credential_for(settings, CLOUD)


def test_credentials_of_equal_settings_are_one() -> None:
    settings = checked({"credential": "managed-identity"})
    assert credential_for(settings, CLOUD) is credential_for(checked(settings), CLOUD)
    other = cloud_of("acme.vault.azure.cn", {})
    assert credential_for(settings, CLOUD) is not credential_for(settings, other)


def test_a_secret_comes_from_where_the_settings_say(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    options = {"credential": "client-secret", "tenant_id": "t", "client_id": "c"}
    with pytest.raises(ConfigurationError, match="needs client_secret_env"):
        credential_for(checked(options), CLOUD)
    with pytest.raises(ConfigurationError, match="CORP_SECRET, which is not set"):
        credential_for(checked({**options, "client_secret_env": "CORP_SECRET"}), CLOUD)
    with pytest.raises(ConfigurationError, match="No such file"):
        credential_for(checked({**options, "client_secret_file": str(tmp_path / "no")}), CLOUD)
    monkeypatch.setenv("CORP_SECRET", "canary-in-the-mine")
    made = credential_for(checked({**options, "client_secret_env": "CORP_SECRET"}), CLOUD)
    assert "canary" not in repr(made)


def test_a_token_that_the_vault_finds_expired_is_not_offered_again(azure: Azure) -> None:
    """azure-identity goes by this machine's clock, which may be behind the vault's."""
    azure.client().create_rsa_key("lake", size=2048)
    ring = KeyRing(azure.key(), limits={"kek_files": 1, "refresh": 0.001})
    envelope.encrypt(b"x", keys=ring)
    made = credential_for(checked({}), CLOUD)
    azure.local.world.tokens.expire_all()
    with caller.deadline(10):
        assert envelope.decrypt(envelope.encrypt(b"x", keys=ring), keys=ring) == b"x"
    renewed = credential_for(checked({}), CLOUD)
    assert renewed is not made
    assert credential_for(checked({}), CLOUD, instead_of=made) is renewed, "made once"


@pytest.mark.parametrize(
    "scheme", ["azurekeyvault", "azurekeyvault-certificate", "azurekeyvault-secret"]
)
def test_a_ring_with_a_credential_object_is_refused_when_it_is_pickled(scheme: str) -> None:
    key = f"{scheme}://acme/lake"
    given = process_credential(Fixed())
    for settings in (given, {"credential": ["environment", given["credential"]]}):
        ring = KeyRing(key, settings={scheme: settings})
        for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
            with pytest.raises(ConfigurationError, match="cannot be pickled") as caught:
                pickle.dumps({"ring": ring}, protocol)
            assert "Name the credential" in caught.value.next_step
            assert given["credential"] not in str(caught.value)
        assert copy.copy(ring) == copy.deepcopy([ring])[0] == ring  # in this process, it works
    named = KeyRing(key, settings={scheme: {"credential": "managed-identity"}})
    assert pickle.loads(pickle.dumps(named)) == named


def test_a_credential_object_works_in_a_forked_child(azure: Azure) -> None:
    from azure.identity import EnvironmentCredential

    azure.client().create_rsa_key("lake", size=2048)
    settings = {"azurekeyvault": process_credential(EnvironmentCredential())}
    ring = KeyRing(azure.key(), settings=settings)
    value = envelope.encrypt(b"x", keys=ring)
    assert holds_in_child(lambda: envelope.decrypt(value, keys=ring) == b"x")
