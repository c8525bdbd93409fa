"""Run a check in a forked child."""

from __future__ import annotations

import faulthandler
import gc
import logging
import os
import signal
import traceback
import warnings
from collections.abc import Callable


def holds_in_child(check: Callable[[], bool]) -> bool:
    """Whether ``check`` returns true in a forked child. It must not take longer than a minute."""
    with warnings.catch_warnings():  # forking with threads about is what these tests are for
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        status = 1
        # What other tests left is not the child's to collect: a connection of DuckDB, whose threads
        # are not here, ends the process.
        gc.freeze()
        # pytest keeps what is logged. A thread that was logging at the fork, as fsspec does at each
        # open, holds a lock of its handler for ever here.
        logging.disable()
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            # A hang becomes a failure that shows where.
            faulthandler.register(signal.SIGALRM, file=2, chain=True)
            signal.alarm(60)
            status = 0 if check() else 1
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
