"""The key ring: what a caller holds. It has the policy, and nothing else.

Which keys new KEKs are wrapped to, which keys of a file may be called, in
which order, whose signature it takes, and what a rewrap changes. Retries,
caches and the life of KEKs are beside it (:mod:`envelope.caller`,
:mod:`envelope.keks`) and know none of this. docs/keys.md has the promises.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from envelope import header, hierarchy, rekeying, runtime
from envelope.caches import Cache
from envelope.errors import ConfigurationError, UntrustedKey
from envelope.header import Header, KeySection
from envelope.keks import Keks, WritingKek
from envelope.keys import WrappedKey
from envelope.limits import Limits
from envelope.masters import ALGORITHMS, Kek
from envelope.policy import Policy
from envelope.rekeying import Rekeyed
from envelope.secret import Secret

if TYPE_CHECKING:
    from envelope.signers import Recipient

__all__ = ["Access", "Grant", "KeyRing", "Rekeyed", "as_ring"]

_RINGS = 256  # configurations whose KEKs a process keeps; more rings work, and start afresh


class Grant:
    """A fresh DEK for one file, with the `keys` section that goes into its header."""

    __slots__ = ("_writing", "dek", "keys")

    def __init__(self, dek: Secret, keys: bytes, writing: WritingKek) -> None:
        self.dek = dek
        self.keys = keys
        self._writing = writing

    @property
    def kek_id(self) -> bytes:
        """The id of the KEK that the DEK is under."""
        return self._writing.kek.id

    def count_bytes(self, count: int) -> None:
        """Count plaintext bytes towards ``limits.kek_bytes``."""
        self._writing.count_bytes(count)


@dataclass(frozen=True, slots=True)
class Access:
    """An opened DEK. ``kid`` is the recipient that was unwrapped; ``None``: the KEK was cached.

    ``signer`` has signed the KEK; ``None``: nobody was required to, and nothing was looked at.
    """

    dek: Secret
    kek_id: bytes
    kek: Kek
    kid: str | None
    signer: str | None = None


class _Rings:
    """The KEKs of this process, by key ring configuration."""

    def __init__(self) -> None:
        self.keks: Cache[str, Keks] = Cache(_RINGS, float("inf"))


class KeyRing:
    """Keys to encrypt to and keys to decrypt with.

        KeyRing("local:lake")
        KeyRing(encrypt_to=["azurekeyvault://acme/lake"], decrypt_with=["azurekeyvault://acme/*"])

    It is safe to share between threads and survives a fork. It compares,
    hashes, prints and pickles as its configuration, and holds no key bytes.

    Args:
        keys: A key URL or several, which are both encrypted to and decrypted with.
        encrypt_to: The recipients of new files; empty for a ring that only decrypts.
        decrypt_with: What is trusted in files and called for reading, in this order: keys
            (all versions), exact versions, or all keys of a vault (``…://VAULT/*``).
            Empty for a ring that only encrypts.
        limits: All bounds, as a :class:`Limits` or by name.
        required_context: Names that the context of every file must have.
        aliases: By the name of a key in files, where that key lives now.
        settings: Options of drivers, by scheme.
        sign_with: The key that signs each new KEK, once: it proves who made it.
        require_signed: The signers of which one must have signed a file's KEK: keys (all
            versions), exact versions, or ``public:FILE.pem``. ``None``: none is required.

    Raises:
        ConfigurationError: A name, option or combination that cannot work.
        LimitExceeded: The recipients do not fit in a header of ``limits.header_size``.
    """

    def __init__(
        self,
        keys: str | Sequence[str] | None = None,
        /,
        *,
        encrypt_to: str | Sequence[str] | None = None,
        decrypt_with: str | Sequence[str] | None = None,
        limits: Limits | Mapping[str, Any] | None = None,
        required_context: Sequence[str] = (),
        aliases: Mapping[str, str] | None = None,
        settings: Mapping[str, Mapping[str, Any]] | None = None,
        sign_with: str | None = None,
        require_signed: str | Sequence[str] | None = None,
    ) -> None:
        self._policy = Policy(
            keys,
            encrypt_to=encrypt_to,
            decrypt_with=decrypt_with,
            limits=limits,
            required_context=required_context,
            aliases=aliases,
            settings=settings,
            sign_with=sign_with,
            require_signed=require_signed,
        )
        self._live: tuple[runtime.Runtime, Keks] | None = None

    # --- What it is -----------------------------------------------------------------------------

    @property
    def encrypt_to(self) -> tuple[str, ...]:
        """The recipients of new files."""
        return tuple(map(str, self._policy.to))

    @property
    def decrypt_with(self) -> tuple[str, ...]:
        """The keys and patterns that are trusted, in the order in which they are tried."""
        return tuple(map(str, self._policy.trust.patterns))

    @property
    def required_context(self) -> tuple[str, ...]:
        """Names that the context of every file must have."""
        return self._policy.required_context

    @property
    def sign_with(self) -> str | None:
        """The key that signs new KEKs."""
        return None if self._policy.sign_with is None else str(self._policy.sign_with)

    @property
    def require_signed(self) -> tuple[str, ...]:
        """The signers that count. Where there are none, no signature is required."""
        return tuple(map(str, self._policy.signed_by.patterns))

    @property
    def limits(self) -> Limits:
        """All bounds."""
        return self._policy.limits

    @classmethod
    def load(
        cls, path: str | os.PathLike[str] | None = None, profile: str | None = None
    ) -> KeyRing:
        """The key ring of the configuration (docs/configuration.md).

        Args:
            path: A configuration file that is looked into before the usual places.
            profile: The part of it to use.

        Raises:
            ConfigurationError: There is none, or it is wrong. No key is ever made here.
        """
        from envelope import config  # a ring that is given its keys reads no configuration

        return cls.from_config(config.resolve(path=path, profile=profile))

    def to_config(self) -> dict[str, Any]:
        """The whole configuration as plain JSON, with the drivers' settings resolved."""
        return cast(dict[str, Any], json.loads(self._policy.text))

    @classmethod
    def from_config(cls, mapping: Mapping[str, Any]) -> KeyRing:
        """The key ring of a configuration: the inverse of :meth:`to_config`.

        Raises:
            ConfigurationError: An unknown name, or what the constructor refuses.
        """
        known = {"keys", "encrypt_to", "decrypt_with", "limits", "required_context", "aliases"}
        known |= {"settings", "sign_with", "require_signed"}
        for name in mapping:
            if name not in known:
                raise ConfigurationError(
                    f"unknown setting {name!r} of a key ring",
                    next_step=f"Known: {', '.join(sorted(known))}.",
                )
        given = dict(mapping)
        return cls(given.pop("keys", None), **given)

    def __repr__(self) -> str:
        """Canonical JSON: fsspec and others use it as a cache key, so rings that differ differ.

        A key that is a file is named by its digest: it is the same key at any path.
        """
        return self._policy.printed(self.to_config())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, KeyRing) and repr(self) == repr(other)

    def __hash__(self) -> int:
        return hash(repr(self))

    def __reduce__(self) -> tuple[Any, ...]:
        """As its configuration.

        Raises:
            ConfigurationError: A driver's settings mean something in this process alone.
        """
        self._policy.check_portable()
        return KeyRing.from_config, (self.to_config(),)

    def __copy__(self) -> KeyRing:  # it never changes, and copying asks for no other process
        return self

    def __deepcopy__(self, memo: object) -> KeyRing:
        return self

    @property
    def _keks(self) -> Keks:
        """This process's KEKs of this configuration. A forked child has another runtime."""
        now, live = runtime.current(), self._live
        if live is not None and live[0] is now:
            return live[1]
        rings, policy = now.state(_Rings).keks, self._policy
        keks = rings.get(policy.text)
        if keks is None:
            keks = Keks(
                policy.text,
                policy.settings,
                self.encrypt_to,
                policy.limits,
                sign_with=self.sign_with,
                signed_by=policy.signed_by,
            )
            rings.put(policy.text, keks)
        self._live = (now, keks)
        return keks

    def forget(self) -> None:
        """Drop what this process knows by this configuration: KEKs, opened and for writing.

        The next use asks the vault again, so that a key which was disabled there is refused at
        once instead of after ``limits.kek_cache_age``. Data keys of open files stay.
        """
        self._keks.forget()

    # --- Writing --------------------------------------------------------------------------------

    def grant(self) -> Grant:
        """A fresh DEK under the ring's current KEK, which is made or replaced as needed.

        Raises:
            ConfigurationError: The ring only decrypts.
            LimitExceeded: The recipients do not fit in a header of ``limits.header_size``.
            KeyNotFound, KeyUnusable, VaultUnavailable: A recipient could not be wrapped to.
        """
        self._check_encrypts()
        self._check_signs()
        return self._granted(self._keks.writing())

    def grant_now(self) -> Grant | None:
        """As :meth:`grant`, but only under a KEK that is there: nobody is called or waited for."""
        self._check_encrypts()
        self._check_signs()
        writing = self._keks.writing_now()
        return None if writing is None else self._granted(writing)

    def _granted(self, writing: WritingKek) -> Grant:
        dek = Secret.random(hierarchy.KEY_BYTES)
        wrapped = hierarchy.wrap_dek(writing.kek.wrapping, dek)
        return Grant(dek, header.keys_json(writing.member, wrapped), writing)

    def _check_encrypts(self) -> None:
        if not self._policy.to:
            raise ConfigurationError(
                "this key ring only decrypts: it has no encrypt_to",
                next_step="Add the key to encrypt to (--key or --encrypt-to).",
            )

    def _check_signs(self) -> None:
        """A ring never makes what it would not read."""
        if self._policy.signed_by.patterns and self._policy.sign_with is None:
            raise ConfigurationError(
                "this key ring would write what it refuses to read: it requires signatures and "
                "has no sign_with",
                next_step="Add the key that signs (--sign-with), or write with another key ring.",
            )

    # --- Reading --------------------------------------------------------------------------------

    def open(self, parsed: Header) -> Access:
        """Find the DEK of a file: reader steps 7, 8 and the first half of 9 (docs/format.md).

        The caller does steps 1 to 6 before, and verifies the header's MAC after.

        Raises:
            UntrustedKey: The header names no key of ``decrypt_with``; none was called.
            OriginNotProven: A signature is required, and none holds; none was called.
            KeyMismatch, KeyNotFound, KeyUnusable, VaultUnavailable, LimitExceeded: No recipient
                could be used; the message has what each said.
            Tampered: The wrapped DEK does not open under the KEK.
        """
        section, keks = parsed.keys, self._keks
        # A file that names no trusted key, or is not signed, is refused even if its KEK is in the
        # cache: what was read before must not decide what may be read.
        trusted, signer = self._admitted(section)
        kek, kid = keks.masters.opened(section.kek_id), None
        if kek is None:
            kek, kid = keks.unwrap(trusted, section.kek_id)
        dek = hierarchy.unwrap_dek(kek.wrapping, section.dek_encrypted_key)
        return Access(dek, section.kek_id, kek, kid, signer)

    def remembers(self, parsed: Header) -> bool:
        """Whether :meth:`open` calls nobody: the KEK is known, and no signature is required."""
        keks = self._keks
        known = keks.masters.opened(parsed.keys.kek_id) is not None
        return known and not (keks.signers is not None and keks.signers.required)

    def signer_of(self, parsed: Header) -> str | None:
        """Who signed a file's KEK, by reader step 7 alone; ``None`` where nobody has to.

        Raises:
            UntrustedKey, OriginNotProven: See :meth:`open`.
        """
        return self._admitted(parsed.keys)[1]

    def _admitted(self, section: KeySection) -> tuple[list[Recipient], str | None]:
        """Reader step 7: the recipients that may be called, in order, and the proven signer."""
        if section.keyset is not None:
            raise UntrustedKey("the file names a keyset, and this release has none to match it to")
        known = [recipient for recipient in section.recipients if recipient.alg in ALGORITHMS]
        trusted = list(self._policy.trust.callable(known))
        if not trusted:
            raise self._untrusted(section.recipients, known)
        signers = self._keks.signers
        if signers is None or not signers.required:
            return trusted, None
        claims, left = signers.prove(section, trusted)
        return left, claims.kid

    def _untrusted(
        self, recipients: Sequence[WrappedKey], known: Sequence[WrappedKey]
    ) -> UntrustedKey:
        if not self._policy.trust.patterns:
            return UntrustedKey("this key ring only encrypts: it has no decrypt_with")
        if not known:
            return UntrustedKey(f"the file's keys are wrapped with {recipients[0].alg[:40]!a} only")
        kids = ", ".join(ascii(recipient.kid)[1:-1] for recipient in known[:3])
        more = f" and {len(known) - 3} more" if len(known) > 3 else ""
        return UntrustedKey(f"the file is for {kids}{more}, none of which this key ring trusts")

    # --- Rewrapping -----------------------------------------------------------------------------

    def rekey(self, parsed: Header, access: Access, *, replace: bool) -> Rekeyed:
        """The `keys` section of a rewrap. The header must have been opened and its MAC verified.

        Args:
            parsed: The header as it is.
            access: What :meth:`open` returned for it.
            replace: ``False`` moves recipients named in ``encrypt_to`` to their newest version
                and keeps the others byte for byte. ``True`` makes the set of recipients that of
                ``encrypt_to``, under another KEK if it is another set (rule W4).

        Raises:
            ConfigurationError: ``replace`` with a ring that only decrypts.
            KeyMismatch: The fresh wrap does not open to the KEK; nothing may be written.
            KeyNotFound, KeyUnusable, VaultUnavailable, LimitExceeded: See :meth:`grant`.
        """
        section, keks, trust = parsed.keys, self._keks, self._policy.trust
        if replace:
            self._check_encrypts()
            if not rekeying.same_set(section, keks.recipients(), trust):
                self._check_signs()
                return rekeying.moved(section, access.dek, keks, trust)
        return rekeying.refreshed(section, access.kek, keks, self._policy.to, trust)


def as_ring(
    keys: KeyRing | str | Sequence[str] | Mapping[str, Any] | None = None,
    *,
    encrypt_to: str | Sequence[str] | None = None,
    decrypt_with: str | Sequence[str] | None = None,
    path: str | os.PathLike[str] | None = None,
    profile: str | None = None,
) -> KeyRing:
    """What every verb does with its ``keys=``, and the command line with its options.

    Args:
        keys: A key ring; a configuration as ``KeyRing.from_config`` takes it; a key URL or
            several, with limits and drivers' settings from the configuration of this machine;
            or ``None`` for the configuration's keys too.
        encrypt_to, decrypt_with: Keys for one direction each, instead of ``keys``.
        path, profile: Which configuration.

    A key ring is made anew from anything but a key ring, so who encrypts many
    small values makes one once and passes it.

    Raises:
        TypeError: Something else, such as bytes.
        ConfigurationError: See :class:`KeyRing` and :meth:`KeyRing.load`.
    """
    if isinstance(keys, KeyRing):
        return keys
    if isinstance(keys, Mapping):
        return KeyRing.from_config(keys)
    if keys is None and encrypt_to is None and decrypt_with is None:
        return KeyRing.load(path, profile)
    from envelope import config

    found = config.use(path, profile, keys=False).result
    return KeyRing(
        keys,
        encrypt_to=encrypt_to,
        decrypt_with=decrypt_with,
        limits=found["limits"],
        settings=found["settings"],
    )
