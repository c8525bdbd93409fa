"""`envelope doctor` on other keys of a vault: certificates' keys, A256GCM keys, and secrets."""

from __future__ import annotations

import base64
import datetime

import pytest
from azure.identity import DefaultAzureCredential
from azure.keyvault.certificates import CertificateClient, CertificatePolicy
from azure.keyvault.secrets import SecretClient

from envelope.secret import Secret
from tests.azure.conftest import Azure
from tests.azure.test_doctor import WALK, Doctor, Found, levels, line
from tests.cli.conftest import Cli, cli

__all__ = ["cli"]

SECRET_WALK = [
    *("name", "DNS", "TCP", "TLS", "credential", "challenge"),
    *("key", "version", "validity", "wrap", "unwrap", "permission", "permission", "latency"),
]


def permissions(found: Found) -> list[tuple[str, str]]:
    return [
        (each["level"], each["text"].partition(";")[0])
        for each in found
        if each["check"] == "permission"
    ]


# --- A certificate's key --------------------------------------------------------------------------


@pytest.fixture
def web(azure: Azure) -> str:
    client = CertificateClient(f"https://{azure.host}", DefaultAzureCredential())
    client.begin_create_certificate("web", CertificatePolicy.get_default()).result()
    return f"azurekeyvault-certificate://{azure.host}/web"


def test_a_certificates_key_is_walked_to_like_any_other(azure: Azure, cli: Cli, web: str) -> None:
    found = Doctor(azure, cli)(key=web)
    assert [each["check"] for each in found] == WALK
    assert {check for check, level in levels(found).items() if level == "fail"} == set()
    assert web in line(found, "name")["text"]
    assert "under the public half" in line(found, "wrap")["text"]
    assert line(found, "unwrap")["level"] == "ok"


def test_a_certificate_and_its_key_take_permissions_of_keys_alone(
    azure: Azure, cli: Cli, web: str
) -> None:
    azure.vault.rbac = False
    person = azure.become(f"pipeline-{azure.vault.name}")
    azure.vault.set_policy(person, certificates=["get", "list"])
    found = Doctor(azure, cli)(key=web, status=3)
    assert [text for _, text in permissions(found)] == [
        "get: not given",
        "wrapKey: not given",
        "unwrapKey: not given",
    ]
    for given in ("get", "wrapKey", "unwrapKey"):
        azure.vault.set_policy(person, keys=[given])
        found = Doctor(azure, cli)(key=web, status=3)
        assert [text for _, text in permissions(found) if text.endswith(": given")] == [
            f"{given}: given"
        ]


def test_a_key_of_the_name_that_is_no_certificates_is_found_out(azure: Azure, cli: Cli) -> None:
    azure.client().create_rsa_key("web", size=2048)
    found = Doctor(azure, cli)(key=f"azurekeyvault-certificate://{azure.host}/web", status=5)
    assert "no certificate" in line(found, "wrap")["text"]


# --- A256GCM and its like -------------------------------------------------------------------------


@pytest.mark.parametrize("alg", ["A256GCM", "CKM_AES_KEY_WRAP", "CKM_AES_KEY_WRAP_PAD"])
def test_an_hsms_key_is_tried_with_the_algorithm_of_the_settings(
    azure: Azure, cli: Cli, alg: str
) -> None:
    hsm = azure.local.vault(f"{azure.vault.name}-hsm", suffix="managedhsm.azure.net")
    azure.client(hsm.host).create_oct_key("lake", size=256)
    settings = cli.folder / "envelope.toml"
    settings.write_text(f'[azurekeyvault]\nhsm_alg = "{alg}"\n')
    settings.chmod(0o600)
    key = f"azurekeyvault://{hsm.host}/lake"
    found = Doctor(azure, cli)("--key", key, "--config", str(settings))
    assert levels(found) == {}
    assert f"in the vault, with {alg}" in line(found, "wrap")["text"]
    assert permissions(found) == [
        ("ok", "get: given"),
        ("ok", "wrapKey: given"),
        ("ok", "unwrapKey: given"),
    ]
    hsm.revoke(azure.local.world.principal("developer"))
    found = Doctor(azure, cli)("--key", key, "--config", str(settings), status=3)
    assert found[-1]["check"] == "key"


# --- A secret -------------------------------------------------------------------------------------


@pytest.fixture
def shared(azure: Azure) -> str:
    store(azure)
    return f"azurekeyvault-secret://{azure.host}/shared"


def secrets(azure: Azure) -> SecretClient:
    return SecretClient(f"https://{azure.host}", DefaultAzureCredential())


def store(azure: Azure, value: str | None = None) -> None:
    made = value or base64.b64encode(Secret.random().reveal()).decode()
    secrets(azure).set_secret("shared", made)


def test_a_secret_is_walked_in_order_and_each_step_is_well(
    azure: Azure, cli: Cli, shared: str
) -> None:
    found = Doctor(azure, cli)(key=shared)
    assert [each["check"] for each in found] == SECRET_WALK
    assert levels(found) == {}
    assert line(found, "wrap")["text"] == "a throw-away key was wrapped here, with A256KW"


@pytest.mark.parametrize(
    ("given", "status", "told"),
    [
        (["get", "list"], 0, [("ok", "get: given"), ("ok", "list: given")]),
        (["get"], 0, [("ok", "get: given"), ("ok", "list: not given")]),
        (["list"], 3, [("warn", "get: not given"), ("ok", "list: given")]),
        ([], 3, [("warn", "get: not given"), ("ok", "list: not given")]),
    ],
)
def test_each_permission_of_a_secret_is_told_alone(
    azure: Azure, cli: Cli, shared: str, given: list[str], status: int, told: list[tuple[str, str]]
) -> None:
    azure.vault.rbac = False
    person = azure.become(f"pipeline-{azure.vault.name}")
    azure.vault.set_policy(person, secrets=given)
    before = len(azure.operations())
    found = Doctor(azure, cli)(key=shared, status=status)
    assert permissions(found) == told
    assert (line(found, "key")["level"] == "fail") == ("get" not in given)
    assert set(azure.operations()[before:]) <= {"get_secret", "list_secret_versions", "get_key"}
    assert ("unwrap" in [each["check"] for each in found]) == ("get" in given)


def test_where_the_newest_version_is_disabled_list_is_what_is_missing(
    azure: Azure, cli: Cli, shared: str
) -> None:
    store(azure)
    newest = secrets(azure).get_secret("shared").properties.version
    secrets(azure).update_secret_properties("shared", newest, enabled=False)
    found = Doctor(azure, cli)(key=shared)
    assert levels(found) == {"version": "warn"}
    assert line(found, "unwrap")["level"] == "ok"
    azure.vault.rbac = False
    person = azure.become(f"pipeline-{azure.vault.name}")
    azure.vault.set_policy(person, secrets=["get"])
    found = Doctor(azure, cli)(key=shared, status=3)
    assert permissions(found) == [("ok", "get: given"), ("warn", "list: not given")]
    assert line(found, "wrap")["level"] == "fail"
    found = Doctor(azure, cli)(key=f"{shared}/{newest}", status=3)
    assert found[-1]["check"] == "key"  # one version alone, and that is disabled


def test_a_secret_that_has_ended_or_is_no_key_says_so(azure: Azure, cli: Cli, shared: str) -> None:
    past = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    secrets(azure).update_secret_properties("shared", expires_on=past)
    found = Doctor(azure, cli)(key=shared, status=3)
    assert levels(found) == {"validity": "fail", "wrap": "fail"}
    store(azure, "no key at all")
    found = Doctor(azure, cli)(key=shared, status=3)
    assert levels(found) == {"wrap": "fail"}
    assert "base64 of 32 bytes" in line(found, "wrap")["text"]
    assert "no key at all" not in str(found)


def test_a_secret_that_is_not_there_ends_the_walk(azure: Azure, cli: Cli) -> None:
    found = Doctor(azure, cli)(key=f"azurekeyvault-secret://{azure.host}/none", status=5)
    assert found[-1]["check"] == "key"
    assert levels(found) == {"key": "fail"}
