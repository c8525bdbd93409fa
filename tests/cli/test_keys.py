"""keys: made, listed, rotated, retired, alike for every driver that can."""

from __future__ import annotations

import dataclasses
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from envelope import resolvers
from envelope.keys import KeyInfo
from envelope.secret import Secret
from tests.cli.conftest import Cli


def kids(cli: Cli, key: str = "local:lake") -> list[str]:
    return [info["kid"] for info in cli.objects("keys", "list", key, schema="key")]


def states(cli: Cli, key: str = "local:lake") -> list[str]:
    return [info["state"] for info in cli.objects("keys", "list", key, schema="key")]


def test_a_key_is_made_and_listed(cli: Cli) -> None:
    said = cli("keys", "create", "local:lake", "--protect", "permissions", "--note", "orders")
    assert said.out.startswith("made local:lake/")
    assert "file permissions" in said.err
    assert "keys backup local:lake" in said.err
    listed = cli("keys", "list", "--quiet").out.splitlines()
    assert listed[0].split() == ["KID", "STATE", "TYPE", "CREATED"]
    assert listed[1].split()[1:4] == ["enabled", "A256KW", "256"]
    [info] = cli.objects("keys", "show", "local:lake", schema="key")
    assert info["note"] == "orders"
    assert "A256KW" in cli("keys", "show", "local:lake").out


def test_a_key_is_never_made_twice_or_in_passing(lake: Cli) -> None:
    assert "[ENV-EXISTS]" in lake("keys", "create", "local:lake", status=2).err
    Path("file").write_bytes(b"data")
    lake("encrypt", "file", "--key", "local:none", status=5)
    assert "local:none" not in lake("keys", "list").out


def test_without_keys_there_is_a_hint(cli: Cli) -> None:
    assert "keys create" in cli("keys", "list").err


def test_options_reach_the_driver(cli: Cli) -> None:
    [made] = cli.objects(
        "keys", "create", "local:inbox", "--protect", "permissions", "--kty", "RSA",
        "--bits", "2048", "--expires", "2100-01-01T00:00:00Z", schema="key-change",
    )  # fmt: skip
    assert (made["kty"], made["bits"], made["expires"]) == ("RSA", 2048, "2100-01-01T00:00:00Z")
    assert "[ENV-CONFIG]" in cli("keys", "create", "local:x", "--expires", "soon", status=2).err
    cli("keys", "create", "local:x", "--protect", "nothing", status=2)


def test_a_passphrase_is_no_argument_and_its_lack_no_hang(cli: Cli) -> None:
    done = cli.program("keys", "create", "local:lake", "--protect", "passphrase")
    assert done.returncode == 2
    assert b"--passphrase-file" in done.stderr
    assert not list(cli.folder.parent.glob("keystore/*.key.json"))


def test_material_comes_from_a_file_or_a_pipe(lake: Cli) -> None:
    Path("material").write_bytes(bytes(range(32)))
    [made] = lake.objects("keys", "import", "local:old", "material", schema="key-change")
    assert made["done"] == "imported"
    done = lake.program("keys", "import", "local:piped", "-", data=bytes(range(32)))
    assert done.returncode == 0, done.stderr
    Path("file").write_bytes(b"data")
    lake("encrypt", "file", "--key", "local:old")
    assert "[ENV-CONFIG]" in lake("keys", "import", "local:bad", "file", status=2).err
    assert lake("keys", "import", "local:bad", "missing", status=5).out == ""


def test_a_version_goes_through_all_states(lake: Cli) -> None:
    lake("keys", "rotate", "local:lake")
    old, new = kids(lake)
    Path("file").write_bytes(b"data")
    lake("keys", "disable", old)
    assert states(lake) == ["disabled", "enabled"]
    lake("keys", "enable", old)
    lake("keys", "delete", old)
    assert states(lake) == ["deleted", "enabled"]
    lake("keys", "recover", old)
    assert states(lake) == ["enabled", "enabled"]
    [gone] = lake.objects("keys", "purge", old, "--yes", schema="key-change")
    assert (gone["done"], gone["state"]) == ("destroyed", "destroyed")
    assert lake.objects("keys", "refresh", "local:lake", schema="key-change")[0]["kid"] == new


def test_all_versions_need_a_confirmation(lake: Cli) -> None:
    done = lake.program("keys", "disable", "local:lake")
    assert done.returncode == 2
    assert b"Disable all of local:lake (1 version)?" in done.stderr
    assert b"--yes" in done.stderr
    assert states(lake) == ["enabled"]
    done = lake.program("keys", "purge", kids(lake)[0])
    assert done.returncode == 2
    assert states(lake) == ["enabled"]
    lake("keys", "disable", "local:lake", "--yes")
    assert states(lake) == ["disabled"]
    assert "nothing to do" in lake("keys", "recover", "local:lake", "-y").err


@pytest.mark.parametrize(
    ("answer", "state"), [("y", "disabled"), ("n", "enabled"), ("", "enabled")]
)
def test_a_person_is_asked_on_a_terminal(answer: str, state: str, lake: Cli) -> None:
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "envelope", "keys", "disable", "local:lake"],
        stdin=slave, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    os.write(master, f"{answer}\n".encode())
    process.communicate(timeout=60)
    os.close(master)
    os.close(slave)
    assert process.returncode == (0 if answer == "y" else 2)
    assert states(lake) == [state]


def test_purging_wants_the_full_kid(lake: Cli) -> None:
    assert "full kid" in lake("keys", "purge", "local:lake", "--yes", status=2).err


def test_a_public_half_is_all_that_a_producer_needs(lake: Cli) -> None:
    lake("keys", "create", "local:inbox", "--kty", "RSA", "--bits", "2048")
    pem = lake("keys", "public", "local:inbox").out
    assert pem.startswith("kid: local:inbox/")
    [written] = lake.objects("keys", "public", "local:inbox", "--out", "inbox.pem", schema="public")
    assert Path("inbox.pem").read_text() == pem
    assert written["target"] == "inbox.pem"
    lake("keys", "public", "local:inbox", "--out", "inbox.pem", status=2)
    Path("file").write_bytes(b"data")
    lake("encrypt", "file", "--key", "public:inbox.pem")
    assert lake("cat", "file.env1", "--trust", "local:inbox").out == "data"
    assert "secret AES key" in lake("keys", "public", "local:lake", status=3).err


def test_refresh_brings_a_public_half_up_to_date(lake: Cli) -> None:
    lake("keys", "create", "local:inbox", "--kty", "RSA", "--bits", "2048")
    lake("keys", "public", "local:inbox", "--out", "inbox.pem")
    before = Path("inbox.pem").read_text()
    lake("keys", "rotate", "local:inbox")
    lake("keys", "refresh", "local:inbox", "--public", "inbox.pem")
    assert Path("inbox.pem").read_text() != before
    assert kids(lake, "local:inbox")[1] in Path("inbox.pem").read_text()


class _Vault:
    """A driver of another scheme, of which only listing and disabling are asked here."""

    metered = True

    def __init__(self) -> None:
        made = "2026-01-01T00:00:00Z"
        self.info = KeyInfo("vault:lake/1", "enabled", "oct", "A256KW", 256, "enc", (), made)

    def settings(self, options: Any) -> dict[str, Any]:
        return dict(options)

    def resolver(self, settings: Any) -> _Vault:
        return self

    def resolve(self, kid: str) -> Any:
        raise NotImplementedError

    def list_keys(self, key: str | None = None) -> list[KeyInfo]:
        return [self.info]

    def set_enabled(self, key: str, enabled: bool) -> list[KeyInfo]:
        self.info = dataclasses.replace(self.info, state="enabled" if enabled else "disabled")
        return [self.info]

    def create(self, key: str, **options: Any) -> KeyInfo:
        return self.info

    def import_key(self, key: str, material: Secret, **options: Any) -> KeyInfo:
        return self.info

    def _one(self, key: str) -> KeyInfo:
        return self.info

    def _many(self, key: str) -> list[KeyInfo]:
        return [self.info]

    def public(self, key: str) -> bytes:
        return b""

    def backup(self, key: str | None, passphrase: Secret) -> bytes:
        return b""

    def restore(self, blob: bytes, passphrase: Secret) -> list[KeyInfo]:
        return []

    rotate = purge = _one
    delete = recover = _many


def test_another_driver_is_managed_by_the_same_commands(cli: Cli) -> None:
    forget = resolvers.register("vault", _Vault())
    try:
        assert "vault:lake/1" in cli("keys", "list", "vault:lake").out
        assert "disabled vault:lake/1" in cli("keys", "disable", "vault:lake/1", "-y").out
        assert "made vault:lake/1" in cli("keys", "rotate", "vault:lake").out
    finally:
        forget()


def test_a_driver_that_manages_no_keys_says_so(cli: Cli) -> None:
    assert "cannot be managed from here" in cli("keys", "list", "public:x.pem", status=2).err
    assert "[ENV-CONFIG]" in cli("keys", "list", "nonsense:x", status=2).err
