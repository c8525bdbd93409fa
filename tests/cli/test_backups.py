"""keys backup, keys restore, keys passphrase: passphrases come from files and people alone."""

from __future__ import annotations

import os
import pty
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.conftest import Cli, protected

CHEAP = "memory_kib = 19456\niterations = 2\nlanes = 1\n"


@pytest.fixture
def safe(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """A keystore under a passphrase, cheap to derive from."""
    folder = cli.folder.parent / "config" / "envelope"
    folder.mkdir(parents=True)
    (folder / "envelope.toml").write_text(f'keys = ["local:lake"]\n[local.argon2]\n{CHEAP}')
    protected(Path("right"), "correct horse\n")
    protected(Path("wrong"), "incorrect horse\n")
    cli("keys", "create", "local:lake", "--protect", "passphrase", "--passphrase-file", "right")
    Path("plain").write_bytes(b"data")
    cli("encrypt", "plain", "--passphrase-file", "right")
    return cli


def opens(cli: Cli, file: str) -> bool:
    """Whether a fresh process decrypts with this passphrase."""
    done = cli.program("cat", "plain.env1", "--passphrase-file", file)
    assert done.returncode in (0, 3), done.stderr
    return done.returncode == 0


def test_a_passphrase_comes_from_a_file_or_a_command(safe: Cli) -> None:
    assert opens(safe, "right")
    assert not opens(safe, "wrong")
    done = safe.program("cat", "plain.env1", "--passphrase-command", "cat right")
    assert done.stdout == b"data"
    done = safe.program("cat", "plain.env1", env={**os.environ, "ENVELOPE_PASSPHRASE": "no"})
    assert done.returncode == 3
    assert b"[ENV-DENIED]" in done.stderr


def test_a_passphrase_is_changed_added_and_removed(safe: Cli) -> None:
    old = ("--passphrase-file", "right")
    protected(Path("second"), "battery staple")
    new = ("--new-passphrase-file", "second")
    [done] = safe.objects("keys", "passphrase", "add", *old, *new, schema="passphrase")
    assert done["passphrase"] == "added"
    assert opens(safe, "right")
    assert opens(safe, "second")
    safe("keys", "passphrase", "remove", "--passphrase-file", "second")
    assert not opens(safe, "second")
    safe("keys", "passphrase", "change", *old, *new)
    assert not opens(safe, "right")
    assert opens(safe, "second")
    found = safe.objects("keys", "passphrase", "check", *new[1:], schema=None, status=2)
    assert found[0]["error"] == "USAGE"
    second = ("--passphrase-file", "second")
    [checked] = safe.objects("keys", "passphrase", "check", *second, schema="passphrase")
    assert checked["slot"] == 0
    assert "[ENV-DENIED]" in safe("keys", "passphrase", "check", *old, status=3).err


def test_a_new_passphrase_must_not_be_empty_and_is_not_asked_for_without_a_terminal(
    safe: Cli,
) -> None:
    protected(Path("empty"), "\n")
    change = ("keys", "passphrase", "change", "--passphrase-file", "right")
    assert "empty" in safe(*change, "--new-passphrase-file", "empty", status=2).err
    done = safe.program(*change)
    assert done.returncode == 2
    assert b"--new-passphrase-file" in done.stderr


def test_a_backup_is_restored_elsewhere_and_files_open(
    safe: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    protected(Path("other"), "of the backup")
    given = ("--backup-passphrase-file", "other")
    [done] = safe.objects(
        "keys", "backup", "--out", "keys.backup", *given, "--passphrase-file", "right",
        schema="backup",
    )  # fmt: skip
    assert done == {"key": None, "backup": "keys.backup"}
    assert stat.S_IMODE(os.stat("keys.backup").st_mode) == 0o600
    again = ("keys", "backup", "--out", "keys.backup", *given, "--passphrase-file", "right")
    assert "[ENV-EXISTS]" in safe(*again, status=2).err
    safe("keys", "backup", "local:lake", *given, "--passphrase-file", "right")
    assert Path("lake.backup").exists()
    monkeypatch.setenv("ENVELOPE_KEYSTORE", str(safe.folder.parent / "elsewhere"))
    restore = ("keys", "restore", "keys.backup", "--protect", "permissions")
    assert "[ENV-DENIED]" in safe(*restore, "--backup-passphrase-file", "wrong", status=3).err
    [restored] = safe.objects(*restore, *given, schema="key-change")
    assert restored["done"] == "restored"
    assert "nothing to do: all of its versions are here" in safe(*restore, *given).err
    assert safe("cat", "plain.env1").out == "data"


def test_a_person_types_a_passphrase_twice_and_it_is_not_shown(safe: Cli) -> None:
    master, slave = pty.openpty()
    command = ["keys", "backup", "--out", "typed.backup", "--passphrase-file", "right"]
    process = subprocess.Popen(
        [sys.executable, "-m", "envelope", *command],
        stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
        preexec_fn=lambda: os.close(os.open(os.ttyname(0), os.O_RDWR)),  # makes it /dev/tty
    )  # fmt: skip
    os.close(slave)
    shown = b""
    for prompt in (b"Passphrase of the backup: ", b"The same again: "):
        end = time.monotonic() + 60
        while prompt not in shown:
            assert time.monotonic() < end, shown
            shown += os.read(master, 4096)
        time.sleep(0.1)  # getpass empties what was typed before it asked
        os.write(master, b"typed secret\n")
    assert process.wait(60) == 0, shown
    try:
        shown += os.read(master, 65536)
    except OSError:
        pass  # the terminal is gone
    os.close(master)
    assert b"typed secret" not in shown
    assert Path("typed.backup").exists()
