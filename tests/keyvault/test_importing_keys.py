"""Keys that arrive in a transfer blob, which only the vault's HSM can open."""

from __future__ import annotations

import base64
import json
import os

import pytest
from azure.keyvault.keys import JsonWebKey, KeyClient, KeyVaultKey
from cryptography.hazmat.primitives import hashes, keywrap
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.keyvault.inprocess import Lab, refusal

DATA_KEY = bytes(range(32))
SHA1 = padding.OAEP(padding.MGF1(hashes.SHA1()), hashes.SHA1(), None)


def blob_of(plain: bytes, exchange: KeyVaultKey) -> bytes:
    """What the vendor's tools write to a .byok file."""
    numbers = rsa.RSAPublicNumbers(int.from_bytes(exchange.key.e), int.from_bytes(exchange.key.n))
    ephemeral = os.urandom(32)
    ciphertext = numbers.public_key().encrypt(ephemeral, SHA1)
    ciphertext += keywrap.aes_key_wrap_with_padding(ephemeral, plain)
    return json.dumps(
        {
            "schema_version": "1.0.0",
            "header": {"kid": exchange.id, "alg": "dir", "enc": "CKM_RSA_AES_KEY_WRAP"},
            "ciphertext": base64.urlsafe_b64encode(ciphertext).rstrip(b"=").decode(),
            "generator": "a test",
        }
    ).encode()


def exchange_key(keys: KeyClient, **options: object) -> KeyVaultKey:
    options = {"hardware_protected": True, "key_operations": ["import"], **options}
    return keys.create_rsa_key("exchange", size=4096, **options)


@pytest.fixture
def private() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def pkcs8(private: rsa.RSAPrivateKey) -> bytes:
    return private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


@pytest.mark.parametrize("suffix", ["vault.azure.net", "managedhsm.azure.net"])
def test_an_rsa_key_arrives_and_works(lab: Lab, private: rsa.RSAPrivateKey, suffix: str) -> None:
    keys = lab.keys(lab.vault(suffix=suffix))
    blob = blob_of(pkcs8(private), exchange_key(keys))
    made = keys.import_key("mine", JsonWebKey(kty="RSA-HSM", t=blob), hardware_protected=True)
    assert made.key_type == "RSA-HSM"
    sealed = private.public_key().encrypt(
        DATA_KEY, padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
    )
    assert lab.crypto(made.id).unwrap_key("RSA-OAEP-256", sealed).key == DATA_KEY


def test_a_symmetric_key_arrives_in_a_managed_hsm(lab: Lab) -> None:
    keys = lab.keys(lab.vault(suffix="managedhsm.azure.net"))
    secret = os.urandom(32)
    blob = blob_of(secret, exchange_key(keys))
    made = keys.import_key("mine", JsonWebKey(kty="oct-HSM", t=blob))
    wrapped = lab.crypto(made.id).wrap_key("A256KW", DATA_KEY).encrypted_key
    assert wrapped == keywrap.aes_key_wrap(secret, DATA_KEY)


def test_a_blob_that_was_altered_or_is_for_another_key_is_refused(
    lab: Lab, private: rsa.RSAPrivateKey
) -> None:
    keys = lab.keys(lab.vault())
    first = exchange_key(keys)
    blob = json.loads(blob_of(pkcs8(private), first))
    second = keys.rotate_key("exchange")
    cut = {**blob, "ciphertext": blob["ciphertext"][:-4] + "AAAA"}
    other = {**blob, "header": {**blob["header"], "kid": second.id}}
    gone = {**blob, "header": {**blob["header"], "kid": first.id.replace("exchange", "gone")}}
    away = {**blob, "header": {**blob["header"], "kid": first.id.replace("acme", "evil")}}
    for bad in (cut, other, gone, away, {}, {"header": {}}):
        jwk = JsonWebKey(kty="RSA-HSM", t=json.dumps(bad).encode())
        found = refusal(lambda jwk=jwk: keys.import_key("mine", jwk))
        assert found[:2] == (400, "BadParameter"), bad
    assert [one.name for one in keys.list_properties_of_keys()] == ["exchange"]


@pytest.mark.parametrize(
    "options", [{"key_operations": ["decrypt"]}, {"hardware_protected": False}]
)
def test_the_exchange_key_must_be_an_hsms_and_for_importing_alone(
    lab: Lab, private: rsa.RSAPrivateKey, options: dict[str, object]
) -> None:
    keys = lab.keys(lab.vault())
    blob = blob_of(pkcs8(private), exchange_key(keys, **options))
    call = lambda: keys.import_key("mine", JsonWebKey(kty="RSA-HSM", t=blob))  # noqa: E731
    assert refusal(call)[:2] == (400, "BadParameter")


def test_an_exchange_key_does_nothing_else(lab: Lab) -> None:
    keys = lab.keys(lab.vault())
    client = lab.crypto(exchange_key(keys).id)
    found = refusal(lambda: client.unwrap_key("RSA-OAEP", bytes(512)))
    assert found[2] == "KeyOperationForbidden"
    call = lambda: keys.create_rsa_key("k", size=2048, key_operations=["import", "decrypt"])  # noqa: E731
    assert refusal(call)[:2] == (400, "BadParameter")
