"""init: a key, a configuration, and what to back up."""

from __future__ import annotations

import stat
from pathlib import Path

from tests.cli.conftest import Cli, protected


def test_init_makes_all_that_encrypting_needs(cli: Cli) -> None:
    [made] = cli.objects("init", "--protect", "permissions", schema="init")
    config = Path(made["config"])
    assert config == cli.folder.parent / "config" / "envelope" / "envelope.toml"
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    assert made["kid"].startswith("local:main/")
    Path("file").write_bytes(b"data")
    cli("encrypt", "file")
    assert cli("cat", "file.env1").out == "data"


def test_init_says_what_to_back_up(cli: Cli) -> None:
    said = cli("init", "local:lake", "--protect", "permissions").out
    assert "envelope keys backup local:lake --out lake-keys.backup" in said


def test_init_overwrites_nothing(cli: Cli) -> None:
    cli("init", "--protect", "permissions")
    said = cli("init", "local:second", status=2)
    assert "[ENV-EXISTS]" in said.err
    assert "local:second" not in cli("keys", "list").out


def test_a_key_that_is_there_is_used(lake: Cli) -> None:
    said = lake("--config", "mine.toml", "init", "local:lake")
    assert "is there already" in said.err
    assert 'keys = ["local:lake"]' in Path("mine.toml").read_text()
    assert lake("config", "test", "--config", "mine.toml").out.startswith("ok")


def test_the_place_of_the_passphrase_is_remembered_and_not_the_passphrase(cli: Cli) -> None:
    protected(Path("secret"), "canary passphrase")
    cli("init", "--passphrase-file", "secret", "--config", "envelope.toml")
    text = Path("envelope.toml").read_text()
    assert str(cli.folder / "secret") in text
    assert "canary" not in text
    Path("file").write_bytes(b"data")
    assert "using" in cli("encrypt", "file").err


def test_without_a_passphrase_and_a_terminal_nothing_is_made(cli: Cli) -> None:
    assert cli.program("init").returncode == 2
    assert not (cli.folder.parent / "config").exists()
