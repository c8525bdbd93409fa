"""``bench``: what this machine does, in a few seconds."""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from envelope.cli.output import Output, columns
from envelope.cli.signatures import examples
from envelope.errors import ConfigurationError

if TYPE_CHECKING:
    from envelope.keys import WrappedKey
    from envelope.secret import Secret

__all__ = ["bench"]

_MIB = 2**20
_SCHEME = "bench"
_ALONE = ", 1 thread"


@examples("envelope bench", "envelope bench /mnt/lake --size 1024 --threads 8")
def bench(
    out: Output,
    folder: Annotated[
        str | None, typer.Argument(metavar="[FOLDER]", help="Whose disk; the temporary folder's.")
    ] = None,
    size: Annotated[
        int, typer.Option("--size", min=1, max=65536, metavar="MIB", help="Size of the file.")
    ] = 256,
    rounds: Annotated[int, typer.Option("--rounds", min=1, max=100, help="How often.")] = 3,
    threads: Annotated[int, typer.Option("--threads", min=1, max=64, help="Threads.")] = 4,
) -> None:
    """Measure encrypting, decrypting and reading beside a plain copy of the same file.

    No fsync, so this is about the processor and memory more than about the disk. Needs no key,
    and leaves nothing behind.
    """
    with tempfile.TemporaryDirectory(prefix="envelope-bench-", dir=folder) as place:
        _check_room(place, 4 * size * _MIB)
        seconds = _measured(place, size * _MIB, rounds, threads)
    copy = seconds["copy"]
    rows = [("", "MB/s", "time / copy's")]
    for name, taken in seconds.items():
        rate = size * _MIB / taken / 1e6
        rows.append((name, f"{rate:.0f}", f"{taken / copy:.2f}"))
        if out.options.json:
            document = {"measure": name, "seconds": taken, "ratio": taken / copy}
            used = 1 if name == "copy" or name.endswith(_ALONE) else threads
            out.answer({**document, "bytes": size * _MIB, "threads": used, "rounds": rounds})
    if not out.options.json:
        what = f"{size} MiB in {folder or tempfile.gettempdir()}, median of {rounds}"
        out.answer({}, f"{what}, {threads} threads where not said otherwise", "", *columns(rows))


def _measured(place: str, size: int, rounds: int, threads: int) -> dict[str, float]:
    """Median seconds of each measure. Rounds are interleaved, so that a busy moment hits all."""
    from envelope import resolvers
    from envelope.files import decrypt_file, encrypt_file
    from envelope.ring import KeyRing

    plain, sealed = os.path.join(place, "plain"), os.path.join(place, "sealed")
    copied, opened = os.path.join(place, "copied"), os.path.join(place, "opened")
    _fill(plain, size)
    forget = resolvers.register(_SCHEME, _Driver())
    try:
        given: dict[str, Any] = {"keys": KeyRing(f"{_SCHEME}:key"), "durable": False}
        one = {**given, "threads": 1}
        many = {**given, "threads": threads}
        # What is measured, and the file that it writes: a new one each time, or freeing the old
        # one's memory would be measured too.
        measures: dict[str, tuple[Callable[[], object], str | None]] = {
            "copy": (lambda: _copy(plain, copied), copied),
            "encrypt": (lambda: encrypt_file(plain, sealed, **many), sealed),
            "decrypt": (lambda: decrypt_file(sealed, opened, **many), opened),
            "read": (lambda: _read(sealed, given["keys"], threads), None),
            f"encrypt{_ALONE}": (lambda: encrypt_file(plain, sealed, **one), sealed),
            f"decrypt{_ALONE}": (lambda: decrypt_file(sealed, opened, **one), opened),
        }
        taken: dict[str, list[float]] = {name: [] for name in measures}
        for _round in range(rounds):
            for name, (measure, target) in measures.items():
                if target and os.path.exists(target):
                    os.unlink(target)
                started = time.perf_counter()
                measure()
                taken[name].append(time.perf_counter() - started)
    finally:
        forget()
    return {name: statistics.median(each) for name, each in taken.items()}


def _fill(path: str, size: int) -> None:
    with open(path, "wb", buffering=0) as file:
        for _ in range(size // _MIB):
            file.write(os.urandom(_MIB))


def _copy(source: str, target: str) -> None:
    buffer = memoryview(bytearray(_MIB))
    with open(source, "rb", buffering=0) as reading, open(target, "wb", buffering=0) as writing:
        while count := reading.readinto(buffer):
            writing.write(buffer[:count])


def _read(path: str, ring: Any, threads: int) -> None:
    from envelope.streams import open as open_encrypted

    buffer = memoryview(bytearray(_MIB))
    with open_encrypted(path, keys=ring, threads=threads) as file:
        while file.readinto(buffer):
            pass


def _check_room(place: str, needed: int) -> None:
    free = shutil.disk_usage(place).free
    if free < needed:
        raise ConfigurationError(
            f"{place} has {free // _MIB} MiB free, and this needs {needed // _MIB}",
            next_step="Choose a smaller --size or another folder.",
        )


class _Driver:
    """A key that lives for the run alone: nobody's keystore is touched to measure a machine."""

    alg = "A256KW"
    kid = f"{_SCHEME}:key"
    metered = False

    def __init__(self) -> None:
        from envelope.secret import Secret

        self._secret = Secret.random()

    def settings(self, options: Mapping[str, Any]) -> dict[str, Any]:
        return dict(options)

    def resolver(self, settings: Mapping[str, Any]) -> _Driver:  # noqa: ARG002 - it has none
        return self

    def resolve(self, kid: str) -> _Driver:  # noqa: ARG002 - there is one key
        return self

    def wrap(self, key: Secret, *, aad: bytes) -> WrappedKey:  # noqa: ARG002 - A256KW has none
        from cryptography.hazmat.primitives.keywrap import aes_key_wrap

        from envelope.keys import WrappedKey

        wrapped = aes_key_wrap(self._secret.reveal(), key.reveal())
        return WrappedKey(self.kid, self.alg, wrapped)

    def unwrap(self, wrapped: WrappedKey, *, aad: bytes) -> Secret:  # noqa: ARG002 - as in wrap
        from cryptography.hazmat.primitives.keywrap import aes_key_unwrap

        from envelope.secret import Secret

        return Secret(aes_key_unwrap(self._secret.reveal(), wrapped.encrypted_key))
