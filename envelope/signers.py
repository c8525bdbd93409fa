"""Who made a KEK: signing one's own, and proving that of a file (docs/format.md, "Signature").

One :class:`Signers` belongs to one key ring configuration. The kid in a
signature is an attacker's text: it is matched against the trusted signers by
its parsed parts before anything is asked of a vault, and what is asked then is
the configured key. docs/keys.md, "Who wrote it", has the promises.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256

from envelope import caller, jws, keyurl
from envelope.caches import Cache
from envelope.errors import (
    ConfigurationError,
    EnvelopeError,
    KeyDisabled,
    KeyExpired,
    KeyNotFound,
    KeyOperationForbidden,
    Malformed,
    OriginNotProven,
)
from envelope.header import KeySection
from envelope.jws import Claims
from envelope.keys import KeyResolver, PublicHalf, SignerResolver, SigningKey, WrappedKey
from envelope.keyurl import KeyName
from envelope.limits import Limits
from envelope.masters import Masters
from envelope.trust import Trust, name_of

__all__ = ["Recipient", "Signers", "audience_of"]

_FRESH = 30.0  # seconds for which a metered vault's newest version is believed to be still that
_REMEMBERED = 4096

Recipient = tuple[WrappedKey, str]
"""A recipient as the file has it, and the kid to call."""


def audience_of(kids: Sequence[str]) -> list[str]:
    """The names, without version, of the keys that a KEK is wrapped to; each once."""
    return list(dict.fromkeys(str(keyurl.parse(kid).unversioned) for kid in kids))


@dataclass(frozen=True, slots=True)
class _Proof:
    """A signature that held: what it says, and under which public key of which name."""

    claims: Claims
    key: str
    public: PublicHalf
    audience: frozenset[KeyName]


class Signers:
    """Signs KEKs, and proves signatures, for one key ring configuration.

    Args:
        masters: Finds the resolvers of this configuration.
        sign_with: The key that signs new KEKs, or ``None``.
        trusted: The signers that count, with the ring's aliases; none: no signature is required.
        limits: Deadline, rates and ages.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        masters: Masters,
        sign_with: str | None,
        trusted: Trust,
        limits: Limits,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._masters = masters
        self._sign_with = sign_with
        self._trusted = trusted
        self._limits = limits
        self._keys: Cache[str, SigningKey] = Cache(4, limits.refresh, clock=clock)
        self._publics: Cache[str, PublicHalf] = Cache(_REMEMBERED, limits.refresh, clock=clock)
        self._refusals: Cache[str, OriginNotProven] = Cache(
            _REMEMBERED, limits.negative_age, clock=clock
        )
        # By what was verified, under which key: as long as the key counts, so does the answer.
        self._proven: Cache[bytes, _Proof] = Cache(_REMEMBERED, limits.kek_cache_age, clock=clock)

    # --- Writing --------------------------------------------------------------------------------

    @property
    def signs(self) -> bool:
        """Whether new KEKs are signed."""
        return self._sign_with is not None

    def sign(self, kek_id: bytes, kids: Sequence[str]) -> str:
        """The signature of a KEK that this process made: one call of the signer's vault.

        Args:
            kek_id: The KEK's id.
            kids: The recipients that it was wrapped to.

        Raises:
            KeyNotFound, KeyUnusable, VaultUnavailable: The signer could not be used.
        """
        key = self._signing_key(_FRESH)
        try:
            return self._signed(key, kek_id, kids)
        except (KeyDisabled, KeyExpired, KeyNotFound):
            # It was looked up a moment ago, and has been taken out of service since.
            newer = self._signing_key(0)
            if newer.kid == key.kid:
                raise
        return self._signed(newer, kek_id, kids)

    def _signing_key(self, age: float) -> SigningKey:
        assert self._sign_with is not None  # noqa: S101 - `signs` says so
        name = self._sign_with
        return self._masters.looked_up(
            self._keys, name, "resolve", lambda found: _able(found, name).signer(name), age=age
        )

    def _signed(self, key: SigningKey, kek_id: bytes, kids: Sequence[str]) -> str:
        keyurl.parse(key.kid)
        issued_at = int(time.time())
        data = jws.signing_input(key.alg, key.kid, kek_id, audience_of(kids), issued_at)
        signature = caller.current().call(
            key.kid, "sign", lambda: key.sign(data), seconds=self._limits.deadline
        )
        text = jws.assemble(data, signature)
        # A driver's or a vault's mistake here would make files that no reader accepts.
        if not jws.verify(jws.parse(text), jws.load(key.public.spki, key.kid)):
            raise EnvelopeError(f"the signature by {key.kid} does not hold under its public half")
        return text

    # --- Reading --------------------------------------------------------------------------------

    @property
    def required(self) -> bool:
        """Whether only signed KEKs open."""
        return bool(self._trusted.patterns)

    def prove(
        self, section: KeySection, recipients: Sequence[Recipient]
    ) -> tuple[Claims, list[Recipient]]:
        """The second half of reader step 7: what the signature says, and who it is for.

        Args:
            section: The `keys` of a header.
            recipients: Those of it that may be called, each with the kid to call.

        Returns:
            The proven claims, and the recipients that are left.

        Raises:
            OriginNotProven: There is no signature of a trusted signer that holds for them.
            VaultUnavailable, AccessDenied, LimitExceeded: The signer's public key could not be
                fetched; no recipient was called.
        """
        if section.signature is None:
            raise OriginNotProven(
                "the file's key is not signed, and this key ring requires a signature"
            )
        digest = sha256(section.kek_id + section.signature.encode("utf-8")).digest()
        known = self._proven.get(digest)
        if known is not None and known.public == self._public_half(known.key):
            return known.claims, self._within(known.claims, known.audience, recipients)
        claims = _parsed(section.signature)
        key = self._trusted_key(claims.kid)
        if claims.kek_id != section.kek_id:
            raise OriginNotProven(
                f"the signature by {_shown(claims.kid)} is that of another key",
                next_step="Do not use this file: it was put together from parts of others.",
            )
        audience = self._audience(claims)
        left = self._within(claims, audience, recipients)
        public = self._public_half(key)
        _check(claims, public)
        self._proven.put(digest, _Proof(claims, key, public, audience))
        return claims, left

    def _trusted_key(self, kid: str) -> str:
        """The configured name by which to fetch the public half of a signer that is trusted."""
        name = name_of(kid)
        if name is not None:
            called = self._trusted.lives_at(name)
            for pattern in self._trusted.patterns:
                if pattern.scheme == "public":  # a file, and whose key it is stands inside
                    inside = keyurl.parse(self._public_half(str(pattern)).kid)
                    if inside in (name, called):
                        return str(pattern)
                elif keyurl.matches(pattern, name) or keyurl.matches(pattern, called):
                    return str(called)
        raise OriginNotProven(
            f"the file's key is signed by {_shown(kid)}, whom this key ring does not trust to sign",
            next_step="Add it to require_signed (--require-signed) if you expect its files.",
        )

    def _audience(self, claims: Claims) -> frozenset[KeyName]:
        """The keys that the signature is for, without versions."""
        names = [name for text in claims.audience if (name := name_of(text)) is not None]
        return frozenset(place for name in names for place in self._places(name))

    def _within(
        self, claims: Claims, audience: frozenset[KeyName], recipients: Sequence[Recipient]
    ) -> list[Recipient]:
        """The recipients whose key is in the audience."""
        left = [
            (wrapped, kid)
            for wrapped, kid in recipients
            if (name := name_of(wrapped.kid)) is not None and self._places(name) & audience
        ]
        if not left:
            raise OriginNotProven(
                f"the signature by {_shown(claims.kid)} is for other keys than those of this file",
                next_step="Do not use this file: somebody who could read other files made it.",
            )
        return left

    def _places(self, name: KeyName) -> set[KeyName]:
        """A key's name as it was and as it is, without versions."""
        return {name.unversioned, self._trusted.lives_at(name).unversioned}

    def _public_half(self, key: str) -> PublicHalf:
        refusal = self._refusals.get(key)
        if refusal is not None:
            raise copy.copy(refusal)
        try:
            found = self._masters.looked_up(
                self._publics, key, "public key", lambda found: _able(found, key).public_half(key)
            )
        except (KeyNotFound, KeyDisabled, KeyOperationForbidden) as error:
            refused = OriginNotProven(
                f"the signature by {_shown(key)} proves nothing: {error.message}",
                kid=key,
                operation=error.operation,
                provider_code=error.provider_code,
                request_id=error.request_id,
                next_step="Obtain the file again from a producer whose signing key is in order.",
            )
            if self._masters.metered(key):
                self._refusals.put(key, copy.copy(refused))
            raise refused from error
        if keyurl.scheme_of(key) != "public" and keyurl.parse(found.kid) != keyurl.parse(key):
            raise OriginNotProven(f"another key than {_shown(key)} was found under its name")
        return found


def _able(resolver: KeyResolver, key: str) -> SignerResolver:
    if isinstance(resolver, SignerResolver):
        return resolver
    raise ConfigurationError(
        f"keys of the scheme {keyurl.scheme_of(key)} cannot sign", kid=key, operation="sign"
    )


def _parsed(text: str) -> Claims:
    try:
        return jws.parse(text)
    except Malformed as error:
        raise OriginNotProven(
            f"the file's signature has not the documented form: {error.message}",
            next_step="Do not use this file; obtain it again from who wrote it.",
        ) from None


def _check(claims: Claims, public: PublicHalf) -> None:
    key = jws.load(public.spki, public.kid)
    if claims.alg != jws.alg_of(key):
        raise OriginNotProven(
            f"the signature says {claims.alg}, and {_shown(claims.kid)} signs with "
            f"{jws.alg_of(key)}",
            next_step="Do not use this file: its signature was not made by that key.",
        )
    if not jws.verify(claims, key):
        raise OriginNotProven(
            f"the signature does not hold under the key {_shown(claims.kid)}",
            next_step="Do not use this file; find out who changed it.",
        )


def _shown(kid: str) -> str:
    """A file's text, fit for a message."""
    return ascii(kid[:200])[1:-1]
