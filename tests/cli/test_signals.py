"""Ctrl-C and SIGTERM leave nothing half-written."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.conftest import Cli

BIG = 2**31  # sparse: long work, and no room on the disk while it is read


def started(*arguments: str, **options: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "envelope", *arguments]
    return subprocess.Popen(  # type: ignore[no-any-return]  # because of the one below
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,  # type: ignore[call-overload]
    )


def size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0  # it was published or removed meanwhile


def at_work(folder: Path, process: subprocess.Popen[bytes]) -> None:
    """Wait until something is being written."""
    end = time.monotonic() + 60
    while not any(size_of(path) for path in folder.glob(".*.env1tmp")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_in_the_middle_of_a_big_file_leaves_nothing(
    number: int, status: int, lake: Cli
) -> None:
    with open("big", "wb") as file:
        file.truncate(BIG)
    process = started("encrypt", "big")
    at_work(Path(), process)
    process.send_signal(number)
    _out, err = process.communicate(timeout=60)
    assert process.returncode == status, err
    assert b"interrupted" in err
    assert b"Traceback" not in err
    assert os.listdir() == ["big"]


def test_a_signal_stops_files_on_all_jobs(lake: Cli) -> None:
    Path("data").mkdir()
    for name in ("a", "b", "c", "d", "e", "f"):
        with open(f"data/{name}", "wb") as file:
            file.truncate(BIG)
    process = started("encrypt", "-r", "data", "--out", "sealed", "--jobs", "3")
    Path("sealed").mkdir(exist_ok=True)
    at_work(Path("sealed"), process)
    process.send_signal(signal.SIGINT)
    _out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert b"Traceback" not in err, err.decode()
    assert not [name for name in os.listdir("sealed") if name.endswith("env1tmp")]


def test_an_interrupted_pipe_publishes_nothing(lake: Cli) -> None:
    process = started("encrypt", "-", "--out", "target", stdin=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(bytes(3 * 2**20))
    process.stdin.flush()
    at_work(Path(), process)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    assert os.listdir() == []
    process.communicate()


def test_a_signal_that_the_caller_ignores_stays_ignored(lake: Cli) -> None:
    with open("big", "wb") as file:
        file.truncate(2**28)
    process = started(
        "encrypt",
        "big",
        "--no-durable",
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )
    at_work(Path(), process)
    process.send_signal(signal.SIGHUP)
    assert process.wait(60) == 0, process.communicate()
    process.communicate()


def test_an_interruption_at_any_moment_ends_the_program(lake: Cli) -> None:
    with open("big", "wb") as file:
        file.truncate(BIG)
    for delay in range(40, 400, 30):
        process = started("encrypt", "big")
        time.sleep(delay / 1000)
        process.send_signal(signal.SIGINT)
        _out, err = process.communicate(timeout=60)
        assert process.returncode, (delay, err)
        assert os.listdir() == ["big"], delay
