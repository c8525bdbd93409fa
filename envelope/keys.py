"""What a master-key driver has to be: the protocols, and the values that cross them.

A driver makes the call and maps the vendor's errors to :mod:`envelope.errors`;
nothing else. Deadlines, retries, caches, quotas and events live once, in front
of all drivers (:mod:`envelope.caller`). CONTRIBUTING.md walks through writing
one, and :mod:`envelope.testing.conformance` is the test that it has to pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from envelope.jose import b64u_encode
from envelope.secret import Secret

__all__ = [
    "Driver",
    "Finding",
    "KeyAdmin",
    "KeyExaminer",
    "KeyInfo",
    "KeyResolver",
    "KeyRotator",
    "MasterKey",
    "RotationPolicy",
    "WrappedKey",
]


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """A key as a master key wrapped it: what a recipient in a header holds.

    Args:
        kid: The master key's identifier with its exact version, as the vault wrote it.
        alg: The JWA name of the algorithm, such as ``A256KW`` or ``RSA-OAEP-256``.
        encrypted_key: The wrapped bytes.
        params: Further JOSE members by name, such as ``iv`` and ``tag`` of A256GCM.
    """

    kid: str
    alg: str
    encrypted_key: bytes
    params: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, str]:
        """The recipient's JSON object (docs/format.md, "keys")."""
        return {
            "kid": self.kid,
            "alg": self.alg,
            "encrypted_key": b64u_encode(self.encrypted_key),
            **self.params,
        }


class MasterKey(Protocol):
    """One version of a key in a vault. It wraps and unwraps; its own bytes stay where they are.

    ``kid`` names the exact version once that is known. ``alg`` is the one
    algorithm that this key is used with: the configured key's type fixes it,
    never a file, which could otherwise choose a weak one.
    """

    @property
    def kid(self) -> str: ...

    @property
    def alg(self) -> str: ...

    def wrap(self, key: Secret, *, aad: bytes) -> WrappedKey:
        """Wrap ``key``. ``aad`` is the KEK's id; algorithms without AAD ignore it."""
        ...

    def unwrap(self, wrapped: WrappedKey, *, aad: bytes) -> Secret:
        """Undo :meth:`wrap`, or raise an error of :mod:`envelope.errors`.

        ``KeyMismatch`` means that the ciphertext does not unwrap under this key.
        """
        ...


@runtime_checkable
class KeyResolver(Protocol):
    """Finds master keys by name. ``metered`` says that calls cost money or a vault's quota."""

    @property
    def metered(self) -> bool: ...

    def resolve(self, kid: str) -> MasterKey:
        """The key of that name: the exact version if it has one, else the newest enabled one."""
        ...


@dataclass(frozen=True, slots=True)
class PublicHalf:
    """What verifies a signer's signatures.

    Args:
        kid: The signing key's identifier with its exact version.
        spki: The public key as SubjectPublicKeyInfo, DER (RFC 5280).
    """

    kid: str
    spki: bytes


class SigningKey(Protocol):
    """One version of a key that signs KEKs (docs/format.md, "Signature").

    ``alg`` is ``ES256`` for an EC key on P-256 and ``PS256`` for an RSA key: its type decides.
    """

    @property
    def kid(self) -> str: ...

    @property
    def alg(self) -> str: ...

    @property
    def public(self) -> PublicHalf:
        """Its own public half, under which each signature is checked before it is used."""
        ...

    def sign(self, data: bytes) -> bytes:
        """The signature over ``data`` in JWS's form: R and S of 32 bytes each for ``ES256``."""
        ...


@runtime_checkable
class SignerResolver(Protocol):
    """A resolver whose keys can sign as well; without it, they cannot be signers."""

    def signer(self, kid: str) -> SigningKey:
        """The key of that name: the exact version if it has one, else the newest enabled one."""
        ...

    def public_half(self, kid: str) -> PublicHalf:
        """The public half of an exact version, or of a file that is a key by itself.

        Raises:
            KeyDisabled: The version is disabled or deleted, so that it proves nothing any more.
            KeyNotFound: There is no such version.
            KeyOperationForbidden: It is not for signing.
        """
        ...


class Driver(Protocol):
    """What the entry-point group ``envelope.resolvers`` offers for a scheme."""

    def settings(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """``options`` resolved for good: defaults filled in, paths absolute, no secrets.

        The result is JSON, becomes part of the key ring's configuration (and so
        of its repr and its pickles), and is all that :meth:`resolver` gets.
        An unknown option is a ConfigurationError.
        """
        ...

    def resolver(self, settings: Mapping[str, Any]) -> KeyResolver:
        """A resolver by settings that :meth:`settings` returned."""
        ...


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """What is known about one version of a master key; no secrets.

    ``state`` is ``enabled``, ``disabled``, ``deleted`` (recoverable) or
    ``destroyed``. ``kty``, ``use`` and ``key_ops`` are JWK's (RFC 7517);
    ``bits`` is the key's strength parameter. Times are RFC 3339 in UTC.
    """

    kid: str
    state: str
    kty: str
    alg: str
    bits: int
    use: str
    key_ops: tuple[str, ...]
    created: str
    not_before: str | None = None
    expires: str | None = None
    newest: bool = False
    note: str | None = None


@runtime_checkable
class KeyAdmin(Protocol):
    """A resolver that can also manage keys: what ``envelope keys …`` calls, alike for all vaults.

    ``key`` is a name with or without a version (all versions, where that makes
    sense). Each returns the versions that it touched. Only ``create`` makes keys.
    """

    def create(self, key: str, **options: Any) -> KeyInfo: ...
    def import_key(self, key: str, material: Secret, **options: Any) -> KeyInfo: ...
    def list_keys(self, key: str | None = None) -> list[KeyInfo]: ...
    def rotate(self, key: str) -> KeyInfo: ...
    def set_enabled(self, key: str, enabled: bool) -> list[KeyInfo]: ...
    def delete(self, key: str) -> list[KeyInfo]: ...
    def recover(self, key: str) -> list[KeyInfo]: ...
    def purge(self, kid: str) -> KeyInfo: ...
    def public(self, key: str) -> bytes: ...
    def backup(self, key: str | None, passphrase: Secret) -> bytes: ...
    def restore(self, blob: bytes, passphrase: Secret) -> list[KeyInfo]: ...


@dataclass(frozen=True, slots=True)
class RotationPolicy:
    """When a vault makes new versions of a key by itself.

    Durations are ISO 8601 (``P18M``); ``None`` means that there is no such rule.
    ``rotate_after`` counts from when the newest version was made, the others to
    its end date, which ``expires_in`` gives to new versions. ``next`` is about
    when the next version is made (a day, RFC 3339), where that is known.
    """

    key: str
    rotate_after: str | None = None
    rotate_before_expiry: str | None = None
    expires_in: str | None = None
    notify_before_expiry: str | None = None
    next: str | None = None


@runtime_checkable
class KeyRotator(Protocol):
    """A resolver whose vault rotates keys by itself: ``envelope keys rotation-policy``."""

    def rotation_policy(self, key: str) -> RotationPolicy: ...

    def set_rotation_policy(self, key: str, changes: Mapping[str, str | None]) -> RotationPolicy:
        """Change some rules, by the names of :class:`RotationPolicy`; ``None`` takes one away."""
        ...


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing about a key that was tried: a line of ``envelope doctor``; no secrets.

    ``level`` is ``ok``, ``warn`` or ``fail``. ``check`` says in a word what was
    tried, ``text`` what came of it. ``exit`` is the exit status of a failure's error.
    """

    level: str
    check: str
    text: str
    next_step: str | None = None
    exit: int = 0


@runtime_checkable
class KeyExaminer(Protocol):
    """A resolver that can say where on the way to a key things go wrong.

    Without it, ``envelope doctor`` wraps and unwraps, and shows the error.
    """

    def examine_key(self, kid: str, *, wraps: bool, unwraps: bool) -> Iterator[Finding]:
        """Try all that using the key takes, in order, up to what makes the rest pointless.

        It changes nothing, and asks for no right that it does not report on.
        ``wraps`` and ``unwraps`` say what the key ring needs; lacking the other
        is no failure.
        """
        ...


@runtime_checkable
class SignerExaminer(Protocol):
    """A resolver that can say where on the way to a signing key things go wrong."""

    def examine_signer(self, kid: str, *, signs: bool) -> Iterator[Finding]:
        """As :meth:`KeyExaminer.examine_key`; ``signs``: the key ring signs with it, too."""
        ...
