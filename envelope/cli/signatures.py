"""Options that many commands share, written once as dataclasses.

Typer reads a function's parameters. A command here may take a parameter whose
type is a dataclass of options; :func:`as_callback` shows Typer its fields in
the parameter's place, and puts the dataclass together again when the command
is called.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any

import typer

from envelope.cli.options import GlobalOptions
from envelope.cli.output import Output

__all__ = ["as_callback", "examples", "spread"]

Command = Callable[..., int | None]


def examples(*lines: str) -> Callable[[Command], Command]:
    """Give a command the lines that its help shows as examples."""

    def marked(function: Command) -> Command:
        function.examples = lines  # type: ignore[attr-defined]  # read back by app, and only there
        return function

    return marked


def as_callback(function: Command) -> Any:
    """``function`` as Typer takes it: with every option as a parameter of its own.

    A parameter of the type :class:`Output` is not an option: it is what the
    command prints with, made from the global options, which every command gets.
    """
    printing = [n for n, kind in typing.get_type_hints(function).items() if kind is Output]

    def command(ctx: typer.Context, global_options: GlobalOptions, **given: Any) -> int:
        above = ctx.find_root().obj or GlobalOptions()
        with Output(above.overridden(global_options)) as out:
            return out.guarded(lambda: function(**dict.fromkeys(printing, out), **given))

    own = inspect.signature(function, eval_str=True).parameters.values()
    command.__doc__ = function.__doc__
    command.__name__ = function.__name__
    first = list(inspect.signature(command, eval_str=True).parameters.values())[:2]
    return spread(command, [first[0], *(p for p in own if p.name not in printing), first[1]])


def spread(function: Callable[..., Any], parameters: Sequence[inspect.Parameter]) -> Any:
    """``function``, to be called with the fields of its dataclasses of options.

    Args:
        function: Takes ``parameters``.
        parameters: Those whose type is a dataclass are replaced by its fields.
    """
    groups: dict[str, Any] = {
        p.name: p.annotation for p in parameters if is_dataclass(p.annotation)
    }
    shown: list[inspect.Parameter] = []
    for parameter in parameters:
        if parameter.name in groups:
            shown += _fields(groups[parameter.name])
        else:
            shown.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))

    def spread_out(**given: Any) -> Any:
        for name, kind in groups.items():
            given[name] = kind(**{field.name: given.pop(field.name) for field in fields(kind)})
        return function(**given)

    spread_out.__doc__ = function.__doc__
    spread_out.__name__ = function.__name__
    spread_out.__annotations__ = {}
    spread_out.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]
    return spread_out


def _fields(kind: Any) -> list[inspect.Parameter]:
    hints = typing.get_type_hints(kind, include_extras=True)
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=_default(field),
            annotation=hints[field.name],
        )
        for field in fields(kind)
    ]


def _default(field: Field[Any]) -> Any:
    return field.default_factory() if field.default_factory is not MISSING else field.default
