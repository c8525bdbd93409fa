"""From the paths of users to those of the store, and back. Pure.

Users of a chain have the store's own paths. Users of a mount have its name and
what is below it; the store has the folder that the mount's URL names.
"""

from __future__ import annotations

from dataclasses import dataclass

from envelope.errors import ConfigurationError

__all__ = ["Paths"]


@dataclass(frozen=True, slots=True)
class Paths:
    """How paths of users and of the store correspond.

    Args:
        shown: What users' paths start with: a mount's name; empty in a chain.
        base: What stands for it in the store.
        root: In a chain, the folder that rules and bound paths are relative to.
    """

    shown: str = ""
    base: str = ""
    root: str = ""

    def stored(self, path: str) -> str:
        """The store's path for a user's.

        Raises:
            ConfigurationError: It is not below the mount.
        """
        if not self.shown:
            return path
        below = self._below(path)
        if any(part in (".", "..") for part in below.split("/")):
            raise ConfigurationError(f"{path!a} has a part . or .., which no mount takes")
        return f"{self.base.rstrip('/')}/{below}" if below else self.base

    def plain(self, stored: str) -> str:
        """The user's path for the store's."""
        if not self.shown:
            return stored
        base = self.base.strip("/")
        below = stored.strip("/")[len(base) :].strip("/") if base else stored.strip("/")
        return f"{self.shown}/{below}" if below else self.shown

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
