"""What applications prove themselves with besides a secret: certificates and federated tokens.

(Microsoft identity platform, "Application authentication certificate credentials" and "Workload
identity federation".)
"""

from __future__ import annotations

import base64
import datetime
import json
import os
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from jwt.types import Options

    from .world import Principal, World

__all__ = ["ASSERTION_TYPE", "AssertionRejected", "Credentials"]

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_EXCHANGE_AUDIENCE = "api://AzureADTokenExchange"
#: The issuer that stands for a Kubernetes cluster; nobody connects to it.
_CLUSTER = "https://oidc.cluster.invalid/"
_WITHOUT_AUDIENCE: Options = {"verify_aud": False, "verify_exp": False, "verify_nbf": False}


class AssertionRejected(Exception):
    """A client assertion proves nothing. ``code`` is the number of an AADSTS error."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Credentials:
    """The certificates and federated identities that are registered with applications.

    Args:
        world: Whose principals they belong to.
        folder: Where certificates and federated tokens are written for clients to read.
    """

    def __init__(self, world: World, folder: Path) -> None:
        self._world = world
        self._folder = folder
        self._certificates: dict[str, x509.Certificate] = {}
        self._cluster = ec.generate_private_key(ec.SECP256R1())

    # --- Made for a principal -------------------------------------------------------------------

    def certificate_file(self, principal: Principal) -> Path:
        """A new certificate with its key in PEM, registered with the principal's application."""
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, principal.name[:64])])
        now = datetime.datetime.now(datetime.UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=90))
            .sign(key, hashes.SHA256())
        )
        self.register(principal, certificate)
        pem = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ) + certificate.public_bytes(serialization.Encoding.PEM)
        return self._written(f"{principal.client_id}-{certificate.serial_number:x}.pem", pem)

    def register(self, principal: Principal, certificate: x509.Certificate) -> None:
        """Let a certificate sign in as the principal's application."""
        with self._world.lock:
            for thumbprint in _thumbprints(certificate):
                principal.certificate_thumbprints.add(thumbprint)
                self._certificates[thumbprint] = certificate

    def federated_token_file(self, principal: Principal, *, lifetime: float = 3600) -> Path:
        """A token such as Kubernetes mounts into a pod, for the principal's application.

        Args:
            principal: Whose service account the pod runs as.
            lifetime: Seconds until it expires, by the world's clock.
        """
        now = self._world.clock.now()
        claims = {
            "aud": [_EXCHANGE_AUDIENCE],
            "iss": _CLUSTER,
            "sub": _subject(principal),
            "iat": int(now),
            "nbf": int(now),
            "exp": int(now + lifetime),
        }
        token = jwt.encode(claims, self._cluster, algorithm="ES256")
        return self._written(f"{principal.client_id}-{uuid.uuid4()}.jwt", token.encode())

    def _written(self, name: str, content: bytes) -> Path:
        path = self._folder / name
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
        return path

    # --- Presented by a client ------------------------------------------------------------------

    def verify(self, assertion: str, principal: Principal, *, audiences: set[str]) -> None:
        """Check a client assertion: one that a certificate signed, or a federated token.

        Args:
            assertion: The JWT.
            principal: The application that it must prove.
            audiences: What the former may name as its audience: this tenant's token end points.

        Raises:
            AssertionRejected: It does not prove that.
        """
        try:
            header = jwt.get_unverified_header(assertion)
            claims = _claims(assertion)
        except (jwt.InvalidTokenError, ValueError):
            text = "Invalid client assertion. The token is not a valid JWT."
            raise AssertionRejected(50027, text) from None
        if claims.get("iss") == principal.client_id:
            self._verify_certificate(assertion, header, claims, principal, audiences)
        else:
            self._verify_federated(assertion, claims, principal)

    def _verify_certificate(
        self,
        assertion: str,
        header: dict[str, Any],
        claims: dict[str, Any],
        principal: Principal,
        audiences: set[str],
    ) -> None:
        encoded = header.get("x5t#S256") or header.get("x5t") or ""
        thumbprint = _unpadded(encoded).hex()
        with self._world.lock:
            known = thumbprint in principal.certificate_thumbprints
            certificate = self._certificates.get(thumbprint)
        if known and certificate is None:
            certificate = _sent(header, thumbprint)
        if not known or certificate is None:
            raise AssertionRejected(
                700027,
                "The certificate with identifier used to sign the client assertion is not "
                "registered on application. [Reason - The key was not found., Thumbprint of key "
                f"used by client: '{thumbprint.upper()}']",
            )
        key = certificate.public_key()
        try:
            jwt.decode(assertion, key, algorithms=["RS256", "PS256"], options=_WITHOUT_AUDIENCE)  # type: ignore[arg-type]  # a certificate's key may be of a kind that signs no JWT
        except (jwt.InvalidTokenError, TypeError):
            raise AssertionRejected(
                700027,
                "Client assertion failed signature validation. [Reason - The provided signature "
                "value did not match the expected signature value., Thumbprint of key used by "
                f"client: '{thumbprint.upper()}']",
            ) from None
        if claims.get("aud") not in audiences or claims.get("sub") != principal.client_id:
            text = f"Client assertion audience claim does not match, found: {claims.get('aud')!r}."
            raise AssertionRejected(700023, text)
        # The client's clock is the machine's, which no test moves.
        _in_time(claims, time.time())

    def _verify_federated(
        self, assertion: str, claims: dict[str, Any], principal: Principal
    ) -> None:
        subject, audience = claims.get("sub"), claims.get("aud")
        if (
            claims.get("iss") != _CLUSTER
            or subject != _subject(principal)
            or audience not in (_EXCHANGE_AUDIENCE, [_EXCHANGE_AUDIENCE])
        ):
            raise AssertionRejected(
                700213,
                "No matching federated identity record found for presented assertion subject "
                f"'{subject}'. Check your federated identity credential Subject, Audience and "
                "Issuer against the presented assertion.",
            )
        try:
            jwt.decode(
                assertion,
                self._cluster.public_key(),
                algorithms=["ES256"],
                options=_WITHOUT_AUDIENCE,
            )
        except jwt.InvalidTokenError:
            text = "Assertion failed signature validation. [Reason - The key was not found.]"
            raise AssertionRejected(5001315, text) from None
        _in_time(claims, self._world.clock.now())


def _in_time(claims: dict[str, Any], now: float) -> None:
    begins, ends = claims.get("nbf", 0), claims.get("exp", 0)
    if not begins - 300 <= now < ends:  # the vendor's allowance for clocks that differ
        raise AssertionRejected(
            700024, f"Client assertion is not within its valid time range. It ends at {ends}."
        )


def _subject(principal: Principal) -> str:
    return f"system:serviceaccount:default:{principal.name}"


def _thumbprints(certificate: x509.Certificate) -> tuple[str, str]:
    # SHA-1 is what many clients still send; it names the certificate here and proves nothing.
    sha1 = certificate.fingerprint(hashes.SHA1())  # noqa: S303
    return certificate.fingerprint(hashes.SHA256()).hex(), sha1.hex()


def _sent(header: dict[str, Any], thumbprint: str) -> x509.Certificate | None:
    """The certificate that came with the assertion, where it is the one of that thumbprint."""
    chain = header.get("x5c") or [""]
    try:
        certificate = x509.load_der_x509_certificate(
            base64.b64decode(chain if isinstance(chain, str) else chain[0])
        )
    except ValueError:
        return None
    return certificate if thumbprint in _thumbprints(certificate) else None


def _claims(token: str) -> dict[str, Any]:
    claims = json.loads(_unpadded(token.split(".")[1]))
    if not isinstance(claims, dict):
        raise ValueError("claims are an object")
    return claims


def _unpadded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
