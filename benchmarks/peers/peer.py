"""What it takes to stand in the table beside envelope."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Protocol

__all__ = ["Absent", "Peer", "PeerClass"]


class Absent(Exception):
    """The peer is not on this machine, or does not work on it. Its text says why."""


class Peer(Protocol):
    """Encrypts and decrypts a file.

    It is made with a folder for its keys, and raises :class:`Absent` (or
    ImportError) where it can't be used. ``remark`` says how it was set up and
    what sets it apart.
    """

    name: ClassVar[str]
    remark: ClassVar[str]

    def encrypt(self, source: Path, target: Path) -> None:
        """Into a new file, or over an existing one."""
        ...

    def decrypt(self, source: Path, target: Path) -> None:
        """Undo :meth:`encrypt`."""
        ...

    def close(self) -> None:
        """Leave nothing behind."""
        ...


class PeerClass(Protocol):
    """What is called to make one."""

    name: str

    def __call__(self, folder: Path) -> Peer: ...
