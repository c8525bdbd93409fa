"""How large, how often and where: what every measure is told."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

__all__ = ["GIB", "KIB", "MIB", "Plan"]

KIB = 2**10
MIB = 2**20
GIB = 2**30


@dataclass(frozen=True)
class Plan:
    """What was asked for on the command line.

    Args:
        size: Bytes of the large file.
        rounds: Paired rounds of each measure.
        memory: A folder on tmpfs, where the machine has one.
        disk: A folder on a disk.
        reflink: A folder on a file system that shares blocks; ``None``: none was found.
        tiny: A rehearsal: everything runs, and no number means anything.
    """

    size: int
    rounds: int
    memory: Path
    disk: Path
    reflink: Path | None = None
    tiny: bool = False

    def fitting(self, folder: Path, copies: int, size: int | None = None) -> int:
        """The size, halved until ``copies`` of it take at most 80 % of what is free."""
        wanted = size or self.size
        while wanted > MIB and copies * wanted > 0.8 * shutil.disk_usage(folder).free:
            wanted //= 2
        return wanted

    def fewer(self, rounds: int) -> int:
        """At most so many rounds, for what takes long."""
        return min(self.rounds, rounds)

    @contextmanager
    def folder(self, parent: Path) -> Iterator[Path]:
        """A folder that is gone afterwards."""
        with tempfile.TemporaryDirectory(prefix="envelope-bench-", dir=parent) as name:
            yield Path(name)


def tmpfs_folder() -> Path:
    """``/dev/shm`` where there is one, else the folder for temporary files."""
    shared = Path("/dev/shm")
    return shared if os.access(shared, os.W_OK) else Path(tempfile.gettempdir())


def disk_folder() -> Path:
    """Where files that outlast a restart go, and nobody keeps anything."""
    return Path("/var/tmp") if os.access("/var/tmp", os.W_OK) else Path.cwd()
