"""The machine that the numbers are from."""

from __future__ import annotations

import datetime
import os
import platform
from pathlib import Path

import cryptography
from cryptography.hazmat.backends.openssl.backend import backend

from envelope import __version__

__all__ = ["describe", "file_system", "moment"]


def describe() -> dict[str, str]:
    """What a reader needs in order to compare: processor and versions."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "processor": f"{_processor()}, {cores} cores for this process",
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "cryptography": f"{cryptography.__version__} with {backend.openssl_version_text()}",
        "envelope": __version__,
    }


def moment() -> str:
    """Now, and how busy the machine is: above 0.5 before anything is measured, it is not quiet."""
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return f"{now}, load average before it (1, 5, 15 minutes): {load}"


def file_system(folder: Path) -> str:
    """The type of the file system that ``folder`` is on, and its device."""
    best, found = "", "unknown file system"
    try:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return f"{platform.system()} file system"
    path = str(folder.resolve())
    for line in lines:
        left, _, right = line.partition(" - ")
        mount = left.split()[4].encode().decode("unicode_escape")
        inside = path == mount or path.startswith(mount.rstrip("/") + "/")
        if inside and len(mount) >= len(best):
            kind, device = right.split()[:2]
            best, found = mount, kind if kind == "tmpfs" else f"{kind} on {device}"
    return found


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
