"""A map that is bounded by size and by age."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

__all__ = ["Cache"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Cache(Generic[K, V]):
    """At most ``size`` values, none older than ``age`` seconds; the least recently used one goes.

    Use does not renew a value's age: the age is how long a revocation may go unnoticed.
    """

    def __init__(
        self, size: int, age: float, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._size = size
        self._age = age
        self._clock = clock
        self._lock = threading.Lock()
        self._values: OrderedDict[K, tuple[float, V]] = OrderedDict()

    def get(self, key: K, *, age: float | None = None) -> V | None:
        """The value, if it is there and not older than the cache's age, nor than ``age``."""
        with self._lock:
            found = self._values.get(key)
            if found is None:
                return None
            old = self._clock() - found[0]
            if old >= self._age:
                del self._values[key]
                return None
            if age is not None and old >= age:
                return None
            self._values.move_to_end(key)
            return found[1]

    def put(self, key: K, value: V) -> None:
        with self._lock:
            self._values[key] = (self._clock(), value)
            self._values.move_to_end(key)
            while len(self._values) > self._size:
                self._values.popitem(last=False)

    def drop(self, key: K) -> None:
        """Forget one value, if it is there."""
        with self._lock:
            self._values.pop(key, None)

    def clear(self) -> None:
        """Forget all values."""
        with self._lock:
            self._values.clear()

    def __len__(self) -> int:
        return len(self._values)
