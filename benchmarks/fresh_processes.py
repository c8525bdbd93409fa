"""Memory, vault calls and import time: each measured in processes of its own."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.children import ask, run_python
from benchmarks.machine import file_system
from benchmarks.plan import GIB, MIB, Plan
from benchmarks.results import Row, Table, ratios
from benchmarks.rounds import Contestant, interleave
from benchmarks.scene import Scene

__all__ = ["NEEDED", "imports", "memory", "unwraps"]

NEEDED = (
    "from cryptography.exceptions import InvalidTag, InvalidSignature\n"
    "from cryptography.hazmat.primitives.ciphers.aead import AESGCM\n"
    "from cryptography.hazmat.primitives.constant_time import bytes_eq\n"
    "from cryptography.hazmat.primitives.hashes import SHA256, SHA384, Hash\n"
    "from cryptography.hazmat.primitives.hmac import HMAC\n"
    "from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand\n"
    "from cryptography.hazmat.primitives.keywrap import aes_key_unwrap, aes_key_wrap\n"
)
"""The parts of `cryptography` that encrypting needs."""

_PARTS = "importing the needed parts of cryptography"
_ENCRYPT = "import envelope; envelope.KeyRing; envelope.encrypt; envelope.encrypt_file"


def memory(plan: Plan) -> Table:
    """How much memory encrypting a file takes, by its size."""
    sizes = (MIB, 8 * MIB) if plan.tiny else (64 * MIB, GIB, 4 * GIB)
    rounds = plan.fewer(5)
    grown: dict[int, list[float]] = {size: [] for size in sizes}
    with plan.folder(plan.memory) as folder:
        place = folder
        if plan.fitting(folder, 1, sizes[-1]) < sizes[-1]:
            place = plan.disk
        scene = Scene.make(folder)
        with _sparse(folder / "sparse", sizes[0]) as source, plan.folder(place) as out:
            # What the work imports is imported beforehand in the runs that count.
            modules = ask("memory", scene.keystore, source, out / "target")["modules"]
        for _ in range(rounds):
            for size in sizes:
                with _sparse(folder / "sparse", size) as source, plan.folder(place) as out:
                    found = ask("memory", scene.keystore, source, out / "target", *modules)
                grown[size].append((found["after"] - found["before"]) / MIB)
        where = file_system(place)
    rows = [
        Row(f"encrypt_file, {size // MIB} MiB", "", tuple(values), "MiB", 16)
        for size, values in grown.items()
    ]
    more = tuple(
        large - small for large, small in zip(grown[sizes[-1]], grown[sizes[0]], strict=True)
    )
    what = f"{sizes[-1] // MIB} MiB more than {sizes[0] // MIB} MiB"
    rows.append(Row(what, "", more, "MiB", 1, "flat in the file's size"))
    return Table(
        "memory",
        "Memory over imports",
        "a process's peak resident memory (VmHWM) after encrypting, less its peak after importing "
        f"all modules that the work needs; sparse source, target on {where}, default threads, "
        f"keystore protected by permissions, {rounds} fresh processes each",
        tuple(rows),
    )


def unwraps(plan: Plan) -> Table:
    """How often reading asks the vault."""
    count = 50 if plan.tiny else 10_000
    with plan.folder(plan.memory) as folder:
        scene = Scene.make(folder)
        wrote = ask("write", scene.keystore, folder, count)
        again = ask("read", scene.keystore, folder, count)
    rows = (
        _calls("unwraps by the process that reads", again, "unwrap", count, 1),
        _calls("wraps by the process that wrote", wrote, "wrap", count, 1),
    )
    return Table(
        "unwraps",
        "Calls of the master key",
        f"{count} files of 1 KiB on {file_system(plan.memory)}, encrypt_file in one process, "
        "envelope.open and read in another; KeyCall events counted",
        rows,
    )


def imports(plan: Plan) -> Table:
    """What a program pays before it encrypts anything."""
    seconds: dict[str, list[float]] = {}
    statements = {"needed": NEEDED, "import": "import envelope", "verbs": _ENCRYPT}

    def run(name: str) -> None:
        seconds.setdefault(name, []).append(_import_seconds(statements[name]))

    contestants = [Contestant(name, functools.partial(run, name)) for name in statements]
    interleave(contestants, plan.rounds)
    # The first of each is interleave's warm-up, which wrote bytecode.
    inside = {name: values[1:] for name, values in seconds.items()}
    base = inside["needed"]
    middle = sorted(base)[len(base) // 2] * 1000
    rows = (
        Row("import envelope", _PARTS, ratios(inside["import"], base), target=1.5),
        Row(
            "and KeyRing, encrypt, encrypt_file", _PARTS, ratios(inside["verbs"], base), target=1.5
        ),
    )
    return Table(
        "imports",
        "Import time",
        f"fresh interpreters, time of the import statements alone, {plan.rounds} paired rounds; "
        f"the needed parts of cryptography take {middle:.0f} ms",
        rows,
        (
            "Names of the package are loaded when first used, so the first row says little by "
            "itself. The second has used them: it has imported those parts of cryptography too.",
        ),
    )


def _import_seconds(statement: str) -> float:
    code = f"import time\nt = time.perf_counter()\n{statement}\nprint(time.perf_counter() - t)"
    return float(run_python("-c", code))


def _calls(what: str, found: dict[str, object], operation: str, count: int, most: int) -> Row:
    calls = found["calls"]
    seconds = found["seconds"]
    assert isinstance(calls, dict)
    assert isinstance(seconds, float)
    note = f"{seconds / count * 1e6:.0f} µs a file"
    return Row(what, "", (float(calls.get(operation, 0)),), "calls", most, note)


@contextmanager
def _sparse(path: Path, size: int) -> Iterator[Path]:
    """A file of zeros that takes no room, if only for a moment."""
    with open(path, "wb") as file:
        file.truncate(size)
    try:
        yield path
    finally:
        path.unlink()
