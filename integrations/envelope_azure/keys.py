"""One version of a key in a vault, at work (docs/azure.md, "How keys are used").

RSA keys of a vault wrap with RSA-OAEP-256 here, under the public half that was
fetched once, and unwrap in the vault. Symmetric keys of a Managed HSM do both
there. The algorithm follows from the kind of the key alone: a file that could
choose RSA1_5 would make this reader a padding oracle for the vault's key.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

from envelope import keyurl
from envelope.errors import (
    EnvelopeError,
    KeyDisabled,
    KeyExpired,
    KeyMismatch,
    KeyNotFound,
    KeyNotYetValid,
    KeyOperationForbidden,
    KeyUnusable,
)
from envelope.jose import b64u_decode, b64u_encode
from envelope.keys import WrappedKey
from envelope.keyurl import KeyName
from envelope.secret import Secret
from envelope_azure.vault import Vault

__all__ = [
    "AES_ALG",
    "GCM_ALG",
    "HSM_ALGS",
    "RSA_ALG",
    "AzureKey",
    "alg_of",
    "check_usable",
    "kid_of",
    "path_of",
    "public_half",
]

RSA_ALG = "RSA-OAEP-256"
AES_ALG = "A256KW"
GCM_ALG = "A256GCM"
HSM_ALGS = (AES_ALG, GCM_ALG, "CKM_AES_KEY_WRAP", "CKM_AES_KEY_WRAP_PAD")
"""What symmetric keys of an HSM may be used with: `hsm_alg`."""
_GCM_MEMBERS = ("iv", "tag")  # made by the HSM, never by us
_OAEP = padding.OAEP(padding.MGF1(SHA256()), SHA256(), None)
_LEAST_BITS = 2048


def alg_of(bundle: Mapping[str, Any], kid: str, hsm_alg: str = AES_ALG) -> str:
    """The one algorithm that a key is used with, by its kind.

    Args:
        bundle: What the vault told of the key.
        kid: Its name, for errors.
        hsm_alg: What symmetric keys are used with, as the settings say.

    Raises:
        KeyOperationForbidden: Keys of this kind do not wrap, or this one is too short.
    """
    jwk = bundle["key"]
    kind = str(jwk.get("kty"))
    if kind in ("RSA", "RSA-HSM"):
        if len(b64u_decode(jwk["n"], "n")) * 8 < _LEAST_BITS:
            raise KeyOperationForbidden("the RSA key has less than 2048 bits", kid=kid)
        return RSA_ALG
    if kind in ("oct", "oct-HSM"):
        return hsm_alg
    raise KeyOperationForbidden(
        f"a key of the kind {kind} does not wrap keys", kid=kid, operation="resolve"
    )


class AzureKey:
    """See :class:`envelope.keys.MasterKey`.

    Args:
        vault: Where it is.
        name: Its name, with the version if that is known.
        alg: What it is used with.
        bundle: What the vault told of it (its "key bundle"); ``None`` where nobody asked, or
            where that is not allowed.
        wrap_here: Whether to wrap with the public half, where it has one.
    """

    def __init__(
        self,
        vault: Vault,
        name: KeyName,
        alg: str,
        bundle: Mapping[str, Any] | None = None,
        *,
        wrap_here: bool = True,
    ) -> None:
        self._vault = vault
        self._name = name
        self._bundle = bundle
        self.alg = alg
        self.kid = kid_of(name)
        self._public = public_half(bundle) if bundle and wrap_here and alg == RSA_ALG else None

    def __repr__(self) -> str:
        return f"AzureKey({self.kid!r})"

    def wrap(self, key: Secret, *, aad: bytes) -> WrappedKey:
        """See :class:`envelope.keys.MasterKey`.

        Raises:
            KeyDisabled, KeyExpired, KeyNotYetValid, KeyOperationForbidden: As it says.
            AccessDenied, KeyNotFound, VaultUnavailable: What the vault said.
        """
        if self._bundle is not None:
            check_usable(self._bundle, self.kid)
        if self._public is not None:
            return WrappedKey(self.kid, self.alg, self._public.encrypt(key.reveal(), _OAEP))
        bound = {"aad": b64u_encode(aad)} if self.alg == GCM_ALG else {}
        answer = self._ask("wrap", key, bound)
        kid = self._answered_by(answer, "wrap")
        params = {name: str(answer[name]) for name in _GCM_MEMBERS} if bound else {}
        return WrappedKey(kid, self.alg, b64u_decode(answer["value"], "value"), params)

    def unwrap(self, wrapped: WrappedKey, *, aad: bytes) -> Secret:
        """See :class:`envelope.keys.MasterKey`.

        Raises:
            KeyMismatch: It does not unwrap, or says that it was wrapped otherwise.
            KeyDisabled, AccessDenied, KeyNotFound, VaultUnavailable: What the vault said.
        """
        bound = _GCM_MEMBERS if self.alg == GCM_ALG else ()
        if wrapped.alg != self.alg or set(wrapped.params) != set(bound):
            raise KeyMismatch(
                f"{self.kid} unwraps {self.alg} alone", kid=self.kid, operation="unwrap"
            )
        members = {**wrapped.params, "aad": b64u_encode(aad)} if bound else {}
        answer = self._ask("unwrap", wrapped.encrypted_key, members)
        key = Secret(b64u_decode(answer.pop("value").reveal().decode(), "value"))
        self._answered_by(answer, "unwrap")
        return key

    def _ask(
        self, operation: str, value: Secret | bytes, members: Mapping[str, str]
    ) -> dict[str, Any]:
        try:
            return self._vault.ask(
                "POST",
                f"{path_of(self._name)}/{operation}key",
                kid=self.kid,
                operation=operation,
                body={
                    "alg": self.alg,
                    "value": value if isinstance(value, Secret) else b64u_encode(value),
                    **members,
                },
                sealed="value" if operation == "unwrap" else None,
            )
        except KeyNotFound as error:
            raise self._vault.missing(self._name, error) from None

    def _answered_by(self, answer: Mapping[str, Any], operation: str) -> str:
        """The exact version that the vault says it used. An unversioned kid is never stored."""
        kid = str(answer.get("kid"))
        name = keyurl.parse(kid)
        if name.version is None or (name.host, name.name) != (self._name.host, self._name.name):
            raise EnvelopeError(
                f"the vault answered for {kid!a}", kid=self.kid, operation=operation
            )
        return kid_of(replace(self._name, version=name.version))


def path_of(name: KeyName) -> str:
    """Where it is below its vault."""
    return f"keys/{name.name}/{name.version}" if name.version else f"keys/{name.name}"


def kid_of(name: KeyName) -> str:
    """A kid as the service writes it; a certificate's key keeps the name that it was trusted by."""
    if name.scheme == "azurekeyvault":
        return f"https://{name.host}/{path_of(name)}"
    return str(name)


def public_half(bundle: Mapping[str, Any]) -> rsa.RSAPublicKey:
    """The public half that the vault told of an RSA key."""
    jwk = bundle["key"]
    modulus, exponent = (int.from_bytes(b64u_decode(jwk[part], part)) for part in ("n", "e"))
    return rsa.RSAPublicNumbers(exponent, modulus).public_key()


def check_usable(
    bundle: Mapping[str, Any], kid: str, key_op: str = "wrapKey", operation: str = "wrap"
) -> None:
    """What the vault would check. A local wrap would succeed on a disabled or expired key.

    Raises:
        KeyDisabled, KeyExpired, KeyNotYetValid, KeyOperationForbidden: As it says.
    """
    attributes, jwk = bundle.get("attributes") or {}, bundle["key"]
    now = time.time()
    about = {"kid": kid, "operation": operation}
    problem: KeyUnusable | None = None
    if not attributes.get("enabled", True):
        problem = KeyDisabled("this version is disabled", **about)
    elif attributes.get("nbf") is not None and now < attributes["nbf"]:
        problem = KeyNotYetValid("this version's start date is still to come", **about)
    elif attributes.get("exp") is not None and now >= attributes["exp"]:
        problem = KeyExpired("this version's end date is past", **about)
    elif key_op not in (jwk.get("key_ops") or ()):
        problem = KeyOperationForbidden(f"this key is not for {key_op}", **about)
    if problem is not None:
        raise problem
