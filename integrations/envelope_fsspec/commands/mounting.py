"""``mount``: a mount or a chain as a folder, for programs that know nothing of fsspec."""

from __future__ import annotations

import os
import signal
from typing import Annotated, Any

import typer

from envelope.cli.filing import stores_of
from envelope.cli.options import ContextOptions, KeyOptions
from envelope.cli.output import Output
from envelope.cli.signatures import examples
from envelope.cli.stores import StorageOptions, enveloped
from envelope.errors import ConfigurationError
from envelope_fsspec.drive import Drive

__all__ = ["mount"]


@examples("envelope mount lake /mnt/lake", "envelope mount envelope://lake/2026 ~/lake")
def mount(
    out: Output,
    keys: KeyOptions,
    context: ContextOptions,
    storage: StorageOptions,
    source: Annotated[
        str, typer.Argument(metavar="MOUNT", help="A mount's name, or a URL of a mount or a chain.")
    ],
    folder: Annotated[str, typer.Argument(metavar="DIR", help="An empty folder.")],
) -> int:
    """Show a mount as a folder, read-only, until Ctrl-C or `fusermount -u DIR`.

    For programs that open local files only. Whoever may read DIR, reads plaintext; that is only
    you, unless the system's FUSE is configured otherwise.
    """
    url = source if enveloped(source) else f"envelope://{source}"
    fuse = _fuse()
    if not os.path.isdir(folder):
        raise NotADirectoryError(20, "Not a directory", folder)
    place = stores_of(out, storage, [url], keys, context).at(url)
    if place.info()["type"] != "directory":
        raise NotADirectoryError(20, "Not a directory", url)
    drive = Drive(place.fs, place.path, lambda path, error: out.failed(error, f"{url}{path}"))
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    for number in before:  # libfuse ends the loop itself, where nobody else handles these
        signal.signal(number, signal.SIG_DFL)
    out.note(f"{url} is at {folder}; end it with Ctrl-C or: fusermount -u {folder}")
    try:
        fuse.FUSE(drive, folder, foreground=True, ro=True, fsname=url.replace(",", "_"))
    except RuntimeError as error:
        raise ConfigurationError(
            f"the system could not mount it (status {error})",
            next_step="FUSE says why. In a container it needs /dev/fuse and CAP_SYS_ADMIN.",
        ) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 0


def _fuse() -> Any:
    """fusepy, which brings a module ``fuse``."""
    try:
        import fuse
    except ImportError as error:
        raise ConfigurationError(
            "envelope mount needs fusepy",
            next_step='Run: pip install "envelope-encryption[fuse]".',
        ) from error
    except OSError as error:
        raise ConfigurationError(
            f"fusepy finds no libfuse: {error}",
            next_step="Install libfuse 2 (Debian and Ubuntu: apt install libfuse2 fuse).",
        ) from error
    return fuse
