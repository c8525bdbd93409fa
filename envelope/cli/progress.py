"""A progress bar on the terminal, for work that takes a while."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from envelope.cli.failures import shown
from envelope.cli.signals import Interrupted, Stop
from envelope.sources import OnProgress

if TYPE_CHECKING:
    from envelope.cli.output import Output

__all__ = ["Bar", "progress_bar"]

_AFTER = 1.0  # seconds; what is done before that shows no bar


class Bar:
    """Bytes done of bytes in all, with the rate and the time left.

    Args:
        total: Bytes in all; ``None`` if that is not known.
        stop: Asked at each step.
        visible: Whether it may be drawn at all.
        forced: Whether it is drawn from the beginning, and where there is no terminal.
    """

    def __init__(self, total: int | None, stop: Stop, *, visible: bool, forced: bool) -> None:
        self.over = False  # an error ended the work; what runs on other threads has to stop
        self.stop = stop
        self._total = total
        self._visible = visible
        self._forced = forced
        self._from = time.monotonic() + (0 if forced else _AFTER)
        self._lock = threading.Lock()
        self._done = 0
        self._drawn: Any = None
        self._task: Any = None

    def track(self, name: str) -> OnProgress:
        """The ``on_progress`` of one input, which also stops the work when that was asked for."""
        before = 0

        def on_progress(done: int, _total: int | None) -> None:
            nonlocal before
            if self.over:
                raise Interrupted
            self.stop.check()
            self._advance(done - before, name)
            before = done

        return on_progress

    def hide(self) -> None:
        """Take it off the terminal; it is drawn again with the next step."""
        with self._lock:
            if self._drawn is not None:
                self._drawn.stop()

    def _advance(self, count: int, name: str) -> None:
        with self._lock:
            self._done += count
            if not self._visible or time.monotonic() < self._from:
                return
            if self._drawn is None:
                self._drawn = _make(self._forced)
                self._task = self._drawn.add_task("", total=self._total)
            self._drawn.update(self._task, completed=self._done, description=shown(name)[-40:])
            self._drawn.start()


@contextmanager
def progress_bar(
    out: Output, wanted: bool | None, total: Callable[[], int | None]
) -> Iterator[Bar]:
    """A bar for the time of the ``with``, if one is to be shown: ``total`` is asked only then."""
    silent = out.options.quiet or out.options.json
    visible = wanted is True or (wanted is None and not silent and sys.stderr.isatty())
    bar = Bar(total() if visible else None, out.stop, visible=visible, forced=wanted is True)
    out.bar = bar
    try:
        yield bar
    finally:
        out.bar = None
        bar.hide()


def _make(forced: bool) -> Any:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        ProgressColumn,
        TaskProgressColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )
    from rich.text import Text

    class Name(ProgressColumn):
        def render(self, task: Any) -> Text:
            return Text(task.description)  # a file's name, and never markup

    return Progress(
        Name(),
        BarColumn(),
        TaskProgressColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True, force_terminal=True if forced else None),
        transient=True,
    )
