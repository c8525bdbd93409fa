"""A process of tests/azure/test_chaos.py: eight threads that write files and read others' files.

``python -m tests.azure.chaos_worker PLAN`` takes its plan as JSON and prints what happened as JSON.
It runs as a program of its own, since only that shares nothing with who makes the weather.
"""

from __future__ import annotations

import io
import json
import logging
import random
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import envelope
from envelope import events
from envelope.errors import EnvelopeError
from envelope.ring import KeyRing

LAG = 24
"""So many files behind its own, a process reads those of the other."""


def content(name: str) -> bytes:
    """What is in the file of that name: up to 8 KiB, the same in every process."""
    return random.Random(name).randbytes(random.Random(f"size of {name}").randrange(1, 8192))


def ring_of(plan: dict[str, Any]) -> KeyRing:
    """The key ring of a plan."""
    return KeyRing(plan["key"], limits=plan["limits"], settings={"azurekeyvault": plan["settings"]})


class Worker:
    """One process's share of the work.

    Args:
        plan: ``process`` and ``processes``, ``threads``, ``files`` in all, ``folder``, ``key``,
            ``limits``, ``settings``.
    """

    def __init__(self, plan: dict[str, Any]) -> None:
        self.me: int = plan["process"]
        self.other: int = (plan["process"] + 1) % plan["processes"]
        self.count: int = plan["files"] // plan["processes"]
        self.threads: int = plan["threads"]
        self.folder = Path(plan["folder"])
        self.ring = ring_of(plan)
        self.lock = threading.Lock()
        self.written: list[str] = []
        self.read: list[str] = []
        self.behind: list[int] = []
        self.failed: Counter[str] = Counter()
        self.untyped: list[str] = []
        self.wrong: list[str] = []
        self.calls: Counter[str] = Counter()

    def run(self) -> dict[str, Any]:
        """Do it; what happened."""
        started = time.monotonic()
        unsubscribe = events.subscribe(self._count)
        with ThreadPoolExecutor(self.threads) as pool:
            list(pool.map(self._share, range(self.threads)))
            self._end_of(self.me).touch()
            list(pool.map(self._rest, range(self.threads)))
        unsubscribe()
        return {
            "written": self.written,
            "read": self.read,
            "failed": self.failed,
            "untyped": self.untyped,
            "wrong": self.wrong,
            "calls": self.calls,
            "seconds": time.monotonic() - started,
        }

    def _count(self, event: events.Event) -> None:
        with self.lock:
            if isinstance(event, events.KeyCall):
                self.calls[f"{event.operation} {event.error or 'ok'}"] += 1
            elif isinstance(event, events.KekCreated):
                self.calls["keks"] += 1

    def _share(self, thread: int) -> None:
        pace = random.Random(f"{self.me} {thread}")
        for number in range(thread, self.count, self.threads):
            time.sleep(pace.uniform(0, 0.4))  # or all would be over before anything goes wrong
            self._try("encrypt", self._write, f"{self.me}-{number}")
            if number >= LAG and not self._read_if_there(number - LAG):
                with self.lock:
                    self.behind.append(number - LAG)

    def _rest(self, thread: int) -> None:
        """What the other process had not written when its turn was, and its last files."""
        last = range(max(0, self.count - LAG), self.count)
        for number in [*self.behind, *last][thread :: self.threads]:
            while not self._read_if_there(number):
                if self._end_of(self.other).exists():
                    self._read_if_there(number)
                    break
                time.sleep(0.05)

    def _end_of(self, process: int) -> Path:
        return self.folder.with_name(f"all-written-{process}")

    def _read_if_there(self, number: int) -> bool:
        name = f"{self.other}-{number}"
        there = (self.folder / name).exists()
        if there:
            self._try("decrypt", self._open, name)
        return there

    def _try(self, what: str, work: Any, name: str) -> None:
        try:
            work(name)
        except EnvelopeError as error:
            with self.lock:
                self.failed[f"{what} {error.code} {error.provider_code or ''}".strip()] += 1
                if type(error) is EnvelopeError:  # "something failed" helps nobody
                    self.untyped.append(f"{what} {name}: {error!r}")
        except Exception as error:
            with self.lock:
                self.untyped.append(f"{what} {name}: {error!r}")

    def _write(self, name: str) -> None:
        envelope.encrypt_file(
            io.BytesIO(content(name)),
            self.folder / name,
            keys=self.ring,
            context={"name": name},
            durable=False,
        )
        with self.lock:
            self.written.append(name)

    def _open(self, name: str) -> None:
        with envelope.open(self.folder / name, keys=self.ring, context={"name": name}) as file:
            if file.read() != content(name):
                self.wrong.append(name)
        with self.lock:
            self.read.append(name)


if __name__ == "__main__":
    logging.getLogger("envelope.events").setLevel(logging.CRITICAL)  # a line each retry
    print(json.dumps(Worker(json.loads(sys.argv[1])).run()))
