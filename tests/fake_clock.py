"""Time that only passes when somebody sleeps: no test waits, and no test depends on the machine."""

from __future__ import annotations

from collections.abc import Callable

from envelope.caller import Caller


class FakeClock:
    """A clock, and the sleep that moves it."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def caller(self, random: Callable[[], float] = lambda: 0.5) -> Caller:
        """A caller that lives by this clock."""
        return Caller(clock=self, sleep=self.sleep, random=random)
