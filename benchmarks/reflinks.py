"""A folder on a file system that can share blocks between files."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

__all__ = ["mounted", "shares_blocks"]

_FICLONE = 0x40049409  # linux/fs.h


def shares_blocks(folder: Path) -> bool:
    """Whether a file in ``folder`` can be cloned."""
    with tempfile.TemporaryFile(dir=folder) as source, tempfile.TemporaryFile(dir=folder) as target:
        source.write(bytes(4096))
        source.flush()
        try:
            fcntl.ioctl(target.fileno(), _FICLONE, source.fileno())
        except OSError:
            return False
        return True


@contextmanager
def mounted(parent: Path, size: int) -> Iterator[Path | None]:
    """XFS or btrfs in a file in ``parent``, for as long as the ``with`` lasts.

    ``None`` where this user may not mount, or the tools are not there.
    """
    makers = {"xfs": ["mkfs.xfs", "-q", "-m", "reflink=1"], "btrfs": ["mkfs.btrfs", "-q"]}
    with tempfile.TemporaryDirectory(prefix="envelope-bench-", dir=parent) as name:
        image, place = Path(name, "image"), Path(name, "mounted")
        place.mkdir()
        with open(image, "wb") as file:
            file.truncate(size)
        for kind, maker in makers.items():
            if os.geteuid() != 0 or shutil.which(maker[0]) is None:
                continue
            mount: list[str | Path] = ["mount", "-t", kind, "-o", "loop", image, place]
            if not _runs([*maker, image]) or not _runs(mount):
                continue
            try:
                yield place
            finally:
                subprocess.run(["umount", place], check=True)
            return
        yield None


def _runs(command: Sequence[str | Path]) -> bool:
    return subprocess.run(command, capture_output=True).returncode == 0
