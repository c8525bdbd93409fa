"""Keys of the keystore that sign KEKs, and their public halves."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

import envelope
from envelope import errors, jws, resolvers
from envelope.keys import SignerResolver
from envelope.keystore import records, signing, usable
from envelope.keystore.driver import LocalKeys
from envelope.keystore.public import PUBLIC
from envelope.keystore.records import Version
from envelope.keystore.upkeep import examine
from envelope.ring import KeyRing
from envelope.secret import Secret
from tests.keystore.conftest import Open

DATA = b"what is signed"
KINDS = [("EC", None, "ES256", 256), ("RSA", "sig", "PS256", 3072)]


@pytest.fixture(params=KINDS, ids=["EC", "RSA"])
def signer(plain: LocalKeys, request: pytest.FixtureRequest) -> str:
    kty, use, alg, bits = request.param
    made = plain.create("local:signer", kty=kty, use=use)
    assert (made.kty, made.use, made.alg, made.bits) == (kty, "sig", alg, bits)
    assert made.key_ops == ("sign", "verify")
    return made.kid


def holds(keys: LocalKeys, kid: str, signature: bytes, data: bytes = DATA) -> bool:
    half = keys.public_half(kid)
    key = jws.load(half.spki, kid)
    claims = jws.Claims(jws.alg_of(key), kid, bytes(32), (), 0, data, signature)
    return jws.verify(claims, key)


def test_what_a_key_signs_holds_under_its_public_half(plain: LocalKeys, signer: str) -> None:
    assert isinstance(plain, SignerResolver)
    key = plain.signer("local:signer")
    assert key.kid == signer
    assert key.public == plain.public_half(signer)
    signature = key.sign(DATA)
    assert holds(plain, signer, signature)
    assert not holds(plain, signer, signature, DATA + b".")


def test_files_are_signed_and_proven_with_keys_of_the_keystore(
    plain: LocalKeys, signer: str, tmp_path: Path
) -> None:
    settings = {"local": dict(plain.contents.settings)}
    pem = tmp_path / "signer.pem"
    pem.write_bytes(plain.public("local:signer"))
    writer = KeyRing("local:lake", sign_with="local:signer", settings=settings)
    data = envelope.encrypt(b"orders", keys=writer)
    for trusted in ("local:signer", signer, f"public:{pem}"):
        reader = KeyRing(decrypt_with="local:lake", require_signed=trusted, settings=settings)
        assert envelope.decrypt(data, keys=reader) == b"orders"
    unsigned = envelope.encrypt(b"forged", keys=KeyRing("local:lake", settings=settings))
    with pytest.raises(errors.OriginNotProven):
        envelope.decrypt(unsigned, keys=reader)


def test_a_signing_key_wraps_nothing_and_a_wrapping_key_signs_nothing(
    plain: LocalKeys, signer: str
) -> None:
    plain.create("local:inbox", kty="RSA", bits=2048)
    with pytest.raises(errors.KeyOperationForbidden):
        plain.resolve("local:signer").wrap(Secret.random(), aad=b"")
    for name in ("local:lake", "local:inbox"):
        key = plain.signer(name)
        with pytest.raises(errors.KeyOperationForbidden):
            key.sign(DATA)
        with pytest.raises(errors.KeyOperationForbidden):
            plain.public_half(key.kid)


def test_a_rotated_signer_signs_with_its_new_version_and_the_old_one_goes_on_proving(
    plain: LocalKeys, signer: str
) -> None:
    old = plain.signer("local:signer").sign(DATA)
    newer = plain.rotate("local:signer")
    assert (newer.use, newer.key_ops) == ("sig", ("sign", "verify"))
    assert plain.signer("local:signer").kid == newer.kid != signer
    assert holds(plain, signer, old)
    assert not holds(plain, newer.kid, old)


def test_a_version_out_of_service_neither_signs_nor_proves(plain: LocalKeys, signer: str) -> None:
    key = plain.signer(signer)
    plain.set_enabled(signer, False)
    for use in (lambda: key.sign(DATA), lambda: plain.public_half(signer)):
        with pytest.raises(errors.KeyDisabled):
            use()
    with pytest.raises(errors.KeyDisabled):
        plain.signer("local:signer")
    plain.set_enabled(signer, True)
    assert holds(plain, signer, key.sign(DATA))
    plain.purge(signer)
    with pytest.raises(errors.KeyNotFound):
        plain.public_half(signer)


def test_dates_bound_signing_and_never_proving(
    plain: LocalKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    kid = plain.create(
        "local:signer", kty="EC", not_before="2030-01-01T00:00:00Z", expires="2031-01-01T00:00:00Z"
    ).kid

    def at(moment: str) -> None:
        for module in (signing, usable, records):
            monkeypatch.setattr(module, "now", lambda: moment)

    at("2029-12-31T23:59:59Z")
    with pytest.raises(errors.KeyNotYetValid):
        plain.signer(kid).sign(DATA)
    at("2030-06-01T00:00:00Z")
    signature = plain.signer(kid).sign(DATA)
    at("2031-01-01T00:00:00Z")
    with pytest.raises(errors.KeyExpired):
        plain.signer(kid).sign(DATA)
    assert holds(plain, kid, signature)


def test_key_ops_may_be_narrower(plain: LocalKeys) -> None:
    proves = plain.create("local:proves", kty="EC", key_ops=["verify"]).kid
    with pytest.raises(errors.KeyOperationForbidden):
        plain.signer(proves).sign(DATA)
    assert plain.public_half(proves).kid == proves


def test_a_missing_signer_is_not_found_and_none_is_made(plain: LocalKeys) -> None:
    for find in (plain.signer, plain.public_half):
        with pytest.raises(errors.KeyNotFound):
            find("local:nobody/abc")
    with pytest.raises(errors.KeyNotFound):
        plain.signer("local:nobody")
    with pytest.raises(errors.ConfigurationError):
        plain.public_half("local:lake")
    assert [info.kid.split("/")[0] for info in plain.list_keys()] == ["local:lake"]


@pytest.mark.parametrize("kind", ["EC", "RSA"])
def test_foreign_keys_sign_once_imported(plain: LocalKeys, kind: str) -> None:
    key = (
        ec.generate_private_key(ec.SECP256R1())
        if kind == "EC"
        else rsa.generate_private_key(65537, 2048)
    )
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    made = plain.import_key("local:theirs", Secret(pem), use="sig")
    spki = key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    assert plain.public_half(made.kid).spki == spki
    assert holds(plain, made.kid, plain.signer(made.kid).sign(DATA))
    with pytest.raises(errors.ConfigurationError, match="has one"):
        plain.import_key("local:lake", Secret(pem), use="sig")


def test_the_public_half_says_whose_and_what_for(plain: LocalKeys, signer: str) -> None:
    first, second, rest = plain.public("local:signer").split(b"\n", 2)
    assert first == f"kid: {signer}".encode()
    assert second in (b"alg: ES256", b"alg: PS256")
    assert rest.startswith(b"-----BEGIN PUBLIC KEY-----")


def test_a_public_half_for_signing_is_not_encrypted_to(
    plain: LocalKeys, signer: str, tmp_path: Path
) -> None:
    (tmp_path / "signer.pem").write_bytes(plain.public("local:signer"))
    with pytest.raises(errors.ConfigurationError, match="one use"):
        PUBLIC.resolver({}).resolve(f"public:{tmp_path}/signer.pem")


def test_a_signer_survives_backup_and_a_passphrase(
    open_keystore: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENVELOPE_PASSPHRASE", "correct horse")
    sealed = open_keystore("sealed")
    kid = sealed.create("local:signer", kty="EC", protect="passphrase").kid
    signature = sealed.signer(kid).sign(DATA)
    blob = sealed.backup(None, Secret(b"backup"))
    other = open_keystore("other")
    other.restore(blob, Secret(b"backup"), protect="permissions")
    assert holds(other, kid, signature)
    assert holds(sealed, kid, other.signer(kid).sign(DATA))


def test_material_of_another_kind_is_tampering(plain: LocalKeys, signer: str) -> None:
    other = "RSA" if "ES256" in str(plain.list_keys(signer)[0]) else "EC"
    plain.create("local:other", kty=other, use="sig")
    version = plain.contents.require("signer").versions[0]
    swapped = plain.contents.require("other").versions[0].material
    members = {**version.__dict__, "material": swapped}
    members.pop("_private", None)
    from envelope.keystore import material

    with pytest.raises(errors.Tampered):
        material.sign(Version(**members), DATA)


def test_signers_are_examined_like_other_keys(plain: LocalKeys, signer: str) -> None:
    found = examine(plain.contents.settings)
    assert any("signer" in finding.path for finding in found)
    assert not [finding for finding in found if finding.level == "error"]


def test_the_driver_is_found_by_its_entry_point(signer: str) -> None:
    assert isinstance(resolvers.driver("local").resolver({"keystore": "/none"}), SignerResolver)
