"""Using keys: encrypt, wrap, sign and their opposites, and which state of a key forbids which.

Follows the vendor's "About keys": what was protected stays readable after a key has expired, so
decrypting, unwrapping and verifying ignore both dates; a disabled key does nothing.
"""

from __future__ import annotations

from ..objects import Version
from . import algorithms, shelving
from .algorithms import Sealed
from .errors import VaultError, bad_parameter, forbidden
from .keys import KeyContent
from .requests import Asked, Json, bytes_of, encode, optional_bytes, text_of

#: Operations that protect something new: they need a key that is valid now.
_PROTECTING = ("encrypt", "wrapKey", "sign")


def usable(asked: Asked, operation: str) -> tuple[str, Version[KeyContent]]:
    """The named version of the key and its identifier, if it may do this now.

    :param operation: as in ``key_ops``.
    :raises VaultError: 403 with the reason, or 404.
    """
    item = shelving.live(asked)
    version = shelving.version_of(asked, item)
    attributes = version.attributes
    if not attributes.enabled:
        raise forbidden("KeyDisabled", f"Operation {operation} is not allowed on a disabled key.")
    if operation not in version.content.key_ops:
        raise forbidden(
            "KeyOperationForbidden", f"Operation {operation} is not permitted on this key."
        )
    if operation in _PROTECTING:
        if attributes.not_before is not None and asked.now < attributes.not_before:
            raise forbidden(
                "KeyNotYetValid", f"Operation {operation} is not allowed on a key not yet valid."
            )
        if attributes.expires is not None and asked.now >= attributes.expires:
            raise forbidden(
                "KeyExpired", f"Operation {operation} is not allowed on an expired key."
            )
    return shelving.identifier(asked, item.name, version.version), version


def _seal(asked: Asked, operation: str) -> Json:
    kid, version = usable(asked, operation)
    aad = optional_bytes(asked.body, "aad")
    sealed = algorithms.seal(
        version.content.secret,
        text_of(asked.body, "alg"),
        bytes_of(asked.body, "value"),
        iv=optional_bytes(asked.body, "iv"),
        aad=aad,
    )
    body = {"kid": kid, "value": encode(sealed.value)}
    for member, value in (("iv", sealed.iv), ("tag", sealed.tag), ("aad", aad)):
        if value is not None:
            body[member] = encode(value)
    return body


def _unseal(asked: Asked, operation: str) -> Json:
    kid, version = usable(asked, operation)
    sealed = Sealed(
        bytes_of(asked.body, "value"),
        optional_bytes(asked.body, "iv"),
        optional_bytes(asked.body, "tag"),
    )
    plain = algorithms.unseal(
        version.content.secret,
        text_of(asked.body, "alg"),
        sealed,
        aad=optional_bytes(asked.body, "aad"),
    )
    return {"kid": kid, "value": encode(plain)}


def encrypt(asked: Asked) -> Json:
    """Encrypt one block."""
    return _seal(asked, "encrypt")


def decrypt(asked: Asked) -> Json:
    """Decrypt one block."""
    return _unseal(asked, "decrypt")


def wrap(asked: Asked) -> Json:
    """Wrap a key."""
    return _seal(asked, "wrapKey")


def unwrap(asked: Asked) -> Json:
    """Unwrap a key."""
    return _unseal(asked, "unwrapKey")


def sign(asked: Asked) -> Json:
    """Sign a digest."""
    kid, version = usable(asked, "sign")
    signature = algorithms.sign(
        version.content.secret, text_of(asked.body, "alg"), bytes_of(asked.body, "value")
    )
    return {"kid": kid, "value": encode(signature)}


def verify(asked: Asked) -> Json:
    """Check a signature of a digest."""
    _, version = usable(asked, "verify")
    good = algorithms.verify(
        version.content.secret,
        text_of(asked.body, "alg"),
        bytes_of(asked.body, "digest"),
        bytes_of(asked.body, "value"),
    )
    return {"value": good}


def release(asked: Asked) -> Json:
    """Refuse to release a key: no attestation of a confidential machine holds here.

    :raises VaultError: always; 400 for an exportable key, 403 for any other.
    """
    item = shelving.live(asked)
    version = shelving.version_of(asked, item)
    if not version.extra.get("exportable"):
        raise forbidden("KeyOperationForbidden", "Operation release is not permitted on this key.")
    text_of(asked.body, "target")
    refusal: VaultError = bad_parameter(
        "Target environment attestation statement cannot be verified."
    )
    raise refusal
