"""Several inputs: one after the other or side by side, each failing for itself."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from envelope.cli.output import Output
from envelope.cli.progress import Bar
from envelope.cli.trees import Broken, Found, Input, Skipped
from envelope.sources import OnProgress

__all__ = ["Work", "each"]

Work = Callable[[Input, OnProgress], Callable[[], None]]
"""Does one input, given its ``on_progress``; returns what prints the result."""

_WAITING = 4  # inputs a job that are prepared ahead, so that a large tree is not all in memory


def each(
    out: Output,
    found: Iterable[Found],
    work: Work,
    *,
    bar: Bar,
    several: bool,
    jobs: int = 1,
    fatal: tuple[type[Exception], ...] = (),
) -> int:
    """Do ``work`` for all inputs; results are printed in the order of the inputs.

    Args:
        out: Prints results, failures and what was skipped.
        found: The inputs.
        work: What to do with one.
        bar: Shows the progress; stops the work on other threads.
        several: Whether more than one input was asked for.
        jobs: How many at a time.
        fatal: Errors that concern all inputs, and so end it.

    Returns:
        The exit status: a single input's own, and 1 where some of several failed.
    """
    before = out.failures
    for path, outcome in _outcomes(out, found, work, bar, jobs):
        out.stop.check()
        try:
            outcome()
        except BrokenPipeError:
            raise
        except fatal:
            raise
        except Exception as error:
            out.failed(error, path)
    failed = out.failures - before
    return 1 if several and failed else out.last_exit if failed else 0


def _outcomes(
    out: Output, found: Iterable[Found], work: Work, bar: Bar, jobs: int
) -> Iterator[tuple[str, Callable[[], None]]]:
    """Each input's path, with what prints its result or raises its error."""

    def done(one: Found) -> Callable[[], None]:
        if isinstance(one, Broken):
            raise one.error
        if isinstance(one, Skipped):
            return lambda: out.skipped(one)
        return work(one, bar.track(one.path))

    if jobs == 1:
        for one in found:
            yield one.path, lambda one=one: done(one)()  # type: ignore[misc]  # no type for lambda one=one
        return
    pool = ThreadPoolExecutor(jobs, thread_name_prefix="envelope-cli")
    running: deque[tuple[str, Future[Callable[[], None]]]] = deque()
    try:
        for one in found:
            running.append((one.path, pool.submit(done, one)))
            if len(running) > jobs * _WAITING:
                yield _awaited(*running.popleft())
        while running:
            yield _awaited(*running.popleft())
    finally:
        # On the way out by an error, what runs stops at its next step and cleans up behind itself.
        bar.over = True
        pool.shutdown(wait=True, cancel_futures=True)


def _awaited(path: str, running: Future[Callable[[], None]]) -> tuple[str, Callable[[], None]]:
    return path, lambda: running.result()()
