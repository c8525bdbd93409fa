"""The local Key Vault as a whole, under the vendor's SDK: reached by name, verified, and alone."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import pickle
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    HttpResponseError,
    ServiceRequestError,
    ServiceResponseError,
)
from azure.identity import ClientSecretCredential, DefaultAzureCredential
from azure.keyvault.keys import KeyClient
from azure.keyvault.keys.crypto import CryptographyClient, KeyWrapAlgorithm

from envelope_testing.keyvault import VARIABLES, LocalKeyVault

OTHER_TENANT = "99999999-8888-7777-6666-555555555555"
OAEP = KeyWrapAlgorithm.rsa_oaep_256


class Caller:
    """The SDK's clients for one vault, all closed at the end."""

    def __init__(self, url: str, credential: Any = None, **options: Any) -> None:
        self._credential = credential or DefaultAzureCredential()
        self.keys = KeyClient(url, self._credential, retry_total=0, **options)
        self._open: list[Any] = [self._credential, self.keys]

    def __enter__(self) -> Caller:
        return self

    def __exit__(self, *_: object) -> None:
        for each in reversed(self._open):
            each.close()

    def unwraps(self, kid: str) -> bool:
        """Whether a key comes back from being wrapped here and unwrapped in the vault."""
        client = CryptographyClient(kid, self._credential, retry_total=0)
        self._open.append(client)
        key = os.urandom(32)
        return bool(client.unwrap_key(OAEP, client.wrap_key(OAEP, key).encrypted_key).key == key)


# --- Reached by the vendor's names --------------------------------------------------------------


@pytest.mark.parametrize(
    "suffix",
    ["vault.azure.net", "vault.azure.cn", "vault.usgovcloudapi.net", "managedhsm.azure.net"],
)
def test_the_sdk_uses_keys_by_the_vendors_name(keyvault: LocalKeyVault, suffix: str) -> None:
    vault = keyvault.vault("acme", suffix=suffix)
    with Caller(vault.url, _in_its_cloud(keyvault, vault.login_host)) as caller:
        key = caller.keys.create_rsa_key("lake", size=2048, hardware_protected=vault.is_hsm)
        assert key.id is not None
        assert key.id.startswith(f"https://acme.{suffix}/keys/lake/")
        assert caller.unwraps(key.id)
    assert set(keyvault.connections) == {f"acme.{suffix}:443", f"{vault.login_host}:443"}


def _in_its_cloud(keyvault: LocalKeyVault, login_host: str) -> ClientSecretCredential:
    who = keyvault.principal("developer")
    return ClientSecretCredential(
        who.tenant, who.client_id, who.client_secret, authority=login_host
    )


def test_a_private_name_works_where_the_client_is_told_not_to_compare_it(
    keyvault: LocalKeyVault,
) -> None:
    vault = keyvault.vault("keys", suffix="corp.example")
    with Caller(vault.url) as caller, pytest.raises(ValueError, match="does not match"):
        caller.keys.create_rsa_key("lake", size=2048)
    with Caller(vault.url, verify_challenge_resource=False) as caller:
        caller.keys.create_rsa_key("lake", size=2048)
    assert [call.operation for call in keyvault.world.calls if call.status == 200] == ["create_key"]


def test_a_vault_decides_by_access_policies_where_it_is_told_to(keyvault: LocalKeyVault) -> None:
    vault = keyvault.vault("acme", rbac=False)
    with Caller(vault.url) as caller:
        key = caller.keys.create_rsa_key("lake", size=2048)
        assert caller.unwraps(str(key.id))


def test_a_vault_without_a_grant_refuses(keyvault: LocalKeyVault) -> None:
    vault = keyvault.vault("acme", grant=False)
    with Caller(vault.url) as caller, pytest.raises(HttpResponseError, match="Forbidden"):
        caller.keys.create_rsa_key("lake", size=2048)


def test_asking_for_a_vault_twice_grants_once(keyvault: LocalKeyVault) -> None:
    first = keyvault.vault("acme")
    grants = list(first.grants)
    assert keyvault.vault("acme") is first
    assert first.grants == grants != []


def test_connections_are_kept(keyvault: LocalKeyVault) -> None:
    vault = keyvault.vault("acme")
    with Caller(vault.url) as caller:
        for _ in range(3):
            list(caller.keys.list_properties_of_keys())
    assert keyvault.connections.count("acme.vault.azure.net:443") == 1


def test_eight_threads_use_one_key(keyvault: LocalKeyVault) -> None:
    vault = keyvault.vault("acme")
    with Caller(vault.url) as caller:
        kid = str(caller.keys.create_rsa_key("lake", size=2048).id)
        found: list[bool] = []
        threads = [
            threading.Thread(target=lambda: found.append(caller.unwraps(kid))) for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == [True] * 8


# --- What goes wrong ----------------------------------------------------------------------------


def test_a_vault_that_is_not_there_is_no_host(keyvault: LocalKeyVault) -> None:
    with Caller("https://nobody.vault.azure.net") as caller, pytest.raises(ServiceRequestError):
        caller.keys.get_key("lake")
    assert keyvault.connections == ["nobody.vault.azure.net:443"]


def test_a_client_that_does_not_trust_the_ca_sends_nothing(
    keyvault: LocalKeyVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault = keyvault.vault("acme")
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    monkeypatch.delenv("CURL_CA_BUNDLE")
    with Caller(vault.url) as caller, pytest.raises(AzureError, match="CERTIFICATE_VERIFY_FAILED"):
        caller.keys.get_key("lake")
    assert keyvault.world.calls == []


def test_a_dropped_connection_is_one_to_the_sdk(keyvault: LocalKeyVault) -> None:
    vault = keyvault.vault("acme")
    with Caller(vault.url) as caller:
        caller.keys.create_rsa_key("lake", size=2048)
        keyvault.world.faults.add(operation="get_key", drop=True)
        with pytest.raises((ServiceRequestError, ServiceResponseError)):
            caller.keys.get_key("lake")
        assert caller.keys.get_key("lake").name == "lake"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_dropped_connection_ends_although_a_forked_child_holds_it(
    keyvault: LocalKeyVault,
) -> None:
    vault = keyvault.vault("acme")
    with Caller(vault.url, read_timeout=60) as caller:
        caller.keys.create_rsa_key("lake", size=2048)
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(writing)
            os.read(reading, 1)  # holds every descriptor until the parent lets go
            os._exit(0)
        os.close(reading)
        try:
            keyvault.world.faults.add(operation="get_key", drop=True)
            with pytest.raises((ServiceRequestError, ServiceResponseError)) as caught:
                caller.keys.get_key("lake")
        finally:
            os.close(writing)
            os.waitpid(child, 0)
    assert "timed out" not in str(caught.value)


def test_a_wrong_resource_in_the_challenge_is_refused_by_the_sdk(keyvault: LocalKeyVault) -> None:
    vault = keyvault.vault("acme")
    keyvault.world.faults.add(challenge_resource="https://evil.example")
    with Caller(vault.url) as caller, pytest.raises(ValueError, match="does not match"):
        caller.keys.get_key("lake")
    assert not any("login" in host for host in keyvault.connections)


def test_tokens_that_have_expired_are_refused_and_renewed(keyvault: LocalKeyVault) -> None:
    vault = keyvault.vault("acme")
    with Caller(vault.url) as caller:
        caller.keys.create_rsa_key("lake", size=2048)
        keyvault.world.tokens.expire_all()
        with pytest.raises(ClientAuthenticationError, match="TokenExpired"):
            caller.keys.get_key("lake")
    with Caller(vault.url) as caller:
        assert caller.keys.get_key("lake").name == "lake"


def test_a_vault_that_moved_is_found_in_its_new_tenant(keyvault: LocalKeyVault) -> None:
    vault = keyvault.vault("acme")
    who = keyvault.principal("developer")
    credential = ClientSecretCredential(
        who.tenant, who.client_id, who.client_secret, additionally_allowed_tenants=["*"]
    )
    with Caller(vault.url, credential) as caller:
        caller.keys.create_rsa_key("lake", size=2048)
        there = keyvault.consent(who, OTHER_TENANT)
        vault.tenant = OTHER_TENANT
        with pytest.raises(HttpResponseError, match="Forbidden"):
            caller.keys.get_key("lake")
        vault.grant(there, "Key Vault Crypto User")
        assert caller.keys.get_key("lake").name == "lake"


def test_what_one_test_did_to_a_vaults_tenant_is_forgotten(
    keyvault: LocalKeyVault,
) -> None:
    # Runs after the test above, and whatever the order: the SDK's cache of challenges is empty.
    from azure.keyvault.keys._shared import http_challenge_cache

    assert http_challenge_cache.get_challenge_for_url("https://acme.vault.azure.net") is None


# --- It never reaches the real service ----------------------------------------------------------

WATCHED = textwrap.dedent(
    """
    import json, os, sys
    reached, resolved = set(), set()
    def hook(event, arguments):
        if event in ("socket.connect", "socket.sendto"):
            reached.add(str(arguments[1][0] if isinstance(arguments[1], tuple) else arguments[1]))
        elif event.startswith("socket.get") and event != "socket.gethostname":
            resolved.add(str(arguments[0]))
    sys.addaudithook(hook)

    from envelope_testing.keyvault import VARIABLES, LocalKeyVault
    from azure.core.exceptions import AzureError
    from azure.identity import DefaultAzureCredential
    from azure.keyvault.keys import KeyClient
    import requests

    used = []
    with LocalKeyVault() as local:
        local.vault("acme")
        for kind in ("client-secret", "certificate", "workload-identity", "managed-identity",
                     "app-service"):
            for name in VARIABLES:
                os.environ.pop(name, None)
            os.environ.update(local.environment(credential=kind))
            with DefaultAzureCredential() as credential:
                with KeyClient("https://acme.vault.azure.net", credential) as client:
                    client.create_rsa_key("lake", size=2048)
                    used.append(kind)
        for url in ("https://real.vault.azure.net/keys", "https://example.com/",
                    "http://example.com/", "https://8.8.8.8/", "http://169.254.169.254:81/",
                    "https://portal.azure.com/"):
            try:
                answer = requests.get(url, timeout=30)
            except requests.RequestException:
                continue
            assert answer.status_code == 403, url
    print(json.dumps({"used": used, "reached": sorted(reached), "resolved": sorted(resolved)}))
    """
)


def test_nothing_in_the_process_connects_to_anything_but_loopback() -> None:
    # The developer's own exceptions from proxies would lead past this one.
    environment = {**os.environ, "no_proxy": ".azure.net,example.com", "NO_PROXY": "*"}
    ran = subprocess.run(
        [sys.executable, "-c", WATCHED], env=environment, capture_output=True, check=False
    )
    assert ran.returncode == 0, ran.stderr.decode()
    seen = json.loads(ran.stdout)
    assert len(seen["used"]) == 5
    assert seen["reached"] == ["127.0.0.1"]
    assert set(seen["resolved"]) <= {"127.0.0.1"}


def test_a_child_process_is_led_here_and_nowhere_else(keyvault: LocalKeyVault) -> None:
    keyvault.vault("acme")
    program = textwrap.dedent(
        """
        import urllib.request
        for url in ("https://acme.vault.azure.net/keys", "https://example.com/"):
            try:
                urllib.request.urlopen(url, timeout=30)
            except OSError as error:
                print(getattr(error, "code", error))
        """
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert ran.stdout.split(b"\n")[0] == b"401"
    assert b"403" in ran.stdout.split(b"\n")[1]
    assert keyvault.connections == ["acme.vault.azure.net:443", "example.com:443"]


# --- The environment ----------------------------------------------------------------------------


@pytest.fixture
def local() -> Iterator[LocalKeyVault]:
    with LocalKeyVault() as local:
        yield local


def test_the_environment_sets_both_spellings_and_exempts_nothing(local: LocalKeyVault) -> None:
    given = local.environment()
    assert {given[name] for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy")} == {
        local.proxy_url
    }
    assert given["NO_PROXY"] == given["no_proxy"] == ""
    assert Path(given["REQUESTS_CA_BUNDLE"]) == local.ca_file
    assert set(given) <= set(VARIABLES)


def test_every_variable_that_the_vendors_identities_read_is_set_or_unset() -> None:
    from azure.identity._constants import EnvironmentVariables

    read = {name for name in vars(EnvironmentVariables).values() if isinstance(name, str)}
    read = {name for name in read if name.startswith(("AZURE_", "IDENTITY_", "IMDS_", "MSI_"))}
    # Said for the identity bindings of Kubernetes, which DefaultAzureCredential does not use; and
    # whether tenants may differ, which is the developer's own choice.
    left = {name for name in read if name.startswith("AZURE_KUBERNETES_")}
    left.add("AZURE_IDENTITY_DISABLE_MULTITENANTAUTH")
    assert read - left <= set(VARIABLES)


def test_the_fixture_takes_the_developers_own_credentials_away(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setenv("AZURE_CLIENT_CERTIFICATE_PATH", "/nowhere")
    monkeypatch.setenv("IDENTITY_ENDPOINT", "http://10.0.0.1/")
    monkeypatch.setenv("NO_PROXY", ".azure.net")
    request.getfixturevalue("keyvault")
    assert "AZURE_CLIENT_CERTIFICATE_PATH" not in os.environ
    assert "IDENTITY_ENDPOINT" not in os.environ
    assert os.environ["NO_PROXY"] == ""


def test_principals_of_other_tenants_sign_in_there(local: LocalKeyVault) -> None:
    local.principal("guest", tenant=OTHER_TENANT)
    assert local.environment("guest")["AZURE_TENANT_ID"] == OTHER_TENANT


# --- Beginning and end --------------------------------------------------------------------------


def test_nothing_is_left_when_it_has_stopped() -> None:
    before = set(threading.enumerate())
    with LocalKeyVault() as local:
        folder = local.ca_file.parent
        address = ("127.0.0.1", urlsplit(local.proxy_url).port)
        assert any(thread.name == "local-key-vault" for thread in threading.enumerate())
        assert folder.exists()
    assert set(threading.enumerate()) == before
    assert not folder.exists()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, timeout=30)


def test_stopping_does_not_wait_for_calls_that_hang(
    keyvault: LocalKeyVault, caplog: pytest.LogCaptureFixture
) -> None:
    vault = keyvault.vault("acme")
    with Caller(vault.url) as caller:
        caller.keys.create_rsa_key("lake", size=2048)
        begun = threading.Event()
        keyvault.world.faults.add(operation="get_key", hang=3600)
        failed: list[BaseException] = []

        def call() -> None:
            begun.set()
            try:
                caller.keys.get_key("lake")
            except BaseException as error:
                failed.append(error)

        thread = threading.Thread(target=call)
        thread.start()
        begun.wait()
        while keyvault.world.faults._rules[0].times != 0:
            thread.join(0.01)
        keyvault.stop()
        thread.join(60)
        assert not thread.is_alive()
    assert len(failed) == 1
    loud = [each for each in caplog.records if each.levelno >= logging.WARNING]
    assert [each for each in loud if each.name.startswith("uvicorn")] == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_neither_stops_it_nor_removes_its_files(local: LocalKeyVault) -> None:
    child = os.fork()
    if child == 0:
        try:
            local.stop()
            local._remove()
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    url = "https://login.microsoftonline.com/common/discovery/v2.0/keys"
    proxies = {"https": local.proxy_url}
    answer = requests.get(url, proxies=proxies, verify=str(local.ca_file), timeout=30)
    assert answer.json() == {"keys": []}


def test_two_run_beside_each_other_and_do_not_trust_each_other(
    keyvault: LocalKeyVault, local: LocalKeyVault
) -> None:
    keyvault.vault("acme")
    local.vault("acme")
    url = "https://acme.vault.azure.net/keys"
    proxies = {"https": local.proxy_url}
    assert requests.get(url, timeout=30).status_code == 401
    with pytest.raises(requests.exceptions.SSLError):
        requests.get(url, proxies=proxies, timeout=30)
    answer = requests.get(url, proxies=proxies, verify=str(local.ca_file), timeout=30)
    assert answer.status_code == 401
    assert local.connections.count("acme.vault.azure.net:443") == 2


def test_it_runs_inside_a_program_that_has_an_event_loop() -> None:
    async def inside() -> int:
        with LocalKeyVault() as local:
            return urlsplit(local.proxy_url).port or 0

    assert asyncio.run(inside()) > 0


def test_starting_twice_is_starting_once() -> None:
    local = LocalKeyVault().start()
    try:
        url = local.proxy_url
        assert local.start().proxy_url == url
    finally:
        local.stop()
    local.stop()
    with pytest.raises(RuntimeError, match="not running"):
        local.environment()
    with pytest.raises(RuntimeError, match="make a new one"):
        local.start()


def test_secrets_do_not_show_in_a_repr(local: LocalKeyVault) -> None:
    who = local.principal("writer")
    assert who.client_secret not in repr(who)
    assert who.client_secret not in repr(local)
    with pytest.raises(TypeError):
        pickle.dumps(local)


def test_a_tool_that_asks_for_its_subscriptions_has_none(keyvault: LocalKeyVault) -> None:
    token = DefaultAzureCredential().get_token("https://management.azure.com/.default").token
    found = requests.get(
        "https://management.azure.com/subscriptions",
        headers={"Authorization": f"Bearer {token}"},
        timeout=10,
    )
    assert found.json()["value"] == []
    assert keyvault.sign_ins.calls[-1].operation == "subscriptions"
