"""Who may call, from where, with which token: each refusal as the service words it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from azure.core.exceptions import ClientAuthenticationError
from azure.core.rest import HttpRequest
from azure.keyvault.certificates import CertificateClient
from azure.keyvault.keys import KeyClient
from azure.keyvault.secrets import SecretClient

from envelope_testing.keyvault.access import HSM_ROLES, VAULT_ROLES
from envelope_testing.keyvault.world import DEFAULT_TENANT
from tests.keyvault.inprocess import Lab, refusal

DATA_KEY = bytes(32)
OTHER_TENANT = "99999999-8888-7777-6666-555555555555"


def test_a_caller_without_a_role_is_told_who_what_and_where(lab: Lab) -> None:
    vault = lab.vault()
    lab.keys(vault).create_ec_key("signer")
    status, code, inner, message = refusal(lambda: lab.keys(vault, "nobody").get_key("signer"))
    assert (status, code, inner) == (403, "Forbidden", "ForbiddenByRbac")
    nobody = lab.world.principal("nobody")
    assert f"appid={nobody.client_id};oid={nobody.object_id}" in message
    assert "Action: 'Microsoft.KeyVault/vaults/keys/read'" in message
    assert f"Resource: '{vault.resource_id}/keys/signer'" in message
    assert "Vault: acme;location=westeurope" in message


def test_rights_are_looked_at_before_what_there_is(lab: Lab) -> None:
    vault = lab.vault()
    found = refusal(lambda: lab.keys(vault, "nobody").get_key("does-not-exist"))
    assert found[2] == "ForbiddenByRbac"


@pytest.mark.parametrize(
    ("role", "allowed"),
    [
        ("Key Vault Crypto Service Encryption User", {"get", "wrap", "unwrap"}),
        ("Key Vault Crypto User", {"get", "wrap", "unwrap", "sign"}),
        ("Key Vault Crypto Officer", {"get", "wrap", "unwrap", "sign", "create", "policy"}),
        ("Key Vault Reader", {"get", "policy"}),
        ("Key Vault Secrets Officer", set()),
    ],
)
def test_a_role_allows_what_the_vendors_table_says(lab: Lab, role: str, allowed: set[str]) -> None:
    vault = lab.vault()
    made = lab.keys(vault).create_rsa_key("lake", size=2048)
    wrapped = lab.crypto(made.id).wrap_key("RSA-OAEP-256", DATA_KEY).encrypted_key
    vault.grant(lab.world.principal("app"), role)
    keys, crypto = lab.keys(vault, "app"), lab.crypto(made.id, "app")
    calls: dict[str, Callable[[], object]] = {
        "get": lambda: keys.get_key("lake"),
        "wrap": lambda: crypto.wrap_key("RSA-OAEP-256", DATA_KEY),
        "unwrap": lambda: crypto.unwrap_key("RSA-OAEP-256", wrapped),
        "sign": lambda: crypto.sign("RS256", DATA_KEY),
        "create": lambda: keys.create_ec_key("another"),
        "policy": lambda: keys.get_key_rotation_policy("lake"),
    }
    for name, call in calls.items():
        if name in allowed:
            call()
        else:
            assert refusal(call)[2] == "ForbiddenByRbac", name


def test_a_role_for_one_key_does_not_open_another(lab: Lab) -> None:
    vault = lab.vault()
    for name in ("lake", "lake-2"):
        lab.keys(vault).create_ec_key(name)
    vault.grant(lab.world.principal("app"), "Key Vault Crypto User", scope="/keys/lake")
    keys = lab.keys(vault, "app")
    assert keys.get_key("lake").name == "lake"
    assert refusal(lambda: keys.get_key("lake-2"))[2] == "ForbiddenByRbac"
    assert refusal(lambda: list(keys.list_properties_of_keys()))[2] == "ForbiddenByRbac"


def test_a_revoked_role_is_gone(lab: Lab) -> None:
    vault = lab.vault()
    lab.keys(vault).create_ec_key("signer")
    app = lab.world.principal("app")
    vault.grant(app, "Key Vault Crypto User")
    keys = lab.keys(vault, "app")
    keys.get_key("signer")
    vault.revoke(app)
    assert refusal(lambda: keys.get_key("signer"))[2] == "ForbiddenByRbac"


def test_a_role_that_does_not_exist_is_refused_when_it_is_granted(lab: Lab) -> None:
    vault, hsm = lab.vault(), lab.vault("safe", suffix="managedhsm.azure.net")
    app = lab.world.principal("app")
    for place, role in ((vault, "Key Vault Wizard"), (vault, *list(HSM_ROLES)[:1])):
        with pytest.raises(ValueError, match="has no role"):
            place.grant(app, role)
    with pytest.raises(ValueError, match="has no role"):
        hsm.grant(app, next(iter(VAULT_ROLES)))


def test_an_access_policy_allows_what_it_names(lab: Lab) -> None:
    vault = lab.vault("old", rbac=False)
    made = lab.keys(vault).create_rsa_key("lake", size=2048)
    app = lab.world.principal("app")
    vault.set_policy(app, keys=["wrapKey"])
    crypto = lab.crypto(made.id, "app")
    wrapped = crypto.wrap_key("RSA-OAEP-256", DATA_KEY).encrypted_key
    status, code, inner, message = refusal(lambda: crypto.unwrap_key("RSA-OAEP-256", wrapped))
    assert (status, code, inner) == (403, "Forbidden", "ForbiddenByPolicy")
    assert "does not have keys unwrapKey permission on key vault 'old;" in message
    assert app.object_id in message
    vault.set_policy(app, keys=["unwrapKey"])
    crypto.unwrap_key("RSA-OAEP-256", wrapped)
    vault.revoke(app)
    assert refusal(lambda: crypto.unwrap_key("RSA-OAEP-256", wrapped))[2] == "ForbiddenByPolicy"


def test_a_role_does_nothing_where_policies_decide_and_a_policy_nothing_where_roles_do(
    lab: Lab,
) -> None:
    old, new = lab.vault("old", rbac=False), lab.vault("new")
    app = lab.world.principal("app")
    old.grant(app, "Key Vault Administrator")
    new.set_policy(app, keys=["all"])
    call = lambda vault: lambda: list(lab.keys(vault, "app").list_properties_of_keys())  # noqa: E731
    assert refusal(call(old))[2] == "ForbiddenByPolicy"
    assert refusal(call(new))[2] == "ForbiddenByRbac"


def test_a_permission_that_does_not_exist_is_refused(lab: Lab) -> None:
    vault = lab.vault("old", rbac=False)
    with pytest.raises(ValueError, match="explode"):
        vault.set_policy(lab.world.principal("app"), keys=["get", "explode"])


def test_a_managed_hsm_names_the_action_and_the_scope_that_it_refuses(lab: Lab) -> None:
    hsm = lab.vault("safe", suffix="managedhsm.azure.net")
    made = lab.keys(hsm).create_rsa_key("lake", size=2048, hardware_protected=True)
    app = lab.world.principal("app")
    found = refusal(lambda: lab.keys(hsm, "app").get_key("lake"))
    assert found[:2] == (403, "AccessDenied")
    assert "Microsoft.KeyVault/managedHsm/keys/read/action on /keys/lake" in found[3]
    hsm.grant(app, "Managed HSM Crypto Service Encryption User", scope="/keys")
    crypto = lab.crypto(made.id, "app")
    crypto.wrap_key("RSA-OAEP-256", DATA_KEY)
    assert refusal(lambda: crypto.sign("RS256", DATA_KEY))[:2] == (403, "AccessDenied")


def test_a_managed_hsm_has_no_secrets_and_no_certificates(lab: Lab) -> None:
    hsm = lab.vault("safe", suffix="managedhsm.azure.net")
    secrets = lab.client(SecretClient, hsm)
    certificates = lab.client(CertificateClient, hsm)
    assert refusal(lambda: secrets.get_secret("s"))[:2] == (400, "NotSupported")
    assert refusal(lambda: certificates.get_certificate("c"))[:2] == (400, "NotSupported")


def test_a_firewall_names_the_address_that_it_refuses(lab: Lab) -> None:
    vault = lab.vault()
    lab.keys(vault).create_ec_key("signer")
    vault.network.allow_only("198.51.100.0/24")
    status, code, inner, message = refusal(lambda: lab.keys(vault).get_key("signer"))
    assert (status, code, inner) == (403, "Forbidden", "ForbiddenByFirewall")
    assert "Client address: 203.0.113.7" in message
    lab.world.client_address = "198.51.100.9"
    assert lab.keys(vault).get_key("signer").name == "signer"


def test_a_vault_for_private_links_alone_refuses_the_public(lab: Lab) -> None:
    vault = lab.vault()
    lab.keys(vault).create_ec_key("signer")
    vault.network.private_only()
    status, code, inner, message = refusal(lambda: lab.keys(vault).get_key("signer"))
    assert (status, code, inner) == (403, "Forbidden", "ForbiddenByConnection")
    assert "private link" in message
    vault.network.private_link = True
    assert lab.keys(vault).get_key("signer").name == "signer"
    vault.network.private_link = False
    vault.network.open()
    assert lab.keys(vault).get_key("signer").name == "signer"


def test_a_call_without_a_token_learns_where_to_get_one_and_nothing_else(lab: Lab) -> None:
    vault = lab.vault(suffix="vault.azure.cn")
    vault.network.private_only()
    keys = lab.keys(vault)
    with pytest.raises(Exception, match="private link"):
        keys.get_key("signer")
    challenge = lab.world.calls[0]
    assert (challenge.status, challenge.error) == (401, "AKV10000")


@pytest.mark.parametrize(
    ("suffix", "login"),
    [
        ("vault.azure.net", "login.microsoftonline.com"),
        ("vault.azure.cn", "login.chinacloudapi.cn"),
        ("vault.usgovcloudapi.net", "login.microsoftonline.us"),
        ("managedhsm.azure.net", "login.microsoftonline.com"),
    ],
)
def test_the_challenge_names_the_clouds_own_login_and_resource(
    lab: Lab, suffix: str, login: str
) -> None:
    keys = lab.keys(lab.vault(suffix=suffix), audience="https://wrong.example")
    response = keys.send_request(HttpRequest("GET", "/keys"))
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"] == (
        f'Bearer authorization="https://{login}/{DEFAULT_TENANT}", resource="https://{suffix}"'
    )


def refused_token(keys: KeyClient) -> str:
    with pytest.raises(ClientAuthenticationError) as caught:
        keys.get_key("signer")
    assert caught.value.status_code == 401
    return caught.value.message


def test_a_token_for_another_resource_is_refused(lab: Lab) -> None:
    keys = lab.keys(lab.vault(), audience="https://storage.azure.com")
    assert "AKV10022" in refused_token(keys)


def test_a_token_of_another_tenant_is_refused(lab: Lab) -> None:
    vault = lab.vault()
    keys = lab.keys(vault)
    keys.create_ec_key("signer")
    vault.tenant = OTHER_TENANT
    assert "AKV10032" in refused_token(keys)


def test_a_token_that_was_taken_back_is_refused_and_a_new_one_is_not(lab: Lab) -> None:
    keys = lab.keys(lab.vault())
    keys.create_ec_key("signer")
    lab.world.tokens.expire_all()
    assert keys.get_key("signer").name == "signer"
    assert [call.error for call in lab.world.calls[-2:]] == ["TokenExpired", None]


def test_a_challenge_that_names_a_wrong_resource_is_noticed_by_the_client(lab: Lab) -> None:
    lab.world.faults.add(challenge_resource="https://evil.example", times=1)
    keys = lab.keys(lab.vault())
    with pytest.raises(ValueError, match=r"evil\.example"):
        keys.get_key("signer")
    assert lab.log() == []
