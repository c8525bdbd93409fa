"""Paired, interleaved rounds: what is compared runs in turn, under the same weather."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

__all__ = ["Contestant", "interleave"]


def _nothing() -> None:
    """Some contestants need no preparation."""


@dataclass(frozen=True)
class Contestant:
    """Something to time.

    Args:
        name: By which its times are found.
        run: What is timed.
        prepare: What has to happen before each run, not timed.
    """

    name: str
    run: Callable[[], object]
    prepare: Callable[[], object] = field(default=_nothing)


def interleave(contestants: Sequence[Contestant], rounds: int) -> dict[str, list[float]]:
    """Seconds of each contestant in each round.

    Each runs once untimed, so that files, code and buffers are warm for all
    alike. Then rounds go forwards and backwards in turn, so that a machine
    that slows down favours none.
    """
    for contestant in contestants:
        contestant.prepare()
        contestant.run()
    seconds: dict[str, list[float]] = {contestant.name: [] for contestant in contestants}
    for number in range(rounds):
        for contestant in contestants if number % 2 == 0 else list(reversed(contestants)):
            contestant.prepare()
            gc.collect()
            started = time.perf_counter()
            contestant.run()
            seconds[contestant.name].append(time.perf_counter() - started)
    return seconds
