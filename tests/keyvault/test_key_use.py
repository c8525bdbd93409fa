"""What keys do, by the vendor's own cryptography client, and which states forbid it."""

from __future__ import annotations

import hashlib
import time
from datetime import UTC, datetime, timedelta

import pytest
from azure.core.rest import HttpRequest
from azure.keyvault.keys import KeyClient
from azure.keyvault.keys.crypto import KeyWrapAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils

from tests.keyvault.inprocess import Lab, refusal

DATA_KEY = bytes(range(32))
INCORRECT = (400, "BadParameter", None, "The parameter is incorrect.")


@pytest.fixture
def keys(lab: Lab) -> KeyClient:
    return lab.keys(lab.vault())


@pytest.fixture
def hsm(lab: Lab) -> KeyClient:
    return lab.keys(lab.vault("safe", suffix="managedhsm.azure.net"))


def altered(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


@pytest.mark.parametrize("alg", ["RSA-OAEP-256", "RSA-OAEP", "RSA1_5"])
def test_rsa_wraps_and_unwraps(lab: Lab, keys: KeyClient, alg: str) -> None:
    made = keys.create_rsa_key("lake", size=2048)
    client = lab.crypto(made.id)
    wrapped = client.wrap_key(alg, DATA_KEY)
    assert wrapped.key_id == made.id
    assert client.unwrap_key(alg, wrapped.encrypted_key).key == DATA_KEY
    sealed = client.encrypt(alg, b"text")
    assert client.decrypt(alg, sealed.ciphertext).plaintext == b"text"
    assert lab.log()[-4:] == ["wrapkey", "unwrapkey", "encrypt", "decrypt"]


def test_what_the_client_wraps_by_itself_the_service_unwraps(lab: Lab, keys: KeyClient) -> None:
    made = keys.create_rsa_key("lake", size=2048)
    wrapped = lab.crypto(made.id, local=True).wrap_key(KeyWrapAlgorithm.rsa_oaep_256, DATA_KEY)
    assert lab.log()[-1] == "get_key"
    assert lab.crypto(made.id).unwrap_key("RSA-OAEP-256", wrapped.encrypted_key).key == DATA_KEY


def test_an_altered_ciphertext_another_version_and_another_algorithm_look_the_same(
    lab: Lab, keys: KeyClient
) -> None:
    made = keys.create_rsa_key("lake", size=2048)
    client = lab.crypto(made.id)
    wrapped = client.wrap_key("RSA-OAEP-256", DATA_KEY).encrypted_key
    other = lab.crypto(keys.rotate_key("lake").id)
    assert refusal(lambda: client.unwrap_key("RSA-OAEP-256", altered(wrapped))) == INCORRECT
    assert refusal(lambda: client.unwrap_key("RSA-OAEP-256", wrapped[:-1])) == INCORRECT
    assert refusal(lambda: other.unwrap_key("RSA-OAEP-256", wrapped)) == INCORRECT
    assert refusal(lambda: client.unwrap_key("RSA-OAEP", wrapped)) == INCORRECT
    assert refusal(lambda: client.unwrap_key("A256KW", wrapped)) == INCORRECT


def test_a_key_without_a_version_works_as_its_newest(lab: Lab, keys: KeyClient) -> None:
    first = keys.create_rsa_key("lake", size=2048)
    bare = lab.crypto("https://acme.vault.azure.net/keys/lake")
    wrapped = bare.wrap_key("RSA-OAEP-256", DATA_KEY)
    # A trap of the client, kept here so that a change of it is noticed: the service names the
    # version in its answer, and the client's result does not.
    assert wrapped.key_id == "https://acme.vault.azure.net/keys/lake"
    keys.rotate_key("lake")
    assert refusal(lambda: bare.unwrap_key("RSA-OAEP-256", wrapped.encrypted_key)) == INCORRECT
    exact = lab.crypto(first.id)
    assert exact.unwrap_key("RSA-OAEP-256", wrapped.encrypted_key).key == DATA_KEY


def test_the_service_names_the_exact_version_in_its_answer(lab: Lab, keys: KeyClient) -> None:
    made = keys.create_rsa_key("lake", size=2048)
    for path in (
        "/keys/lake/wrapkey",
        "/keys/lake//wrapkey",
        f"/keys/lake/{made.properties.version}/wrapkey",
    ):
        request = HttpRequest("POST", path, json={"alg": "RSA-OAEP-256", "value": "AAAA"})
        assert keys.send_request(request).json()["kid"] == made.id


@pytest.mark.parametrize("bits", [128, 192, 256])
def test_aes_keys_of_a_managed_hsm_wrap(lab: Lab, hsm: KeyClient, bits: int) -> None:
    made = hsm.create_oct_key("kek", size=bits, hardware_protected=True)
    assert (made.key_type, made.key.k) == ("oct-HSM", None)
    client = lab.crypto(made.id)
    wrapped = client.wrap_key(f"A{bits}KW", DATA_KEY)
    assert len(wrapped.encrypted_key) == len(DATA_KEY) + 8
    assert client.unwrap_key(f"A{bits}KW", wrapped.encrypted_key).key == DATA_KEY
    bad = altered(wrapped.encrypted_key)
    assert refusal(lambda: client.unwrap_key(f"A{bits}KW", bad)) == INCORRECT


@pytest.mark.parametrize("alg", ["CKM_AES_KEY_WRAP", "CKM_AES_KEY_WRAP_PAD"])
def test_aes_keys_wrap_as_pkcs_11_names_it(lab: Lab, hsm: KeyClient, alg: str) -> None:
    client = lab.crypto(hsm.create_oct_key("kek", hardware_protected=True).id)
    wrapped = client.wrap_key(alg, DATA_KEY)
    assert client.unwrap_key(alg, wrapped.encrypted_key).key == DATA_KEY
    odd = b"odd"
    if alg.endswith("_PAD"):
        assert client.unwrap_key(alg, client.wrap_key(alg, odd).encrypted_key).key == odd
    else:
        assert refusal(lambda: client.wrap_key(alg, odd)) == INCORRECT


def test_aes_gcm_binds_what_is_authenticated_along(lab: Lab, hsm: KeyClient) -> None:
    client = lab.crypto(hsm.create_oct_key("kek", hardware_protected=True).id)
    sealed = client.encrypt("A256GCM", DATA_KEY, additional_authenticated_data=b"orders")
    again = client.encrypt("A256GCM", DATA_KEY, additional_authenticated_data=b"orders")
    assert sealed.iv != again.iv
    assert (len(sealed.iv), len(sealed.tag)) == (12, 16)

    def opened(aad: bytes, tag: bytes) -> bytes:
        return client.decrypt(
            "A256GCM",
            sealed.ciphertext,
            iv=sealed.iv,
            authentication_tag=tag,
            additional_authenticated_data=aad,
        ).plaintext

    assert opened(b"orders", sealed.tag) == DATA_KEY
    assert refusal(lambda: opened(b"prices", sealed.tag)) == INCORRECT
    assert refusal(lambda: opened(b"orders", altered(sealed.tag))) == INCORRECT
    assert refusal(lambda: opened(b"orders", sealed.tag[:4])) == INCORRECT


def test_aes_gcm_wraps_with_iv_tag_and_what_is_authenticated_along(
    lab: Lab, hsm: KeyClient
) -> None:
    hsm.create_oct_key("kek", hardware_protected=True)

    def call(operation: str, **members: str) -> dict[str, str]:
        body = {"alg": "A256GCM", "aad": "b3JkZXJz", **members}
        answer = hsm.send_request(HttpRequest("POST", f"/keys/kek/{operation}", json=body))
        return answer.json()

    wrapped = call("wrapkey", value="AAAA")
    assert wrapped["aad"] == "b3JkZXJz"
    members = {name: wrapped[name] for name in ("value", "iv", "tag")}
    assert call("unwrapkey", **members)["value"] == "AAAA"
    assert call("unwrapkey", **members | {"aad": "AAAA"})["error"]["code"] == "BadParameter"
    del members["tag"]
    assert call("unwrapkey", **members)["error"]["code"] == "BadParameter"


@pytest.mark.parametrize("alg", ["A256CBC", "A256CBCPAD"])
def test_aes_cbc_encrypts(lab: Lab, hsm: KeyClient, alg: str) -> None:
    client = lab.crypto(hsm.create_oct_key("kek", hardware_protected=True).id)
    plain = b"odd" if alg.endswith("PAD") else b"s" * 32
    sealed = client.encrypt(alg, plain, iv=b"i" * 16)
    assert client.decrypt(alg, sealed.ciphertext, iv=sealed.iv).plaintext == plain
    assert refusal(lambda: client.decrypt(alg, sealed.ciphertext, iv=b"i")) == INCORRECT


def test_aes_cbc_without_padding_fills_the_last_block_with_zeros(lab: Lab, hsm: KeyClient) -> None:
    client = lab.crypto(hsm.create_oct_key("kek", hardware_protected=True).id)
    sealed = client.encrypt("A256CBC", b"odd", iv=b"i" * 16)
    found = client.decrypt("A256CBC", sealed.ciphertext, iv=sealed.iv).plaintext
    assert found == b"odd" + bytes(13)


def test_an_aes_key_takes_the_algorithms_of_its_size_alone(lab: Lab, hsm: KeyClient) -> None:
    client = lab.crypto(hsm.create_oct_key("kek", size=128, hardware_protected=True).id)
    for alg in ("A256KW", "A192KW", "RSA-OAEP-256"):
        assert refusal(lambda alg=alg: client.wrap_key(alg, DATA_KEY)) == INCORRECT


def test_the_client_wraps_under_a_key_of_its_own_where_the_hsms_key_is_symmetric(
    lab: Lab, hsm: KeyClient
) -> None:
    """A trap of the client: what it wraps by itself, nobody can unwrap."""
    made = hsm.create_oct_key("kek", hardware_protected=True)
    lost = lab.crypto(made.id, local=True).wrap_key(KeyWrapAlgorithm.aes_256, DATA_KEY)
    assert "wrapkey" not in lab.log()
    fresh = lab.crypto(made.id)
    assert refusal(lambda: fresh.unwrap_key("A256KW", lost.encrypted_key)) == INCORRECT


@pytest.mark.parametrize("alg", ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"])
def test_rsa_signatures_hold_for_anybody(lab: Lab, keys: KeyClient, alg: str) -> None:
    made = keys.create_rsa_key("signer", size=2048)
    digest = hashlib.new(f"sha{alg[2:]}", b"orders").digest()
    client = lab.crypto(made.id)
    signature = client.sign(alg, digest).signature
    assert client.verify(alg, digest, signature).is_valid
    assert not client.verify(alg, digest, altered(signature)).is_valid
    method = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}[alg[2:]]
    scheme = (
        padding.PKCS1v15()
        if alg.startswith("RS")
        else padding.PSS(padding.MGF1(method), method.digest_size)
    )
    public = rsa.RSAPublicNumbers(int.from_bytes(made.key.e), int.from_bytes(made.key.n))
    public.public_key().verify(signature, b"orders", scheme, method)


@pytest.mark.parametrize(
    ("alg", "curve", "name"),
    [
        ("ES256", ec.SECP256R1(), "P-256"),
        ("ES384", ec.SECP384R1(), "P-384"),
        ("ES512", ec.SECP521R1(), "P-521"),
        ("ES256K", ec.SECP256K1(), "P-256K"),
    ],
)
def test_ec_signatures_hold_for_anybody(
    lab: Lab, keys: KeyClient, alg: str, curve: ec.EllipticCurve, name: str
) -> None:
    made = keys.create_ec_key("signer", curve=name)
    method = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}[alg[2:5]]
    digest = hashlib.new(method.name, b"orders").digest()
    client = lab.crypto(made.id)
    signature = client.sign(alg, digest).signature
    assert client.verify(alg, digest, signature).is_valid
    assert not client.verify(alg, digest, altered(signature)).is_valid
    half = len(signature) // 2
    dss = utils.encode_dss_signature(
        int.from_bytes(signature[:half]), int.from_bytes(signature[half:])
    )
    point = ec.EllipticCurvePublicNumbers(
        int.from_bytes(made.key.x), int.from_bytes(made.key.y), curve
    )
    point.public_key().verify(dss, b"orders", ec.ECDSA(method))


def test_a_signature_algorithm_of_another_curve_or_digest_size_is_refused(
    lab: Lab, keys: KeyClient
) -> None:
    client = lab.crypto(keys.create_ec_key("signer", curve="P-384").id)
    assert refusal(lambda: client.sign("ES256", b"d" * 32)) == INCORRECT
    assert refusal(lambda: client.sign("RS256", b"d" * 32)) == INCORRECT
    assert refusal(lambda: client.sign("ES384", b"d" * 32)) == INCORRECT


def test_a_disabled_key_does_nothing(lab: Lab, keys: KeyClient) -> None:
    made = keys.create_rsa_key("lake", size=2048)
    client = lab.crypto(made.id)
    wrapped = client.wrap_key("RSA-OAEP-256", DATA_KEY).encrypted_key
    keys.update_key_properties("lake", enabled=False)
    for call in (
        lambda: client.wrap_key("RSA-OAEP-256", DATA_KEY),
        lambda: client.unwrap_key("RSA-OAEP-256", wrapped),
    ):
        assert refusal(call)[:3] == (403, "Forbidden", "KeyDisabled")
    keys.update_key_properties("lake", enabled=True)
    assert client.unwrap_key("RSA-OAEP-256", wrapped).key == DATA_KEY


def test_an_expired_key_protects_nothing_new_and_opens_what_is_there(
    lab: Lab, keys: KeyClient
) -> None:
    soon = datetime.fromtimestamp(time.time() + 3600, UTC)
    made = keys.create_rsa_key("lake", size=2048, expires_on=soon)
    client = lab.crypto(made.id)
    wrapped = client.wrap_key("RSA-OAEP-256", DATA_KEY).encrypted_key
    signature = client.sign("RS256", b"d" * 32).signature
    lab.world.clock.advance(3601)
    for call in (
        lambda: client.wrap_key("RSA-OAEP-256", DATA_KEY),
        lambda: client.encrypt("RSA-OAEP-256", DATA_KEY),
        lambda: client.sign("RS256", b"d" * 32),
    ):
        assert refusal(call)[:3] == (403, "Forbidden", "KeyExpired")
    assert client.unwrap_key("RSA-OAEP-256", wrapped).key == DATA_KEY
    assert client.verify("RS256", b"d" * 32, signature).is_valid


def test_a_key_whose_time_has_not_come_protects_nothing(lab: Lab, keys: KeyClient) -> None:
    later = datetime.now(UTC) + timedelta(hours=1)
    client = lab.crypto(keys.create_rsa_key("lake", size=2048, not_before=later).id)
    found = refusal(lambda: client.wrap_key("RSA-OAEP-256", DATA_KEY))
    assert found[:3] == (403, "Forbidden", "KeyNotYetValid")
    lab.world.clock.advance(3601)
    assert client.wrap_key("RSA-OAEP-256", DATA_KEY).encrypted_key


def test_a_key_does_only_what_its_operations_say(lab: Lab, keys: KeyClient) -> None:
    made = keys.create_rsa_key("lake", size=2048, key_operations=["wrapKey"])
    client = lab.crypto(made.id)
    wrapped = client.wrap_key("RSA-OAEP-256", DATA_KEY).encrypted_key
    found = refusal(lambda: client.unwrap_key("RSA-OAEP-256", wrapped))
    assert found[:3] == (403, "Forbidden", "KeyOperationForbidden")
