"""Keys of Parquet's key tools under a key in a vault itself: what ``interop="spark"`` writes.

The wrapped text is ``ALGORITHM.VERSION.BASE64URL``, as the KmsClient in
integrations/spark-keyvault writes and reads it (docs/spark.md, "Key material"). Which
key it is under is what the alias beside it stands for, by the ring's rule of trust; a
text of a file can choose a version of that key, and nothing else.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import sha256

from envelope import caller, jose, keyurl, runtime
from envelope import context as contexts
from envelope.caller import Allowance
from envelope.errors import (
    ConfigurationError,
    EnvelopeError,
    KeyMismatch,
    KeyNotFound,
    KeyUnusable,
    OriginNotProven,
    UntrustedKey,
)
from envelope.keys import MasterKey, WrappedKey
from envelope.keyurl import KeyName
from envelope.masters import Masters
from envelope.rekeying import Rekeyed
from envelope.ring import KeyRing
from envelope.secret import Secret
from envelope.trust import Trust
from envelope_parquet.keytable import KeyTable, Opened, generated

__all__ = [
    "SCHEMES",
    "VaultKey",
    "check",
    "is_vault_key",
    "newest",
    "parse",
    "possible",
    "rewrap",
    "unwrap",
    "wrap",
]

SCHEMES = ("azurekeyvault", "azurekeyvault-certificate")
"""Of keys that a KmsClient in Java calls as well."""
_ALGORITHMS = ("RSA-OAEP-256", "A256KW")
_TEXT = re.compile(r"([A-Z0-9-]{1,32})\.([0-9a-f]{32})\.([A-Za-z0-9_-]{1,1024})\Z")
_KEY_SIZES = (16, 24, 32)
_MAX_CALLS = 3


@dataclass(frozen=True, slots=True)
class VaultKey:
    """A parsed text: claims of a file."""

    alg: str
    version: str
    encrypted_key: bytes

    def to_text(self) -> str:
        """What stands in ``wrappedKEK`` or ``wrappedDEK``."""
        return f"{self.alg}.{self.version}.{jose.b64u_encode(self.encrypted_key)}"


def is_vault_key(text: str) -> bool:
    """Whether a wrapped text looks like one of these."""
    return _TEXT.match(text) is not None


def parse(text: str) -> VaultKey:
    """The parts of a text that :func:`is_vault_key` takes.

    Raises:
        Malformed: It is none, or not in base64url.
    """
    found = _TEXT.match(text)
    encrypted = jose.b64u_decode(None if found is None else found[3], "a vault's wrapped key")
    return VaultKey("", "", encrypted) if found is None else VaultKey(found[1], found[2], encrypted)


def possible(ring: KeyRing) -> bool:
    """Whether clients of Spark could open what a ring wraps."""
    try:
        check(ring)
    except ConfigurationError:
        return False
    return True


def check(ring: KeyRing) -> str:
    """The one key of a ring for writing, if clients of Spark could open what it wraps.

    Raises:
        ConfigurationError: They could not, and why.
    """
    if len(ring.encrypt_to) != 1:
        raise ConfigurationError(
            "key material for Spark is under one key: a KmsClient knows no further recipients",
            next_step="Give an alias that stands for one key.",
        )
    key = ring.encrypt_to[0]
    if keyurl.scheme_of(key) not in SCHEMES:
        raise ConfigurationError(
            f"{key} cannot be used from Spark: its KmsClient calls keys in Azure Key Vault",
            next_step="Name a key azurekeyvault://VAULT/KEY, or leave interop= out.",
        )
    if ring.sign_with or ring.require_signed:
        raise ConfigurationError("key material for Spark has no place for a signature")
    if ring.required_context:
        raise ConfigurationError("key material for Spark has no context, and this ring requires it")
    return key


def wrap(ring: KeyRing, key: Secret) -> str:
    """The text for a key of Parquet's key tools, under the newest version of the ring's key.

    Args:
        ring: Of one key, in a vault.
        key: A KEK, or with single wrapping a data key.

    Raises:
        ConfigurationError: See :func:`check`.
        KeyNotFound, KeyUnusable, VaultUnavailable, LimitExceeded: The key could not be used.
    """
    master = newest(ring)
    wrapped = caller.current().call(
        master.kid,
        "wrap",
        lambda: master.wrap(key, aad=b""),
        seconds=ring.limits.deadline,
    )
    version = keyurl.parse(wrapped.kid).version
    text = VaultKey(wrapped.alg, str(version), wrapped.encrypted_key).to_text()
    if not is_vault_key(text):
        raise EnvelopeError(f"the version of {wrapped.kid} is none of Key Vault")
    return text


def newest(ring: KeyRing) -> MasterKey:
    """The newest version of a ring's key; the vault was asked for it half a minute ago at most.

    Raises:
        ConfigurationError: See :func:`check`; or the key is used with another algorithm.
        KeyNotFound, KeyUnusable, VaultUnavailable, LimitExceeded: It could not be found.
    """
    master = _masters(ring).newest(check(ring))
    if master.alg not in _ALGORITHMS:
        raise ConfigurationError(
            f"{master.kid} is used with {master.alg}, which the KmsClient for Spark does not know",
            next_step=f"It knows {' and '.join(_ALGORITHMS)}.",
        )
    return master


def unwrap(table: KeyTable, alias: str, text: str) -> Secret:
    """The key of a text.

    Args:
        table: Says what ``alias`` stands for.
        alias: The master key's name in the file.
        text: As it is in the file.

    Raises:
        UntrustedKey: The alias stands for no trusted key, or not for that version.
        OriginNotProven, ContextMismatch: The ring requires what such material has not.
        KeyMismatch, KeyNotFound, KeyUnusable, VaultUnavailable, LimitExceeded: What the vault said.
    """
    found = parse(text)
    ring = table.for_reading(alias, list(_named(table, alias, found.version)))
    if ring.require_signed:
        raise OriginNotProven("key material for Spark has no signature")
    contexts.check({}, None, ring.required_context)
    kids = list(_trusted(ring, found))
    if not kids:
        raise UntrustedKey(
            f"the file is under version {found.version} of {alias[:80]!a}, which is not trusted"
        )
    failure: EnvelopeError | None = None
    for kid in kids[:_MAX_CALLS]:  # of an alias with several keys, the text does not say which
        try:
            return _asked(ring, kid, found)
        except (KeyNotFound, KeyUnusable) as error:
            failure = failure or error
    assert failure is not None  # noqa: S101 - one of the calls has failed
    raise failure


def rewrap(table: KeyTable, alias: str, text: str, new: str | None = None) -> tuple[str, Rekeyed]:
    """The text under the newest version of its key, or of another one; what it holds stays.

    Files that share a KEK share its new text as well, so that reading them stays one call.

    Args:
        table: Says what names stand for.
        alias: The master key's name in the file.
        text: As it is.
        new: The key or alias that it comes under; ``None`` for the same.

    Returns:
        The text, and what changed; no `keys` section.

    Raises:
        ConfigurationError: See :func:`check`.
        UntrustedKey: See :func:`unwrap`, and the other errors there.
    """
    found = parse(text)
    opens = table.for_reading(alias, list(_named(table, alias, found.version)))
    to = opens if new is None else table.for_writing(new)
    master, old = newest(to), list(_trusted(opens, found))
    if keyurl.parse(master.kid) in map(keyurl.parse, old):
        return text, Rekeyed(b"", (), (), (master.kid,), (), proven=False, changed=False)
    secret = unwrap(table, alias, text)  # nothing is carried on that does not hold
    moved, which = runtime.current().state(Opened).moved, (repr(to), text, master.kid)
    made = moved.get(which, age=to.limits.refresh)
    if made is None:
        made = wrap(to, secret)
        moved.put(which, made)
    proven = _proven(table, alias if new is None else table.alias_of(new), made, secret)
    name, gone = keyurl.parse(master.kid).unversioned, tuple(old[:1])
    if name in (keyurl.parse(kid).unversioned for kid in old):
        return made, Rekeyed(b"", (master.kid,), (), (), (), proven, changed=True)
    return made, Rekeyed(b"", (), (master.kid,), (), gone, proven, changed=True)


def _proven(table: KeyTable, alias: str, text: str, secret: Secret) -> bool:
    """Whether a fresh wrap opens; ``False`` where this caller may not, or does not trust the key.

    Raises:
        KeyMismatch: It opens to something else; nothing may be written.
    """
    try:
        again = unwrap(table, alias, text)
    except (KeyMismatch, KeyNotFound):
        raise
    except (UntrustedKey, KeyUnusable):
        return False
    if again.reveal() != secret.reveal():
        raise KeyMismatch("the fresh wrap opens to another key", kid=alias, operation="unwrap")
    return True


def _named(table: KeyTable, alias: str, version: str) -> Iterator[str]:
    """What a generated alias is the name of, in vaults that are trusted as a whole."""
    for pattern in map(keyurl.parse, table.ring.decrypt_with):
        if pattern.name == "*" and pattern.scheme in SCHEMES:
            prefix = generated(replace(pattern, name="x"))[:-1]
            name = alias.removeprefix(prefix)
            if name != alias and re.fullmatch(r"[a-z0-9-]{1,127}", name):
                yield str(replace(pattern, name=name, version=version))


def _trusted(ring: KeyRing, found: VaultKey) -> Iterator[str]:
    """The kids that may be called for a text: versions of the ring's keys, as it trusts them."""
    config = ring.to_config()
    patterns = tuple(map(keyurl.parse, ring.decrypt_with))
    moved = config.get("aliases") or {}
    trust = Trust(patterns, {keyurl.parse(a): keyurl.parse(b) for a, b in moved.items()})
    names = [name for name in patterns if name.scheme in SCHEMES]
    claimed = [_claimed(name, found) for name in dict.fromkeys(n.unversioned for n in names)]
    for _, kid in trust.callable(claimed):
        yield kid


def _claimed(name: KeyName, found: VaultKey) -> WrappedKey:
    return WrappedKey(str(replace(name, version=found.version)), found.alg, found.encrypted_key)


def _asked(ring: KeyRing, kid: str, found: VaultKey) -> Secret:
    """One call for all threads that ask the same; its answer is kept, a refusal as well."""
    state, limits = runtime.current().state(Opened), ring.limits
    which = (repr(ring), f"{found.alg} {kid}", sha256(found.encrypted_key).digest())

    def ask() -> Secret:
        known = state.vault_keys.get(which, age=limits.kek_cache_age)
        if known is not None:
            return known
        refusal = state.refusals.get(which, age=limits.negative_age)
        if refusal is not None:
            raise copy.copy(refusal)
        try:
            key = _called(ring, kid, found)
        except (KeyNotFound, KeyUnusable) as error:
            state.refusals.put(which, copy.copy(error))
            raise
        state.vault_keys.put(which, key)
        return key

    return caller.current().share((which, "unwrap"), ask, seconds=limits.deadline)


def _called(ring: KeyRing, kid: str, found: VaultKey) -> Secret:
    name, limits = keyurl.parse(kid), ring.limits
    master = _masters(ring).find(kid)
    if master.alg != found.alg:  # its kind decides: a file must not choose a weak one
        raise KeyMismatch(
            f"the file says {found.alg}, and this key is used with {master.alg}", kid=kid
        )
    key = caller.current().call(
        kid,
        "unwrap",
        lambda: master.unwrap(WrappedKey(master.kid, found.alg, found.encrypted_key), aad=b""),
        seconds=limits.deadline,
        allowance=Allowance(
            f"{name.scheme}://{name.host}", limits.unwrap_rate, limits.failed_unwrap_rate
        ),
    )
    if len(key) not in _KEY_SIZES:
        raise KeyMismatch("what was unwrapped is no key of Parquet", kid=kid, operation="unwrap")
    return key


def _masters(ring: KeyRing) -> Masters:
    cache, identity = runtime.current().state(Opened).masters, repr(ring)
    found = cache.get(identity)
    if found is None:
        found = Masters(identity, ring.to_config()["settings"], ring.limits)
        cache.put(identity, found)
    return found
