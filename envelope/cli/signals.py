"""Ctrl-C, and being told to end: the work stops, and cleans up behind itself.

An exception out of a signal handler can strike anywhere, also between the
making of a temporary file and the ``try`` that would remove it. So a signal is
only noted; the work asks at each step (:meth:`Stop.check`), where it is safe to
leave. What has not come to its next step in half a second is waiting, for a
pipe or a vault or a person, and is interrupted where it waits.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["Interrupted", "Stop", "interruptible"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_GRACE = 0.5  # seconds


class Interrupted(KeyboardInterrupt):
    """A signal asked this process to end. ``status`` is what a shell reports for it."""

    def __init__(self, number: int = signal.SIGINT) -> None:
        super().__init__()
        self.status = 128 + number


class Stop:
    """Whether the work was asked to stop, and by which signal."""

    def __init__(self) -> None:
        self.number: int | None = None
        self.leaving = False

    def check(self) -> None:
        """A place where it is safe to leave; any thread may ask.

        Raises:
            Interrupted: A signal came.
        """
        if self.number is not None:
            self.leaving = True
            raise Interrupted(self.number)


@contextmanager
def interruptible(stop: Stop) -> Iterator[None]:
    """Let signals set ``stop``. The first one counts: impatience must not interrupt cleaning up.

    A signal that the caller ignores (``nohup``) stays ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def asked(number: int, _frame: FrameType | None) -> None:
        if stop.number is None:
            stop.number = number
            signal.setitimer(signal.ITIMER_REAL, _GRACE)

    def overdue(_number: int, _frame: FrameType | None) -> None:
        if not stop.leaving:  # else a step was come to, and cleaning up is under way
            stop.leaving = True
            raise Interrupted(stop.number or signal.SIGINT)

    before = {number: signal.getsignal(number) for number in (*_SIGNALS, signal.SIGALRM)}
    signal.signal(signal.SIGALRM, overdue)
    for number in _SIGNALS:
        if before[number] is not signal.SIG_IGN:
            signal.signal(number, asked)
    try:
        yield
        stop.check()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)
