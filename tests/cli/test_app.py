"""Every command is found, explains itself, and takes the global options on both sides."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import typer

from envelope.cli.app import GROUP, root, run
from envelope.cli.output import Output
from tests.cli.conftest import Cli


def commands() -> list[tuple[str, ...]]:
    """The words of every command."""

    def below(group: Any, words: tuple[str, ...]) -> list[tuple[str, ...]]:
        found = []
        for name in group.list_commands(None):
            command = group.get_command(None, name)
            found.append((*words, name))
            if hasattr(command, "list_commands"):
                found += below(command, (*words, name))
        return found

    return below(root(), ())


def test_all_commands_that_are_promised_are_there() -> None:
    found = {" ".join(words) for words in commands()}
    promised = (
        "init encrypt decrypt cat inspect verify rewrap reencrypt config doctor bench version"
    )
    assert set(promised.split()) <= found
    verbs = "create import list show rotate disable enable delete recover purge backup restore"
    for verb in f"{verbs} public refresh".split():
        assert f"keys {verb}" in found


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_help_explains_a_command_with_an_example(words: tuple[str, ...], cli: Cli) -> None:
    said = cli(*words, "--help")
    assert f"Usage: envelope {' '.join(words)}" in said.out
    is_group = words in (("keys",), ("config",), ("keys", "passphrase"), ("testing",))
    assert is_group or f"$ envelope {' '.join(words)}" in said.out


def test_no_arguments_show_the_help(cli: Cli) -> None:
    assert "encrypt" in cli().out


def test_global_options_may_stand_before_and_after_the_command(cli: Cli) -> None:
    before, after = cli("--json", "version"), cli("version", "--json")
    assert json.loads(before.out) == json.loads(after.out)
    Path("mine.toml").write_text('keys = ["local:mine"]\n')
    shown = cli("--config", "mine.toml", "config", "show").out
    assert "local:mine" in shown
    assert shown == cli("config", "show", "--config", "mine.toml").out


def test_a_usage_error_names_the_help_and_ends_with_2(cli: Cli) -> None:
    assert cli("encrypt", status=2).err.startswith("envelope: Missing argument")
    said = cli("encrpt", status=2)
    assert "Did you mean" in said.err
    assert "[USAGE]" in said.err
    assert cli("encrypt", "--nonsense", "x", status=2).err.endswith("envelope encrypt --help\n")
    assert cli.objects("encrypt", schema=None, status=2)[0]["error"] == "USAGE"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_script_of_a_shell_is_printed(shell: str, cli: Cli) -> None:
    script = cli("completion", shell).out
    assert "_ENVELOPE_COMPLETE" in script
    assert f"complete_{shell}" in script
    assert "envelope" in script


def test_completion_completes_commands_and_options(cli: Cli, monkeypatch: Any) -> None:
    def completed(words: str) -> str:
        monkeypatch.setenv("_ENVELOPE_COMPLETE", "complete_fish")
        monkeypatch.setenv("_TYPER_COMPLETE_FISH_ACTION", "get-args")
        monkeypatch.setenv("_TYPER_COMPLETE_ARGS", words)
        return cli.program().stdout.decode()

    assert "reencrypt" in completed("envelope re")
    assert "rotate" in completed("envelope keys ro")
    assert "--context" in completed("envelope encrypt --con")


def test_a_plug_in_brings_a_command(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def audit(out: Output, folder: str) -> None:
        """Look for what is in the clear."""
        out.answer({"folder": folder}, f"looked into {folder}")

    group = typer.Typer()

    @group.command()
    def first() -> None:
        typer.echo("first of a group")

    @group.command()
    def second() -> None:
        raise typer.Exit(3)

    points = [
        types.SimpleNamespace(name="audit", load=lambda: audit),
        types.SimpleNamespace(name="more", load=lambda: group),
        types.SimpleNamespace(name="encrypt", load=lambda: audit),
    ]
    real = importlib.metadata.entry_points

    def entry_points(**selection: str) -> Any:
        return points if selection.get("group") == GROUP else real(**selection)

    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
    assert cli("audit", "lake").out == "looked into lake\n"
    assert json.loads(cli("audit", "lake", "--json").out) == {"folder": "lake"}
    assert "in the clear" in cli("--help").out
    assert cli("more", "first").out == "first of a group\n"
    assert run(["more", "second"]) == 3
    assert "Encrypt files" in cli("encrypt", "--help").out


def test_version_loads_no_cryptography_and_no_fsspec() -> None:
    code = (
        "import sys; sys.argv = ['envelope', 'version']\n"
        "from envelope.__main__ import main\n"
        "assert main() == 0\n"
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "typer" in loaded
    assert not loaded & {"cryptography", "fsspec", "rich", "platformdirs", "tomllib"}


def test_local_files_need_no_fsspec(lake: Cli) -> None:
    Path("plain").write_bytes(b"data")
    code = (
        "import sys\n"
        "from envelope.cli.app import run\n"
        "assert run(['encrypt', 'plain']) == 0\n"
        "assert run(['verify', 'plain.env1']) == 0\n"
        "assert 'fsspec' not in sys.modules and 'rich' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
