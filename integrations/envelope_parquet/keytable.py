"""Which key a name in a file stands for: the alias table.

Parquet's column keys are named by short texts without ``:`` and ``;``, so that a
key URL cannot stand there. What a name means is decided here, by the caller's
arguments and key ring, and never by the file (docs/parquet.md, "Aliases").
"""

from __future__ import annotations

import math
import os
import re
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from envelope import config, keyurl, runtime
from envelope.caches import Cache
from envelope.errors import ConfigurationError, EnvelopeError, UntrustedKey
from envelope.keyurl import KeyName
from envelope.masters import Masters
from envelope.ring import KeyRing, as_ring
from envelope.secret import Secret

__all__ = ["KeyTable", "Keys", "Opened", "as_table", "generated"]

_ALIAS = re.compile(r"[A-Za-z0-9._-]{1,128}\Z")
_OTHER = re.compile(r"[^A-Za-z0-9._-]+")
_KEPT = 1024  # rings of single keys, and data keys
_MOMENT = 30.0  # seconds that a data key is kept, beyond the age of its KEK
_PUBLIC_CLOUD = ".vault.azure.net"


def generated(key: str | KeyName) -> str:
    """The alias of a key that was given none: ``local:pii`` is ``local-pii`` in files.

    It follows from the key's name alone, so that reader and writer agree without a table.
    """
    name = keyurl.parse(key) if isinstance(key, str) else key
    host = name.host.removesuffix(_PUBLIC_CLOUD)
    return "-".join(
        _OTHER.sub("-", part).strip("-") for part in (name.scheme, host, name.name) if part
    )


class _Rings:
    """The rings of single keys that this process made, by the ring that they were made of."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rings: OrderedDict[tuple[str, tuple[str, ...]], KeyRing] = OrderedDict()

    def get(self, identity: str, keys: tuple[str, ...]) -> KeyRing | None:
        with self._lock:
            return self._rings.get((identity, keys))

    def put(self, identity: str, keys: tuple[str, ...], ring: KeyRing) -> None:
        with self._lock:
            self._rings[identity, keys] = ring
            while len(self._rings) > _KEPT:
                self._rings.popitem(last=False)[1].forget()

    def made_of(self, identity: str) -> list[KeyRing]:
        with self._lock:
            return [ring for (of, _), ring in self._rings.items() if of == identity]


class Opened:
    """Data keys that were opened a moment ago: pyarrow asks for each several times a file.

    By table, alias and ``wrappedDEK``, with the context that is bound to them. Beside them is what
    key material for Spark needs, by ring: its master keys, what each wrapped text turned out to be,
    and pyarrow's factories, which have the KEKs of new files (:mod:`envelope_parquet.vaultkeys`,
    :mod:`envelope_parquet.interop`). Their ages are the limits of each ring.
    """

    def __init__(self) -> None:
        self.keys: Cache[tuple[str, str, str], tuple[Secret, Mapping[str, str]]] = Cache(
            _KEPT, _MOMENT
        )
        self.masters: Cache[str, Masters] = Cache(_KEPT, math.inf)
        self.vault_keys: Cache[tuple[str, str, bytes], Secret] = Cache(_KEPT, math.inf)
        self.refusals: Cache[tuple[str, str, bytes], EnvelopeError] = Cache(_KEPT, math.inf)
        self.moved: Cache[tuple[str, str, str], str] = Cache(_KEPT, math.inf)
        self.making = threading.Lock()
        self.factories: Cache[tuple[str, str], Any] = Cache(_KEPT, math.inf)

    def clear(self) -> None:
        """Forget all of it."""
        self.keys.clear()
        self.masters.clear()
        self.vault_keys.clear()
        self.refusals.clear()
        self.moved.clear()
        self.factories.clear()


class KeyTable:
    """A key ring, and the names that its keys have in Parquet files.

    Args:
        keys: A key ring, or what makes one (:func:`envelope.ring.as_ring`). Its trusted keys are
            known by their generated names. ``None``: those of the configuration, with its aliases.
        aliases: By its name in files, a key; or several: the KEK is wrapped to all of them, and
            each may open it. An alias is trusted as if it stood in ``decrypt_with``.

    A table is safe to share between threads, and pickles, compares and prints as its configuration.

    Raises:
        ConfigurationError: A name that cannot be an alias, or that two keys would have.
    """

    def __init__(
        self,
        keys: Keys = None,
        *,
        aliases: Mapping[str, str | Sequence[str]] | None = None,
    ) -> None:
        given: dict[str, tuple[str, ...]] = {}
        if isinstance(keys, KeyTable):
            given.update(keys.aliases)
            keys = keys.ring
        elif keys is None:
            found = config.use()
            given.update(_configured(found))
            # Where no keys are configured, resolve() raises and says where it looked.
            keys = found.result if "encrypt_to" in found.result else config.resolve()
        self.ring: KeyRing = as_ring(keys)
        for alias, key in (aliases or {}).items():
            if not _ALIAS.match(alias):
                raise ConfigurationError(
                    f"{alias!r} cannot name a key in a Parquet file",
                    next_step="An alias has 1 to 128 of the characters A-Z a-z 0-9 . _ -",
                )
            given[alias] = (key,) if isinstance(key, str) else tuple(key)
        self.aliases: Mapping[str, tuple[str, ...]] = given
        self._names = _by_alias(self.ring, given)
        self._identity = repr(self.ring)
        self.identity = repr(self)

    @classmethod
    def load(
        cls, path: str | os.PathLike[str] | None = None, profile: str | None = None
    ) -> KeyTable:
        """The keys and aliases of the configuration (docs/configuration.md).

        Args:
            path: A configuration file that is looked into before the usual places.
            profile: The part of it to use.

        Raises:
            ConfigurationError: There is none, or it is wrong.
        """
        ring = KeyRing.load(path, profile)
        return cls(ring, aliases=_configured(config.explain(path, profile)))

    def alias_of(self, key: str) -> str:
        """The name in files of a key URL; an alias is itself.

        Raises:
            ConfigurationError: It is neither an alias of this table nor a key.
        """
        if key in self.aliases:
            return key
        name = keyurl.parse(key)
        for alias, keys in self.aliases.items():
            if name in map(keyurl.parse, keys[:1]):
                return alias
        alias = generated(name)
        held = self._names.get(alias)
        if held is not None and keyurl.parse(held[0]).unversioned != name.unversioned:
            raise _taken(alias, held[0], key)
        return alias

    def for_writing(self, key: str) -> KeyRing:
        """The ring that wraps under this key or alias, and under no other."""
        return self._ring(self.aliases.get(key) or (str(keyurl.parse(key)),))

    def for_reading(self, alias: str, kids: Sequence[str]) -> KeyRing:
        """The ring that may open what a file says is under ``alias``.

        Args:
            alias: The name in the file.
            kids: The recipients that the file names; they matter where a pattern is trusted.

        Raises:
            UntrustedKey: The name stands for no configured key. Nobody was called.
        """
        return self._ring(self._keys(alias, kids))

    def key_of(self, alias: str, kids: Sequence[str]) -> str:
        """What :meth:`for_writing` takes for new files under a name that a file has.

        Args:
            alias, kids: See :meth:`for_reading`.

        Raises:
            UntrustedKey: See :meth:`for_reading`.
        """
        if alias in self.aliases:
            return alias
        return str(keyurl.parse(self._keys(alias, kids)[0]).unversioned)

    def _keys(self, alias: str, kids: Sequence[str]) -> tuple[str, ...]:
        keys = self._names.get(alias) or self._by_pattern(alias, kids)
        if not keys:
            raise UntrustedKey(
                f"the file names a key {alias[:80]!a}, which stands for no trusted key",
                next_step="Add the key to decrypt_with (--key or --trust), or give "
                "aliases={NAME: KEY} if you expect files under it.",
            )
        return keys

    def forget(self) -> None:
        """Drop all opened KEKs of these keys, so that the vault is asked again."""
        runtime.current().state(Opened).clear()
        for ring in [self.ring, *runtime.current().state(_Rings).made_of(self._identity)]:
            ring.forget()

    def _by_pattern(self, alias: str, kids: Sequence[str]) -> tuple[str, ...]:
        """Keys of a trusted vault: there, the recipients say which one, if the name agrees."""
        patterns = [p for p in map(keyurl.parse, self.ring.decrypt_with) if p.name == "*"]
        found = []
        for kid in kids if patterns else ():
            try:
                name = keyurl.parse(kid)
            except ConfigurationError:
                continue
            if generated(name) == alias and any(keyurl.matches(p, name) for p in patterns):
                found.append(str(name.unversioned))
        return tuple(dict.fromkeys(found))

    def _ring(self, keys: tuple[str, ...]) -> KeyRing:
        rings = runtime.current().state(_Rings)
        ring = rings.get(self._identity, keys)
        if ring is None:
            config = self.ring.to_config()
            trusted = [key for key in keys if keyurl.scheme_of(key) != "public"]
            config |= {"encrypt_to": list(keys), "decrypt_with": trusted}
            ring = KeyRing.from_config(config)
            rings.put(self._identity, keys, ring)
        return ring

    def __repr__(self) -> str:
        return f"KeyTable({self.ring!r}, aliases={dict(sorted(self.aliases.items()))!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, KeyTable) and repr(self) == repr(other)

    def __hash__(self) -> int:
        return hash(repr(self))

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (self.ring, dict(self.aliases))


Keys = KeyTable | KeyRing | str | Sequence[str] | Mapping[str, Any] | None
"""What ``keys=`` takes everywhere in this package."""


def as_table(keys: Keys) -> KeyTable:
    """What every function does with its ``keys=``."""
    return keys if isinstance(keys, KeyTable) else KeyTable(keys)


def _again(ring: KeyRing, aliases: dict[str, tuple[str, ...]]) -> KeyTable:
    return KeyTable(ring, aliases=aliases)


def _configured(found: config.Explained) -> dict[str, tuple[str, ...]]:
    """The aliases that stand beside the keys of a configuration."""
    return {name: tuple(keys) for name, keys in found.parquet.get("aliases", {}).items()}


def _by_alias(ring: KeyRing, aliases: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """By the name in files, the keys that may be called for it."""
    found: dict[str, tuple[str, ...]] = dict(aliases)
    own: dict[str, list[str]] = {}
    for text in ring.decrypt_with:
        name = keyurl.parse(text)
        if name.name != "*" and name.scheme != "public":
            own.setdefault(generated(name), []).append(text)
    for alias, keys in own.items():
        names = {keyurl.parse(key).unversioned for key in keys}
        if len(names) > 1:
            raise _taken(alias, keys[0], keys[-1])
        if alias not in found:
            found[alias] = tuple(keys)
    return found


def _taken(alias: str, one: str, other: str) -> ConfigurationError:
    return ConfigurationError(
        f"{one} and {other} would both be called {alias} in files",
        next_step="Give one of them a name of its own: aliases={NAME: KEY}.",
    )
