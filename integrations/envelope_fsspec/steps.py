"""One description of each operation, for synchronous and for asynchronous stores.

An operation is a generator: it yields what it needs from elsewhere, a call of
the store or work that takes time, and is sent the answer. Two small drivers run
it, :func:`run` and :func:`run_async`. The asynchronous one never computes or
calls a vault on the event loop: fsspec has one for all file systems of a
process, and everything would wait.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from fsspec.asyn import AsyncFileSystem
from fsspec.implementations.dirfs import DirFileSystem

from envelope import runtime

__all__ = [
    "Ask",
    "Steps",
    "Together",
    "Wait",
    "Work",
    "is_asynchronous",
    "method_of",
    "run",
    "run_async",
    "turn_of",
    "workers",
]

T = TypeVar("T")
Steps = Generator[Any, Any, T]
"""An operation that ends with a ``T``."""

_THREADS = 8  # for calls of a vault and for AES; they mostly wait


@dataclass(frozen=True, slots=True)
class Ask:
    """A call of a method of the store, by its synchronous name."""

    store: Any
    method: str
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Work:
    """Something that computes, or that calls a vault.

    ``waits`` says that it runs operations itself and waits for them: it has threads of its own,
    since those that it waits for need the others.
    """

    function: Callable[[], Any]
    waits: bool = False


@dataclass(frozen=True, slots=True)
class Wait:
    """The result of what another operation is doing; takes no thread to wait in."""

    future: Future[Any]


@dataclass(frozen=True, slots=True)
class Together:
    """Several operations side by side; the answer is their results in order.

    Where ``settled``, an exception takes its result's place; else the first one is raised.
    """

    operations: Sequence[Steps[Any]]
    settled: bool = False


class _Workers:
    """The threads of a process for this work; a forked child gets its own."""

    def __init__(self) -> None:
        self.pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="fsspec-envelope")
        self.waiting = ThreadPoolExecutor(_THREADS, thread_name_prefix="fsspec-envelope-waits")


def workers() -> ThreadPoolExecutor:
    """Threads that may wait. fsspec's own default pool must not: adlfs deadlocked in it."""
    return runtime.current().state(_Workers).pool


def is_asynchronous(store: Any) -> bool:
    """Whether a store's asynchronous methods do what its others do.

    A folder (``dir::``) says it has some, whatever it is a folder of; and a cache
    (``simplecache::``) has those of the store below, which go past the cache.
    """
    if isinstance(store, DirFileSystem):
        return is_asynchronous(store.fs)
    return isinstance(store, AsyncFileSystem) and bool(store.async_impl)


class _Turns:
    """Locks of stores that can be called by one thread at a time."""

    def __init__(self) -> None:
        self.of: WeakKeyDictionary[Any, AbstractContextManager[Any]] = WeakKeyDictionary()
        self.making = threading.Lock()


def turn_of(store: Any) -> AbstractContextManager[Any]:
    """Held while a synchronous store is called.

    SFTP's client is one connection, on which a thread takes and drops the answer that
    another waits for, for ever. All others take calls of several threads.
    """
    protocols = (store.protocol,) if isinstance(store.protocol, str) else store.protocol
    if "sftp" not in protocols:
        return nullcontext()
    turns = runtime.current().state(_Turns)
    with turns.making:
        return turns.of.setdefault(store, threading.RLock())


def method_of(store: Any, name: str) -> Callable[..., Any]:
    """A synchronous method of a store, safe to call on any thread."""
    method: Callable[..., Any] = getattr(store, name)
    turn = turn_of(store)
    if isinstance(turn, nullcontext):
        return method

    def alone(*args: Any, **kwargs: Any) -> Any:
        with turn:
            return method(*args, **kwargs)

    return alone


def run(operation: Steps[T]) -> T:
    """Run an operation on this thread."""
    step = operation.send
    value: Any = None
    while True:
        try:
            wanted = step(value)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]  # a generator's result is untyped
        try:
            value, step = _now(wanted), operation.send
        except BaseException as error:
            value, step = error, operation.throw


def _now(wanted: Any) -> Any:
    if isinstance(wanted, Ask):
        return method_of(wanted.store, wanted.method)(*wanted.args, **wanted.kwargs)
    if isinstance(wanted, Work):
        return wanted.function()
    if isinstance(wanted, Wait):
        return wanted.future.result()
    results: list[Any] = []
    for operation in wanted.operations:
        try:
            results.append(run(operation))
        except Exception as error:
            if not wanted.settled:
                raise
            results.append(error)
    return results


async def run_async(operation: Steps[T]) -> T:
    """Run an operation on this event loop, which nothing of it blocks."""
    step = operation.send
    value: Any = None
    while True:
        try:
            wanted = step(value)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]  # a generator's result is untyped
        try:
            value, step = await _soon(wanted), operation.send
        except BaseException as error:
            value, step = error, operation.throw


async def _soon(wanted: Any) -> Any:
    loop = asyncio.get_running_loop()
    if isinstance(wanted, Ask):
        if is_asynchronous(wanted.store):
            method = getattr(wanted.store, "_" + wanted.method)
            return await method(*wanted.args, **wanted.kwargs)
        call = partial(method_of(wanted.store, wanted.method), *wanted.args, **wanted.kwargs)
        return await loop.run_in_executor(workers(), call)
    if isinstance(wanted, Work):
        threads = runtime.current().state(_Workers)
        pool = threads.waiting if wanted.waits else threads.pool
        return await loop.run_in_executor(pool, wanted.function)
    if isinstance(wanted, Wait):
        # Shielded: who gives up waiting must not cancel it for the others.
        return await asyncio.shield(asyncio.wrap_future(wanted.future))
    return await asyncio.gather(
        *map(run_async, wanted.operations), return_exceptions=wanted.settled
    )
