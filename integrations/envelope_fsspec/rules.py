"""Which keys and which context belong to a path (docs/filesystem.md, "Rules"). Pure, but for rings.

The keys of a rule are the only ones that are trusted below it, so a path must
match by its parts and in one way only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from envelope import keyurl
from envelope.errors import ConfigurationError

__all__ = ["Match", "Pattern", "Rule", "filled", "placeholders"]

_NAME = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_PLACEHOLDER = re.compile(r"\{([a-z_][a-z0-9_]{0,31})\}")
_KEY_OPTIONS = ("keys", "encrypt_to", "decrypt_with")


class Pattern:
    """A path pattern: ``*`` within a part, ``**`` for any parts, ``{name}`` for a strict name.

    Raises:
        ConfigurationError: It is empty, has an empty part, a name twice, or ``**`` within a part.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        parts = text.split("/")
        if not text or "" in parts or "." in parts or ".." in parts:
            raise ConfigurationError(f"match = {text!r} is no relative path pattern")
        self.names = tuple(_PLACEHOLDER.findall(text))
        if len(set(self.names)) != len(self.names):
            raise ConfigurationError(f"match = {text!r} has a name twice")
        pattern = ""
        for index, part in enumerate(parts):
            last = index == len(parts) - 1
            if part == "**":
                # At the end: all that is below. Before others: any number of whole parts.
                pattern += r".+" if last else r"(?:[^/]+/)*"
            elif "**" in part:
                raise ConfigurationError(f"match = {text!r}: ** stands for whole parts")
            else:
                pattern += _part(part, text) + ("" if last else "/")
        self._expression = re.compile(pattern, re.DOTALL)

    def match(self, path: str) -> dict[str, str] | None:
        """What its names stand for in ``path``; ``None`` if it does not match."""
        found = self._expression.fullmatch(path)
        return None if found is None else found.groupdict()


def _part(part: str, text: str) -> str:
    pattern, position = "", 0
    for found in _PLACEHOLDER.finditer(part):
        pattern += _literal(part[position : found.start()], text)
        pattern += f"(?P<{found[1]}>{_NAME})"
        position = found.end()
    return pattern + _literal(part[position:], text)


def _literal(text: str, whole: str) -> str:
    if "{" in text or "}" in text:
        raise ConfigurationError(
            f"match = {whole!r}: a name in braces has lower-case letters, digits and _"
        )
    return "[^/]*".join(re.escape(piece) for piece in text.split("*"))


@dataclass(frozen=True, slots=True)
class Match:
    """A rule that matches a path: which one, and what its names stand for there.

    Two paths of equal matches are of one key domain, and the store may copy between them.
    """

    index: int
    names: tuple[tuple[str, str], ...]


class Rule:
    """A pattern with the keys and the context of what it matches.

    Args:
        given: ``match``, ``keys`` or ``encrypt_to`` and ``decrypt_with``, ``context``,
            ``required_context``.

    Raises:
        ConfigurationError: A name is unknown, or stands in keys and not in the pattern.
    """

    def __init__(self, given: Mapping[str, Any]) -> None:
        known = {"match", "context", "required_context", *_KEY_OPTIONS}
        unknown = set(given) - known
        if unknown:
            raise ConfigurationError(f"a rule has no {sorted(unknown)[0]!r}: {sorted(known)}")
        match = given.get("match")
        if not isinstance(match, str):
            raise ConfigurationError("a rule has a match, which is text")
        self.pattern = Pattern(match)
        self.keys: dict[str, Any] = {name: given[name] for name in _KEY_OPTIONS if name in given}
        if not self.keys:
            raise ConfigurationError(f"the rule for {match!r} names no keys")
        self.context: dict[str, str] = dict(given.get("context") or {})
        self.required: Sequence[str] = tuple(given.get("required_context") or ())
        for text in (*_texts(self.keys), *self.context.values()):
            missing = set(placeholders(text)) - set(self.pattern.names)
            if missing:
                raise ConfigurationError(
                    f"the rule for {match!r} uses {{{sorted(missing)[0]}}}, which is not in match"
                )
        self.schemes = frozenset(map(keyurl.scheme_of, _texts(self.keys)))
        self.given = {name: given[name] for name in sorted(given)}


def placeholders(text: str) -> list[str]:
    """The names in braces in ``text``."""
    return _PLACEHOLDER.findall(text)


def filled(value: Any, names: Mapping[str, str]) -> Any:
    """``value`` with each name in braces replaced, in all texts of it."""
    if isinstance(value, str):
        return _PLACEHOLDER.sub(lambda found: names[found[1]], value)
    if isinstance(value, Mapping):
        return {name: filled(item, names) for name, item in value.items()}
    if isinstance(value, Sequence):
        return [filled(item, names) for item in value]
    return value


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        return [text for item in value.values() for text in _texts(item)]
    if isinstance(value, Sequence):
        return [text for item in value for text in _texts(item)]
    raise ConfigurationError(f"keys of a rule are texts, not {type(value).__name__}")
