"""What a vault stores: named keys, secrets and certificates, their versions and deleted forms."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

Content = TypeVar("Content")


@dataclass
class Attributes:
    """A version's state. Times are whole seconds since the epoch, as on the wire."""

    created: int
    updated: int
    enabled: bool = True
    not_before: int | None = None
    expires: int | None = None


@dataclass
class Version(Generic[Content]):
    """One version of an object: its content never changes, its state may."""

    version: str
    content: Content
    attributes: Attributes
    tags: dict[str, str] | None = None
    #: Made by a certificate, and deleted with it: "managed" on the wire.
    managed: bool = False
    #: Members of the bundle that no operation here reads, such as a release policy.
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass
class Item(Generic[Content]):
    """A named object with all its versions, oldest first."""

    name: str
    versions: dict[str, Version[Content]] = field(default_factory=dict)
    #: A key's rotation policy, or what else belongs to the name and not to a version.
    settings: dict[str, Any] = field(default_factory=dict)
    deleted_at: float | None = None
    purge_at: float | None = None

    @property
    def current(self) -> Version[Content]:
        """The version that a name without a version stands for: the newest."""
        return next(reversed(self.versions.values()))

    def add(self, version: Version[Content]) -> Version[Content]:
        """Make this the newest version."""
        self.versions[version.version] = version
        return version


@dataclass
class Shelf(Generic[Content]):
    """All objects of one kind in a vault: those in use, and those that can be recovered."""

    live: dict[str, Item[Content]] = field(default_factory=dict)
    deleted: dict[str, Item[Content]] = field(default_factory=dict)

    def expire(self, now: float) -> None:
        """Purge what has been deleted for longer than the vault keeps it."""
        for name, item in list(self.deleted.items()):
            if item.purge_at is not None and item.purge_at <= now:
                del self.deleted[name]


def new_version() -> str:
    """A version's name: 32 hexadecimal digits."""
    return os.urandom(16).hex()
