"""The command ``envelope``, also as ``python -m envelope``."""

from __future__ import annotations

import os
import signal
import sys
from importlib.util import find_spec
from typing import NoReturn

__all__ = ["main"]

_MISSING = """\
envelope: the command line needs {missing}, not installed here
    Run: pip install "envelope-encryption[cli]"
"""


def main() -> int:
    """Run the command line on ``sys.argv``; returns the exit status.

    The command is installed with the bare library too, so what only the extra
    ``cli`` brings is looked for before anything of it is imported.
    """
    missing = [name for name in ("typer", "rich") if find_spec(name) is None]
    if missing:
        sys.stderr.write(_MISSING.format(missing=" and ".join(missing)))
        return 2
    # Until a command begins there is nothing to clean up. Ctrl-C then ends the process at once: an
    # exception could strike in a callback of the import system, and would be ignored there.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from envelope.cli.app import run

    status = run(sys.argv[1:])
    if status > 128:
        _leave(status)
    return status


def _leave(status: int) -> NoReturn:
    """End at once after an interruption, once everything is cleaned up.

    An interruption that hits a thread pool while it starts a thread leaves a
    thread that nobody will ever end, and the interpreter would wait for it.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            pass  # whoever read it has left
    os._exit(status)


if __name__ == "__main__":
    sys.exit(main())
