"""Secrets as the vendor's own client sees them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from azure.core.exceptions import ResourceExistsError, ResourceNotFoundError
from azure.core.rest import HttpRequest
from azure.keyvault.secrets import ApiVersion, SecretClient

from tests.keyvault.inprocess import Lab, refusal


@pytest.fixture
def secrets(lab: Lab) -> SecretClient:
    return lab.client(SecretClient, lab.vault())


def test_a_secret_is_kept_in_versions(secrets: SecretClient) -> None:
    first = secrets.set_secret("password", "one", content_type="text/plain", tags={"a": "b"})
    second = secrets.set_secret("password", "two")
    assert secrets.get_secret("password").value == "two"
    assert secrets.get_secret("password", first.properties.version).value == "one"
    assert first.properties.content_type == "text/plain"
    assert first.properties.tags == {"a": "b"}
    assert first.id == f"https://acme.vault.azure.net/secrets/password/{first.properties.version}"
    versions = secrets.list_properties_of_secret_versions("password")
    assert [one.id for one in versions] == [first.id, second.id]


def test_lists_hold_no_values(lab: Lab, secrets: SecretClient) -> None:
    secrets.set_secret("password", "hunter2")
    for path in ("/secrets", "/secrets/password/versions"):
        response = secrets.send_request(HttpRequest("GET", path))
        assert response.json()["value"][0]["id"].startswith("https://acme.")
        assert "hunter2" not in response.text()


def test_long_lists_come_in_pages(lab: Lab, secrets: SecretClient) -> None:
    names = sorted(f"s-{number:02}" for number in range(30))
    for name in names:
        secrets.set_secret(name, "v")
    assert [one.name for one in secrets.list_properties_of_secrets()] == names
    assert lab.log().count("list_secrets") == 2


def test_a_disabled_secret_is_not_shown(secrets: SecretClient) -> None:
    made = secrets.set_secret("password", "one")
    secrets.update_secret_properties("password", made.properties.version, enabled=False)
    found = refusal(lambda: secrets.get_secret("password"))
    assert found[:3] == (403, "Forbidden", "SecretDisabled")
    assert [one.enabled for one in secrets.list_properties_of_secrets()] == [False]


def test_the_dates_of_a_secret_inform_and_refuse_nothing(secrets: SecretClient) -> None:
    past = datetime.now(UTC).replace(microsecond=0) - timedelta(days=1)
    secrets.set_secret("old", "value", expires_on=past)
    found = secrets.get_secret("old")
    assert (found.value, found.properties.expires_on) == ("value", past)


def test_an_update_changes_everything_but_the_value(secrets: SecretClient) -> None:
    made = secrets.set_secret("password", "one")
    changed = secrets.update_secret_properties("password", content_type="x", tags={"a": "b"})
    assert (changed.content_type, changed.tags) == ("x", {"a": "b"})
    assert changed.version == made.properties.version
    assert secrets.get_secret("password").value == "one"


def test_a_value_that_is_too_long_is_refused(secrets: SecretClient) -> None:
    secrets.set_secret("long", "x" * 25 * 1024)
    found = refusal(lambda: secrets.set_secret("longer", "x" * (25 * 1024 + 1)))
    assert found[:2] == (400, "BadParameter")
    assert [one.name for one in secrets.list_properties_of_secrets()] == ["long"]


def test_a_secret_is_deleted_recovered_and_purged(secrets: SecretClient) -> None:
    made = secrets.set_secret("password", "one")
    secrets.begin_delete_secret("password").wait()
    with pytest.raises(ResourceNotFoundError):
        secrets.get_secret("password")
    with pytest.raises(ResourceExistsError):
        secrets.set_secret("password", "two")
    assert [one.name for one in secrets.list_deleted_secrets()] == ["password"]
    secrets.begin_recover_deleted_secret("password").wait()
    assert secrets.get_secret("password").id == made.id
    secrets.begin_delete_secret("password").wait()
    secrets.purge_deleted_secret("password")
    assert list(secrets.list_deleted_secrets()) == []


def test_a_backup_brings_all_versions_back(secrets: SecretClient) -> None:
    first, second = secrets.set_secret("password", "one"), secrets.set_secret("password", "two")
    blob = secrets.backup_secret("password")
    secrets.begin_delete_secret("password").wait()
    secrets.purge_deleted_secret("password")
    assert secrets.restore_secret_backup(blob).id == second.id
    assert secrets.get_secret("password", first.properties.version).value == "one"


def test_a_reader_of_metadata_sees_no_value(lab: Lab, secrets: SecretClient) -> None:
    secrets.set_secret("password", "one")
    vault = lab.world.vault("acme")
    vault.grant(lab.world.principal("auditor"), "Key Vault Reader")
    vault.grant(lab.world.principal("app"), "Key Vault Secrets User")
    auditor = lab.client(SecretClient, vault, "auditor")
    assert [one.name for one in auditor.list_properties_of_secrets()] == ["password"]
    found = refusal(lambda: auditor.get_secret("password"))
    assert found[2] == "ForbiddenByRbac"
    assert "secrets/getSecret/action" in found[3]
    app = lab.client(SecretClient, vault, "app")
    assert app.get_secret("password").value == "one"
    assert refusal(lambda: app.set_secret("password", "two"))[2] == "ForbiddenByRbac"


@pytest.mark.parametrize("version", ApiVersion)
def test_every_version_of_the_api_that_the_client_speaks_is_served(
    lab: Lab, version: ApiVersion
) -> None:
    secrets = lab.client(SecretClient, lab.vault(), api_version=version)
    assert secrets.set_secret("a", "b").id == secrets.get_secret("a").id
