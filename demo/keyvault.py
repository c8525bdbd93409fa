"""The tour of flights.py with its master key in a local Key Vault: the vendor's SDKs, no account.

Run it with `make demo-azure`. It works in a temporary folder and leaves nothing behind. It is not
called azure.py, since a program's own folder is searched first: it would hide the package `azure`.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
from flights import flights, say, shell, show_refusal

import envelope
from envelope.testing import keyvault

KEY = "azurekeyvault://acme/flights"


def main() -> None:
    started = time.perf_counter()
    with (
        tempfile.TemporaryDirectory(prefix="envelope-demo-") as folder,
        keyvault.LocalKeyVault() as local,
    ):
        os.chdir(folder)
        os.environ.update(environment_of(local, "developer"))
        os.environ["ENVELOPE_KEYS"] = KEY
        tour(local)
    print(f"\nDone in {time.perf_counter() - started:.1f} s.")


def environment_of(local: keyvault.LocalKeyVault, principal: str) -> dict[str, str]:
    """This program's environment with another principal, and nothing of the real Azure."""
    kept = {name: value for name, value in os.environ.items() if name not in keyvault.VARIABLES}
    return {**kept, **local.environment(principal)}


def tour(local: keyvault.LocalKeyVault) -> None:
    say("A vault on this machine. DefaultAzureCredential finds it as it would find a real one.")
    acme = local.vault("acme")
    print(f"   {acme.url} through {local.proxy_url}, which leads nowhere else")

    say("Make a master key: it never leaves the vault.")
    shell(f"envelope keys create {KEY}")

    say("The doctor walks to the key, step by step.")
    shell(f"envelope doctor --key {KEY}")

    csv, parquet = flights()
    mean = pd.read_csv(csv).groupby("carrier")["dep_delay"].mean()
    files = f"{csv.name}.env1", f"{parquet.name}.env1"
    csv_enc, parquet_enc = map(Path, files)
    say("Encrypt both files: one look at the key, however many files there are.")
    with counted(local):
        shell(f"envelope encrypt {csv.name} {parquet.name}")

    say("Open the encrypted CSV with pandas: one unwrap in the vault, and the data stays here.")
    with counted(local), envelope.open(csv_enc) as file:
        encrypted_mean = pd.read_csv(file).groupby("carrier")["dep_delay"].mean()
    pd.testing.assert_series_equal(mean, encrypted_mean)
    print("   Mean departure delay by carrier, equal to the plain data's:")
    print("   " + encrypted_mean.round(1).nlargest(4).to_string().replace("\n", "\n   "))

    say("Read one column of the encrypted Parquet file: its key is known, so no call at all.")
    with counted(local), envelope.open(parquet_enc) as opened:
        distance = pq.read_table(opened, columns=["distance"])["distance"]
        stats, size = opened.stats, opened.size
    print(f"   {len(distance):,} values; {stats.opened_bytes / size:.0%} was decrypted")

    say("Flip one bit in the middle, as a failing disk or an attacker would.")
    damaged = bytearray(csv_enc.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    Path("flipped.env1").write_bytes(damaged)
    show_refusal("flipped.env1")

    say("Cut the tail, as an interrupted copy would.")
    Path("cut.env1").write_bytes(csv_enc.read_bytes()[:-1_000_000])
    show_refusal("cut.env1")

    say("Somebody without a role is refused, and told which role, and for whom.")
    denied(local, acme, csv_enc)

    say("Rotate the master key, and rewrap: new headers, the bodies stay byte for byte.")
    bodies = {path: path.read_bytes()[4096:] for path in (csv_enc, parquet_enc)}
    old = envelope.inspect(csv_enc).recipients[0][0]
    shell(f"envelope keys rotate {KEY}")
    with counted(local):
        shell(f"envelope rewrap {' '.join(files)}")
    if any(path.read_bytes()[4096:] != body for path, body in bodies.items()):
        sys.exit("a body changed")
    print("   The bodies did not change.")

    say("Disable the old version: everything still opens, by the new one.")
    shell(f"envelope keys disable {old}")
    shell(f"envelope verify {' '.join(files)}")

    say("Disable the new one as well: now nothing opens, until a version is enabled again.")
    new = envelope.inspect(csv_enc).recipients[0][0]
    shell(f"envelope keys disable {new}")
    shell(f"envelope verify {csv_enc}", refused=True)
    shell(f"envelope keys enable {new}")

    say("Delete the key by mistake: soft delete keeps it for 90 days, and it comes back.")
    shell(f"envelope keys delete {KEY} --yes")
    shell(f"envelope verify {csv_enc}", refused=True)
    shell(f"envelope keys recover {KEY} --yes")
    shell(f"envelope verify {' '.join(files)}")


def denied(local: keyvault.LocalKeyVault, acme: keyvault.Vault, path: Path) -> None:
    """A principal without a role, and the same one with the least that reading takes."""
    intern = environment_of(local, "intern")
    shell(f"envelope verify {path}", refused=True, environment=intern)
    acme.grant(local.principal("intern"), "Key Vault Crypto Service Encryption User")
    say("With that role on the vault, it opens.")
    shell(f"envelope verify {path}", environment=intern)


class counted:  # noqa: N801 - reads as what it does
    """Prints which calls reached the vault meanwhile."""

    def __init__(self, local: keyvault.LocalKeyVault) -> None:
        self._calls = local.world.calls

    def __enter__(self) -> None:
        self._before = len(self._calls)

    def __exit__(self, *_: object) -> None:
        # The first request of a process carries no token: the answer says where to get one.
        made = [call.operation for call in self._calls[self._before :] if call.status != 401]
        print(f"   Calls of the vault: {', '.join(made) or 'none'}.", flush=True)


if __name__ == "__main__":
    main()
