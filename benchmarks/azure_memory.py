"""The memory that keys in Azure Key Vault take in a process, each time in one of its own.

This file is also the program that those processes run:
``python -m benchmarks.azure_memory WAY FIRST MORE…`` opens the file FIRST, then each of MORE, and
prints the peak of resident memory before, in between and after as one JSON list of bytes.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.children import peak, run_python
from benchmarks.plan import KIB, MIB, Plan
from benchmarks.results import Row

__all__ = ["FURTHER", "memory_rows", "vault_of"]

FURTHER = 8
"""How many vaults are opened from besides the first: one connection is too little to be seen."""


def vault_of(number: int) -> str:
    """The name of a further vault, from 1."""
    return f"acme-{number}"


def memory_rows(plan: Plan, sealed: Sequence[Path], raw: Mapping[str, Path]) -> tuple[Row, ...]:
    """Rows of what a first open and a further vault add.

    Args:
        plan: How many processes.
        sealed: A file of envelope's kind under a key of ``acme``, then one of each further vault.
        raw: By kid, files of the SDK's kind of the same vaults, in the same order.
    """
    of_raw = [f"{kid}={path}" for kid, path in raw.items()]
    first: dict[str, list[float]] = {"envelope": [], "raw": []}
    further: dict[str, list[float]] = {"envelope": [], "raw": []}
    for _ in range(plan.fewer(5)):
        for way, files in (("envelope", [str(path) for path in sealed]), ("raw", of_raw)):
            found = run_python("-m", "benchmarks.azure_memory", way, *files)
            before, opened, after = json.loads(found)
            first[way].append((opened - before) / MIB)
            further[way].append((after - opened) / FURTHER / KIB)
    return (
        _row("memory of a cold open, over importing envelope", first, "MiB"),
        _row("memory of each further vault", further, "KiB"),
    )


def _row(what: str, found: Mapping[str, Sequence[float]], unit: str) -> Row:
    alone = sorted(found["raw"])[len(found["raw"]) // 2]
    return Row(what, "", tuple(found["envelope"]), unit, note=f"the SDK alone: {alone:.0f} {unit}")


def _open_sealed(paths: Sequence[str]) -> list[int]:
    import envelope

    names = ("acme", *(vault_of(number) for number in range(1, len(paths))))
    keys = [f"azurekeyvault://{name}/bench" for name in names]
    marks = [peak()]
    ring = envelope.KeyRing(decrypt_with=keys)
    for number, path in enumerate(paths):
        with envelope.open(path, keys=ring) as file:
            file.read()
        if number in (0, len(paths) - 1):
            marks.append(peak())
    return marks


def _open_raw(files: Sequence[str]) -> list[int]:
    from benchmarks.azure_opens import open_raw  # it imports nothing of the SDK

    marks = [peak()]
    from azure.identity import DefaultAzureCredential
    from azure.keyvault.keys.crypto import CryptographyClient

    credential, clients = DefaultAzureCredential(), []
    for number, file in enumerate(files):
        kid, _, path = file.partition("=")
        clients.append(CryptographyClient(kid, credential))  # kept, as a program would
        open_raw(clients[-1], Path(path))
        if number in (0, len(files) - 1):
            marks.append(peak())
    return marks


if __name__ == "__main__":
    _way, *_files = sys.argv[1:]
    print(json.dumps(_open_raw(_files) if _way == "raw" else _open_sealed(_files)))
