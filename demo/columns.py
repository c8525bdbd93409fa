"""The tour's scene on column keys: one file, two readers, and a key that is rotated under it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd

import envelope
import envelope_parquet
from envelope.errors import EnvelopeError

__all__ = ["scene"]

AIRCRAFT = "local:aircraft"


def scene(plain: Path, key: str, say: Callable[[str], None], shell: Callable[[str], None]) -> None:
    """Put two columns under a key of their own, look at them without it, and re-key them.

    Args:
        plain: The flights as Parquet.
        key: The master key of the lake.
        say: Announces a step.
        shell: Runs a command and shows it.
    """
    both = f"--key {key} --key {AIRCRAFT}"
    say("Column keys: which aircraft flew is for few, the other columns are for many.")
    shell(f"envelope keys create {AIRCRAFT}")
    shell(
        f"envelope parquet encrypt {plain} --out columns.parquet --footer {key} "
        f"--column tailnum,flight={AIRCRAFT} --require tailnum {both}"
    )
    owner, analyst = envelope.KeyRing([key, AIRCRAFT]), envelope.KeyRing(key)
    path = Path("columns.parquet")
    whole = envelope_parquet.read_pandas(path, owner)
    pd.testing.assert_frame_equal(whole, pd.read_parquet(plain))

    say("An analyst, who has the lake's key alone, reads the same file.")
    denied = envelope_parquet.access(path, analyst).denied
    seen = envelope_parquet.read_pandas(path, analyst, denied="drop")
    print(f"   {seen.shape[1]} of {whole.shape[1]} columns; denied: {', '.join(denied)}")
    delays = seen.groupby("carrier")["dep_delay"].mean().round(1).nlargest(3)
    print("   " + delays.to_string().replace("\n", "\n   "))

    say("What the analyst may not see is an error, also in a filter, where pyarrow alone hangs.")
    for asked in ({"columns": ["tailnum"]}, {"filters": [("tailnum", "=", "N14228")]}):
        try:
            envelope_parquet.read_table(path, analyst, denied="error", **asked)
        except EnvelopeError as error:
            print(f"   {asked}: {error.message} [{error.code}]")
        else:
            raise SystemExit("it was read")

    say("Rotate the key of the two columns, and rewrap: a new footer, the same pages.")
    (old,) = envelope_parquet.access(path, owner).column("tailnum").kids
    before = _pages(path)
    shell(f"envelope keys rotate {AIRCRAFT}")
    shell(f"envelope parquet rewrap {path} {both}")
    if _pages(path) != before:
        raise SystemExit("a page changed")
    print(f"   {len(before):,} of {path.stat().st_size:,} bytes did not change.")

    say("Disable the old version: the file opens by the new one, and every page is proven.")
    shell(f"envelope keys disable {old}")
    shell(f"envelope parquet verify {path} {both}")


def _pages(path: Path) -> bytes:
    """All of a Parquet file before its footer."""
    data = path.read_bytes()
    return data[: len(data) - 8 - int.from_bytes(data[-8:-4], "little")]
