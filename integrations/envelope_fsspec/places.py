"""From the paths of users to those of the store, and back. Pure.

Users of a chain have the store's own paths. Users of a mount have its name and
what is below it; the store has the folder that the mount's URL names.
"""

from __future__ import annotations

from dataclasses import dataclass

from envelope.errors import ConfigurationError
from envelope_fsspec.names import Names

__all__ = ["Paths"]


@dataclass(frozen=True, slots=True)
class Paths:
    """How paths of users and of the store correspond.

    Args:
        shown: What users' paths start with: a mount's name; empty in a chain.
        base: What stands for it in the store.
        root: In a chain, the folder that rules and bound paths are relative to.

    Where names are encrypted, the methods are given the root's :class:`Names`.
    """

    shown: str = ""
    base: str = ""
    root: str = ""

    def stored(self, path: str, names: Names | None = None) -> str:
        """The store's path for a user's.

        Raises:
            ConfigurationError: It is not below the mount, or the root; or it has a part that
                cannot be encrypted.
            LimitExceeded: A part is too long to be encrypted.
        """
        if names is not None:
            below = self.below(path)
            top = self.top(path)
            return f"{top.rstrip('/')}/{names.stored(below)}" if below else top
        if not self.shown:
            return path
        below = self._below(path)
        if any(part in (".", "..") for part in below.split("/")):
            raise ConfigurationError(f"{path!a} has a part . or .., which no mount takes")
        return f"{self.base.rstrip('/')}/{below}" if below else self.base

    def plain(self, stored: str, names: Names | None = None) -> str | None:
        """The user's path for the store's; ``None`` for a name that does not decrypt."""
        if not self.shown and names is None:
            return stored
        top = self.top(stored)
        base = top.strip("/")
        below = stored.strip("/")[len(base) :].strip("/") if base else stored.strip("/")
        shown = self.shown or top
        if not below:
            return shown
        found = below if names is None else names.plain(below)
        return None if found is None else f"{shown}/{found}"

    def top(self, path: str) -> str:
        """What stands for the root in the store; with a leading slash where ``path`` has one."""
        if self.shown:
            return self.base
        return ("/" if path.startswith("/") else "") + self.root

    def below(self, path: str) -> str:
        """The path below the root; empty for the root itself.

        Raises:
            ConfigurationError: It is not below it.
        """
        at_root = not self.shown and path.strip("/") == self.root
        return "" if at_root else self.relative(path)

    def relative(self, path: str) -> str:
        """What rules match and what is bound: the path below the root.

        Raises:
            ConfigurationError: It is not below it.
        """
        if self.shown:
            return self._below(path)
        text, root = path.strip("/"), self.root
        if not root:
            return text
        if not text.startswith(root + "/"):
            raise ConfigurationError(f"{path!a} does not lie below the root {root!a}")
        return text[len(root) + 1 :]

    def _below(self, path: str) -> str:
        text = path.strip("/")
        if text != self.shown and not text.startswith(self.shown + "/"):
            raise ConfigurationError(f"{path!a} is not of the mount {self.shown!a}")
        return text[len(self.shown) + 1 :]
