"""Keys in a vault, through the unmodified SDK over HTTPS."""

from __future__ import annotations

from pathlib import Path

import pytest

import envelope
from envelope.errors import AccessDenied, KeyDisabled, KeyExpired, KeyMismatch, KeyNotFound
from envelope.keys import WrappedKey
from envelope.ring import KeyRing
from envelope.secret import Secret
from envelope.testing.conformance import MasterKeyConformance, Subject
from envelope_azure.driver import AZURE, AzureKeys
from tests.azure.conftest import Azure

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


def test_a_writer_that_may_only_wrap_stores_the_version_that_the_vault_names(
    azure: Azure, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = azure.client().create_rsa_key("lake", size=2048)
    producer = azure.local.world.principal("producer")
    azure.vault.grant(producer, "Key Vault Crypto Service Encryption User")
    key = resolver(wrap="vault").resolve(azure.key())
    wrapped = key.wrap(Secret.random(), aad=AAD)
    assert wrapped.kid == made.id


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
