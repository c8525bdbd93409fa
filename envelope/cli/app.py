"""Finds and runs commands. A command's module is imported when the command is used."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Iterator, Mapping, MutableMapping
from importlib import import_module
from typing import Annotated, Any

import typer
import typer.main
from typer.core import TyperCommand, TyperGroup

from envelope.cli.failures import Failure, shown
from envelope.cli.options import GlobalOptions
from envelope.cli.signatures import as_callback, spread

__all__ = ["GROUP", "root", "run"]

GROUP = "envelope.commands"
"""The entry-point group in which packages offer commands: a function as in this package, or a
``typer.Typer`` for a group of commands."""

_PASSPHRASE = {
    "add": "passphrases:add",
    "change": "passphrases:change",
    "check": "passphrases:check",
    "remove": "passphrases:remove",
}
_KEYS = {
    "create": "keys:create",
    "import": "importing:import_",
    "transfer-blob": "importing:transfer_blob",
    "list": "keys:list_",
    "show": "keys:show",
    "rotate": "keys:rotate",
    "rotation-policy": "rotation:rotation_policy",
    "refresh": "keys:refresh",
    "disable": "keys:disable",
    "enable": "keys:enable",
    "delete": "keys:delete",
    "recover": "keys:recover",
    "purge": "keys:purge",
    "public": "keys:public",
    "backup": "backups:backup",
    "restore": "backups:restore",
    "passphrase": ("Passphrases of the embedded keystore.", _PASSPHRASE),
}
_CONFIG = {"show": "configuration:show", "test": "configuration:test"}
_COMMANDS = {
    "init": "init:init",
    "keys": ("Make, list, rotate and retire master keys.", _KEYS),
    "encrypt": "files:encrypt",
    "decrypt": "files:decrypt",
    "cat": "files:cat",
    "inspect": "inspecting:inspect",
    "verify": "inspecting:verify",
    "rewrap": "rewrapping:rewrap",
    "reencrypt": "files:reencrypt",
    "config": ("Show and try the configuration.", _CONFIG),
    "doctor": "doctor:doctor",
    "bench": "bench:bench",
    "completion": "about:completion",
    "version": "about:version",
}

# Click's class of all mistakes in a call, wherever the installed Typer keeps it.
_ClickException: type[Exception] = typer.BadParameter.__mro__[2]


class _Commands(MutableMapping[str, Any]):
    """A group's commands by name: each is made when it is first asked for."""

    def __init__(self, table: Mapping[str, Any], *, plug_ins: bool = False) -> None:
        self._table = dict(table)
        self._made: dict[str, Any] = {}
        self._plug_ins = plug_ins

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            self._made[name] = self._make(name)
        return self._made[name]

    def _make(self, name: str) -> Any:
        found = self._table.get(name)
        if found is None:
            found = self._points()[name].load()
        if isinstance(found, str):
            module, _, attribute = found.partition(":")
            found = getattr(import_module(f"envelope.cli.{module}"), attribute)
        if isinstance(found, tuple):
            return _group(name, *found)
        return _command(name, found)

    def _points(self) -> dict[str, Any]:
        if not self._plug_ins:
            return {}
        from importlib.metadata import entry_points  # slow to import, and only needed here

        return {point.name: point for point in entry_points(group=GROUP)}

    def __iter__(self) -> Iterator[str]:
        yield from self._table
        yield from (name for name in sorted(self._points()) if name not in self._table)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __setitem__(self, name: str, command: Any) -> None:
        self._made[name] = self._table[name] = command

    def __delitem__(self, name: str) -> None:
        del self._table[name]


def _command(name: str, found: Any) -> Any:
    """The command of a function, or of a plug-in's Typer."""
    if isinstance(found, typer.Typer):
        command: Any = typer.main.get_command(found)
        command.name = name
        return command
    lines = getattr(found, "examples", ())
    epilog = "\n\n".join(["Examples:", *(f"  $ {line}" for line in lines)]) if lines else None
    app = typer.Typer(add_completion=False)
    app.command(name, cls=TyperCommand, epilog=epilog)(as_callback(found))
    return typer.main.get_command(app)


def _group(name: str, text: str, table: Mapping[str, Any]) -> TyperGroup:
    group = TyperGroup(name=name, help=text)
    group.commands = _Commands(table)
    return group


def root() -> TyperGroup:
    """The command ``envelope`` itself."""
    app = typer.Typer(name="envelope", help=_HELP, epilog=_EPILOG)
    parameters = inspect.signature(_start, eval_str=True).parameters.values()
    app.callback(invoke_without_command=True)(spread(_start, list(parameters)))
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)  # noqa: S101 - an app with a callback is a group
    group.commands = _Commands(_COMMANDS, plug_ins=True)
    return group


_HELP = "Encrypt files under master keys that stay in a vault, or in a keystore of yours."
_EPILOG = "\n\n".join(
    [
        "Examples:",
        "  $ envelope init",
        "  $ envelope encrypt report.csv",
        "  $ envelope cat report.csv.env1 | head",
        "Every command has a --help with examples.",
    ]
)


def _start(
    ctx: typer.Context,
    global_options: GlobalOptions,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    ctx.obj = global_options
    if version:
        from envelope.cli.about import version_line

        typer.echo(version_line())
    elif ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())


def run(arguments: list[str]) -> int:
    """Run the command line; returns the exit status (docs/cli.md, "Exit status")."""
    try:
        status = root().main(arguments, prog_name="envelope", standalone_mode=False)
    except _ClickException as error:
        return _usage(error, arguments)
    return status if isinstance(status, int) else 0


def _usage(error: Any, arguments: list[str]) -> int:
    """A mistake in how the command was called, told like any other error."""
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "envelope"
    step = f"Run: {path} --help"
    failure = Failure("USAGE", None, error.format_message().rstrip("."), step, 2, False)
    sys.stderr.write("".join(f"{shown(line)}\n" for line in failure.lines()))
    if "--json" in arguments:
        sys.stdout.write(json.dumps(failure.to_json()) + "\n")
    return failure.exit
