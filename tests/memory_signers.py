"""A driver in memory whose keys sign as well: `local:signer…` and what else a test names."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from envelope import jws, keyurl
from envelope.errors import KeyDisabled, KeyNotFound
from envelope.keys import PublicHalf
from tests.memory_driver import MemoryDriver

Private = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@cache
def private_key(name: str) -> Private:
    """The key of that kid in all drivers of this process; RSA if its name says so."""
    if "rsa" in name:
        return rsa.generate_private_key(65537, 2048)
    return ec.generate_private_key(ec.SECP384R1() if "p384" in name else ec.SECP256R1())


def spki_of(key: Private) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def signed(key: Private, data: bytes) -> bytes:
    """A signature in JWS's form."""
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(data, jws.PSS, SHA256())
    r, s = decode_dss_signature(key.sign(data, ec.ECDSA(SHA256())))
    return r.to_bytes(32) + s.to_bytes(32)


@dataclass
class SigningDriver(MemoryDriver):
    """A :class:`MemoryDriver` that signs. ``versions`` are those that exist, if it matters."""

    versions: set[str] = field(default_factory=set)

    def resolver(self, settings: object) -> SigningDriver:
        return self

    def signer(self, kid: str) -> MemorySigner:
        name = keyurl.parse(kid)
        self.note("signer", kid)
        newest = self.newest.setdefault(str(name.unversioned), 1)
        return MemorySigner(self, str(name) if name.version else f"{name}/v{newest}")

    def public_half(self, kid: str) -> PublicHalf:
        self.note("public key", kid)
        if kid in self.disabled:
            raise KeyDisabled("this version is disabled", kid=kid)
        if self.versions and kid not in self.versions:
            raise KeyNotFound("there is no such version", kid=kid)
        return PublicHalf(kid, spki_of(private_key(kid)))


@dataclass(frozen=True)
class MemorySigner:
    driver: SigningDriver = field(repr=False)
    kid: str

    @property
    def alg(self) -> str:
        return "PS256" if "rsa" in self.kid else "ES256"

    @property
    def public(self) -> PublicHalf:
        return PublicHalf(self.kid, spki_of(private_key(self.kid)))

    def sign(self, data: bytes) -> bytes:
        self.driver.note("sign", self.kid)
        if self.kid in self.driver.disabled:
            raise KeyDisabled("this version is disabled", kid=self.kid)
        return signed(private_key(self.kid), data)
