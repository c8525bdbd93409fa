"""Whole files by envelope and by others, side by side."""

from __future__ import annotations

import filecmp
import functools
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from benchmarks.copies import copy_fresh, fill
from benchmarks.machine import file_system
from benchmarks.peers.libraries import LIBRARIES
from benchmarks.peers.peer import Absent, Peer, PeerClass
from benchmarks.peers.programs import PROGRAMS
from benchmarks.plan import MIB, Plan
from benchmarks.results import Row, Table, ratios
from benchmarks.rounds import Contestant, interleave

__all__ = ["peers"]

_COPY = "copy into a new file"
_PEERS: tuple[PeerClass, ...] = (*LIBRARIES, *PROGRAMS)
_SIDES = ("encrypt", "decrypt")


def peers(plan: Plan) -> Table:
    """The same file, the same folder, the same copy loop as the denominator."""
    # Each has its own target, so that nobody's new file is somebody else's old one.
    size = min(plan.fitting(plan.memory, 3 * len(_PEERS)), 256 * MIB)
    rounds = plan.fewer(7)
    rows: list[Row] = []
    present: list[Peer] = []
    with plan.folder(plan.memory) as folder, ExitStack() as stack:
        plain = fill(folder / "plain", size)
        contestants = [Contestant("copy", functools.partial(copy_fresh, plain, folder / "copy"))]
        for number, make in enumerate(_PEERS):
            room = folder / str(number)
            room.mkdir()
            sealed, opened = room / "sealed", room / "opened"
            try:
                peer = make(room)
                stack.callback(peer.close)
                peer.encrypt(plain, sealed)
                peer.decrypt(sealed, opened)
            except (Absent, ImportError) as error:
                rows.append(Row(make.name, note=f"not measured: {error}"))
                continue
            if not filecmp.cmp(plain, opened, shallow=False):
                raise AssertionError(f"{peer.name} did not give back what it took")
            present.append(peer)
            contestants.append(_contestant(peer, "encrypt", peer.encrypt, plain, sealed))
            contestants.append(_contestant(peer, "decrypt", peer.decrypt, sealed, opened))
        seconds = interleave(contestants, rounds)
    found = [
        _row(peer, side, seconds[f"{peer.name} {side}"], seconds["copy"], size)
        for side in _SIDES
        for peer in present
    ]
    return Table(
        "peers",
        "Beside other programs",
        f"{size // MIB} MiB on {file_system(plan.memory)}, no fsync, {rounds} paired rounds, the "
        "last round's file is replaced or overwritten as the program does it; the time of programs "
        "includes their start; copy: Python, 1 MiB readinto and write, into a new file",
        (*found, *rows),
        tuple(f"{peer.name}: {peer.remark}." for peer in present),
    )


def _contestant(
    peer: Peer, side: str, run: Callable[[Path, Path], None], source: Path, target: Path
) -> Contestant:
    return Contestant(f"{peer.name} {side}", functools.partial(run, source, target))


def _row(peer: Peer, side: str, seconds: list[float], copy: list[float], size: int) -> Row:
    rate = size / MIB / sorted(seconds)[len(seconds) // 2]
    return Row(f"{side}: {peer.name}", _COPY, ratios(seconds, copy), note=f"{rate:.0f} MiB/s")
