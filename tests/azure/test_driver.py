"""Keys in a vault, through the unmodified SDK over HTTPS."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import pytest
from azure.core.rest import HttpRequest
from azure.identity import DefaultAzureCredential
from azure.keyvault.certificates import CertificateClient, CertificatePolicy
from azure.keyvault.secrets import SecretClient

import envelope
from envelope import keyurl
from envelope.errors import (
    AccessDenied,
    KeyDisabled,
    KeyExpired,
    KeyMismatch,
    KeyNotFound,
    KeyOperationForbidden,
)
from envelope.jose import b64u_decode, b64u_encode
from envelope.keys import WrappedKey
from envelope.ring import KeyRing
from envelope.secret import Secret
from envelope.testing.conformance import MasterKeyConformance, Subject
from envelope_azure.driver import AZURE, SECRET, AzureKeys
from envelope_azure.keys import HSM_ALGS
from tests.azure.conftest import Azure

pytestmark = pytest.mark.slow

AAD = bytes(32)


def resolver(**options: object) -> AzureKeys:
    return AZURE.resolver(AZURE.settings(options))


class TestAnRsaKey(MasterKeyConformance):
    @pytest.fixture(params=[2048, 3072, 4096])
    def subject(self, azure: Azure, request: pytest.FixtureRequest) -> Subject:
        client = azure.client()
        client.create_rsa_key("lake", size=request.param)
        client.create_rsa_key("other", size=2048)

        def disable(kid: str) -> None:
            client.update_key_properties("lake", kid.rsplit("/", 1)[1], enabled=False)

        return Subject(
            AZURE,
            {},
            azure.key(),
            azure.key("other"),
            azure.key("missing"),
            alg="RSA-OAEP-256",
            rotate=lambda: client.create_rsa_key("lake", size=2048),
            disable=disable,
            deny=lambda: azure.vault.revoke(azure.local.world.principal("developer")),
            canaries=[Secret(azure.local.environment()["AZURE_CLIENT_SECRET"].encode())],
        )


class TestAnHsmBackedRsaKey(TestAnRsaKey):
    @pytest.fixture
    def subject(self, azure: Azure) -> Subject:
        client = azure.client()
        client.create_rsa_key("lake", size=2048, hardware_protected=True)
        client.create_rsa_key("other", size=2048, hardware_protected=True)

        def disable(kid: str) -> None:
            client.update_key_properties("lake", kid.rsplit("/", 1)[1], enabled=False)

        return Subject(
            AZURE,
            {"wrap": "vault"},
            azure.key(),
            azure.key("other"),
            azure.key("missing"),
            alg="RSA-OAEP-256",
            rotate=lambda: client.create_rsa_key("lake", size=2048, hardware_protected=True),
            disable=disable,
        )


class TestASymmetricKeyOfAManagedHsm(MasterKeyConformance):
    @pytest.fixture(params=HSM_ALGS)
    def subject(self, azure: Azure, request: pytest.FixtureRequest) -> Subject:
        hsm = azure.local.vault(f"{azure.vault.name}-hsm", suffix="managedhsm.azure.net")
        client = azure.client(hsm.host)
        client.create_oct_key("lake", size=256)
        client.create_oct_key("other", size=256)

        def disable(kid: str) -> None:
            client.update_key_properties("lake", kid.rsplit("/", 1)[1], enabled=False)

        return Subject(
            AZURE,
            {"hsm_alg": request.param},
            f"azurekeyvault://{hsm.host}/lake",
            f"azurekeyvault://{hsm.host}/other",
            f"azurekeyvault://{hsm.host}/missing",
            alg=request.param,
            rotate=lambda: client.create_oct_key("lake", size=256),
            disable=disable,
            deny=lambda: hsm.revoke(azure.local.world.principal("developer")),
        )

    def test_what_one_client_wraps_a_fresh_one_and_the_vendors_own_unwrap(
        self, azure: Azure, subject: Subject
    ) -> None:
        """The vendor's CryptographyClient wraps such keys under a throw-away key: all is lost."""
        key = Secret.random()
        wrapped = subject.master().wrap(key, aad=AAD)
        azure.restart()
        assert subject.resolver().resolve(wrapped.kid).unwrap(wrapped, aad=AAD) == key
        host = keyurl.parse(wrapped.kid).host
        answer = azure.client(host).send_request(
            HttpRequest(
                "POST",
                wrapped.kid.partition("/keys/")[1][1:]
                + wrapped.kid.partition("/keys/")[2]
                + "/unwrapkey",
                json={
                    "alg": wrapped.alg,
                    "value": b64u_encode(wrapped.encrypted_key),
                    **({**wrapped.params, "aad": b64u_encode(AAD)} if wrapped.params else {}),
                },
            )
        )
        assert b64u_decode(answer.json()["value"], "value") == key.reveal()


class TestASecret(MasterKeyConformance):
    @pytest.fixture
    def subject(self, azure: Azure) -> Subject:
        client = SecretClient(f"https://{azure.host}", DefaultAzureCredential())
        keys = [Secret.random() for _ in range(3)]

        def store(name: str, key: Secret) -> None:
            client.set_secret(name, base64.b64encode(key.reveal()).decode())

        def disable(kid: str) -> None:
            client.update_secret_properties("lake", kid.rsplit("/", 1)[1], enabled=False)

        store("lake", keys[0])
        store("other", keys[1])
        return Subject(
            SECRET,
            {},
            f"azurekeyvault-secret://{azure.host}/lake",
            f"azurekeyvault-secret://{azure.host}/other",
            f"azurekeyvault-secret://{azure.host}/missing",
            alg="A256KW",
            rotate=lambda: store("lake", keys[2]),
            disable=disable,
            deny=lambda: azure.vault.revoke(azure.local.world.principal("developer")),
            canaries=keys,
        )


class TestTheKeyOfACertificate(MasterKeyConformance):
    @pytest.fixture
    def subject(self, azure: Azure) -> Subject:
        client = CertificateClient(f"https://{azure.host}", DefaultAzureCredential())
        policy = CertificatePolicy.get_default()
        client.begin_create_certificate("lake", policy).result()
        client.begin_create_certificate("other", policy).result()
        return Subject(
            AZURE,
            {},
            f"azurekeyvault-certificate://{azure.host}/lake",
            f"azurekeyvault-certificate://{azure.host}/other",
            f"azurekeyvault-certificate://{azure.host}/missing",
            alg="RSA-OAEP-256",
            rotate=lambda: client.begin_create_certificate("lake", policy).result(),
            deny=lambda: azure.vault.revoke(azure.local.world.principal("developer")),
        )


def test_a_key_under_a256gcm_is_bound_to_its_keks_id(azure: Azure) -> None:
    hsm = azure.local.vault(f"{azure.vault.name}-hsm", suffix="managedhsm.azure.net")
    azure.client(hsm.host).create_oct_key("lake", size=256)
    key = resolver(hsm_alg="A256GCM").resolve(f"azurekeyvault://{hsm.host}/lake")
    wrapped = key.wrap(Secret.random(), aad=AAD)
    with pytest.raises(KeyMismatch):
        key.unwrap(wrapped, aad=bytes([1]) + AAD[1:])
    settings = {"azurekeyvault": {"hsm_alg": "A256GCM"}}
    ring = KeyRing(f"azurekeyvault://{hsm.host}/lake", settings=settings)
    assert envelope.decrypt(envelope.encrypt(b"x", keys=ring), keys=ring) == b"x"


@pytest.mark.parametrize("value", ["no base64!", "c2hvcnQ=", ""])
def test_a_secret_that_is_no_key_is_refused_and_not_shown(azure: Azure, value: str) -> None:
    SecretClient(f"https://{azure.host}", DefaultAzureCredential()).set_secret("lake", value)
    with pytest.raises(KeyOperationForbidden, match="base64 of 32 bytes") as caught:
        envelope.encrypt(b"x", keys=f"azurekeyvault-secret://{azure.host}/lake")
    assert not value or value not in str(caught.value)


def test_files_go_and_come_back_and_the_newest_version_is_used(
    azure: Azure, tmp_path: Path
) -> None:
    client = azure.client()
    first = client.create_rsa_key("lake", size=3072)
    ring = KeyRing(azure.key())
    plain, sealed, back = tmp_path / "plain", tmp_path / "sealed", tmp_path / "back"
    plain.write_bytes(b"flights" * 100_000)

    envelope.encrypt_file(plain, sealed, keys=ring)
    assert [kid for kid, _ in envelope.inspect(sealed).recipients] == [first.id]
    envelope.decrypt_file(sealed, back, keys=ring)
    assert back.read_bytes() == plain.read_bytes()

    second = client.rotate_key("lake")
    azure.restart()  # a process believes for half a minute that the newest version is still that
    done = envelope.rewrap(sealed, keys=ring)
    assert done.refreshed == (second.id,)
    assert [kid for kid, _ in envelope.inspect(sealed).recipients] == [second.id]
    assert envelope.decrypt(sealed.read_bytes(), keys=ring) == plain.read_bytes()


def test_calls_follow_keks_and_not_files(azure: Azure) -> None:
    azure.client().create_rsa_key("lake", size=2048)
    writer, reader = KeyRing(azure.key()), KeyRing(decrypt_with=azure.key())
    before = len(azure.operations())
    values = [envelope.encrypt(b"x", keys=writer) for _ in range(300)]
    assert azure.operations()[before:] == ["get_key"]
    before = len(azure.operations())
    assert {envelope.decrypt(value, keys=reader) for value in values} == {b"x"}
    assert azure.operations()[before:] == ["unwrapkey"]


def test_a_writer_that_may_wrap_and_not_look_stores_the_version_that_the_vault_names(
    azure: Azure,
) -> None:
    made = azure.client().create_rsa_key("lake", size=2048)
    azure.vault.rbac = False
    producer = azure.become(f"producer-{azure.vault.name}")
    azure.vault.set_policy(producer, keys=["wrapKey"])
    sealed = envelope.encrypt(b"x", keys=KeyRing(encrypt_to=azure.key()))
    inspected = envelope.inspect(io.BytesIO(sealed))
    assert [kid for kid, _ in inspected.recipients] == [made.id]
    with pytest.raises(AccessDenied, match="unwrapKey"):
        envelope.decrypt(sealed, keys=azure.key())
    azure.vault.rbac = True
    azure.become("developer")
    assert envelope.decrypt(sealed, keys=azure.key()) == b"x"


def test_a_reader_may_unwrap_and_nothing_else(azure: Azure) -> None:
    azure.client().create_rsa_key("lake", size=2048)
    sealed = envelope.encrypt(b"x", keys=azure.key())
    azure.vault.rbac = False
    reader = azure.become(f"reader-{azure.vault.name}")
    azure.vault.set_policy(reader, keys=["unwrapKey"])
    assert envelope.decrypt(sealed, keys=azure.key()) == b"x"
    with pytest.raises(AccessDenied, match="wrapKey"):
        envelope.encrypt(b"x", keys=azure.key())


def test_a_disabled_version_wraps_and_unwraps_no_more(azure: Azure) -> None:
    client = azure.client()
    made = client.create_rsa_key("lake", size=2048)
    wrapped = resolver().resolve(azure.key()).wrap(Secret.random(), aad=AAD)
    client.update_key_properties("lake", enabled=False)
    with pytest.raises(KeyDisabled, match="no version of"):
        resolver().resolve(azure.key())
    with pytest.raises(KeyDisabled) as caught:
        resolver().resolve(made.id).unwrap(wrapped, aad=AAD)
    assert caught.value.provider_code == "KeyDisabled"
    client.update_key_properties("lake", made.properties.version, enabled=True)
    assert len(resolver().resolve(made.id).unwrap(wrapped, aad=AAD)) == 32


def test_a_local_wrap_checks_what_the_vault_would(azure: Azure) -> None:
    import datetime

    past = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    azure.client().create_rsa_key("lake", size=2048, expires_on=past)
    with pytest.raises(KeyExpired):
        resolver().resolve(azure.key()).wrap(Secret.random(), aad=AAD)


def test_a_deleted_key_says_until_when_and_how_it_comes_back(azure: Azure) -> None:
    client = azure.client()
    client.create_rsa_key("lake", size=2048)
    client.begin_delete_key("lake").wait()
    with pytest.raises(KeyDisabled, match="can be recovered until 20") as caught:
        resolver().resolve(azure.key())
    assert f"envelope keys recover {azure.key()}" in caught.value.next_step
    client.purge_deleted_key("lake")
    with pytest.raises(KeyNotFound):
        resolver().resolve(azure.key())


def test_altered_ciphertext_is_one_error_that_names_the_causes(azure: Azure) -> None:
    azure.client().create_rsa_key("lake", size=2048)
    key = resolver().resolve(azure.key())
    wrapped = key.wrap(Secret.random(), aad=AAD)
    altered = bytes([wrapped.encrypted_key[0] ^ 1]) + wrapped.encrypted_key[1:]
    with pytest.raises(KeyMismatch, match="altered, or belongs to another version, or"):
        key.unwrap(WrappedKey(wrapped.kid, wrapped.alg, altered), aad=AAD)


@pytest.mark.parametrize("alg", ["RSA1_5", "RSA-OAEP", "A256KW"])
def test_a_file_does_not_choose_the_algorithm(azure: Azure, alg: str) -> None:
    azure.client().create_rsa_key("lake", size=2048)
    key = resolver().resolve(azure.key())
    wrapped = key.wrap(Secret.random(), aad=AAD)
    before = len(azure.operations())
    with pytest.raises(KeyMismatch, match="alone"):
        key.unwrap(WrappedKey(wrapped.kid, alg, wrapped.encrypted_key), aad=AAD)
    assert len(azure.operations()) == before


def test_a_kid_of_another_host_makes_no_connection(azure: Azure) -> None:
    azure.client().create_rsa_key("lake", size=2048)
    value = envelope.encrypt(b"x", keys=azure.key())
    asked = len(azure.local.connections)
    with pytest.raises(envelope.errors.UntrustedKey):
        envelope.decrypt(value, keys="azurekeyvault://somebody-else/lake")
    assert len(azure.local.connections) == asked


def test_a_caller_without_a_role_is_told_which_one(azure: Azure) -> None:
    azure.client().create_rsa_key("lake", size=2048)
    wrapped = resolver().resolve(azure.key()).wrap(Secret.random(), aad=AAD)
    azure.vault.revoke(azure.local.world.principal("developer"))
    with pytest.raises(AccessDenied) as caught:
        resolver().resolve(wrapped.kid).unwrap(wrapped, aad=AAD)
    assert caught.value.provider_code == "ForbiddenByRbac"
    assert "Crypto Service Encryption User" in caught.value.next_step


def test_a_key_ring_reads_files_of_the_one_algorithm_that_it_is_set_to(azure: Azure) -> None:
    hsm = azure.local.vault(f"{azure.vault.name}-hsm", suffix="managedhsm.azure.net")
    azure.client(hsm.host).create_oct_key("lake", size=256)
    key = f"azurekeyvault://{hsm.host}/lake"

    def ring(alg: str) -> KeyRing:
        return KeyRing(key, settings={"azurekeyvault": {"hsm_alg": alg}})

    values = {alg: envelope.encrypt(alg.encode(), keys=ring(alg)) for alg in HSM_ALGS}
    for alg, value in values.items():
        azure.restart()
        assert [a for _, a in envelope.inspect(io.BytesIO(value)).recipients] == [alg]
        assert envelope.decrypt(value, keys=ring(alg)) == alg.encode()
        unwraps = sum(call.operation == "unwrapkey" for call in azure.local.world.calls)
        for other in set(HSM_ALGS) - {alg}:
            with pytest.raises(KeyMismatch, match=f"is used with {other}"):
                envelope.decrypt(value, keys=ring(other))
        assert unwraps == sum(call.operation == "unwrapkey" for call in azure.local.world.calls)
