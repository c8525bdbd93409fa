"""`public:FILE.pem`: wraps, never unwraps, and remembers the key instead of the path."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from envelope import errors
from envelope.keystore.driver import LocalKeys
from envelope.keystore.public import PUBLIC
from envelope.secret import Secret

BARE = (
    rsa.generate_private_key(65537, 2048)
    .public_key()
    .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
)
KID = "local:lake/abc123"


@pytest.fixture
def pem(plain: LocalKeys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    plain.create("local:orders", kty="RSA", bits=2048)
    path = tmp_path / "orders.pem"
    path.write_bytes(plain.public("local:orders"))
    monkeypatch.chdir(tmp_path)
    return path


def test_what_a_public_half_wraps_the_keystore_unwraps(plain: LocalKeys, pem: Path) -> None:
    producer = PUBLIC.resolver(PUBLIC.settings({})).resolve("public:orders.pem")
    secret = Secret.random()
    wrapped = producer.wrap(secret, aad=b"")
    assert (wrapped.kid, wrapped.alg) == (plain.resolve("local:orders").kid, "RSA-OAEP-256")
    assert plain.resolve(wrapped.kid).unwrap(wrapped, aad=b"") == secret
    with pytest.raises(errors.KeyOperationForbidden):
        producer.unwrap(wrapped, aad=b"")


def test_other_programs_read_the_file(pem: Path) -> None:
    first, second, rest = pem.read_bytes().split(b"\n", 2)
    assert first.startswith(b"kid: local:orders/")
    assert second == b"alg: RSA-OAEP-256"
    assert rest.startswith(b"-----BEGIN PUBLIC KEY-----")
    serialization.load_pem_public_key(pem.read_bytes())


def test_pinned_settings_name_the_digest_and_need_no_file(plain: LocalKeys, pem: Path) -> None:
    settings = PUBLIC.pinned(PUBLIC.settings({}), ["public:orders.pem"])
    assert settings["files"]["orders.pem"]["sha256"] == hashlib.sha256(pem.read_bytes()).hexdigest()
    assert str(pem.parent) not in json.dumps(settings)
    pem.unlink()
    os.chdir("/")
    carried = PUBLIC.settings(json.loads(json.dumps(settings)))
    assert carried == settings == PUBLIC.pinned(carried, ["public:orders.pem"])
    secret = Secret.random()
    wrapped = PUBLIC.resolver(carried).resolve("public:orders.pem").wrap(secret, aad=b"")
    assert plain.resolve(wrapped.kid).unwrap(wrapped, aad=b"") == secret


def test_a_replaced_file_changes_nothing_for_settings_that_exist(pem: Path) -> None:
    settings = PUBLIC.pinned({}, ["public:orders.pem"])
    before = PUBLIC.resolver(settings).resolve("public:orders.pem").kid
    pem.write_bytes(b"kid: local:attacker/abc\n" + BARE)
    assert PUBLIC.resolver(settings).resolve("public:orders.pem").kid == before
    assert PUBLIC.pinned({}, ["public:orders.pem"]) != settings


def test_a_file_without_kid_needs_the_option(pem: Path) -> None:
    pem.write_bytes(BARE)
    with pytest.raises(errors.ConfigurationError, match="whose public key"):
        PUBLIC.resolver({}).resolve("public:orders.pem")
    settings = PUBLIC.settings({"kid": KID})
    assert PUBLIC.resolver(settings).resolve("public:orders.pem").kid == KID


def test_the_files_own_kid_wins_over_the_option(pem: Path) -> None:
    pem.write_bytes(f"Subject: x\r\nkid:   {KID} \r\n".encode() + BARE)
    settings = PUBLIC.settings({"kid": "local:other/abc"})
    assert PUBLIC.resolver(settings).resolve("public:orders.pem").kid == KID


@pytest.mark.parametrize(
    "data",
    [
        b"",
        BARE.replace(b"PUBLIC KEY", b"PRIVATE KEY"),
        f"kid: {KID}\n".encode() + BARE + BARE,
        f"kid: {KID}\nkid: local:b/abc\n".encode() + BARE,
        b"kid: local:lake\n" + BARE,
        b"kid: public:x.pem\n" + BARE,
        b"kid: azurekeyvault://acme/lake\n" + BARE,
        b"kid: \xff\xff\n" + BARE,
        BARE + f"kid: {KID}\n".encode(),
        f"kid: {KID}\n".encode() + BARE.replace(b"A", b"B", 30),
        f"kid: {KID}\n".encode() + BARE + bytes(70_000),
        f"kid: {KID}\n".encode()
        + ec.generate_private_key(ec.SECP256R1())
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo),
        f"kid: {KID}\n".encode()
        + rsa.generate_private_key(65537, 1024)
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo),
    ],
    ids=[
        "empty",
        "private",
        "two keys",
        "two kids",
        "no version",
        "a file's name",
        "no vault version",
        "no text",
        "kid after the block",
        "broken",
        "too large",
        "elliptic",
        "1024 bits",
    ],
)
def test_other_files_are_refused(pem: Path, data: bytes) -> None:
    pem.write_bytes(data)
    with pytest.raises(errors.ConfigurationError):
        PUBLIC.pinned({}, ["public:orders.pem"])


def test_a_missing_file_is_key_not_found_and_a_folder_is_refused(pem: Path) -> None:
    with pytest.raises(errors.KeyNotFound):
        PUBLIC.resolver({}).resolve("public:missing.pem")
    with pytest.raises(errors.ConfigurationError):
        PUBLIC.resolver({}).resolve(f"public:{pem.parent}")
    os.mkfifo("pipe.pem")
    with pytest.raises(errors.ConfigurationError):
        PUBLIC.resolver({}).resolve("public:pipe.pem")


@pytest.mark.parametrize(
    "options",
    [
        {"path": "x"},
        {"kid": 7},
        {"kid": "local:lake"},
        {"files": ["x"]},
        {"files": {"x": {"kid": KID}}},
        {"files": {"x": {"kid": KID, "sha256": "", "spki": "AAAA"}}},
    ],
)
def test_a_bad_option_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(errors.ConfigurationError):
        PUBLIC.settings(options)


def test_keys_of_other_schemes_are_refused() -> None:
    with pytest.raises(errors.ConfigurationError):
        PUBLIC.resolver({}).resolve("local:lake")


@pytest.mark.parametrize("state", ["disabled", "deleted", "destroyed"])
def test_only_an_enabled_newest_version_is_exported_by_name(
    plain: LocalKeys, pem: Path, state: str
) -> None:
    kid = plain.resolve("local:orders").kid
    if state == "disabled":
        plain.set_enabled(kid, False)
    else:
        plain.delete(kid)
    if state == "destroyed":
        plain.purge(kid)
    with pytest.raises(errors.KeyDisabled):
        plain.public("local:orders")
    if state == "destroyed":
        with pytest.raises(errors.KeyNotFound):
            plain.public(kid)
    else:
        assert kid.encode() in plain.public(kid)
