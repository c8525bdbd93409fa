"""The command ``envelope``, also as ``python -m envelope``."""

from __future__ import annotations

import sys
from importlib.util import find_spec

__all__ = ["main"]

_MISSING = """\
envelope: the command line needs {missing}, which is not installed
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
    from envelope.cli.app import run

    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
