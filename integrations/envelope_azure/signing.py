"""Keys in a vault that sign KEKs (docs/azure.md, "Keys that sign").

EC keys on P-256 sign with ES256, RSA keys with PS256, both in the vault; what
they signed is verified here, under the public half that the vault tells.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from envelope import keyurl
from envelope.errors import (
    EnvelopeError,
    KeyDisabled,
    KeyNotFound,
    KeyOperationForbidden,
)
from envelope.jose import b64u_decode, b64u_encode
from envelope.keys import PublicHalf, SigningKey
from envelope.keyurl import KeyName
from envelope_azure.keys import check_usable, kid_of, path_of, public_half
from envelope_azure.vault import Vault

__all__ = ["AzureSigner", "public_half_of", "signing_alg", "verifying_key"]

_ALGORITHMS = {"EC": "ES256", "EC-HSM": "ES256", "RSA": "PS256", "RSA-HSM": "PS256"}
_RSA_BITS = range(2048, 4097)
_CURVES: dict[str, ec.EllipticCurve] = {
    "P-256": ec.SECP256R1(),
    "P-384": ec.SECP384R1(),
    "P-521": ec.SECP521R1(),
}


def signing_alg(bundle: Mapping[str, Any], kid: str) -> str:
    """The one algorithm that a key signs with, by its kind.

    Raises:
        KeyOperationForbidden: Keys of this kind sign no KEKs, or this one may not sign.
    """
    jwk = bundle["key"]
    alg = _ALGORITHMS.get(str(jwk.get("kty")))
    if alg == "ES256" and jwk.get("crv") != "P-256":
        alg = None
    if alg == "PS256" and len(b64u_decode(jwk["n"], "n")) * 8 not in _RSA_BITS:
        alg = None
    if alg is None:
        what = " ".join(str(jwk[part]) for part in ("kty", "crv") if part in jwk)
        raise KeyOperationForbidden(
            f"a key of the kind {what} signs no KEKs",
            kid=kid,
            operation="resolve",
            next_step="Make one: envelope keys create azurekeyvault://VAULT/NAME --kty EC.",
        )
    if not {"sign", "verify"} & set(jwk.get("key_ops") or ()):
        raise KeyOperationForbidden("this key is not for signing", kid=kid, operation="resolve")
    return alg


def verifying_key(bundle: Mapping[str, Any]) -> rsa.RSAPublicKey | ec.EllipticCurvePublicKey:
    """The public half that the vault told of an RSA or EC key."""
    jwk = bundle["key"]
    if "x" not in jwk:
        return public_half(bundle)
    x, y = (int.from_bytes(b64u_decode(jwk[part], part)) for part in ("x", "y"))
    curve = _CURVES.get(str(jwk.get("crv")))
    if curve is None:
        raise KeyOperationForbidden(
            f"the curve {jwk.get('crv')} is none that can be read here", kid=str(jwk.get("kid"))
        )
    return ec.EllipticCurvePublicNumbers(x, y, curve).public_key()


def public_half_of(bundle: Mapping[str, Any], name: KeyName) -> PublicHalf:
    """What verifies the signatures of the version that the vault told of.

    Raises:
        KeyDisabled, KeyOperationForbidden: It proves nothing, and why.
        KeyNotFound: The vault told of another one.
    """
    kid = kid_of(name)
    if keyurl.parse(str(bundle["key"]["kid"])) != replace(name, scheme="azurekeyvault"):
        raise KeyNotFound(f"the vault answered with {bundle['key']['kid']!a}", kid=kid)
    if not (bundle.get("attributes") or {}).get("enabled", True):
        raise KeyDisabled("this version is disabled", kid=kid, operation="public key")
    signing_alg(bundle, kid)
    key = verifying_key(bundle)
    return PublicHalf(kid, key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


class AzureSigner:
    """See :class:`envelope.keys.SigningKey`.

    Args:
        vault: Where it is.
        name: Its name, with its exact version.
        bundle: What the vault told of it.
    """

    def __init__(self, vault: Vault, name: KeyName, bundle: Mapping[str, Any]) -> None:
        self._vault = vault
        self._name = name
        self._bundle = bundle
        self.kid = kid_of(name)
        self.alg = signing_alg(bundle, self.kid)

    def __repr__(self) -> str:
        return f"AzureSigner({self.kid!r})"

    @property
    def public(self) -> PublicHalf:
        """See :class:`envelope.keys.SigningKey`."""
        return public_half_of(self._bundle, self._name)

    def sign(self, data: bytes) -> bytes:
        """See :class:`envelope.keys.SigningKey`. The vault gets a digest, not the data.

        Raises:
            KeyDisabled, KeyExpired, KeyNotYetValid, KeyOperationForbidden: As it says.
            AccessDenied, KeyNotFound, VaultUnavailable: What the vault said.
        """
        check_usable(self._bundle, self.kid, "sign", "sign")
        try:
            answer = self._vault.ask(
                "POST",
                f"{path_of(self._name)}/sign",
                kid=self.kid,
                operation="sign",
                body={"alg": self.alg, "value": b64u_encode(sha256(data).digest())},
            )
        except KeyNotFound as error:
            raise self._vault.missing(self._name, error) from None
        if keyurl.parse(str(answer.get("kid"))) != replace(self._name, scheme="azurekeyvault"):
            raise EnvelopeError(
                f"the vault answered for {answer.get('kid')!a}", kid=self.kid, operation="sign"
            )
        return b64u_decode(answer["value"], "value")


if TYPE_CHECKING:  # the protocol holds
    _signer: type[SigningKey] = AzureSigner
