"""The certificate authority of one local Key Vault, and its servers' certificates.

It exists for as long as the local Key Vault runs. Its private key is never written anywhere, so
that nobody can use it against a client that still trusts it.
"""

from __future__ import annotations

import datetime
import os
import ssl
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

__all__ = ["CertificateAuthority", "covered"]

#: More than the longest test, less than what some clients refuse.
_DAYS = 90


class CertificateAuthority:
    """Issues certificates for servers. Files are kept in ``folder``: its certificate, and theirs.

    Args:
        folder: An existing directory that only this process uses.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, "envelope testing"),
                x509.NameAttribute(
                    NameOID.COMMON_NAME, "Local Key Vault: for tests, trust nowhere"
                ),
            ]
        )
        usage = _key_usage(key_cert_sign=True, crl_sign=True)
        constraints = x509.BasicConstraints(ca=True, path_length=0)
        builder = _builder(name, name, self._key.public_key(), usage, constraints)
        self._certificate = builder.sign(self._key, hashes.SHA256())
        #: The CA's certificate in PEM: what a client is told to trust.
        self.file = folder / "ca.pem"
        self.file.write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))

    def context(self, names: Sequence[str]) -> ssl.SSLContext:
        """What a server needs to be any of these DNS names; ``*.`` stands for one label."""
        path = self._issue(names)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        context.load_cert_chain(path)
        return context

    def _issue(self, names: Sequence[str]) -> Path:
        key = ec.generate_private_key(ec.SECP256R1())
        # Some clients refuse a name of more than 64 characters here, and none reads it.
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
        usage = _key_usage(digital_signature=True)
        constraints = x509.BasicConstraints(ca=False, path_length=None)
        issuer = self._certificate.subject
        builder = _builder(subject, issuer, key.public_key(), usage, constraints)
        certificate = (
            builder.add_extension(
                x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False
            )
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
            .sign(self._key, hashes.SHA256())
        )
        path = self._folder / f"server-{certificate.serial_number:x}.pem"
        pem = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ) + certificate.public_bytes(serialization.Encoding.PEM)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(pem)
        return path


def covered(host: str, names: Sequence[str]) -> bool:
    """Whether a certificate for ``names`` is good for ``host`` (RFC 9525, section 6.3)."""
    return host in names or f"*.{host.partition('.')[2]}" in names


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    usage: x509.KeyUsage,
    constraints: x509.BasicConstraints,
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=_DAYS))
        .add_extension(constraints, critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _key_usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )
