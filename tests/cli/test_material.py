"""Key material in files, as drivers take it."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
    pkcs12,
)

from envelope.cli.material import read
from envelope.errors import ConfigurationError
from envelope.secret import Secret
from tests.cli.conftest import protected

LOCK = BestAvailableEncryption(b"correct horse")


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@pytest.fixture(scope="module")
def certificate(key: rsa.RSAPrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "lake")])
    start = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1)
    builder = builder.not_valid_before(start).not_valid_after(start + datetime.timedelta(365))
    return builder.sign(key, SHA256())


def pfx(
    key: rsa.RSAPrivateKey | None,
    certificate: x509.Certificate,
    lock: KeySerializationEncryption | None = None,
) -> bytes:
    return pkcs12.serialize_key_and_certificates(
        b"lake", key, certificate, None, lock or NoEncryption()
    )


def written(tmp_path: Path, data: bytes) -> str:
    path = tmp_path / "material"
    path.write_bytes(data)
    return str(path)


def is_key(found: Secret, key: rsa.RSAPrivateKey) -> bool:
    loaded = load_pem_private_key(found.reveal(), None)
    assert isinstance(loaded, rsa.RSAPrivateKey)
    return loaded.private_numbers() == key.private_numbers()


@pytest.mark.parametrize(
    "data", [bytes(32), b"\x30\x82\x01\x00\x02\x01\x03" + bytes(25), b"none of all", b""]
)
def test_what_is_not_encrypted_is_left_to_the_driver(tmp_path: Path, data: bytes) -> None:
    assert read(written(tmp_path, data), None) == Secret(data)


@pytest.mark.parametrize(
    ("encoding", "form"),
    [
        (Encoding.PEM, PrivateFormat.PKCS8),
        (Encoding.DER, PrivateFormat.PKCS8),
        (Encoding.PEM, PrivateFormat.TraditionalOpenSSL),
    ],
)
def test_an_encrypted_key_opens_with_its_passphrase(
    tmp_path: Path, key: rsa.RSAPrivateKey, encoding: Encoding, form: PrivateFormat
) -> None:
    file = written(tmp_path, key.private_bytes(encoding, form, LOCK))
    right = str(protected(tmp_path / "right", "correct horse\n"))
    wrong = str(protected(tmp_path / "wrong", "battery staple\n"))
    assert is_key(read(file, right), key)
    with pytest.raises(ConfigurationError, match="does not open with this passphrase") as caught:
        read(file, wrong)
    assert "correct" not in str(caught.value)
    with pytest.raises(ConfigurationError, match="passphrase is needed"):
        read(file, None)


def test_a_certificate_stays_beside_an_encrypted_key(
    tmp_path: Path, key: rsa.RSAPrivateKey, certificate: x509.Certificate
) -> None:
    pem = certificate.public_bytes(Encoding.PEM)
    data = pem + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, LOCK)
    right = str(protected(tmp_path / "right", "correct horse\n"))
    found = read(written(tmp_path, data), right)
    assert is_key(found, key)
    assert found.reveal().endswith(pem)


def test_a_pfx_gives_key_and_certificate(
    tmp_path: Path, key: rsa.RSAPrivateKey, certificate: x509.Certificate
) -> None:
    pem = certificate.public_bytes(Encoding.PEM)
    open_ = read(written(tmp_path, pfx(key, certificate)), None)
    right = str(protected(tmp_path / "right", "correct horse\n"))
    locked = read(written(tmp_path, pfx(key, certificate, LOCK)), right)
    for found in (open_, locked):
        assert is_key(found, key)
        assert found.reveal().endswith(pem)


def test_a_pfx_without_a_key_or_with_another_passphrase_is_refused(
    tmp_path: Path, key: rsa.RSAPrivateKey, certificate: x509.Certificate
) -> None:
    with pytest.raises(ConfigurationError, match="no private key"):
        read(written(tmp_path, pfx(None, certificate)), None)
    wrong = str(protected(tmp_path / "wrong", "battery staple\n"))
    with pytest.raises(ConfigurationError, match="does not open with this passphrase"):
        read(written(tmp_path, pfx(key, certificate, LOCK)), wrong)
