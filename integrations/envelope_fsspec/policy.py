"""What a file system promises for its paths: keys, context, geometry. It pickles as configuration.

Made once from the options that a caller gave (docs/filesystem.md, "Ways in"),
with profiles and defaults resolved, so that a worker which gets it needs no
configuration of its own, and so that two file systems that differ in anything
never share an instance in fsspec's cache.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from envelope import KeyRing, config, floe, resolvers, runtime
from envelope.caches import Cache
from envelope.context import validated
from envelope.errors import ConfigurationError
from envelope.header import FILE_HEADER_SIZE
from envelope.offsets import DEFAULT_SEGMENT_LENGTH, Layout
from envelope.ring import as_ring
from envelope.workers import DEFAULT_THREADS, checked
from envelope_fsspec.rules import Match, Rule, filled

__all__ = ["OPTIONS", "Domain", "Policy"]

OPTIONS = (
    "keys", "encrypt_to", "decrypt_with", "rules", "root", "context", "bind_path", "header_size",
    "segment_length", "sizes", "on_plaintext", "plaintext_until", "names", "names_keys", "threads",
    "timeout",
)  # fmt: skip
"""The options that make a policy, by their names for users."""

_RINGS = 1024  # key rings of rules that a process keeps: one for each tenant or folder in use


@dataclass(frozen=True, slots=True)
class Domain:
    """What holds for one path: its key ring, and the pairs that its context has."""

    ring: KeyRing
    context: Mapping[str, str]
    match: Match | None
    bound: bool

    def same_as(self, other: Domain) -> bool:
        """Whether the stored bytes of one may become those of the other as they are."""
        return self.match == other.match and not self.bound and self.ring == other.ring


class _Rings:
    """The key rings of rules in this process, by policy and match."""

    def __init__(self) -> None:
        self.found: Cache[tuple[str, Match], KeyRing] = Cache(_RINGS, float("inf"))


class Policy:
    """See the module.

    Args:
        options: Any of :data:`OPTIONS`, checked here.
        base: Limits and drivers' settings for the rings of rules; ``None``: the configuration's.

    Raises:
        ConfigurationError, TypeError: An option has no sense, or there are no keys.
    """

    def __init__(
        self, options: Mapping[str, Any], base: Mapping[str, Mapping[str, Any]] | None = None
    ) -> None:
        given = {name: value for name, value in options.items() if value is not None}
        root = str(given.get("root", ""))
        self.root = root.strip("/")
        self.rooted = root.startswith("/")
        self.context = validated(given.get("context"))
        self.bind_path = _one_of("bind_path", given.get("bind_path", False), (False, True))
        self.sizes = _one_of("sizes", given.get("sizes", "geometry"), ("geometry", "exact"))
        self.names = _one_of("names", given.get("names", "plain"), ("plain", "encrypt"))
        self.on_plaintext = _one_of(
            "on_plaintext", given.get("on_plaintext", "error"), ("error", "warn", "read")
        )
        self.plaintext_until = _day(given.get("plaintext_until"))
        self.threads = checked(int(given.get("threads", DEFAULT_THREADS)))
        self.timeout = None if "timeout" not in given else float(given["timeout"])
        segment_length = int(given.get("segment_length", DEFAULT_SEGMENT_LENGTH))
        if not floe.in_profile(segment_length):
            raise ConfigurationError(
                f"segment_length is a power of two from 4096 to 16777216, not {segment_length}"
            )
        if "path" in self.context and self.bind_path:
            raise ConfigurationError("give either bind_path or a context entry 'path', not both")
        size = given.get("header_size")
        self.ring: KeyRing | None = None
        self.rules: tuple[Rule, ...] = ()
        self._base: dict[str, Any] = {}
        if "rules" in given:
            if any(name in given for name in OPTIONS[:3]):
                raise ConfigurationError("give either keys or rules, not both")
            self.rules = tuple(map(Rule, given["rules"]))
            found = base or config.use(keys=False).result
            limits = dict(found["limits"])
            self.header_size = int(size or limits.get("header_size", FILE_HEADER_SIZE))
            limits["header_size"] = self.header_size
            # Resolved as a key ring resolves them: a driver looks into its environment for some,
            # and that of a worker, or of a later time, is another.
            settings = {
                scheme: resolvers.driver(scheme).settings(found["settings"].get(scheme, {}))
                for scheme in sorted({scheme for rule in self.rules for scheme in rule.schemes})
            }
            self._base = {"limits": limits, "settings": settings}
        else:
            self.ring = _ring(given, None if size is None else int(size))
            self.header_size = self.ring.limits.header_size
        self.layout = Layout(self.header_size, segment_length)
        self._names_ring = self._ring_of_names(given.get("names_keys"))
        self._text = resolvers.canonical(self._described())

    def _ring_of_names(self, keys: Any) -> KeyRing | None:
        if self.names == "plain":
            if keys is not None:
                raise ConfigurationError('names_keys goes with names="encrypt"')
        elif keys is not None:
            return _ring({"keys": keys}, self.header_size)
        elif self.ring is None:
            raise ConfigurationError(
                'names="encrypt" with rules needs names_keys: the keys of the name key, which '
                "no rule has"
            )
        return None

    @property
    def names_ring(self) -> KeyRing:
        """Whose the name key is, where names are encrypted."""
        ring = self._names_ring or self.ring
        assert ring is not None  # noqa: S101 - see _ring_of_names
        return ring

    def domain(self, relative: str, bound: str | None = None) -> Domain:
        """What holds for a path below the root.

        Args:
            relative: The path, which rules match.
            bound: What is bound instead: the stored path, where names are encrypted.

        Raises:
            ConfigurationError: No rule matches it, or it leaves the root.
        """
        context = dict(self.context)
        if self.bind_path:
            context["path"] = relative if bound is None else bound
        if self.ring is not None:
            return Domain(self.ring, context, None, self.bind_path)
        if any(part in ("", ".", "..") for part in relative.split("/")):
            raise ConfigurationError(
                f"{relative!a} has empty parts, . or .., and no rule may match those"
            )
        for index, rule in enumerate(self.rules):
            names = rule.pattern.match(relative)
            if names is not None:
                match = Match(index, tuple(sorted(names.items())))
                context.update(filled(rule.context, names))
                return Domain(self._ring_of(rule, match), context, match, self.bind_path)
        raise ConfigurationError(
            f"no rule matches {relative!a}",
            next_step="Add a rule for it; without one nothing is written or opened there.",
        )

    def _ring_of(self, rule: Rule, match: Match) -> KeyRing:
        rings = runtime.current().state(_Rings).found
        ring = rings.get((self._text, match))
        if ring is None:
            keys = filled(rule.keys, dict(match.names))
            both = keys.pop("keys", None)
            given = () if both is None else (both,)
            ring = KeyRing(*given, **keys, required_context=rule.required, **self._base)
            rings.put((self._text, match), ring)
        return ring

    @property
    def exact_sizes(self) -> bool:
        """Whether sizes are looked up in headers: plain files among them have their own."""
        return self.sizes == "exact" or self.plaintext_allowed != "error"

    @property
    def plaintext_allowed(self) -> str:
        """``on_plaintext`` today."""
        until = self.plaintext_until
        if until is not None and datetime.datetime.now(datetime.UTC).date().isoformat() > until:
            return "error"
        return str(self.on_plaintext)

    # --- What it is -----------------------------------------------------------------------------

    def to_config(self) -> dict[str, Any]:
        """All of it as JSON; :meth:`from_config` is its inverse."""
        config = self._described()
        if self.ring is not None:
            config["keys"] = self.ring.to_config()
        if self._names_ring is not None:
            config["names_keys"] = self._names_ring.to_config()
        return config

    @classmethod
    def from_config(cls, mapping: Mapping[str, Any]) -> Policy:
        """The policy that :meth:`to_config` described."""
        options = {name: value for name, value in mapping.items() if name != "base"}
        return cls(options, mapping.get("base"))

    def _described(self) -> dict[str, Any]:
        described: dict[str, Any] = {
            "root": "/" + self.root if self.rooted else self.root,
            "context": self.context,
            "bind_path": self.bind_path,
            "header_size": self.header_size,
            "segment_length": self.layout.segment_length,
            "sizes": self.sizes,
            "on_plaintext": self.on_plaintext,
            "plaintext_until": self.plaintext_until,
            "names": self.names,
            "threads": self.threads,
            "timeout": self.timeout,
        }
        if self.ring is None:
            described["rules"] = [rule.given for rule in self.rules]
            described["base"] = self._base
        else:
            described["keys"] = repr(self.ring)  # with what no configuration can hold told apart
        if self._names_ring is not None:
            described["names_keys"] = repr(self._names_ring)
        return described

    def __repr__(self) -> str:
        return f"Policy({self._text})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Policy) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __reduce__(self) -> tuple[Any, ...]:
        config = self._described()
        if self.ring is not None:
            config["keys"] = self.ring
        if self._names_ring is not None:
            config["names_keys"] = self._names_ring
        return Policy.from_config, (config,)


def _ring(given: Mapping[str, Any], header_size: int | None) -> KeyRing:
    keys = given.get("keys")
    if isinstance(keys, str) and keys.lstrip()[:1] in ("[", "{"):
        try:
            keys = json.loads(keys)
        except ValueError as error:
            raise ConfigurationError(f"keys is not JSON: {error}") from None
    if isinstance(keys, str) and keys.startswith("profile:"):
        ring = KeyRing.load(profile=keys.removeprefix("profile:"))
    else:
        ring = as_ring(
            keys, encrypt_to=given.get("encrypt_to"), decrypt_with=given.get("decrypt_with")
        )
    if header_size is None or header_size == ring.limits.header_size:
        return ring
    found = ring.to_config()
    return KeyRing.from_config({**found, "limits": {**found["limits"], "header_size": header_size}})


def _one_of(name: str, value: Any, known: tuple[Any, ...]) -> Any:
    if value not in known or isinstance(value, bool) != isinstance(known[0], bool):
        raise ConfigurationError(f"{name} is one of {', '.join(map(repr, known))}, not {value!r}")
    return value


def _day(value: Any) -> str | None:
    if value is None:
        return None
    text = value.isoformat() if isinstance(value, datetime.date) else str(value)
    try:
        return datetime.date.fromisoformat(text).isoformat()
    except ValueError:
        raise ConfigurationError(f"plaintext_until is a day as 2027-01-31, not {text!r}") from None
