"""What holds for every test: no machine's own keys and configuration, and no deadlines."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator

import pytest
from hypothesis import settings

from envelope.ring import KeyRing
from tests.memory_driver import MemoryDriver, installed

# The developer's key ring, keystore and configuration must neither help nor suffer. It happens at
# import, so that programs which tests start inherit it.
for _name in list(os.environ):
    if _name.startswith(("ENVELOPE_KEY", "ENVELOPE_CONFIG", "ENVELOPE_PASSPHRASE", "XDG_")):
        del os.environ[_name]
_home = tempfile.mkdtemp(prefix="envelope-tests-")
_pid = os.getpid()


@atexit.register
def _remove_home() -> None:
    if os.getpid() == _pid:  # not in a forked child
        shutil.rmtree(_home, ignore_errors=True)


os.environ["HOME"] = _home

# A shell's background jobs ignore interrupts, and programs that tests start would inherit that: a
# test that interrupts itself waited for ever.
for _number, _usual in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGHUP, signal.SIG_DFL),
    (signal.SIGTERM, signal.SIG_DFL),
):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _usual)

# How long an example takes depends on who else is using the machine.
settings.register_profile("envelope", deadline=None, print_blob=True)
settings.load_profile("envelope")


@pytest.fixture
def driver() -> Iterator[MemoryDriver]:
    """The in-memory driver, serving `local:` keys."""
    with installed() as memory:
        yield memory


@pytest.fixture
def ring(driver: MemoryDriver) -> KeyRing:
    """A key ring over a fresh in-memory key."""
    return KeyRing("local:lake", settings={"local": {"seed": driver.seed}})
