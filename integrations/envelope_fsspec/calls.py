"""Calls of a store from threads that may wait for an answer.

An asynchronous store answers on an event loop, which all file systems of a
process may share. So it must not be waited for from that loop's own thread: the
answer would never come. A garbage collection, and with it the clean-up of a
writer that nobody closed, can happen on any thread, that one included.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any

from envelope_fsspec.steps import is_asynchronous, method_of

__all__ = ["Calls"]


class Calls:
    """See the module.

    Args:
        store: The file system of the ciphertext.
        loop: Where its asynchronous calls run; ``None`` for a synchronous store.
    """

    def __init__(self, store: Any, loop: asyncio.AbstractEventLoop | None) -> None:
        self.store = store
        self._loop = loop

    def on(self, store: Any) -> Calls:
        """The same for a store behind this one."""
        return Calls(store, self._loop if is_asynchronous(store) else None)

    @property
    def asynchronous(self) -> bool:
        """Whether :meth:`start` and :meth:`wait` are possible."""
        return self._loop is not None

    def __call__(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call a method of the store by its synchronous name, and wait."""
        if self._loop is None:
            return method_of(self.store, method)(*args, **kwargs)
        return self.wait(getattr(self.store, "_" + method), *args, **kwargs)

    def start(
        self, function: Callable[..., Coroutine[Any, Any, Any]], *args: Any, **kwargs: Any
    ) -> Future[Any]:
        """Begin an asynchronous call, and do not wait."""
        assert self._loop is not None  # noqa: S101 - only what is asynchronous is started
        return asyncio.run_coroutine_threadsafe(function(*args, **kwargs), self._loop)

    def wait(
        self, function: Callable[..., Coroutine[Any, Any, Any]], *args: Any, **kwargs: Any
    ) -> Any:
        """Make an asynchronous call, and wait.

        Raises:
            RuntimeError: Called on the loop's own thread, where it would wait for ever.
        """
        if self._on_loop():
            raise RuntimeError(
                "an asynchronous store cannot be waited for on its event loop's thread: "
                "call the asynchronous method, or from another thread"
            )
        return self.start(function, *args, **kwargs).result()

    def at_last(self, function: Callable[..., Coroutine[Any, Any, Any]]) -> None:
        """Clean up: wait for it where that is possible, else leave it to the loop.

        While the interpreter ends, the loop's thread stands still, and nothing is called.
        """
        if self._loop is None or not self._loop.is_running() or sys.is_finalizing():
            return
        started = self.start(function)
        if not self._on_loop():
            started.result()

    def _on_loop(self) -> bool:
        try:
            return asyncio.get_running_loop() is self._loop
        except RuntimeError:
            return False
