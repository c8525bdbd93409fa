"""Managing keys."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from envelope import errors
from envelope.keystore.driver import LocalKeys
from envelope.secret import Secret
from tests.keystore.conftest import Open


def pem_of(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, password: bytes | None = None):
    encryption = (
        serialization.BestAvailableEncryption(password)
        if password
        else serialization.NoEncryption()
    )
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
    )


def test_a_new_key_says_what_it_is(open_keystore: Open) -> None:
    info = open_keystore().create("local:lake", protect="permissions", note="for the lake")
    assert re.fullmatch(r"local:lake/[a-z2-7]{26}", info.kid)
    assert (info.kty, info.alg, info.bits, info.use) == ("oct", "A256KW", 256, "enc")
    assert info.key_ops == ("wrapKey", "unwrapKey")
    assert (info.state, info.newest, info.note) == ("enabled", True, "for the lake")


def test_an_rsa_key_has_3072_bits_unless_told(plain: LocalKeys) -> None:
    assert plain.create("local:rsa", kty="RSA").bits == 3072


@pytest.mark.parametrize(
    "options",
    [
        {"kty": "EC", "bits": 384},
        {"kty": "EC", "use": "enc"},
        {"kty": "oct", "use": "sig"},
        {"kty": "RSA", "use": "both"},
        {"kty": "EC", "key_ops": ["wrapKey"]},
        {"kty": "RSA", "bits": 1024},
        {"kty": "RSA", "bits": 8192},
        {"bits": 128},
        {"protect": "none"},
        {"protect": "passphrase"},  # the keystore is protected by permissions
        {"key_ops": []},
        {"key_ops": ["sign"]},
        {"key_ops": "wrapKey"},
        {"size": 3},
    ],
)
def test_a_bad_option_makes_no_key(plain: LocalKeys, options: dict[str, object]) -> None:
    with pytest.raises(errors.ConfigurationError):
        plain.create("local:bad", **options)
    assert {info.kid.split("/")[0] for info in plain.list_keys()} == {"local:lake"}


@pytest.mark.parametrize(
    "name", ["local:Lake", "local:../lake", "local:lake/abc", "local:", "lake"]
)
def test_a_bad_name_makes_no_key(plain: LocalKeys, name: str) -> None:
    with pytest.raises(errors.ConfigurationError):
        plain.create(name)


def test_a_key_is_never_made_over_another(plain: LocalKeys) -> None:
    before = plain.list_keys()
    with pytest.raises(errors.AlreadyExists):
        plain.create("local:lake")
    plain.purge(before[0].kid)
    with pytest.raises(errors.AlreadyExists):  # a tombstone is a key still
        plain.create("local:lake")


def test_a_key_may_be_called_keystore(plain: LocalKeys) -> None:
    plain.create("local:keystore")
    assert plain.resolve("local:keystore").kid.startswith("local:keystore/")


def test_rotating_keeps_type_size_and_operations(plain: LocalKeys) -> None:
    plain.create("local:rsa", kty="RSA", bits=2048, key_ops=["wrapKey"])
    second = plain.rotate("local:rsa")
    assert (second.kty, second.bits, second.key_ops) == ("RSA", 2048, ("wrapKey",))
    assert [info.newest for info in plain.list_keys("local:rsa")] == [False, True]
    for bad in ("local:missing", second.kid):
        with pytest.raises(errors.EnvelopeError):
            plain.rotate(bad)


def test_states_change_as_the_document_says(plain: LocalKeys) -> None:
    kid = plain.list_keys()[0].kid

    def state() -> str:
        return plain.list_keys(kid)[0].state

    assert plain.set_enabled(kid, False)[0].state == state() == "disabled"
    plain.delete(kid)
    assert state() == "deleted"
    with pytest.raises(errors.KeyDisabled, match="deleted"):
        plain.set_enabled(kid, True)
    plain.recover(kid)
    assert state() == "disabled"  # what it was before
    plain.set_enabled(kid, True)
    plain.delete(kid)
    plain.recover(kid)
    assert state() == "enabled"
    with pytest.raises(errors.ConfigurationError):
        plain.recover(kid)
    plain.delete(kid)
    assert plain.purge(kid).state == state() == "destroyed"
    calls: list[Callable[[str], object]] = [
        plain.recover,
        plain.delete,
        plain.purge,
        lambda kid: plain.set_enabled(kid, True),
    ]
    for call in calls:
        with pytest.raises(errors.KeyNotFound, match="destroyed"):
            call(kid)


def test_a_name_without_version_means_all_that_can_change(plain: LocalKeys) -> None:
    first = plain.list_keys()[0].kid
    second = plain.rotate("local:lake").kid
    plain.purge(first)
    assert [info.kid for info in plain.set_enabled("local:lake", False)] == [second]
    assert [info.kid for info in plain.delete("local:lake")] == [second]
    assert [info.kid for info in plain.recover("local:lake")] == [second]


def test_purging_wants_the_full_kid_and_leaves_a_tombstone(plain: LocalKeys) -> None:
    kid = plain.list_keys()[0].kid
    material = plain.contents.require("lake").versions[0].material
    assert material is not None
    with pytest.raises(errors.ConfigurationError):
        plain.purge("local:lake")
    plain.purge(kid)
    (path,) = Path(plain.contents.folder.path).glob("lake*")
    assert "material" not in path.read_text()
    assert kid.split("/")[1] in path.read_text()


def test_foreign_aes_material_becomes_the_newest_version(plain: LocalKeys) -> None:
    secret = Secret.random()
    info = plain.import_key("local:lake", secret)
    assert (info.kty, info.newest) == ("oct", True)
    assert plain.resolve("local:lake").kid == info.kid
    assert plain.contents.require("lake").versions[-1].material == secret


def test_foreign_rsa_material_is_taken_as_pem(open_keystore: Open) -> None:
    keys = open_keystore()
    key = rsa.generate_private_key(65537, 2048)
    info = keys.import_key("local:new", Secret(pem_of(key)), protect="permissions")
    assert (info.kty, info.alg, info.bits) == ("RSA", "RSA-OAEP-256", 2048)
    public = serialization.load_pem_public_key(keys.public("local:new"))
    assert public.public_numbers() == key.public_key().public_numbers()  # type: ignore[union-attr]


def test_material_can_come_back_under_a_known_kid_but_never_over_one(plain: LocalKeys) -> None:
    info = plain.import_key("local:paper/abc123", Secret(bytes(32)))
    assert info.kid == "local:paper/abc123"
    with pytest.raises(errors.AlreadyExists):
        plain.import_key("local:paper/abc123", Secret.random())


@pytest.mark.parametrize(
    "material",
    [
        b"",
        b"short",
        bytes(31),
        pem_of(rsa.generate_private_key(65537, 2048), b"password"),
        pem_of(ec.generate_private_key(ec.SECP384R1())),
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
    ],
    ids=["empty", "short", "31 bytes", "encrypted", "elliptic", "broken"],
)
def test_other_material_is_refused(plain: LocalKeys, material: bytes) -> None:
    with pytest.raises(errors.ConfigurationError):
        plain.import_key("local:bad", Secret(material))


def test_only_rsa_keys_have_a_public_half(plain: LocalKeys) -> None:
    with pytest.raises(errors.KeyOperationForbidden):
        plain.public("local:lake")


def test_listing_a_missing_key_is_key_not_found(plain: LocalKeys) -> None:
    for key in ("local:missing", "local:lake/abc"):
        with pytest.raises(errors.KeyNotFound):
            plain.list_keys(key)


def test_versions_stay_in_order_when_the_clock_goes_back(
    plain: LocalKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    from envelope.keystore import admin

    first = plain.list_keys()[0]
    monkeypatch.setattr(admin, "now", lambda: "2001-01-01T00:00:00Z")
    assert plain.rotate("local:lake").created == first.created


def test_protection_by_permissions_is_told(open_keystore: Open, notices: list[str]) -> None:
    open_keystore().create("local:lake", protect="permissions")
    assert any("protected only by file permissions" in text for text in notices)


def test_without_a_choice_a_keystore_asks_for_a_passphrase(open_keystore: Open) -> None:
    keys = open_keystore()
    with pytest.raises(errors.ConfigurationError, match="needs a passphrase"):
        keys.create("local:lake")
    assert keys.list_keys() == []
