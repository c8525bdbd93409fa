"""Pipes: standard input, standard output, and readers that leave."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Cli, check

DATA = b"id,amount\n" + b"1,20\n" * 200_000


@pytest.fixture
def sealed(lake: Cli) -> Path:
    Path("plain").write_bytes(DATA)
    lake("encrypt", "plain", "--out", "sealed")
    return Path("sealed")


def test_a_pipe_encrypts_and_decrypts(lake: Cli) -> None:
    stored = lake.program("encrypt", "-", data=DATA)
    assert (stored.returncode, stored.stderr) == (0, b"")
    assert lake.program("decrypt", "-", data=stored.stdout).stdout == DATA
    done = lake.program("decrypt", "-", "--out", "copy", data=stored.stdout)
    assert (done.returncode, done.stdout) == (0, b"<stdin> -> copy (976.6 KiB)\n")
    assert Path("copy").read_bytes() == DATA


def test_a_file_on_standard_input_is_read_like_one(sealed: Path, lake: Cli) -> None:
    with sealed.open("rb") as file:
        done = subprocess.run(
            [sys.executable, "-m", "envelope", "verify", "-"],
            stdin=file, capture_output=True, check=True,
        )  # fmt: skip
    assert done.stdout.startswith(b"OK  ")


def test_objects_go_beside_the_data(lake: Cli) -> None:
    done = lake.program("encrypt", "-", "--json", data=DATA)
    objects = [json.loads(line) for line in done.stderr.splitlines()]
    results = [each for each in objects if "event" not in each]
    [result] = results
    check(result, "file")
    assert (result["source"], result["target"]) == ("<stdin>", "<stdout>")
    assert result["size"] == len(DATA)
    assert lake.program("decrypt", "-", data=done.stdout).stdout == DATA


@pytest.mark.parametrize("cut", [1, 300_000])
def test_a_cut_pipe_ends_with_4_and_says_that_the_output_is_incomplete(cut: int, lake: Cli) -> None:
    data = os.urandom(5 * 2**20)
    stored = lake.program("encrypt", "-", data=data).stdout[:-cut]
    done = lake.program("decrypt", "-", data=stored)
    assert done.returncode == 4
    assert b"[ENV-TRUNCATED]" in done.stderr
    assert b"the output is incomplete" in done.stderr
    assert data.startswith(done.stdout)
    assert 0 < len(done.stdout) < len(data)
    done = lake.program("decrypt", "-", "--out", "copy", data=stored)
    assert done.returncode == 4
    assert os.listdir() == []


def test_verify_says_ok_only_at_the_end_of_the_pipe(sealed: Path, lake: Cli) -> None:
    assert lake.program("verify", "-", data=sealed.read_bytes()).stdout.startswith(b"OK")
    done = lake.program("verify", "-", data=sealed.read_bytes()[:-1])
    assert (done.returncode, done.stdout) == (4, b"")


def test_a_reader_that_leaves_ends_it_without_a_word(sealed: Path, lake: Cli) -> None:
    done = lake.shell("envelope cat sealed | head -1")
    assert (done.stdout, done.stderr) == (b"id,amount\n", b"")
    assert done.returncode == 141
    done = lake.shell("envelope decrypt sealed --out - | head -1")
    assert (done.stdout, done.stderr) == (b"id,amount\n", b"")
    Path("many").mkdir()
    for number in range(1000):
        os.link(sealed, f"many/{number:03}")
    done = lake.shell("envelope inspect -r many | head -1")
    assert done.stdout == b"many/000: claims, not verified:\n"
    assert (done.returncode, done.stderr) == (141, b"")


def test_standard_output_that_is_full_is_an_error(sealed: Path, lake: Cli) -> None:
    done = lake.shell("envelope cat sealed > /dev/full")
    assert done.returncode == 7
    assert b"[ENOSPC]" in done.stderr
    assert b"Traceback" not in done.stderr


def test_encrypted_bytes_do_not_go_to_a_terminal(lake: Cli) -> None:
    Path("plain").write_bytes(DATA)
    master, slave = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-m", "envelope", "encrypt", "plain", "--out", "-"],
        stdin=subprocess.DEVNULL, stdout=slave, stderr=subprocess.PIPE, check=False,
    )  # fmt: skip
    os.close(slave)
    os.close(master)
    assert done.returncode == 2
    assert b"terminal" in done.stderr


def test_minus_stands_alone(lake: Cli) -> None:
    assert "stands alone" in lake("verify", "-", "other", status=2).err
    assert "takes one input" in lake("decrypt", "a", "b", "--out", "-", status=2).err


def test_a_fifo_is_written_to(sealed: Path, lake: Cli) -> None:
    os.mkfifo("fifo")
    done = lake.shell("cat fifo > copy & envelope decrypt sealed --out fifo --force; wait")
    assert done.returncode == 0, done.stderr
    assert Path("copy").read_bytes() == DATA
