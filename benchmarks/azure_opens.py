"""What opening a file adds to the vendor's own client, for keys in a local Key Vault.

This file is also the program that cold opens are timed in:
``python -m benchmarks.azure_opens WAY FILE KID`` prints the seconds from before its imports.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.azure_memory import FURTHER, memory_rows, vault_of
from benchmarks.children import run_python
from benchmarks.plan import KIB, Plan
from benchmarks.results import Row, Table, ratios
from benchmarks.rounds import Contestant, interleave

__all__ = ["azure", "open_raw"]

_TITLE = "Opening files with keys in Azure Key Vault"
_KEY = "azurekeyvault://acme/bench"
_SIZE = 64 * KIB
_NONCE = 12
_WRAPPED = 256  # bytes, of RSA with 2048 bits
_VERBS = "import envelope; envelope.KeyRing; envelope.encrypt; envelope.open"
_HIDDEN = ("azure", "msal", "requests", "envelope_azure")
# For every file its own KEK, which is the worst case; the vault's limits are not what is measured.
_LIMITS = {"kek_files": 1, "unwrap_rate": 100_000}


def azure(plan: Plan) -> Table:
    """Cold and warm opens beside a client of the SDK that does the same, and imports."""
    if find_spec("envelope_testing") is None or find_spec("uvicorn") is None:
        why = "not installed: the extra testing"
        return Table("azure", _TITLE, "not measured", (Row("opening", note=why),))
    batch = 2 if plan.tiny else 20
    with plan.folder(plan.memory) as folder, _vault() as environment, _environment(environment):
        files = _Files(folder, (plan.rounds + 1) * batch + 1)
        warm = _warm(plan, files, batch)
        cold = _cold(plan, files)
        imports = _imports(plan)
        memory = _memory(plan, folder, files)
    rows = (
        _row("envelope.open, warm", "SDK, warm", warm["raw"], warm["envelope"], batch),
        _row("envelope.open, warm, KEK known", "SDK, warm", warm["raw"], warm["known"], batch),
        _row("envelope.open, cold", "SDK, cold", cold["raw"], cold["envelope"], 1),
        Row(
            "importing envelope and its verbs, [azure] installed",
            "the same where it cannot be found",
            ratios(imports["installed"], imports["hidden"]),
            target=1.05,
        ),
        *memory,
    )
    return Table(
        "azure",
        _TITLE,
        f"files of {_SIZE // KIB} KiB, RSA-2048, a local Key Vault in a process of its own, "
        f"reached over TLS and a proxy on loopback; {plan.rounds} paired rounds, {batch} files a "
        "round where warm; cold: a fresh process, from before its imports to the last byte",
        rows,
        (
            "The SDK's side is `CryptographyClient.unwrap_key` and AES-GCM of `cryptography` on a "
            "file that has nothing but a wrapped key and one ciphertext. Cold, it fetches the key "
            "before it unwraps, which envelope does not, and both sign in. A real vault is some "
            "milliseconds further away, so that what is added counts for less.",
            "Memory: the peak of the resident memory of a fresh process after opening a file, less "
            f"that before; then after a file of each of {FURTHER} further vaults, a ring and a "
            "credential for all, divided by their number.",
        ),
    )


def _row(what: str, of: str, base: Sequence[float], mine: Sequence[float], files: int) -> Row:
    both = (sorted(each)[len(each) // 2] / files * 1000 for each in (mine, base))
    note = "{:.2f} ms a file, not {:.2f} ms".format(*both)
    return Row(what, of, ratios(mine, base), note=note)


# --- What is opened -----------------------------------------------------------------------------


class _Files:
    """Pairs of files with the same content: one of the SDK's kind and one of envelope's."""

    def __init__(self, folder: Path, count: int, vault: str = "acme") -> None:
        from azure.identity import DefaultAzureCredential
        from azure.keyvault.keys import KeyClient
        from azure.keyvault.keys.crypto import CryptographyClient, KeyWrapAlgorithm
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        import envelope

        credential = DefaultAzureCredential()
        key = KeyClient(f"https://{vault}.vault.azure.net", credential).create_rsa_key(
            "bench", size=_WRAPPED * 8
        )
        self.kid = str(key.id)
        self.client = CryptographyClient(key, credential)
        self.ring = envelope.KeyRing(f"azurekeyvault://{vault}/bench", limits=_LIMITS)
        plain = os.urandom(_SIZE)
        (folder / "plain").write_bytes(plain)
        self.raw, self.sealed = [], []
        for number in range(count):
            dek, nonce = os.urandom(32), os.urandom(_NONCE)
            wrapped = self.client.wrap_key(KeyWrapAlgorithm.rsa_oaep_256, dek).encrypted_key
            self.raw.append(folder / f"{number}.raw")
            self.raw[-1].write_bytes(wrapped + nonce + AESGCM(dek).encrypt(nonce, plain, None))
            self.sealed.append(folder / f"{number}.env1")
            envelope.encrypt_file(folder / "plain", self.sealed[-1], keys=self.ring, durable=False)
        if open_raw(self.client, self.raw[0]) != plain:
            raise AssertionError("the SDK's side does not open what it wrote")


def open_raw(client: Any, path: Path) -> bytes:
    """What a program on the SDK alone would do."""
    from azure.keyvault.keys.crypto import KeyWrapAlgorithm
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    data = path.read_bytes()
    dek = client.unwrap_key(KeyWrapAlgorithm.rsa_oaep_256, data[:_WRAPPED]).key
    return AESGCM(dek).decrypt(data[_WRAPPED : _WRAPPED + _NONCE], data[_WRAPPED + _NONCE :], None)


def _open_sealed(ring: Any, path: Path) -> bytes:
    import envelope

    with envelope.open(path, keys=ring) as file:
        return bytes(file.read())


# --- Measures -----------------------------------------------------------------------------------


def _warm(plan: Plan, files: _Files, batch: int) -> dict[str, list[float]]:
    """One process with an open connection and a token, as a service has."""
    _open_sealed(files.ring, files.sealed[0])
    turn = iter(range(1, len(files.sealed), batch))
    first = 0

    def next_batch() -> None:
        # Of files that nobody opened: the second time, their KEKs would be known.
        nonlocal first
        first = next(turn)

    def each(opened: Callable[[Path], bytes], paths: Sequence[Path]) -> None:
        for path in paths[first : first + batch]:
            opened(path)

    raw = functools.partial(open_raw, files.client)
    sealed = functools.partial(_open_sealed, files.ring)

    def known() -> None:
        for _ in range(batch):
            sealed(files.sealed[0])

    contestants = [
        Contestant("raw", lambda: each(raw, files.raw)),
        Contestant("envelope", lambda: each(sealed, files.sealed), prepare=next_batch),
        Contestant("known", known),
    ]
    return interleave(contestants, plan.rounds)


def _cold(plan: Plan, files: _Files) -> dict[str, list[float]]:
    """A fresh process for each open, as a function in the cloud has."""
    found: dict[str, list[float]] = {"raw": [], "envelope": []}

    def run(way: str, path: Path) -> None:
        printed = run_python("-m", "benchmarks.azure_opens", way, str(path), files.kid)
        found[way].append(float(printed))

    contestants = [
        Contestant("raw", functools.partial(run, "raw", files.raw[0])),
        Contestant("envelope", functools.partial(run, "envelope", files.sealed[0])),
    ]
    interleave(contestants, plan.rounds)
    return {way: seconds[1:] for way, seconds in found.items()}  # the first wrote bytecode


def _imports(plan: Plan) -> dict[str, list[float]]:
    """With the extra, and where its modules cannot be found, as without it."""
    hide = f"import sys\nsys.modules.update(dict.fromkeys({_HIDDEN!r}))\n"
    found: dict[str, list[float]] = {"installed": [], "hidden": []}

    def run(way: str, before: str) -> None:
        timed = f"{before}import time\nt = time.perf_counter()\n{_VERBS}\n"
        found[way].append(float(run_python("-c", f"{timed}print(time.perf_counter() - t)")))

    contestants = [
        Contestant("installed", functools.partial(run, "installed", "import sys\n")),
        Contestant("hidden", functools.partial(run, "hidden", hide)),
    ]
    interleave(contestants, plan.rounds)
    return {way: seconds[1:] for way, seconds in found.items()}


def _memory(plan: Plan, folder: Path, files: _Files) -> tuple[Row, ...]:
    """Files of one more vault each, and what opening them takes."""
    sealed, raw = [files.sealed[0]], {files.kid: files.raw[0]}
    for number in range(1, FURTHER + 1):
        there = folder / vault_of(number)
        there.mkdir()
        more = _Files(there, 1, vault_of(number))
        sealed.append(more.sealed[0])
        raw[more.kid] = more.raw[0]
    return memory_rows(plan, sealed, raw)


def _cold_open(way: str, path: str, kid: str) -> None:
    """What a fresh process does, imports included."""
    if way == "raw":
        from azure.identity import DefaultAzureCredential
        from azure.keyvault.keys.crypto import CryptographyClient

        open_raw(CryptographyClient(kid, DefaultAzureCredential()), Path(path))
    else:
        import envelope

        _open_sealed(envelope.KeyRing(_KEY), Path(path))


# --- The vault ----------------------------------------------------------------------------------


@contextmanager
def _vault() -> Iterator[dict[str, str]]:
    """The environment in which a local Key Vault is reached. It shares no interpreter with us."""
    command = [sys.executable, "-m", "envelope", "testing", "keyvault"]
    for name in ("acme", *(vault_of(number) for number in range(1, FURTHER + 1))):
        command += ["--vault", name]
    with subprocess.Popen(
        [*command, "--json"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as serving:
        try:
            assert serving.stdout is not None
            yield json.loads(serving.stdout.readline())["environment"]
        finally:
            serving.terminate()


@contextmanager
def _environment(given: Mapping[str, str]) -> Iterator[None]:
    """This process's environment for a while, without what the machine's owner signs in with."""
    from envelope.testing import keyvault

    before = dict(os.environ)
    for name in keyvault.VARIABLES:
        os.environ.pop(name, None)
    os.environ.update(given)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


if __name__ == "__main__":
    _started = time.perf_counter()
    _cold_open(*sys.argv[1:])
    print(time.perf_counter() - _started)
