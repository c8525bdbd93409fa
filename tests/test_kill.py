"""kill -9 at random moments: no file is lost, no half of one opens, and leftovers have their name.

ENVELOPE_KILLS says how many in all; a thousand take a few minutes. That the order of write, sync
and rename also outlasts a machine that stops is what tests/test_publishing.py shows: a killed
process loses nothing that it gave to the kernel.
"""

from __future__ import annotations

import os
import random
import re
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

import envelope
from envelope.ring import KeyRing
from tests.memory_driver import MemoryDriver
from tests.vectors.scene import text_of

KILLS = int(os.environ.get("ENVELOPE_KILLS", "40"))
LEFTOVER = re.compile(r"\.(file|plain)\.[0-9a-f]{16}\.env1tmp\Z")

PLAIN = (text_of(3_000_000), text_of(3_000_000)[::-1])  # two contents that take each other's place

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


class Scene:
    """A folder with an encrypted file, two rings for it, and what a victim does there for ever."""

    def __init__(self, folder: Path, driver: MemoryDriver) -> None:
        self.folder = folder
        self.file = folder / "file"
        self.plain = folder / "plain"
        self.sources = (folder / "source-0", folder / "source-1")
        for path, data in zip(self.sources, PLAIN, strict=True):
            path.write_bytes(data)
        settings = {"local": {"seed": driver.seed}}
        keys = ["local:lake", "local:other"]
        self.rings = [
            KeyRing(encrypt_to=[key], decrypt_with=keys, settings=settings) for key in keys
        ]
        envelope.encrypt_file(self.sources[0], self.file, keys=self.rings[0])
        envelope.decrypt_file(self.file, self.plain, keys=self.rings[0])

    def encrypt(self, step: int) -> None:
        envelope.encrypt_file(self.sources[step % 2], self.file, keys=self.rings[step % 2])

    def write(self, step: int) -> None:
        with envelope.open(self.file, "wb", keys=self.rings[step % 2]) as file:
            for at in range(0, len(PLAIN[0]), 300_000):
                file.write(PLAIN[step % 2][at : at + 300_000])

    def rewrap(self, step: int) -> None:
        """Always with something to change, whatever an earlier victim left."""
        kid = envelope.inspect(self.file).recipients[0][0]
        ring = self.rings[kid.startswith("local:lake")]
        assert envelope.rewrap(self.file, keys=ring, recipients="replace").changed

    def reencrypt(self, step: int) -> None:
        envelope.reencrypt(self.file, keys=self.rings[step % 2])

    def decrypt(self, step: int) -> None:
        envelope.decrypt_file(self.file, self.plain, keys=self.rings[step % 2])

    def check(self) -> Counter[str]:
        """The file opens, whole, to one of the two contents; what lies about is a leftover."""
        with envelope.open(self.file, keys=self.rings[0]) as file:
            found = file.read()
        assert found in PLAIN
        assert envelope.verify(self.file, keys=self.rings[1]).size == len(found)
        assert self.plain.read_bytes() in PLAIN
        counts: Counter[str] = Counter()
        for name in os.listdir(self.folder):
            if name in ("file", "plain", "source-0", "source-1"):
                continue
            assert LEFTOVER.match(name), name
            counts["leftovers"] += 1
            self.check_leftover(self.folder / name)
        return counts

    def check_leftover(self, path: Path) -> None:
        """Nobody else may read it; and if it opens, it was whole and only not yet renamed."""
        if path.name.startswith(".plain"):
            assert path.stat().st_mode & 0o077 == 0 or path.read_bytes() in (*PLAIN, b"")
        else:
            try:
                with envelope.open(path, keys=self.rings[0]) as file:
                    assert file.read() in PLAIN
            except envelope.errors.IntegrityError:
                pass
        path.unlink()


def work_for_ever(work: Callable[[int], None], tell: int) -> NoReturn:
    step = 0
    while True:
        step += 1
        work(step)
        os.write(tell, b".")


@pytest.mark.parametrize("verb", ["encrypt", "write", "rewrap", "reencrypt", "decrypt"])
def test_a_file_survives_kills(verb: str, tmp_path: Path, driver: MemoryDriver) -> None:
    scene = Scene(tmp_path, driver)
    kills = max(2, KILLS // 5)
    chance = random.Random(os.urandom(8))
    counts: Counter[str] = Counter()
    # How long one takes here, so that the blows fall all over it.
    started = time.monotonic()
    for step in range(3):
        getattr(scene, verb)(step)
    usual = (time.monotonic() - started) / 3
    for _ in range(kills):
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                signal.alarm(60)
                work_for_ever(getattr(scene, verb), writing)
            finally:
                os._exit(1)
        os.close(writing)
        time.sleep(chance.uniform(0, 3 * usual + 0.01))
        os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
        assert os.WIFSIGNALED(status), "the victim failed before it was killed"
        with os.fdopen(reading, "rb") as pipe:
            counts["finished"] += len(pipe.read())
        counts += scene.check()
        counts["kills"] += 1
    getattr(scene, verb)(0)  # the dead hold no lock
    assert scene.check()["leftovers"] == 0
    assert counts["kills"] == kills
    print(verb, dict(counts))


def test_what_was_published_before_a_kill_stays(tmp_path: Path, driver: MemoryDriver) -> None:
    """The victim dies right after a call returned: then the new content is there."""
    scene = Scene(tmp_path, driver)
    for step in (1, 2, 3):
        child = os.fork()
        if child == 0:
            scene.encrypt(step)
            os.kill(os.getpid(), signal.SIGKILL)
        assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
        with envelope.open(scene.file, keys=scene.rings[0]) as file:
            assert file.read() == PLAIN[step % 2]
        assert scene.check() == {}
