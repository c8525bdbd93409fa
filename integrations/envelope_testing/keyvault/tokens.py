"""Access tokens of the local Entra ID, and what a vault says when it does not take one.

They are JSON Web Tokens with the claims of the vendor's tokens of version 1.0, signed with a key of
this world: no other world, and not the real service, takes them. Their times follow the world's
clock. (Microsoft identity platform, "Access token claims reference".)
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

import jwt

if TYPE_CHECKING:
    from jwt.types import Options

    from .world import Principal, World

__all__ = ["TokenRejected", "Tokens"]

_ALGORITHM = "HS256"
#: Times are checked by the world's clock, and the rest with the service's own errors.
_SIGNATURE_ONLY: Options = {
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
    "verify_aud": False,
    "verify_iss": False,
    "verify_sub": False,
    "verify_jti": False,
}


class TokenRejected(Exception):
    """A vault does not accept this token.

    ``code`` is the short name of the reason, such as ``AKV10032``; ``message`` is the whole text
    that the service puts into its error body, the code included.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Tokens:
    """Issues and checks the tokens of one world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._key = secrets.token_bytes(32)
        self._serial = 0
        self._first_valid = 0
        self._holders: dict[str, Principal] = {}

    def issue(self, principal: Principal, *, audience: str, lifetime: float = 3600) -> str:
        """A token for one principal and one resource.

        Args:
            principal: Who it is about. Its tenant is the issuer.
            audience: The resource that may take it, such as ``https://vault.azure.net``.
            lifetime: Seconds until it expires, by the world's clock.
        """
        now = self._world.clock.now()
        with self._world.lock:
            self._serial += 1
            serial = self._serial
            self._holders[principal.object_id] = principal
        claims = {
            "aud": audience,
            "iss": issuer(principal.tenant),
            "iat": int(now),
            "nbf": int(now),
            "exp": int(now + lifetime),
            "appid": principal.client_id,
            "idtyp": "app",
            "oid": principal.object_id,
            "sub": principal.object_id,
            "tid": principal.tenant,
            "uti": str(serial),
            "ver": "1.0",
        }
        return jwt.encode(claims, self._key, algorithm=_ALGORITHM)

    def check(self, token: str, *, audience: str, tenant: str) -> Principal:
        """Who a token is about.

        Args:
            token: What followed ``Bearer``.
            audience: The resource that the vault belongs to.
            tenant: The vault's tenant.

        Raises:
            TokenRejected: It is not one of this world's, has expired, or is for another tenant or
                resource.
        """
        try:
            claims: dict[str, Any] = jwt.decode(
                token, self._key, algorithms=[_ALGORITHM], options=_SIGNATURE_ONLY
            )
        except jwt.InvalidTokenError:
            text = "AKV10046: Unable to resolve the key used for signature validation."
            raise TokenRejected("AKV10046", text) from None
        if claims["exp"] <= self._world.clock.now() or int(claims["uti"]) <= self._first_valid:
            text = "[TokenExpired] Error validating token: 'S2S12086'."
            raise TokenRejected("TokenExpired", text)
        if claims["tid"] != tenant:
            expected, found = issuer(tenant), claims["iss"]
            text = f"AKV10032: Invalid issuer. Expected one of {expected}, found {found}."
            raise TokenRejected("AKV10032", text)
        if claims["aud"] != audience:
            found = claims["aud"]
            text = f"AKV10022: Invalid audience. Expected {audience}, found: {found}."
            raise TokenRejected("AKV10022", text)
        with self._world.lock:
            return self._holders[claims["oid"]]

    def expire_all(self) -> None:
        """Let every token that was issued until now be refused as expired."""
        with self._world.lock:
            self._first_valid = self._serial


def issuer(tenant: str) -> str:
    """The issuer that a tenant's tokens name."""
    return f"https://sts.windows.net/{tenant}/"
