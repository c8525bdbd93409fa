"""`envelope doctor` on a key in a vault: each step says what is wrong, and what to do."""

from __future__ import annotations

import datetime
import socket
from typing import Any

import pytest
from requests.utils import DEFAULT_CA_BUNDLE_PATH

from envelope.errors import ConfigurationError, VaultUnavailable
from envelope.secret import Secret
from envelope.testing.conformance import spelled
from envelope_azure.driver import AZURE
from envelope_azure.reaching import Way
from envelope_azure.settings import checked
from tests.azure.conftest import Azure
from tests.cli.conftest import Cli, cli

__all__ = ["cli"]

WALK = [
    *("name", "DNS", "TCP", "TLS", "credential", "challenge"),
    *("key", "version", "enabled", "validity", "operations", "wrap", "unwrap"),
    *("permission", "permission", "permission", "latency", "throttling"),
]
Found = list[dict[str, Any]]


@pytest.fixture
def doctor(azure: Azure, cli: Cli) -> Doctor:
    azure.client().create_rsa_key("lake", size=2048)
    azure.restart()
    return Doctor(azure, cli)


class Doctor:
    """Runs `envelope doctor` as a process that has not asked this vault before."""

    def __init__(self, azure: Azure, cli: Cli) -> None:
        self.azure = azure
        self.cli = cli

    def __call__(self, *arguments: str, status: int = 0, key: str | None = None) -> Found:
        """The lines about the key. With ``arguments`` it is they that name it."""
        self.azure.restart()
        named = arguments or ("--key", key or self.azure.key())
        found = self.cli.objects("doctor", *named, schema="check", status=status)
        first = next(n for n, each in enumerate(found) if each["check"] == "name")
        return [each for each in found[first:] if each["check"] in WALK]


def line(found: Found, check: str, part: str = "") -> dict[str, Any]:
    """The one line of a check whose text begins with ``part``."""
    (one,) = [each for each in found if each["check"] == check and each["text"].startswith(part)]
    return one


def levels(found: Found) -> dict[str, str]:
    """The level of each check that is not well."""
    return {each["check"]: each["level"] for each in found if each["level"] != "ok"}


def last(found: Found, check: str) -> dict[str, Any]:
    """The line at which the walk ended: it alone is not well, and says what to do."""
    assert levels(found) == {check: "fail"}
    assert found[-1]["check"] == check
    assert found[-1]["next_step"]
    return found[-1]


# --- All is well ----------------------------------------------------------------------------------


def test_a_healthy_key_is_walked_in_order_and_each_step_is_well(
    doctor: Doctor, azure: Azure
) -> None:
    found = doctor()
    assert [each["check"] for each in found] == WALK
    assert levels(found) == {}
    assert f"resolves {azure.host}" in line(found, "DNS")["text"]
    assert "TLSv1" in line(found, "TLS")["text"]
    assert "of 4,000 in 10 s" in line(found, "throttling")["text"]
    permissions = [each["text"] for each in found if each["check"] == "permission"]
    assert permissions == ["get: given", "wrapKey: given", "unwrapKey: given"]


def test_it_says_who_is_signed_in_and_by_what(doctor: Doctor, azure: Azure) -> None:
    developer = azure.local.world.principal("developer")
    text = line(doctor(), "credential")["text"]
    assert "ClientSecretCredential" in text
    assert developer.tenant in text
    assert developer.object_id in text
    assert developer.client_id in text


def test_it_says_that_the_newest_version_is_not_the_one_in_use(
    doctor: Doctor, azure: Azure
) -> None:
    client = azure.client()
    newest = client.rotate_key("lake").properties.version
    client.update_key_properties("lake", newest, enabled=False)
    found = doctor()
    assert levels(found) == {"version": "warn"}
    assert newest in line(found, "version")["text"]


def test_a_single_version_is_examined_as_that(doctor: Doctor, azure: Azure) -> None:
    version = azure.client().get_key("lake").properties.version
    azure.client().rotate_key("lake")
    found = doctor(key=f"{azure.key()}/{version}")
    assert levels(found) == {}
    assert version in line(found, "version")["text"]
    assert "in the vault" in line(found, "wrap")["text"]


def test_a_symmetric_key_of_a_managed_hsm_is_examined(azure: Azure, cli: Cli) -> None:
    hsm = azure.local.vault("doctor-hsm", suffix="managedhsm.azure.net")
    cli("keys", "create", f"azurekeyvault://{hsm.host}/lake")
    found = Doctor(azure, cli)(key=f"azurekeyvault://{hsm.host}/lake")
    assert levels(found) == {}
    assert "A256KW" in line(found, "wrap")["text"]
    assert "Managed HSM" in line(found, "throttling")["text"]


def test_config_test_walks_as_well(doctor: Doctor, azure: Azure) -> None:
    assert "ok    unwrap" in doctor.cli("config", "test", "--key", azure.key()).out


# --- The key --------------------------------------------------------------------------------------


def test_a_disabled_key_fails_where_it_is_disabled_and_permissions_still_show(
    doctor: Doctor, azure: Azure
) -> None:
    azure.client().update_key_properties("lake", enabled=False)
    found = doctor(status=3)
    assert line(found, "enabled")["level"] == "fail"
    assert "envelope keys enable" in line(found, "enabled")["next_step"]
    assert line(found, "permission", "get")["text"] == "get: given"


def test_an_expired_key_wraps_no_more_and_still_unwraps(doctor: Doctor, azure: Azure) -> None:
    past = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    azure.client().update_key_properties("lake", expires_on=past)
    found = doctor(status=3)
    assert levels(found) == {"validity": "fail", "wrap": "fail"}
    assert line(found, "unwrap")["level"] == "ok"
    assert line(found, "permission", "wrapKey")["text"] == "wrapKey: given"
    found = doctor("--trust", azure.key())
    assert levels(found) == {"validity": "warn"}


def test_a_key_that_is_to_begin_or_to_end_says_when(doctor: Doctor, azure: Azure) -> None:
    now = datetime.datetime.now(datetime.UTC)
    azure.client().update_key_properties("lake", expires_on=now + datetime.timedelta(days=9))
    assert levels(doctor()) == {"validity": "warn"}
    azure.client().update_key_properties("lake", not_before=now + datetime.timedelta(days=3))
    assert "does not wrap yet" in line(doctor(status=3), "validity")["text"]


def test_a_key_for_other_operations_says_which_it_has(doctor: Doctor, azure: Azure) -> None:
    azure.client().update_key_properties("lake", key_operations=["unwrapKey", "verify"])
    found = doctor(status=3)
    assert "not wrapKey" in line(found, "operations")["text"]
    assert line(found, "unwrap")["level"] == "ok"


def test_a_key_of_another_kind_ends_the_walk(doctor: Doctor, azure: Azure) -> None:
    azure.client().create_ec_key("curve")
    assert "EC" in last(doctor(key=azure.key("curve"), status=3), "operations")["text"]


def test_a_deleted_key_says_how_it_comes_back(doctor: Doctor, azure: Azure) -> None:
    azure.client().begin_delete_key("lake").wait()
    ended = last(doctor(status=3), "key")
    assert "can be recovered until" in ended["text"]
    assert "envelope keys recover" in ended["next_step"]


def test_a_key_that_never_was_is_not_found(doctor: Doctor, azure: Azure) -> None:
    assert "no such key" in last(doctor(key=azure.key("pond"), status=5), "key")["text"]


# --- Rights ---------------------------------------------------------------------------------------


def test_without_a_role_each_lacking_permission_is_named(doctor: Doctor, azure: Azure) -> None:
    nobody = azure.become("nobody")
    found = doctor(status=3)
    assert levels(found) == {"key": "warn", "wrap": "fail", "unwrap": "fail", "permission": "warn"}
    assert nobody.client_id in line(found, "wrap")["text"]
    assert "Crypto Service Encryption User" in line(found, "unwrap")["next_step"]
    texts = [each["text"] for each in found if each["check"] == "permission"]
    assert [text.partition(";")[0] for text in texts] == [
        "get: not given",
        "wrapKey: not given",
        "unwrapKey: not given",
    ]


@pytest.mark.parametrize("sees", [True, False])
def test_who_may_only_wrap_is_well_where_nothing_else_is_needed(
    doctor: Doctor, azure: Azure, sees: bool
) -> None:
    azure.vault.rbac = False
    azure.vault.set_policy(azure.become("writer"), keys=["wrapKey", *(["get"] if sees else [])])
    found = doctor("--encrypt-to", azure.key())
    assert line(found, "wrap")["level"] == "ok"
    assert "not needed" in line(found, "unwrap")["text"]
    assert line(found, "permission", "wrapKey")["text"] == "wrapKey: given"
    assert line(found, "permission", "unwrapKey")["text"] == "unwrapKey: not given"
    assert "unwrapKey" in line(doctor(status=3), "unwrap")["text"]


@pytest.mark.parametrize("sees", [True, False])
def test_who_may_only_unwrap_is_well_where_nothing_else_is_needed(
    doctor: Doctor, azure: Azure, sees: bool
) -> None:
    azure.vault.rbac = False
    azure.vault.set_policy(azure.become("reader"), keys=["unwrapKey", *(["get"] if sees else [])])
    found = doctor("--trust", azure.key())
    assert "fail" not in levels(found).values()
    proven = "was unwrapped in the vault" if sees else "is allowed"
    assert proven in line(found, "unwrap")["text"]
    assert "wrapKey: not given" in line(found, "permission", "wrapKey")["text"]
    assert line(found, "permission", "unwrapKey")["text"] == "unwrapKey: given"


def test_it_asks_for_no_more_than_it_reports_on(doctor: Doctor, azure: Azure) -> None:
    azure.vault.rbac = False
    azure.vault.set_policy(azure.become("pipeline"), keys=["get", "wrapKey", "unwrapKey"])
    before = len(azure.operations())
    assert levels(doctor()) == {}
    assert set(azure.operations()[before:]) == {"get_key", "wrapkey", "unwrapkey"}


def test_the_firewall_ends_the_walk(doctor: Doctor, azure: Azure) -> None:
    azure.vault.network.allow_only("198.51.100.0/24")
    assert "203.0.113.7" in last(doctor(status=3), "key")["text"]


# --- The way --------------------------------------------------------------------------------------


def test_a_host_that_is_no_vault_is_refused_before_anything_is_sent(
    doctor: Doctor, azure: Azure
) -> None:
    before = list(azure.local.connections)
    ended = last(doctor(key="azurekeyvault://acme.evil.example/lake", status=2), "name")
    assert "not the host name of a vault" in ended["text"]
    assert azure.local.connections == before


def test_a_vault_that_is_not_there_fails_where_the_proxy_says_so(doctor: Doctor) -> None:
    ended = last(doctor(key="azurekeyvault://no-such-vault/lake", status=6), "TLS")
    assert "no-such-vault" in ended["text"]
    assert "HTTPS_PROXY" in ended["next_step"]


def test_a_proxy_that_is_down_fails_at_tcp_and_its_password_is_not_shown(
    doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, f"http://user:canary-of-the-proxy@127.0.0.1:{port}")
    found = doctor(status=6)
    last(found, "TCP")
    assert "canary" not in str(found)


def test_a_certificate_that_nobody_vouches_for_fails_at_tls(
    doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", DEFAULT_CA_BUNDLE_PATH)
    ended = last(doctor(status=2), "TLS")
    assert "certificate" in ended["text"]
    assert "Never turn verification off" in ended["next_step"]


def test_a_wrong_secret_fails_at_the_credential(
    doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_CLIENT_SECRET", "guessed-canary")
    ended = last(doctor(status=3), "credential")
    assert "AADSTS7000215" in ended["text"]
    assert "canary" not in str(ended)


def test_a_challenge_for_another_resource_ends_the_walk(doctor: Doctor, azure: Azure) -> None:
    azure.local.world.faults.add(
        host=azure.host, times=None, challenge_resource="https://management.azure.com"
    )
    before = len(azure.operations())
    assert "management.azure.com" in last(doctor(status=3), "challenge")["text"]
    assert azure.operations()[before:] == []


def test_a_vault_of_another_tenant_names_the_setting(doctor: Doctor, azure: Azure) -> None:
    azure.vault.tenant = "99999999-2222-3333-4444-555555555555"
    ended = last(doctor(status=3), "credential")
    assert "additionally_allowed_tenants" in ended["next_step"]


def test_throttling_shows(doctor: Doctor, azure: Azure) -> None:
    azure.local.world.faults.add(host=azure.host, operation="unwrapkey", times=None, status=429)
    found = doctor(status=6)
    assert levels(found) == {"unwrap": "fail", "permission": "warn", "throttling": "warn"}


# --- Without a proxy ------------------------------------------------------------------------------


ADDRESSES = {
    "kv.corp.example": ["127.0.0.1"],
    "impostor.example": ["127.0.0.1"],
    "in.example": ["10.1.2.3"],
    "out.example": ["20.1.2.3", "2603:1030::1"],
}


@pytest.fixture
def direct(azure: Azure, monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy, and a DNS that knows :data:`ADDRESSES` alone."""

    def answered(host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        if host not in ADDRESSES:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        kind = (socket.AF_INET, socket.SOCK_STREAM, 0, "")
        return [(*kind, (address, port)) for address in ADDRESSES[host]]

    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "*")
    monkeypatch.setattr(socket, "getaddrinfo", answered)


def way_to(host: str) -> Way:
    settings = checked({"private_hosts": {host: "vault.azure.net"}})
    return Way(f"azurekeyvault://{host}/lake", host, settings)


@pytest.mark.usefixtures("direct")
def test_without_a_proxy_addresses_are_told_as_public_or_private() -> None:
    (private,) = way_to("in.example").dns()
    assert private.text == "in.example is 10.1.2.3 (private)"
    (public,) = way_to("out.example").dns()
    assert public.text == "out.example is 20.1.2.3 (public), 2603:1030::1 (public)"
    with pytest.raises(VaultUnavailable, match="does not resolve"):
        list(way_to("nowhere.example").dns())


@pytest.mark.usefixtures("direct")
def test_without_a_proxy_the_vault_itself_is_connected_to(azure: Azure) -> None:
    azure.local.vault("kv", suffix="corp.example")
    way = way_to(f"kv.corp.example:{azure.local._ports.secure_port}")
    before = list(azure.local.connections)
    found = [each for step in (way.tcp, way.tls, way.ask, way.challenge) for each in step()]
    assert [(each.level, each.check) for each in found] == [
        ("ok", "TCP"),
        ("ok", "TLS"),
        ("ok", "challenge"),
    ]
    assert azure.local.connections == before
    with pytest.raises(ConfigurationError, match=r"not trusted here \(Hostname mismatch"):
        list(way_to(f"impostor.example:{azure.local._ports.secure_port}").tls())


# --- Secrets --------------------------------------------------------------------------------------


def test_nothing_secret_is_printed(
    doctor: Doctor, azure: Azure, monkeypatch: pytest.MonkeyPatch
) -> None:
    issued: list[str] = []
    issue = azure.local.world.tokens.issue

    def noted(*arguments: Any, **options: Any) -> str:
        issued.append(issue(*arguments, **options))
        return issued[-1]

    monkeypatch.setattr(azure.local.world.tokens, "issue", noted)
    canary = Secret(b"canary-kek-canary-kek-canary-kek")
    monkeypatch.setattr("envelope_azure.trying.Secret.random", lambda: canary)
    printed = ""
    for fault in ({}, {"status": 403}, {"status": 500}, {"drop": True}):
        azure.local.world.faults.clear()
        if fault:
            azure.local.world.faults.add(host=azure.host, operation="unwrapkey", times=9, **fault)
        azure.restart()
        status = {403: 3, None: 6, 500: 6}[fault.get("status")] if fault else 0
        said = doctor.cli("doctor", "--debug", "--key", azure.key(), status=status)
        printed += said.out + said.err
    developer = azure.local.world.principal("developer")
    assert issued
    assert "ok    credential" in printed
    hidden = [*spelled(canary), developer.client_secret]
    hidden += [part for token in issued for part in token.split(".")[1:]]
    assert not [each for each in hidden if each in printed]


def test_what_is_examined_leaves_the_process_as_it_was(doctor: Doctor, azure: Azure) -> None:
    resolver = AZURE.resolver(AZURE.settings({}))
    assert list(resolver.examine_key(azure.key(), wraps=True, unwraps=True))
    assert repr(resolver) == "AzureKeys([])"
