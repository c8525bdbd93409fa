"""Keys in a vault that sign KEKs, through the unmodified SDK over HTTPS."""

from __future__ import annotations

import hashlib
from pathlib import Path

import jwt
import pytest
from azure.identity import DefaultAzureCredential
from azure.keyvault.keys import KeyCurveName
from azure.keyvault.keys.crypto import CryptographyClient, SignatureAlgorithm

import envelope
from envelope import errors, header, jws, keyurl
from envelope.cli.probing import Check, probe_keys
from envelope.jose import b64u_decode
from envelope.ring import KeyRing
from envelope_azure.driver import AZURE, AzureKeys
from tests.azure.conftest import Azure

DATA = b"what is signed"
KINDS = {"EC": "ES256", "EC-HSM": "ES256", "RSA": "PS256", "RSA-HSM": "PS256"}


def resolver() -> AzureKeys:
    return AZURE.resolver(AZURE.settings({}))


@pytest.fixture(params=KINDS)
def signer(azure: Azure, request: pytest.FixtureRequest) -> str:
    azure.client().create_rsa_key("lake", size=2048)
    made = resolver().create(azure.key("signer"), kty=request.param, use="sig")
    assert (made.kty, made.use, made.alg) == (request.param, "sig", KINDS[request.param])
    assert made.key_ops == ("sign", "verify")
    azure.local.world.calls.clear()
    return azure.key("signer")


def test_a_thousand_files_cost_one_signature_and_their_readers_one_public_key(
    azure: Azure, signer: str
) -> None:
    writer = KeyRing(azure.key(), sign_with=signer)
    values = [envelope.encrypt(b"orders", keys=writer) for _ in range(1000)]
    assert sorted(azure.operations()) == ["get_key", "get_key", "sign"]
    azure.restart()
    azure.local.world.calls.clear()
    reader = KeyRing(decrypt_with=azure.key(), require_signed=signer)
    assert {envelope.decrypt(value, keys=reader) for value in values} == {b"orders"}
    assert azure.operations() == ["get_key", "unwrapkey"]


def test_files_of_anybody_else_are_refused_before_any_call(azure: Azure, signer: str) -> None:
    resolver().create(azure.key("mallory"), kty="EC")
    unsigned = envelope.encrypt(b"forged", keys=azure.key())
    other = envelope.encrypt(b"forged", keys=KeyRing(azure.key(), sign_with=azure.key("mallory")))
    azure.restart()
    azure.local.world.calls.clear()
    reader = KeyRing(decrypt_with=azure.key(), require_signed=signer)
    for forged in (unsigned, other):
        with pytest.raises(errors.OriginNotProven):
            envelope.decrypt(forged, keys=reader)
    assert azure.local.world.calls == []


def test_others_make_of_it_what_we_do(azure: Azure, signer: str) -> None:
    """PyJWT verifies our file's signature, and the vendor's client verifies it in the vault."""
    value = envelope.encrypt(b"orders", keys=KeyRing(azure.key(), sign_with=signer))
    text = str(header.parse(value).keys.signature)
    claims = jws.parse(text)
    key = jws.load(resolver().public_half(claims.kid).spki, claims.kid)
    assert jwt.api_jws.decode_complete(text, key, algorithms=[claims.alg])  # type: ignore[arg-type]  # PyJWT's type lists another class for the same key
    vendors = CryptographyClient(claims.kid, DefaultAzureCredential())
    digest = hashlib.sha256(claims.signed).digest()
    signature = b64u_decode(text.rpartition(".")[2], "signature")
    alg = SignatureAlgorithm(claims.alg)
    assert vendors.verify(alg, digest, signature).is_valid
    assert not vendors.verify(alg, digest, signature[:-1] + b"\0").is_valid


def test_a_file_with_the_public_half_needs_no_call_for_it(
    azure: Azure, signer: str, tmp_path: Path
) -> None:
    pem = tmp_path / "signer.pem"
    pem.write_bytes(resolver().public(signer))
    assert b"\nalg: " in pem.read_bytes()
    value = envelope.encrypt(b"orders", keys=KeyRing(azure.key(), sign_with=signer))
    azure.restart()
    azure.local.world.calls.clear()
    reader = KeyRing(decrypt_with=azure.key(), require_signed=f"public:{pem}")
    assert envelope.decrypt(value, keys=reader) == b"orders"
    assert azure.operations() == ["unwrapkey"]


def test_rotating_the_signer_and_the_key_leaves_readers_as_they_are(
    azure: Azure, signer: str, tmp_path: Path
) -> None:
    (tmp_path / "plain").write_bytes(b"orders")
    writer = KeyRing(azure.key(), sign_with=signer, require_signed=signer)
    envelope.encrypt_file(tmp_path / "plain", tmp_path / "file.env1", keys=writer)
    resolver().rotate(azure.key())
    resolver().rotate(signer)
    azure.restart()
    assert envelope.rewrap(tmp_path / "file.env1", keys=writer).refreshed
    reader = KeyRing(decrypt_with=azure.key(), require_signed=signer)
    assert envelope.verify(tmp_path / "file.env1", keys=reader).signer
    newer = envelope.encrypt(b"more", keys=writer)
    assert envelope.decrypt(newer, keys=reader) == b"more"


def test_a_disabled_version_of_the_signer_proves_nothing(azure: Azure, signer: str) -> None:
    value = envelope.encrypt(b"orders", keys=KeyRing(azure.key(), sign_with=signer))
    [info] = resolver().list_keys(signer)
    version = keyurl.parse(info.kid).version
    azure.client().update_key_properties("signer", version, enabled=False)
    azure.restart()
    reader = KeyRing(decrypt_with=azure.key(), require_signed=signer)
    with pytest.raises(errors.OriginNotProven, match="disabled"):
        envelope.decrypt(value, keys=reader)
    with pytest.raises(errors.KeyDisabled):
        envelope.encrypt(b"orders", keys=KeyRing(azure.key(), sign_with=signer))


def test_keys_of_another_kind_sign_no_keks(azure: Azure) -> None:
    client = azure.client()
    client.create_rsa_key("lake", size=2048)
    client.create_ec_key("p384", curve=KeyCurveName.p_384)
    client.create_rsa_key("wraps", size=2048, key_operations=["wrapKey", "unwrapKey"])
    for name in ("p384", "wraps"):
        with pytest.raises(errors.KeyOperationForbidden) as caught:
            KeyRing(azure.key(), sign_with=azure.key(name)).grant()
        assert caught.value.next_step
    assert {info.kid.split("/")[4]: info.alg for info in resolver().list_keys(azure.key("*"))} == {
        "lake": "RSA-OAEP-256",
        "p384": "none",
        "wraps": "RSA-OAEP-256",
    }


def test_who_may_not_sign_is_denied_and_nothing_is_written(azure: Azure, signer: str) -> None:
    azure.vault.rbac = False
    azure.vault.set_policy(azure.become("reader"), keys=["get"])
    with pytest.raises(errors.AccessDenied) as caught:
        envelope.encrypt(b"orders", keys=KeyRing(azure.key(), sign_with=signer))
    assert caught.value.operation == "sign"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kty": "EC", "bits": 384}, "256 bits"),
        ({"kty": "EC", "use": "enc"}, "enc or sig"),
        ({"kty": "RSA", "use": "both"}, "enc or sig"),
    ],
)
def test_a_bad_option_makes_no_key(azure: Azure, options: dict[str, object], words: str) -> None:
    with pytest.raises(errors.ConfigurationError, match=words):
        resolver().create(azure.key("signer"), **options)


# --- envelope doctor ----------------------------------------------------------------------------


def walk(ring: KeyRing, key: str) -> list[Check]:
    found = list(probe_keys(ring))
    start = next(i for i, check in enumerate(found) if check.text.startswith(f"{key}:"))
    return found[start:]


def test_doctor_signs_where_the_ring_signs_and_only_looks_where_it_does_not(
    azure: Azure, signer: str
) -> None:
    ring = KeyRing(azure.key(), sign_with=signer, require_signed=signer)
    said = {check.check: (check.level, check.text) for check in walk(ring, signer)}
    assert said["sign"][0] == said["verify"][0] == said["operations"][0] == "ok"
    assert "was signed in the vault" in said["sign"][1]
    azure.local.world.calls.clear()
    reader = KeyRing(decrypt_with=azure.key(), require_signed=signer)
    said = {check.check: (check.level, check.text) for check in walk(reader, signer)}
    assert "sign" not in said
    assert said["verify"][0] == "ok"
    assert "sign" not in azure.operations()


def test_doctor_finds_a_signer_that_may_not_sign(azure: Azure, signer: str) -> None:
    azure.vault.rbac = False
    azure.vault.set_policy(azure.become("writer"), keys=["get", "wrapKey", "unwrapKey"])
    found = walk(KeyRing(azure.key(), sign_with=signer), signer)
    [failed] = [check for check in found if check.level == "fail"]
    assert (failed.check, failed.exit) == ("sign", 3)
    assert [c.text for c in found if c.check == "permission"] == ["get: given", "sign: not given"]


def test_doctor_warns_of_a_key_with_two_uses(azure: Azure) -> None:
    azure.client().create_rsa_key("lake", size=2048)
    azure.client().create_rsa_key("both", size=2048)
    both = azure.key("both")
    found = walk(KeyRing(azure.key(), sign_with=both), both)
    assert [check.check for check in found if check.level == "warn"] == ["operations"]
