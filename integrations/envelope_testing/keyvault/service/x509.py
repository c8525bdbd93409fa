"""X.509: certificates that a vault signs itself, requests for others to sign, PFX and PEM files.

Members of a policy are those of the vendor's "About Azure Key Vault certificates".
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
from calendar import monthrange
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
    pkcs12,
)

from .errors import bad_parameter
from .requests import Json, object_of

PFX, PEM = "application/x-pkcs12", "application/x-pem-file"
_BACKDATED = timedelta(minutes=10)  # for clocks that are late, as the service does

Private = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
_USAGES = {
    "digitalSignature": "digital_signature",
    "nonRepudiation": "content_commitment",
    "keyEncipherment": "key_encipherment",
    "dataEncipherment": "data_encipherment",
    "keyAgreement": "key_agreement",
    "keyCertSign": "key_cert_sign",
    "cRLSign": "crl_sign",
    "encipherOnly": "encipher_only",
    "decipherOnly": "decipher_only",
}


@dataclass(frozen=True)
class Identity:
    """A private key with its certificate and the ones that lead to a root."""

    private: Private
    certificate: x509.Certificate
    chain: tuple[x509.Certificate, ...] = ()


def self_signed(private: Private, properties: Json, now: float) -> x509.Certificate:
    """A certificate of this key by this key.

    :param properties: the policy's ``x509_props``.
    :param now: seconds since the epoch.
    :raises VaultError: 400, the properties make no sense.
    """
    begin = datetime.fromtimestamp(int(now), UTC)
    months = properties.get("validity_months") or 12
    name = _subject(properties)
    if not isinstance(months, int) or not 1 <= months <= 1200:
        raise bad_parameter("Property policy has invalid value: 'validity_months'")
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin - _BACKDATED)
        .not_valid_after(_months_later(begin, months))
    )
    for extension, critical in _extensions(properties):
        builder = builder.add_extension(extension, critical)
    return builder.sign(private, hashes.SHA256())


def request(private: Private, properties: Json) -> bytes:
    """A signing request for this key, in DER.

    :raises VaultError: 400, the properties make no sense.
    """
    builder = x509.CertificateSigningRequestBuilder().subject_name(_subject(properties))
    for extension, critical in _extensions(properties):
        builder = builder.add_extension(extension, critical)
    return builder.sign(private, hashes.SHA256()).public_bytes(Encoding.DER)


def _subject(properties: Json) -> x509.Name:
    try:
        return x509.Name.from_rfc4514_string(properties.get("subject") or "")
    except (ValueError, TypeError):
        raise bad_parameter("Property policy has invalid value: 'subject'") from None


def _extensions(properties: Json) -> list[tuple[x509.ExtensionType, bool]]:
    authority = object_of(properties, "basic_constraints").get("ca") is True
    wanted = {_USAGES.get(one) for one in properties.get("key_usage") or ()}
    if "key_agreement" not in wanted:  # these two only say what an agreed key is for
        wanted -= {"encipher_only", "decipher_only"}
    found: list[tuple[x509.ExtensionType, bool]] = [(x509.BasicConstraints(authority, None), True)]
    try:
        if wanted:
            usage = x509.KeyUsage(**{name: name in wanted for name in _USAGES.values()})
            found.append((usage, True))
        if ekus := properties.get("ekus"):
            usages = [x509.ObjectIdentifier(one) for one in ekus]
            found.append((x509.ExtendedKeyUsage(usages), False))
        if names := _names(object_of(properties, "sans")):
            found.append((x509.SubjectAlternativeName(names), False))
    except (ValueError, TypeError):
        raise bad_parameter("Property policy has invalid value: 'x509_props'") from None
    return found


def _names(sans: Json) -> list[x509.GeneralName]:
    addresses = [ipaddress.ip_address(one) for one in sans.get("ipAddresses") or ()]
    return [
        *(x509.RFC822Name(one) for one in sans.get("emails") or ()),
        *(x509.DNSName(one) for one in sans.get("dns_names") or ()),
        *(x509.UniformResourceIdentifier(one) for one in sans.get("uris") or ()),
        *(x509.IPAddress(one) for one in addresses),
    ]


def _months_later(begin: datetime, months: int) -> datetime:
    year, month = divmod(begin.month - 1 + months, 12)
    year, month = begin.year + year, month + 1
    return begin.replace(year=year, month=month, day=min(begin.day, monthrange(year, month)[1]))


def read(text: str, password: str | None) -> tuple[Identity, str]:
    """What is imported, and its content type: PEM text, or base64 of a PFX or PEM file.

    :raises VaultError: 400, neither, or without a private key, or the password is wrong.
    """
    if "-----BEGIN" in text:
        return _read_pem(text.encode()), PEM
    try:
        data = base64.b64decode(text, validate=True)
        if b"-----BEGIN" in data:  # the Python client encodes these as well
            return _read_pem(data), PEM
        private, certificate, chain = pkcs12.load_key_and_certificates(
            data, password.encode() if password else None
        )
    except (ValueError, binascii.Error):
        raise bad_parameter("The specified PKCS#12 X.509 certificate content is invalid.") from None
    if not isinstance(private, Private) or certificate is None:
        raise bad_parameter("The specified PKCS#12 X.509 certificate has no private key.")
    return Identity(private, certificate, tuple(chain)), PFX


def _read_pem(data: bytes) -> Identity:
    try:
        private = load_pem_private_key(data, None)
        certificate, *chain = x509.load_pem_x509_certificates(data)
    except (ValueError, TypeError):
        raise bad_parameter("The specified PEM X.509 certificate content is invalid.") from None
    if not isinstance(private, Private) or not _belong(private, certificate):
        raise bad_parameter("The specified PEM X.509 certificate has no private key.")
    return Identity(private, certificate, tuple(chain))


def merged(private: Private, encoded: object) -> Identity:
    """The key with the certificates that somebody else signed for it.

    :param encoded: DER in base64, once or twice, the key's own first.
    :raises VaultError: 400, no certificates, or not of this key.
    """
    try:
        if not isinstance(encoded, list) or not encoded:
            raise ValueError
        certificate, *chain = [x509.load_der_x509_certificate(_der(one)) for one in encoded]
    except (ValueError, TypeError, binascii.Error):
        raise bad_parameter("Property x5c has invalid value") from None
    if not _belong(private, certificate):
        raise bad_parameter(
            "The public key of the end-entity certificate in the specified X.509 certificate "
            "content does not match the public part of the specified private key."
        )
    return Identity(private, certificate, tuple(chain))


def _der(text: str) -> bytes:
    """DER from base64; clients encode what they are given, which the caller may have encoded."""
    raw = base64.b64decode(text, validate=True)
    return raw if raw.startswith(b"0") else base64.b64decode(raw, validate=True)


def _belong(private: Private, certificate: x509.Certificate) -> bool:
    return private.public_key() == certificate.public_key()


def secret_value(identity: Identity, content_type: str, *, exportable: bool) -> str:
    """What a certificate's secret holds: all of it, or without the key where it must not leave."""
    private = identity.private if exportable else None
    if content_type == PEM:
        pieces = []
        if private is not None:
            pieces.append(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        pieces += [
            one.public_bytes(Encoding.PEM) for one in (identity.certificate, *identity.chain)
        ]
        return b"".join(pieces).decode()
    if private is None:
        certificates = (identity.certificate, *identity.chain)
        plain = pkcs12.serialize_java_truststore(
            [pkcs12.PKCS12Certificate(one, None) for one in certificates], NoEncryption()
        )
    else:
        plain = pkcs12.serialize_key_and_certificates(
            None, private, identity.certificate, identity.chain, NoEncryption()
        )
    return base64.b64encode(plain).decode()
