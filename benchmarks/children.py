"""Measures that need a fresh process: memory, imports, and what a second process asks the vault.

This file is also the program that those processes run:
``python -m benchmarks.children TASK ARGUMENTS…`` prints one JSON object.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["ask", "peak", "run_python"]

_ROOT = Path(__file__).resolve().parents[1]


def run_python(*arguments: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=_ROOT,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": ""},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout


def ask(task: str, *arguments: object) -> Any:
    """Have a task done by a fresh interpreter."""
    return json.loads(run_python("-m", "benchmarks.children", task, *map(str, arguments)))


def peak() -> int:
    """The most bytes of memory that this process ever held.

    Linux's VmHWM starts anew with each program; ru_maxrss is inherited from
    whoever started it, which can be larger than everything that is measured here.
    """
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # in bytes on macOS


def memory(keystore: str, source: str, target: str, *modules: str) -> dict[str, object]:
    """Encrypt a file: the peak after importing ``modules``, the peak at the end, all imports."""
    for module in modules:
        importlib.import_module(module)
    before = peak()
    from benchmarks.scene import ring_of
    from envelope.files import encrypt_file

    encrypt_file(source, target, keys=ring_of(Path(keystore)), durable=False)
    after = peak()
    needed = [name for name in sys.modules if name != "__main__" and not name.startswith("_")]
    return {"before": before, "after": after, "modules": needed}


def write(keystore: str, folder: str, count: str) -> dict[str, object]:
    """Encrypt ``count`` small files; how often the master key was called."""
    from benchmarks.scene import ring_of
    from envelope.files import encrypt_file

    plain = Path(folder, "plain")
    plain.write_bytes(bytes(1024))
    ring = ring_of(Path(keystore))

    def work() -> None:
        for number in range(int(count)):
            encrypt_file(plain, Path(folder, f"{number}.env1"), keys=ring, durable=False)

    return _calls(work)


def read(keystore: str, folder: str, count: str) -> dict[str, object]:
    """Read what another process wrote; how often the master key was called."""
    from benchmarks.scene import ring_of
    from envelope.streams import open as open_encrypted

    ring = ring_of(Path(keystore))

    def work() -> None:
        for number in range(int(count)):
            with open_encrypted(Path(folder, f"{number}.env1"), keys=ring) as file:
                if file.read() != bytes(1024):
                    raise AssertionError("what was read is not what was written")

    return _calls(work)


def _calls(work: Callable[[], None]) -> dict[str, object]:
    """Run ``work``; the master-key calls by operation, and its seconds."""
    from envelope import events

    calls: dict[str, int] = {}

    def count(event: events.Event) -> None:
        if isinstance(event, events.KeyCall):
            calls[event.operation] = calls.get(event.operation, 0) + 1

    unsubscribe = events.subscribe(count)
    started = time.perf_counter()
    work()
    seconds = time.perf_counter() - started
    unsubscribe()
    return {"calls": calls, "seconds": seconds}


if __name__ == "__main__":
    _task, *_arguments = sys.argv[1:]
    _tasks: dict[str, Callable[..., dict[str, object]]] = {
        "memory": memory,
        "write": write,
        "read": read,
    }
    print(json.dumps(_tasks[_task](*_arguments)))
