"""The one place for state that a whole process shares.

Pools, caches, subscribers and registered resolvers live in one
:class:`Runtime`, and a fork replaces it in the child. Both hazards behind that
were reproduced: a fork during an unwrap left the child waiting for a lock that
nobody held any more, and an inherited thread pool had no threads and never ran
a task.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar, cast

__all__ = ["Runtime", "current"]


class _State(Protocol):
    """A class of process state: made without arguments, once a process."""

    def __init__(self) -> None: ...


S = TypeVar("S", bound=_State)


class Runtime:
    """A process's pools and states, made when first asked for."""

    def __init__(self, inherited: dict[type[Any], Any] | None = None) -> None:
        self.pid = os.getpid()
        self._lock = threading.RLock()  # the constructor of a state may ask for another state
        self._states: dict[type[Any], Any] = inherited or {}
        self._pools: dict[int, ThreadPoolExecutor] = {}

    def state(self, kind: type[S]) -> S:
        """This process's instance of ``kind``.

        A class that sets ``survives_fork = True`` is handed on to a forked
        child as it is; all others start afresh there.
        """
        found = self._states.get(kind)  # atomic under the GIL; the lock is for making it once
        if found is None:
            with self._lock:
                found = self._states.get(kind)
                if found is None:
                    found = self._states[kind] = kind()
        return cast(S, found)

    def pool(self, threads: int) -> ThreadPoolExecutor:
        """Threads that seal and open segments; one shared pool for each count asked for.

        Tasks in it must never wait for other tasks of the same pool.
        """
        with self._lock:
            pool = self._pools.get(threads)
            if pool is None:
                name = f"envelope-{threads}"
                pool = self._pools[threads] = ThreadPoolExecutor(threads, thread_name_prefix=name)
            return pool

    def for_child(self) -> Runtime:
        """What a forked child starts with. Takes no lock: its holder is not in the child."""
        kept = {
            kind: state
            for kind, state in self._states.items()
            if getattr(kind, "survives_fork", False)
        }
        return Runtime(kept)


_current = Runtime()


def current() -> Runtime:
    """This process's runtime."""
    return _current


def _after_fork_in_child() -> None:
    global _current
    _current = _current.for_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
