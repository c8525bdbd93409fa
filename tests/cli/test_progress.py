"""The progress bar: on a terminal, for work that takes a while, and gone afterwards."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import threading

import pytest

from envelope.cli import progress
from envelope.cli.options import GlobalOptions
from envelope.cli.output import Output
from envelope.cli.signals import Interrupted
from tests.cli.conftest import Cli


def on_terminal(*arguments: str) -> tuple[int, str]:
    """Run the command on a terminal; returns its status and all that was drawn."""
    master, slave = pty.openpty()
    drawn: list[bytes] = []

    def read() -> None:
        try:
            while data := os.read(master, 65536):
                drawn.append(data)
        except OSError:
            pass  # the terminal is gone

    process = subprocess.Popen(
        [sys.executable, "-m", "envelope", *arguments],
        stdin=slave, stdout=slave, stderr=slave, env={**os.environ, "TERM": "xterm-256color"},
    )  # fmt: skip
    os.close(slave)
    reader = threading.Thread(target=read)
    reader.start()
    status = process.wait(60)
    reader.join()
    os.close(master)
    return status, b"".join(drawn).decode()


def test_a_bar_has_rate_and_time_left(lake: Cli) -> None:
    with open("big", "wb") as file:
        file.truncate(2**27)
    status, drawn = on_terminal("encrypt", "big", "--progress")
    assert status == 0
    assert "big" in drawn
    assert "134.2" in drawn or "128.0" in drawn  # MB or MiB in all
    assert "/s" in drawn
    assert "0:00:0" in drawn
    assert drawn.rstrip().endswith("big -> big.env1 (128.0 MiB)")


def test_short_work_shows_none_and_long_work_does(
    lake: Cli, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with open("small", "wb") as file:
        file.truncate(2**20)
    assert "/s" not in on_terminal("encrypt", "small")[1]
    assert "/s" not in on_terminal("encrypt", "small", "--force", "--no-progress")[1]


def test_without_a_terminal_there_is_none(lake: Cli) -> None:
    with open("big", "wb") as file:
        file.truncate(2**24)
    assert lake.program("verify", "big").stdout == b""
    lake("encrypt", "big")
    assert lake.program("verify", "big.env1", "--json").stderr.count(b"\r") == 0


def test_a_bar_asks_for_the_total_only_if_it_is_shown() -> None:
    out = Output(GlobalOptions(json=True))
    with progress.progress_bar(out, None, lambda: pytest.fail("asked")) as bar:
        bar.track("file")(10, 20)
    assert out.bar is None


def test_a_step_after_a_signal_or_an_error_stops_the_work() -> None:
    out = Output(GlobalOptions())
    with progress.progress_bar(out, False, lambda: None) as bar:
        step = bar.track("file")
        step(1, None)
        bar.over = True
        with pytest.raises(Interrupted):
            step(2, None)
        bar.over, out.stop.number = False, 15
        with pytest.raises(Interrupted) as stopped:
            step(3, None)
    assert stopped.value.status == 143
