"""The vendor's credentials, unmodified, sign in to the local Entra ID in every way they know."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
import requests
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import (
    AzureAuthorityHosts,
    CertificateCredential,
    ClientAssertionCredential,
    ClientSecretCredential,
    CredentialUnavailableError,
    DefaultAzureCredential,
    ManagedIdentityCredential,
    WorkloadIdentityCredential,
)

from envelope_testing.keyvault import LocalKeyVault
from envelope_testing.keyvault.local import Credential
from envelope_testing.keyvault.world import World

SCOPE = "https://vault.azure.net/.default"
RESOURCE = "https://vault.azure.net"
OTHER_TENANT = "99999999-8888-7777-6666-555555555555"
CREDENTIALS: list[Credential] = [
    "client-secret",
    "certificate",
    "workload-identity",
    "managed-identity",
    "app-service",
]


def enter(
    keyvault: LocalKeyVault, monkeypatch: pytest.MonkeyPatch, name: str, credential: Credential
) -> None:
    """Make this process one that has these credentials and no others."""
    for variable in keyvault.environment():
        if variable.startswith("AZURE_"):
            monkeypatch.delenv(variable)
    for variable, text in keyvault.environment(name, credential=credential).items():
        monkeypatch.setenv(variable, text)


def holder(keyvault: LocalKeyVault, credential: Any, scope: str = SCOPE, **options: Any) -> str:
    """Whose token a credential gets."""
    with credential:
        token = credential.get_token(scope, **options).token
    claims = jwt.decode(token, options={"verify_signature": False})
    world = keyvault.world
    return world.tokens.check(token, audience=claims["aud"], tenant=claims["tid"]).name


def refused(credential: Any, kind: type[Exception] = ClientAuthenticationError) -> str:
    with credential, pytest.raises(kind) as caught:
        credential.get_token(SCOPE)
    return str(caught.value)


# --- The default credential finds each of them --------------------------------------------------


@pytest.mark.parametrize("credential", CREDENTIALS)
def test_the_default_credential_signs_in(
    keyvault: LocalKeyVault, monkeypatch: pytest.MonkeyPatch, credential: Credential
) -> None:
    keyvault.principal("reader")
    enter(keyvault, monkeypatch, "writer", credential)
    assert holder(keyvault, DefaultAzureCredential()) == "writer"
    assert [call.principal for call in keyvault.sign_ins.calls][-1] == "writer"


def test_who_it_is_shows_in_the_log_of_sign_ins(keyvault: LocalKeyVault) -> None:
    holder(keyvault, DefaultAzureCredential())
    assert [(call.operation, call.status, call.principal) for call in keyvault.sign_ins.calls] == [
        ("openid_configuration", 200, None),
        ("token", 200, "developer"),
    ]


# --- Secrets ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "authority",
    [
        AzureAuthorityHosts.AZURE_PUBLIC_CLOUD,
        AzureAuthorityHosts.AZURE_CHINA,
        AzureAuthorityHosts.AZURE_GOVERNMENT,
    ],
)
def test_a_secret_signs_in_in_every_cloud(keyvault: LocalKeyVault, authority: str) -> None:
    who = keyvault.principal("writer")
    credential = ClientSecretCredential(
        who.tenant, who.client_id, who.client_secret, authority=authority
    )
    assert holder(keyvault, credential) == "writer"
    assert f"{authority}:443" in keyvault.connections


def test_a_token_is_for_the_resource_that_was_asked_for(keyvault: LocalKeyVault) -> None:
    who = keyvault.principal("writer")
    with ClientSecretCredential(who.tenant, who.client_id, who.client_secret) as credential:
        token = credential.get_token("https://managedhsm.azure.net/.default").token
    claims = jwt.decode(token, options={"verify_signature": False})
    assert claims["aud"] == "https://managedhsm.azure.net"


def test_a_wrong_secret_is_refused(keyvault: LocalKeyVault) -> None:
    who = keyvault.principal("writer")
    said = refused(ClientSecretCredential(who.tenant, who.client_id, "wrong"))
    assert "AADSTS7000215" in said
    (call,) = (each for each in keyvault.sign_ins.calls if each.operation == "token")
    assert (call.status, call.principal, call.error) == (401, "writer", "AADSTS7000215")


def test_an_unknown_application_is_refused(keyvault: LocalKeyVault) -> None:
    who = keyvault.principal("writer")
    said = refused(ClientSecretCredential(who.tenant, OTHER_TENANT, who.client_secret))
    assert "AADSTS700016" in said


def test_an_unknown_tenant_is_refused(keyvault: LocalKeyVault) -> None:
    who = keyvault.principal("writer")
    assert "authority" in refused(ClientSecretCredential(OTHER_TENANT, who.client_id, "x"))
    assert [call.error for call in keyvault.sign_ins.calls] == ["AADSTS90002"]


def test_a_resource_that_is_none_of_key_vaults_is_refused(keyvault: LocalKeyVault) -> None:
    who = keyvault.principal("writer")
    credential = ClientSecretCredential(who.tenant, who.client_id, who.client_secret)
    with credential, pytest.raises(ClientAuthenticationError, match="AADSTS500011"):
        credential.get_token("https://storage.azure.com/.default")


def test_an_application_must_be_installed_in_another_tenant(keyvault: LocalKeyVault) -> None:
    who = keyvault.principal("writer")
    keyvault.principal("somebody", tenant=OTHER_TENANT)

    def credential() -> ClientSecretCredential:
        return ClientSecretCredential(
            who.tenant, who.client_id, who.client_secret, additionally_allowed_tenants=["*"]
        )

    with pytest.raises(ClientAuthenticationError, match="AADSTS700016"):
        holder(keyvault, credential(), tenant_id=OTHER_TENANT)
    there = keyvault.consent(who, OTHER_TENANT)
    assert there.object_id != who.object_id
    assert holder(keyvault, credential(), tenant_id=OTHER_TENANT) == there.name
    assert holder(keyvault, credential()) == "writer"
    assert keyvault.consent(who, OTHER_TENANT) is there


def test_a_region_has_an_end_point_of_its_own(
    keyvault: LocalKeyVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_REGIONAL_AUTHORITY_NAME", "northeurope")
    assert holder(keyvault, DefaultAzureCredential()) == "developer"
    assert "northeurope.login.microsoft.com:443" in keyvault.connections


# --- What Entra ID says, in its own form --------------------------------------------------------


@pytest.fixture
def token(keyvault: LocalKeyVault) -> Callable[..., requests.Response]:
    """Asks for a token; changes of the request's fields are given, None removes one."""
    who = keyvault.principal("writer")

    def ask(path: str = "oauth2/v2.0/token", *, tenant: str = "", **changes: Any) -> Any:
        fields = {
            "grant_type": "client_credentials",
            "client_id": who.client_id,
            "client_secret": who.client_secret,
            "scope": SCOPE,
            **changes,
        }
        url = f"https://login.microsoftonline.com/{tenant or who.tenant}/{path}"
        kept = {name: value for name, value in fields.items() if value is not None}
        return requests.post(url, data=kept, timeout=30)

    return ask


@pytest.mark.parametrize(
    ("changes", "status", "error", "code"),
    [
        ({"client_secret": "wrong"}, 401, "invalid_client", 7000215),
        ({"client_secret": None}, 401, "invalid_client", 7000216),
        ({"client_id": OTHER_TENANT}, 400, "unauthorized_client", 700016),
        ({"tenant": OTHER_TENANT}, 400, "invalid_tenant", 90002),
        ({"tenant": "organizations"}, 400, "invalid_request", 50059),
        ({"grant_type": "password"}, 400, "unsupported_grant_type", 70003),
        ({"scope": RESOURCE}, 400, "invalid_scope", 1002012),
        ({"scope": "https://example.com/.default"}, 400, "invalid_resource", 500011),
    ],
)
def test_an_error_has_the_members_that_entra_sends(
    token: Callable[..., requests.Response],
    changes: dict[str, Any],
    status: int,
    error: str,
    code: int,
) -> None:
    answer = token(**changes)
    said = answer.json()
    assert (answer.status_code, said["error"], said["error_codes"]) == (status, error, [code])
    assert said["error_description"].startswith(f"AADSTS{code}: ")
    assert said["trace_id"] in said["error_description"]
    assert said["correlation_id"] in said["error_description"]
    assert said["error_uri"] == f"https://login.microsoftonline.com/error?code={code}"


def test_version_1_of_the_end_point_names_the_resource_apart(
    token: Callable[..., requests.Response],
) -> None:
    said = token("oauth2/token", scope=None, resource=RESOURCE).json()
    assert said["resource"] == RESOURCE
    assert said["expires_in"] == "3599"
    assert abs(int(said["expires_on"]) - time.time()) < 3700


def test_discovery_answers_for_any_tenant_with_a_placeholder(keyvault: LocalKeyVault) -> None:
    url = "https://login.microsoftonline.com"
    path = "v2.0/.well-known/openid-configuration"
    common = requests.get(f"{url}/common/{path}", timeout=30).json()
    assert common["issuer"] == f"{url}/{{tenantid}}/v2.0"
    instance = requests.get(
        f"{url}/common/discovery/instance",
        params={"api-version": "1.1", "authorization_endpoint": f"{url}/x/oauth2/v2.0/authorize"},
        timeout=30,
    ).json()
    assert instance["tenant_discovery_endpoint"] == f"{url}/x/{path}"
    aliases = [alias for each in instance["metadata"] for alias in each["aliases"]]
    assert {"login.microsoftonline.com", "login.microsoftonline.us"} <= set(aliases)


# --- Certificates -------------------------------------------------------------------------------


@pytest.mark.parametrize("chain", [False, True])
def test_a_registered_certificate_signs_in(keyvault: LocalKeyVault, chain: bool) -> None:
    who = keyvault.principal("writer")
    path = str(keyvault.credentials.certificate_file(who))
    credential = CertificateCredential(
        who.tenant, who.client_id, path, send_certificate_chain=chain
    )
    assert holder(keyvault, credential) == "writer"


def test_a_certificate_of_which_the_thumbprint_alone_is_known_comes_with_the_request(
    keyvault: LocalKeyVault,
) -> None:
    who = keyvault.principal("writer")
    path = str(keyvault.credentials.certificate_file(who))
    keyvault.credentials._certificates.clear()

    def credential(chain: bool) -> CertificateCredential:
        return CertificateCredential(who.tenant, who.client_id, path, send_certificate_chain=chain)

    assert holder(keyvault, credential(True)) == "writer"
    assert "AADSTS700027" in refused(credential(False))


def test_another_applications_certificate_is_refused(keyvault: LocalKeyVault) -> None:
    who, other = keyvault.principal("writer"), keyvault.principal("reader")
    path = str(keyvault.credentials.certificate_file(other))
    assert "AADSTS700027" in refused(CertificateCredential(who.tenant, who.client_id, path))


def test_a_certificate_that_was_removed_is_refused(keyvault: LocalKeyVault) -> None:
    who = keyvault.principal("writer")
    path = str(keyvault.credentials.certificate_file(who))
    who.certificate_thumbprints.clear()
    assert "AADSTS700027" in refused(CertificateCredential(who.tenant, who.client_id, path))


def test_a_signature_by_another_key_under_a_registered_thumbprint_is_refused(
    keyvault: LocalKeyVault, tmp_path: Path
) -> None:
    who = keyvault.principal("writer")
    good = keyvault.credentials.certificate_file(who).read_text()
    key = keyvault.credentials.certificate_file(keyvault.principal("reader")).read_text()
    mark = "-----BEGIN CERTIFICATE-----"
    mixed = tmp_path / "mixed.pem"
    mixed.write_text(key.partition(mark)[0] + mark + good.partition(mark)[2])
    said = refused(CertificateCredential(who.tenant, who.client_id, str(mixed)))
    assert "failed signature validation" in said


def assertion(keyvault: LocalKeyVault, **changes: Any) -> Callable[[], str]:
    """A client assertion of the principal ``writer``, with changed claims."""
    who = keyvault.principal("writer")
    pem = keyvault.credentials.certificate_file(who).read_text()
    sha256 = next(each for each in who.certificate_thumbprints if len(each) == 64)
    encoded = jwt.utils.base64url_encode(bytes.fromhex(sha256)).decode()
    claims = {
        "aud": f"https://login.microsoftonline.com/{who.tenant}/oauth2/v2.0/token",
        "iss": who.client_id,
        "sub": who.client_id,
        "exp": int(time.time()) + 600,
        "nbf": int(time.time()),
        **changes,
    }
    header = {"x5t#S256": encoded}
    return lambda: jwt.encode(claims, pem, algorithm="PS256", headers=header)


def test_an_assertion_made_by_hand_signs_in(keyvault: LocalKeyVault) -> None:
    who = keyvault.principal("writer")
    credential = ClientAssertionCredential(who.tenant, who.client_id, assertion(keyvault))
    assert holder(keyvault, credential) == "writer"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"aud": "https://login.example.com/oauth2/v2.0/token"}, "AADSTS700023"),
        ({"sub": "somebody"}, "AADSTS700023"),
        ({"exp": 1_000_000_000}, "AADSTS700024"),
        ({"nbf": 4_000_000_000}, "AADSTS700024"),
        ({"iss": "https://issuer.example.com"}, "AADSTS700213"),
    ],
)
def test_an_assertion_with_a_wrong_claim_is_refused(
    keyvault: LocalKeyVault, changes: dict[str, Any], code: str
) -> None:
    who = keyvault.principal("writer")
    credential = ClientAssertionCredential(
        who.tenant, who.client_id, assertion(keyvault, **changes)
    )
    assert code in refused(credential)


def test_an_assertion_that_is_no_token_is_refused(keyvault: LocalKeyVault) -> None:
    who = keyvault.principal("writer")
    for text in ("nonsense", "a.b.c", ""):
        credential = ClientAssertionCredential(who.tenant, who.client_id, lambda text=text: text)
        assert "AADSTS" in refused(credential)


# --- Workload identity --------------------------------------------------------------------------


def workload(keyvault: LocalKeyVault, path: Path) -> WorkloadIdentityCredential:
    who = keyvault.principal("writer")
    return WorkloadIdentityCredential(
        tenant_id=who.tenant, client_id=who.client_id, token_file_path=str(path)
    )


def test_a_federated_token_signs_in(keyvault: LocalKeyVault) -> None:
    path = keyvault.credentials.federated_token_file(keyvault.principal("writer"))
    assert holder(keyvault, workload(keyvault, path)) == "writer"


def test_a_federated_token_of_another_service_account_is_refused(keyvault: LocalKeyVault) -> None:
    path = keyvault.credentials.federated_token_file(keyvault.principal("reader"))
    assert "AADSTS700213" in refused(workload(keyvault, path))


def test_a_federated_token_expires(keyvault: LocalKeyVault) -> None:
    who = keyvault.principal("writer")
    path = keyvault.credentials.federated_token_file(who, lifetime=600)
    keyvault.world.clock.advance(601)
    assert "AADSTS700024" in refused(workload(keyvault, path))


def test_a_federated_token_of_another_cluster_is_refused(keyvault: LocalKeyVault) -> None:
    with LocalKeyVault() as other:
        who = other.principal("writer")
        content = other.credentials.federated_token_file(who).read_bytes()
    path = keyvault.credentials.federated_token_file(keyvault.principal("writer"))
    path.write_bytes(content)
    assert "AADSTS5001315" in refused(workload(keyvault, path))


# --- Managed identities -------------------------------------------------------------------------


def by_each_name(keyvault: LocalKeyVault) -> list[ManagedIdentityCredential]:
    who = keyvault.principal("writer")
    return [
        ManagedIdentityCredential(client_id=who.client_id),
        ManagedIdentityCredential(identity_config={"object_id": who.object_id}),
        ManagedIdentityCredential(identity_config={"resource_id": who.resource_id}),
    ]


@pytest.mark.parametrize("kind", ["managed-identity", "app-service"])
def test_an_assigned_identity_is_found_by_each_of_its_names(
    keyvault: LocalKeyVault, monkeypatch: pytest.MonkeyPatch, kind: Credential
) -> None:
    enter(keyvault, monkeypatch, "machine", kind)
    keyvault.machine.assign(keyvault.principal("writer"))
    found = [holder(keyvault, each, RESOURCE) for each in by_each_name(keyvault)]
    assert found == ["writer"] * 3
    assert holder(keyvault, ManagedIdentityCredential(), RESOURCE) == "machine"


@pytest.mark.parametrize("kind", ["managed-identity", "app-service"])
def test_an_identity_that_is_not_assigned_is_refused(
    keyvault: LocalKeyVault, monkeypatch: pytest.MonkeyPatch, kind: Credential
) -> None:
    enter(keyvault, monkeypatch, "machine", kind)
    for credential in by_each_name(keyvault):
        refused(credential, CredentialUnavailableError)
    assert {call.status for call in keyvault.sign_ins.calls} == {400}


def test_a_machine_without_an_identity_of_its_own_takes_the_only_one(
    keyvault: LocalKeyVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    enter(keyvault, monkeypatch, "machine", "managed-identity")
    keyvault.machine.system = None
    assert "Identity not found" in refused(ManagedIdentityCredential(), CredentialUnavailableError)
    keyvault.machine.assign(keyvault.principal("writer"))
    assert holder(keyvault, ManagedIdentityCredential(), RESOURCE) == "writer"
    keyvault.machine.assign(keyvault.principal("reader"))
    said = refused(ManagedIdentityCredential(), CredentialUnavailableError)
    assert "Multiple user assigned identities exist" in said


def test_a_managed_token_is_good_for_clients_when_the_worlds_clock_has_moved(
    keyvault: LocalKeyVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    keyvault.world.clock.advance(40 * 86400)
    enter(keyvault, monkeypatch, "writer", "app-service")
    with ManagedIdentityCredential() as credential:
        left = credential.get_token(RESOURCE).expires_on - time.time()
    assert 80_000 < left < 90_000


def test_the_metadata_service_wants_its_header(keyvault: LocalKeyVault) -> None:
    url = "http://169.254.169.254/metadata/identity/oauth2/token"
    query = {"api-version": "2018-02-01", "resource": RESOURCE}
    bare = requests.get(url, params=query, timeout=30)
    assert (bare.status_code, bare.json()["error"]) == (400, "invalid_request")
    for missing in query:
        kept = {name: text for name, text in query.items() if name != missing}
        answer = requests.get(url, params=kept, headers={"Metadata": "true"}, timeout=30)
        assert missing in answer.json()["error_description"]


def test_app_service_wants_its_secret(
    keyvault: LocalKeyVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    enter(keyvault, monkeypatch, "writer", "app-service")
    monkeypatch.setenv("IDENTITY_HEADER", "guessed")
    refused(ManagedIdentityCredential(), CredentialUnavailableError)
    assert [call.status for call in keyvault.sign_ins.calls] == [401]


def test_the_metadata_service_tells_the_region(keyvault: LocalKeyVault) -> None:
    url = "http://169.254.169.254/metadata/instance/compute?api-version=2021-02-01"
    answer = requests.get(url, headers={"Metadata": "true"}, timeout=30)
    assert answer.json()["location"] == keyvault.machine.location
    assert requests.get(url, timeout=30).status_code == 400


# --- Faults -------------------------------------------------------------------------------------


def test_a_sign_in_can_be_made_to_fail_and_then_works(keyvault: LocalKeyVault) -> None:
    keyvault.sign_ins.faults.add(operation="token", status=503, retry_after=0)
    assert holder(keyvault, DefaultAzureCredential()) == "developer"
    statuses = [call.status for call in keyvault.sign_ins.calls if call.operation == "token"]
    assert statuses == [503, 200]


def test_a_sign_in_can_lose_its_connection(keyvault: LocalKeyVault) -> None:
    keyvault.sign_ins.faults.add(operation="openid_configuration", drop=True)
    url = "https://login.microsoftonline.com/common/v2.0/.well-known/openid-configuration"
    with pytest.raises(requests.ConnectionError):
        requests.get(url, timeout=30)
    assert requests.get(url, timeout=30).status_code == 200


def test_a_sign_in_can_hang(keyvault: LocalKeyVault) -> None:
    keyvault.sign_ins.faults.add(operation="managed_identity", hang=3600)
    url = "http://169.254.169.254/metadata/identity/oauth2/token"
    with pytest.raises(requests.Timeout):
        requests.get(url, timeout=0.3)


# --- Other ways in ------------------------------------------------------------------------------


def test_a_program_of_its_own_signs_in(keyvault: LocalKeyVault) -> None:
    program = (
        "from azure.identity import DefaultAzureCredential\n"
        f"print(DefaultAzureCredential().get_token({SCOPE!r}).token)"
    )
    environment = {**os.environ, **keyvault.environment("writer")}
    ran = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, check=True
    )
    who = keyvault.principal("writer")
    token = ran.stdout.decode().strip()
    assert keyvault.world.tokens.check(token, audience=RESOURCE, tenant=who.tenant) is who


def test_a_client_secret_can_be_an_argument_of_a_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("secrets.token_urlsafe", lambda _: "-p")
    assert not World().principal("reader").client_secret.startswith("-")
