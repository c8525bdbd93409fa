"""kill -9 at random moments: no key is lost, no half-written file is ever read."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path
from typing import NoReturn

import pytest

from envelope.keystore.driver import LocalKeys
from envelope.secret import Secret
from tests.keystore.conftest import Open

KILLS = int(os.environ.get("ENVELOPE_KILLS", "40"))

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


def make_keys_for_ever(keys: LocalKeys, tell: int, seed: int) -> NoReturn:
    """The victim: tells each kid once it was published, and what it was asked to forget."""
    chance = random.Random(seed)
    while True:
        name = f"local:k{chance.randrange(10**9)}"
        os.write(tell, f"+{keys.create(name).kid}\n".encode())
        for _ in range(3):
            os.write(tell, f"+{keys.rotate(name).kid}\n".encode())
        keys.set_enabled(name, False)
        os.write(tell, f"-{name}\n".encode())
        if chance.random() < 0.2:
            keys.backup(name, Secret(b"x"))


@pytest.mark.parametrize("protection", ["plain", "protected"])
def test_a_keystore_survives_kills(
    protection: str, request: pytest.FixtureRequest, open_keystore: Open
) -> None:
    keys: LocalKeys = request.getfixturevalue(protection)
    folder = Path(keys.contents.folder.path)
    master, secret = keys.resolve("local:lake"), Secret.random()
    wrapped = master.wrap(secret, aad=b"")
    chance = random.Random(os.urandom(8))
    published = 0
    for seed in range(max(1, KILLS // 2)):
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                make_keys_for_ever(open_keystore(), writing, seed)
            finally:
                os._exit(1)
        os.close(writing)
        time.sleep(chance.uniform(0.002, 0.06))
        os.kill(child, signal.SIGKILL)
        assert os.WIFSIGNALED(os.waitpid(child, 0)[1]), "the victim failed before it was killed"
        with os.fdopen(reading) as pipe:
            told = pipe.read().splitlines()
        after = open_keystore()
        for line in told:
            if line[0] == "+":
                assert after.contents.require(line[1:].partition(":")[2].partition("/")[0]).find(
                    line.rpartition("/")[2]
                ), "a published version is lost"
            else:
                assert {info.state for info in after.list_keys(line[1:])} == {"disabled"}
        published += len(told)
        infos = after.list_keys()  # every file parses, and its MAC holds
        assert len({info.kid for info in infos}) == len(infos)
        assert after.resolve(wrapped.kid).unwrap(wrapped, aad=b"") == secret
        for path in folder.glob("k*.key.json"):
            path.unlink()
    assert published > 0
    keys.rotate("local:lake")  # the lock of the dead is free, and their leftovers go
    assert keys.contents.folder.leftovers() == []


@pytest.mark.parametrize("moment", ["before the lock", "head written", "key renamed"])
def test_a_keystore_whose_making_was_killed_can_be_made_again(
    open_keystore: Open, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    from envelope.keystore.store import Folder

    def die(*_: object) -> NoReturn:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    child = os.fork()
    if child == 0:
        if moment == "before the lock":
            Folder.locked = die  # type: ignore[method-assign,assignment]
        elif moment == "head written":
            Folder._sync = die  # type: ignore[method-assign]
        else:
            rename = os.rename
            os.rename = lambda a, b: die() if "lake" in b else rename(a, b)  # type: ignore[assignment]
        open_keystore().create("local:lake", protect="permissions")
        os._exit(0)
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
    keys = open_keystore()
    assert keys.list_keys() == []
    keys.create("local:lake", protect="permissions")
    assert keys.contents.folder.leftovers() == []
    keys.resolve("local:lake")
