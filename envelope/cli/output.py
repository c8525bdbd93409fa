"""What a command prints, and the status that it ends with.

Results go to standard output, or to standard error while the data takes
standard output. Notes and errors go to standard error. With ``--json`` results
and errors are objects, one a line, where results go; events are objects on
standard error.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TextIO

import typer

from envelope import events
from envelope.cli.failures import Failure, explained, shown
from envelope.cli.options import GlobalOptions
from envelope.cli.signals import Interrupted, Stop, interruptible
from envelope.errors import ConfigurationError

if TYPE_CHECKING:
    from envelope.cli.progress import Bar
    from envelope.cli.trees import Skipped
    from envelope.config import Explained

__all__ = ["Output", "amount", "columns"]

_events_log = logging.getLogger("envelope")
_MARKS = {"ok": 32, "warn": 33, "fail": 31}


class Output:
    """Prints for one run of one command; a context in which the process's events are printed."""

    def __init__(self, options: GlobalOptions) -> None:
        self.options = options
        self.bar: Bar | None = None
        self.stop = Stop()
        self.skips: Counter[str] = Counter()
        self._data_out = False
        self._failures: list[Failure] = []
        self._configuration: Explained | None = None
        self._lock = threading.RLock()
        self._no_log = logging.NullHandler()
        self._unsubscribe: Callable[[], None] = lambda: None

    def __enter__(self) -> Output:
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):  # what a locale cannot show is escaped, not an error
                stream.reconfigure(errors="backslashreplace")
        self._unsubscribe = events.subscribe(self._on_event)
        # Events are printed here; without a handler, logging would print warnings as well.
        _events_log.addHandler(self._no_log)
        if not self.options.debug:  # nor do vendors' SDKs warn in pages beside the one sentence
            logging.getLogger().addHandler(self._no_log)
        return self

    def __exit__(self, *_: object) -> None:
        self._unsubscribe()
        for log in (_events_log, logging.getLogger()):
            log.removeHandler(self._no_log)

    # --- What is printed ------------------------------------------------------------------------

    def data_goes_out(self) -> None:
        """From now on standard output belongs to the data."""
        self._data_out = True

    def result(self, document: Mapping[str, Any], *lines: str) -> None:
        """What came of it: ``document`` under ``--json``, else ``lines``."""
        if self.options.json:
            self._object(self._results, document)
        elif not self.options.quiet:
            self._lines(self._results, lines)

    def answer(self, document: Mapping[str, Any], *lines: str) -> None:
        """A result that is the whole point of the command, printed under ``--quiet`` as well."""
        if self.options.json:
            self._object(self._results, document)
        else:
            self._lines(self._results, lines)

    def note(self, text: str) -> None:
        """A sentence for people."""
        if not self.options.quiet and not self.options.json:
            self._lines(sys.stderr, [f"envelope: {text}"])

    def warn(self, text: str) -> None:
        """A sentence that is said in any case."""
        self._lines(sys.stderr, [f"envelope: {text}"])

    def marked(self, level: str, document: Mapping[str, Any], *lines: str) -> None:
        """A result that is ``ok``, ``warn`` or ``fail``, in colour on a terminal."""
        if self.options.json:
            self._object(self._results, document)
        elif not self.options.quiet or level == "fail":
            mark, first = f"{level:<4}", shown(lines[0])
            if self._results.isatty() and not os.environ.get("NO_COLOR"):
                mark = f"\033[{_MARKS[level]}m{mark}\033[0m"
            self._write(self._results, f"{mark}  {first}\n")
            self._lines(self._results, [f"      {line}" for line in lines[1:]])

    def confirm(self, question: str, *, yes: bool) -> None:
        """Go on if ``yes`` or a person on the terminal says so.

        Raises:
            ConfigurationError: There is nobody to ask, or the answer was another.
        """
        if yes:
            return
        if not (sys.stdin and sys.stdin.isatty()):
            raise ConfigurationError(
                f"{question} This needs to be confirmed", next_step="Give --yes if you mean it."
            )
        self._write(sys.stderr, f"{shown(question)} [y/N] ")
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            raise ConfigurationError("not confirmed", next_step="Nothing was changed.")

    def failed(self, error: BaseException, path: str | None = None) -> None:
        """Print what went wrong with one input; the others may go on."""
        failure = explained(error, path)
        with self._lock:
            self._failures.append(failure)
        if self.options.debug:
            # The standard library's printer shows no local variables, in which keys could be.
            self._lines(sys.stderr, "".join(traceback.format_exception(error)).splitlines())
        self._lines(sys.stderr, failure.lines())
        if self.options.json:
            self._object(self._results, failure.to_json())

    def skipped(self, found: Skipped) -> None:
        """Tell that an input was left out, unless that is no surprise, and count it."""
        self.skips[found.why] += 1
        if not found.told:
            return
        if self.options.json:
            self._object(self._results, {"source": found.path, "skipped": found.why})
        else:
            self.note(f"{found.path}: skipped, {found.why}")

    @property
    def failures(self) -> int:
        """How many inputs failed so far."""
        return len(self._failures)

    @property
    def last_exit(self) -> int:
        """The exit status of the last failure."""
        return self._failures[-1].exit if self._failures else 0

    @property
    def _results(self) -> TextIO:
        return sys.stderr if self._data_out else sys.stdout

    def _object(self, stream: TextIO, document: Mapping[str, Any]) -> None:
        self._write(stream, json.dumps(document) + "\n")

    def _lines(self, stream: TextIO, lines: Iterable[str]) -> None:
        self._write(stream, "".join(f"{shown(line)}\n" for line in lines))

    def _write(self, stream: TextIO, text: str) -> None:
        with self._lock:
            if self.bar is not None:
                self.bar.hide()  # it is drawn again at its next step
            stream.write(text)
            stream.flush()

    def _on_event(self, event: events.Event) -> None:
        if self.options.quiet:
            return
        if self.options.json:
            if not isinstance(event, (events.FileFinished, events.Progress)):
                self._object(sys.stderr, events.to_json(event))
        elif self._data_out and not sys.stderr.isatty():
            return  # the middle of a pipeline: nobody reads this
        elif isinstance(event, events.Notice):
            self.note(event.text)
        elif isinstance(event, events.ConfigurationUsed) and event.origin == "working directory":
            self.note(f"using {event.path}")
        elif isinstance(event, events.KeyRetry):
            self.note(f"{event.kid} does not answer ({event.error}); trying again")

    # --- What it all came to --------------------------------------------------------------------

    def configuration(self) -> Explained:
        """The configuration, read once; keys may be missing from it."""
        from envelope import config

        if self._configuration is None:
            self._configuration = config.explain(self.options.config, self.options.profile)
            for text in self._configuration.notices:
                events.emit(events.Notice(text))
        return self._configuration

    def guarded(self, command: Callable[[], int | None]) -> int:
        """Run a command; returns its exit status, whatever it raised."""
        try:
            with interruptible(self.stop):
                status = command()
            return status or 0
        except BrokenPipeError:
            return _reader_left()
        except Interrupted as stop:
            self._lines(sys.stderr, ["envelope: interrupted; nothing half-written is left"])
            return stop.status
        except typer.Exit as over:  # a plug-in's way to end
            return over.exit_code
        except Exception as error:
            self.failed(error)
            return self._failures[-1].exit


def _reader_left() -> int:
    """Whoever read our output has had enough (``| head``): end as quietly as ``cat`` does."""
    # What is still buffered would be written, and complained of, when the interpreter ends.
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, sys.stdout.fileno())
    os.close(nothing)
    return 141  # as a shell reports a program that SIGPIPE ended


def amount(count: int) -> str:
    """Bytes for people."""
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            break
        size /= 1024
    return f"{count} B" if unit == "B" else f"{size:.1f} {unit}"


def columns(rows: Iterable[Iterable[str]]) -> list[str]:
    """Rows as lines, each column as wide as its widest cell; never wrapped or cut."""
    cells = [[shown(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]
