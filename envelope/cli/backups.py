"""``keys backup`` and ``keys restore``."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import typer

from envelope import keyurl
from envelope.cli.keys import Protect, admin_of, report
from envelope.cli.options import KeystoreOptions
from envelope.cli.output import Output
from envelope.cli.passphrases import asked
from envelope.cli.signatures import examples
from envelope.cli.standard import write_new
from envelope.errors import AlreadyExists
from envelope.secret import Secret

__all__ = ["backup", "restore"]

_WHAT = ("Passphrase of the backup: ", "--backup-passphrase-file")
_LARGEST = 256 * 2**20

BackupFile = Annotated[
    str | None,
    typer.Option(
        "--backup-passphrase-file", metavar="FILE", help="Read the backup's passphrase from here."
    ),
]


@examples(
    "envelope keys backup",
    "envelope keys backup local:lake --out lake.backup --backup-passphrase-file FILE",
)
def backup(
    out: Output,
    keystore: KeystoreOptions,
    key: Annotated[
        str | None, typer.Argument(metavar="[KEY]", help="One key; all of them without it.")
    ] = None,
    to: Annotated[
        str | None,
        typer.Option("--out", "-o", metavar="FILE", help="Target [NAME.backup, keystore.backup]."),
    ] = None,
    backup_passphrase_file: BackupFile = None,
    force: Annotated[bool, typer.Option("--force", "-f", help="Replace an existing file.")] = False,
) -> None:
    """Write keys into one file, wrapped under a passphrase of its own.

    Keep file and passphrase apart, and neither on this machine alone.
    """
    admin = admin_of(out, key, keystore)
    to = to or f"{'keystore' if key is None else keyurl.parse(key).name}.backup"
    if os.path.lexists(to) and not force:  # said before anybody thinks of a passphrase
        raise AlreadyExists("the target exists", path=to)
    sealed = getattr(admin, "seals_backups", False)
    passphrase = Secret(b"") if sealed else asked(backup_passphrase_file, _WHAT, twice=True)
    write_new(to, admin.backup(key, passphrase), force=force, mode=0o600)
    out.result({"key": key, "backup": to}, f"{key or 'all keys'} -> {to}")


@examples(
    "envelope keys restore keys.backup",
    "envelope keys restore keys.backup --protect permissions --backup-passphrase-file FILE",
)
def restore(
    out: Output,
    file: Annotated[str, typer.Argument(metavar="FILE", help="A backup; - for a pipe.")],
    keystore: KeystoreOptions,
    key: Annotated[
        str | None, typer.Argument(metavar="[KEY]", help="Any key of the vault that it goes to.")
    ] = None,
    protect: Protect = None,
    merge: Annotated[
        bool, typer.Option("--merge", help="Add to a different key of the same name.")
    ] = False,
    backup_passphrase_file: BackupFile = None,
) -> None:
    """Bring keys back from a backup. Versions keep their ids, and nothing is overwritten."""
    admin = admin_of(out, key, keystore)
    if file == "-":
        blob = sys.stdin.buffer.read(_LARGEST)
    else:
        with open(file, "rb") as opened:
            blob = opened.read(_LARGEST)
    sealed = getattr(admin, "seals_backups", False)
    passphrase = Secret(b"") if sealed else asked(backup_passphrase_file, _WHAT, twice=False)
    options = {"protect": protect, "merge": merge or None, "to": key if sealed else None}
    bring: Any = admin.restore  # options beyond the protocol are the driver's own
    back = bring(blob, passphrase, **{n: v for n, v in options.items() if v})
    report(out, "restored", back, "all of its versions are here, or were destroyed here")
