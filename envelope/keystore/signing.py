"""Keys of the embedded keystore that sign (docs/keystore.md, "Keys and kids")."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from envelope import keyurl
from envelope.errors import ConfigurationError, KeyDisabled, KeyNotFound
from envelope.keys import PublicHalf, SigningKey
from envelope.keystore import material
from envelope.keystore.contents import Contents
from envelope.keystore.records import Version, now
from envelope.keystore.usable import check_dates, exact, usable

__all__ = ["LocalSigner", "public_half", "signer"]


class LocalSigner:
    """One version of a signing key. It holds no key bytes, like :class:`LocalKey`."""

    def __init__(self, contents: Contents, version: Version) -> None:
        self._contents = contents
        self._name = version.name
        self._version = version.version
        self.kid = version.kid
        self.alg = version.alg

    def __repr__(self) -> str:
        return f"LocalSigner({self.kid!r})"

    @property
    def public(self) -> PublicHalf:
        """See :class:`envelope.keys.SigningKey`."""
        return _half(exact(self._contents, self._name, self._version, "public key"))

    def sign(self, data: bytes) -> bytes:
        """See :class:`envelope.keys.SigningKey`.

        Raises:
            KeyDisabled, KeyExpired, KeyNotYetValid, KeyNotFound, KeyOperationForbidden: As it says.
        """
        version = usable(self._contents, self._name, self._version, "sign", "sign")
        check_dates(version, "sign")
        return material.sign(version, data)


def signer(contents: Contents, kid: str) -> LocalSigner:
    """The exact version, whatever its state, or the newest enabled one.

    Raises:
        KeyNotFound: There is no such key or version in this keystore.
        KeyDisabled: No version of it is enabled.
    """
    name = keyurl.parse(kid)
    if name.version is not None:
        return LocalSigner(contents, exact(contents, name.name, name.version, "resolve"))
    newest = contents.require(name.name).newest(now())
    if newest is None:
        raise KeyDisabled(f"no version of {name} is enabled", kid=str(name), operation="resolve")
    return LocalSigner(contents, newest)


def public_half(contents: Contents, kid: str) -> PublicHalf:
    """The public half of an exact version that is in service.

    Raises:
        KeyNotFound, KeyDisabled, KeyOperationForbidden: It proves nothing, and why.
    """
    name = keyurl.parse(kid)
    if name.version is None:
        raise ConfigurationError(f"{kid} names no version")
    if contents.key(name.name) is None:
        raise KeyNotFound(f"this keystore has no key {name.unversioned}", kid=kid)
    return _half(usable(contents, name.name, name.version, "verify", "verify"))


def _half(version: Version) -> PublicHalf:
    # Asked for each file that is opened, and the same for as long as the version is this one.
    half = version.__dict__.get("_half")
    if half is None:
        key = material.verifying_key(version)
        spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        half = version.__dict__["_half"] = PublicHalf(version.kid, spki)
    found: PublicHalf = half
    return found


if TYPE_CHECKING:  # the protocol holds
    _signer: type[SigningKey] = LocalSigner
