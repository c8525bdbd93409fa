"""Which keys of a file a key ring may call, in which order, and where they live now. Pure.

A kid in a file is an attacker's text. It is matched against configured names
by its parsed parts, and what does not match is never called: no request
leaves the process for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from envelope import keyurl
from envelope.errors import ConfigurationError
from envelope.keys import WrappedKey
from envelope.keyurl import KeyName

__all__ = ["Trust", "name_of"]


def name_of(kid: str) -> KeyName | None:
    """The parsed name, or ``None`` where the text is no key name."""
    try:
        return keyurl.parse(kid)
    except ConfigurationError:
        return None


@dataclass(frozen=True, slots=True)
class Trust:
    """What a key ring trusts.

    Args:
        patterns: Keys, exact versions, or all keys of a vault, in the order in which to try them.
        aliases: By the name that files have, the name by which to call the key today.
    """

    patterns: tuple[KeyName, ...]
    aliases: Mapping[KeyName, KeyName]

    def lives_at(self, name: KeyName) -> KeyName:
        """The name by which to call a key that a file calls ``name``.

        An alias without a version stands for all versions: restoring a backup
        elsewhere keeps their ids.
        """
        found = self.aliases.get(name) or self.aliases.get(name.unversioned)
        return name if found is None else replace(found, version=found.version or name.version)

    def callable(self, recipients: Iterable[WrappedKey]) -> Iterator[tuple[WrappedKey, str]]:
        """The recipients that may be called, each with the kid to call, in this ring's order.

        An alias was written by who configured the ring, so it is as good as
        the pattern that covers either of its two names.
        """
        named = [(wrapped, name_of(wrapped.kid)) for wrapped in recipients]
        left = [(wrapped, name) for wrapped, name in named if name is not None]
        for pattern in self.patterns:
            for item in list(left):
                wrapped, name = item
                called = self.lives_at(name)
                if keyurl.matches(pattern, name) or keyurl.matches(pattern, called):
                    left.remove(item)
                    yield wrapped, str(called)
