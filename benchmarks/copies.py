"""The denominators: plain Python copy loops."""

from __future__ import annotations

import os
from pathlib import Path

from benchmarks.plan import MIB

__all__ = ["copy_fresh", "copy_over", "fill", "pump"]


def pump(source: Path, target: object) -> None:
    """1 MiB ``readinto``, then ``write``: the loop that everybody writes."""
    buffer = bytearray(MIB)
    view = memoryview(buffer)
    write = target.write  # type: ignore[attr-defined]  # any writable binary file
    with open(source, "rb", buffering=0) as file:
        while count := file.readinto(buffer):
            write(view[:count])


def copy_over(source: Path, target: Path) -> None:
    """Copy over a file that is there and is at least as long: its pages are faulted in already."""
    with open(target, "r+b", buffering=0) as file:
        pump(source, file)


def copy_fresh(source: Path, target: Path, *, durable: bool = False) -> None:
    """Copy into a new file beside the target and replace that: as a careful program does it."""
    fresh = target.with_name(f".{target.name}.tmp")
    with open(fresh, "wb", buffering=0) as file:
        pump(source, file)
        if durable:
            os.fsync(file.fileno())
    os.replace(fresh, target)
    if durable:
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def fill(path: Path, size: int) -> Path:
    """A file of incompressible bytes: one random MiB, over and over."""
    block = os.urandom(MIB)
    with open(path, "wb", buffering=0) as file:
        for start in range(0, size, MIB):
            file.write(memoryview(block)[: size - start])
    return path
