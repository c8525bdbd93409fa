"""``envelope parquet``, by the entry-point group ``envelope.commands``."""

from __future__ import annotations

import typer
from typer.core import TyperCommand

from envelope.cli.signatures import as_callback
from envelope_parquet.commands.changing import adopt, rewrap
from envelope_parquet.commands.converting import decrypt, encrypt, reencrypt
from envelope_parquet.commands.looking import access, inspect, verify

__all__ = ["parquet"]

parquet = typer.Typer(
    help="Look at, prove, re-key and convert Parquet files with column keys.",
    epilog="Examples:\n\n  $ envelope parquet access people.parquet",
    add_completion=False,
)

for _command in (access, inspect, verify, rewrap, adopt, encrypt, decrypt, reencrypt):
    _lines = getattr(_command, "examples", ())
    _epilog = "\n\n".join(["Examples:", *(f"  $ {line}" for line in _lines)])
    parquet.command(_command.__name__, cls=TyperCommand, epilog=_epilog)(as_callback(_command))
