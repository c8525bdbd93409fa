"""Key material in files: raw, PEM, DER and PFX, encrypted or not, as drivers take it."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
    load_pem_private_key,
    pkcs12,
)
from cryptography.hazmat.primitives.serialization.pkcs12 import PKCS12KeyAndCertificates

from envelope.cli.passphrases import asked
from envelope.errors import ConfigurationError
from envelope.secret import Secret

__all__ = ["LARGEST", "read"]

LARGEST = 65536  # bytes of a file; a key with its certificates takes a few thousand
_WHAT = ("Passphrase of the key material: ", "--material-passphrase-file")
_RAW_BYTES = 32
_NONE = Secret(b"")


def read(file: str, passphrase_file: str | None) -> Secret:
    """The key in a file: unencrypted PEM, a PFX's certificates after it, or the file as it is.

    Args:
        file: Its path; ``-`` is standard input.
        passphrase_file: Where the material's own passphrase is. Without it, a person is asked, if
            there has to be one.

    Raises:
        ConfigurationError: No passphrase, or a wrong one.
        OSError: The file cannot be read.
    """
    if file == "-":
        material = Secret(sys.stdin.buffer.read(LARGEST))
    else:
        with open(file, "rb") as opened:
            material = Secret(opened.read(LARGEST))
    if len(material) == _RAW_BYTES:
        return material
    if _is_pfx(material):
        return _from_pfx(material, passphrase_file, file)
    if _is_encrypted(material):
        return _decrypted(material, asked(passphrase_file, _WHAT, twice=False), file)
    return material


def _is_pfx(material: Secret) -> bool:
    """PKCS #12 is a sequence that begins with the version 3 (RFC 7292); keys have lower ones."""
    start = material.reveal()[:8]
    if len(start) < 8 or start[0] != 0x30:
        return False
    length = 1 if start[1] < 0x80 else 1 + (start[1] & 0x7F)
    return start[1 + length :].startswith(b"\x02\x01\x03")


def _is_encrypted(material: Secret) -> bool:
    if b"-----BEGIN" in material.reveal():
        marks = (b"-----BEGIN ENCRYPTED PRIVATE KEY", b"Proc-Type: 4,ENCRYPTED")
        return any(mark in material.reveal() for mark in marks)
    try:
        load_der_private_key(material.reveal(), None)
    except TypeError:  # "password was not given"
        return True
    except Exception:
        pass  # raw bytes, or what a driver has to judge
    return False


def _decrypted(material: Secret, passphrase: Secret, file: str) -> Secret:
    load = load_pem_private_key if b"-----BEGIN" in material.reveal() else load_der_private_key
    try:
        key = load(material.reveal(), passphrase.reveal())
    except (ValueError, TypeError):
        raise _wrong(file) from None
    beside = b"-----BEGIN CERTIFICATE" in material.reveal()
    return _pem(key, x509.load_pem_x509_certificates(material.reveal()) if beside else [])


def _from_pfx(material: Secret, passphrase_file: str | None, file: str) -> Secret:
    found = None
    if passphrase_file is None:  # many have an empty one
        found = _opened(material, _NONE)
    if found is None:
        found = _opened(material, asked(passphrase_file, _WHAT, twice=False))
    if found is None:
        raise _wrong(file)
    if found.key is None:
        raise ConfigurationError(f"{file} holds no private key")
    certificates = [] if found.cert is None else [found.cert, *found.additional_certs]
    return _pem(found.key, [each.certificate for each in certificates])


def _opened(material: Secret, passphrase: Secret) -> PKCS12KeyAndCertificates | None:
    try:
        return pkcs12.load_pkcs12(material.reveal(), passphrase.reveal())
    except ValueError:
        return None


def _pem(key: PrivateKeyTypes, certificates: Sequence[x509.Certificate]) -> Secret:
    """The key first, since what only looks for a key reads the first one."""
    return Secret(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        + b"".join(each.public_bytes(Encoding.PEM) for each in certificates)
    )


def _wrong(file: str) -> ConfigurationError:
    return ConfigurationError(f"{file} does not open with this passphrase")
