"""``envelope parquet rewrap`` and ``adopt``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from envelope.cli.options import ContextOptions, PaceOptions, WritingKeyOptions
from envelope.cli.output import Output
from envelope.cli.signatures import examples
from envelope.errors import ConfigurationError
from envelope.sources import OnProgress
from envelope_parquet.commands.options import (
    FileOptions,
    ParquetOptions,
    Paths,
    pairs,
    raw_keys,
    run,
    verb_of,
)

__all__ = ["adopt", "rewrap"]


@dataclass(frozen=True)
class TargetOptions(FileOptions):
    """Which files, and where to."""

    out: Annotated[
        str | None,
        typer.Option("--out", "-o", metavar="PATH", help="Target file, instead of in place."),
    ] = None
    force: Annotated[bool, typer.Option("--force", "-f", help="Replace an existing target.")] = (
        False
    )
    no_durable: Annotated[
        bool, typer.Option("--no-durable", help="Do not wait until files are on the disk.")
    ] = False

    def verb(self, paths: list[str], pace: PaceOptions) -> dict[str, Any]:
        """As the verbs take it.

        Raises:
            ConfigurationError: One target for several files.
        """
        if self.out is not None and (self.recursive or len(paths) > 1):
            raise ConfigurationError("--out goes with one file")
        return {
            "target": self.out,
            "overwrite": self.force or self.out is None,
            "durable": not self.no_durable,
            "timeout": pace.timeout,
        }


@examples(
    "envelope parquet rewrap people.parquet",
    "envelope parquet rewrap -r lake --change local:pii=local:pii2",
    "envelope parquet rewrap people.parquet --column address=local:contacts",
)
def rewrap(
    out: Output,
    paths: Paths,
    files: TargetOptions,
    keys: WritingKeyOptions,
    context: ContextOptions,
    parquet: ParquetOptions,
    pace: PaceOptions,
    change: Annotated[
        list[str],
        typer.Option(
            "--change",
            metavar="OLD=NEW",
            help="What is under this key, or has this name, goes under that key or alias. May be "
            "repeated.",
        ),
    ] = [],  # noqa: B006 - Typer copies it
    footer: Annotated[
        str | None,
        typer.Option("--footer", metavar="KEY", help="A key or alias for the footer alone."),
    ] = None,
    column: Annotated[
        list[str],
        typer.Option(
            "--column",
            metavar="PATH=KEY",
            help="A key or alias for this column, or all that are in it. May be repeated.",
        ),
    ] = [],  # noqa: B006 - Typer copies it
) -> int:
    """Wrap the keys of files anew. Their pages stay as they are.

    Without --change, --footer and --column all keys move to their newest versions.
    """
    verb = verb_of("rewrap")

    table = parquet.table(keys, out)
    changes, columns = pairs(change, "--change"), pairs(column, "--column")
    given = {**files.verb(paths, pace), **parquet.reading(context), **parquet.prefix()}
    several = files.recursive or len(paths) > 1
    seen: set[str] = set()

    def work(one: dict[str, Any], on_progress: OnProgress) -> Callable[[], None]:
        result = verb(
            one.pop("source"),
            changes,
            keys=table,
            footer=footer,
            columns=columns,
            unmatched="ignore" if several else "error",
            on_progress=on_progress,
            **one,
            **given,
        )
        seen.update(key.was for key in result.keys)
        return lambda: out.result(result.to_json(), *_described(result))

    status = run(out, paths, files, work, progress=pace.progress)
    unused = [old for old in changes if (table.alias_of(old) if ":" in old else old) not in seen]
    if several and unused and not status:
        raise ConfigurationError(f"nothing in any file is under {unused[0]!r}")
    return status


def _described(result: Any) -> list[str]:
    if not result.changed:
        return [f"{result.target}: up to date"]
    lines = [f"{result.target}: rewrapped"]
    for key in result.keys:
        if key.changed:
            name = key.alias if key.alias == key.was else f"{key.was} -> {key.alias}"
            lines.append(f"  {name} ({', '.join(key.parts)})")
            for what in ("refreshed", "added", "kept", "dropped"):
                lines += [f"    {what} {kid}" for kid in getattr(key, what)]
    return lines


@examples(
    "envelope parquet adopt people.parquet --raw-keys keys.json --footer local:lake",
    "envelope parquet adopt people.parquet --raw-keys - --footer local:lake --column ssn=local:pii",
)
def adopt(
    out: Output,
    paths: Paths,
    files: TargetOptions,
    keys: WritingKeyOptions,
    context: ContextOptions,
    parquet: ParquetOptions,
    pace: PaceOptions,
    footer: Annotated[
        str,
        typer.Option(
            "--footer", metavar="KEY", help="For the footer, and columns that --column leaves."
        ),
    ],
    raw: Annotated[
        str,
        typer.Option(
            "--raw-keys",
            metavar="FILE",
            help="A JSON object of base64 keys by column path, the footer's under the empty name; "
            "- for standard input.",
        ),
    ],
    column: Annotated[
        list[str],
        typer.Option("--column", metavar="PATH=KEY", help="For this column. May be repeated."),
    ] = [],  # noqa: B006 - Typer copies it
    replace: Annotated[
        bool,
        typer.Option("--replace", help="Replace key names of the program that wrote the file."),
    ] = False,
) -> int:
    """Put files that were written with raw keys under keys of a vault. Their pages stay.

    The raw keys open them still: whoever has them keeps that. reencrypt ends it.
    """
    verb = verb_of("adopt")

    table, secrets = parquet.table(keys, out), raw_keys(raw) or {}
    columns = pairs(column, "--column")
    given = {**files.verb(paths, pace), **parquet.reading(context), **parquet.prefix()}

    def work(one: dict[str, Any], on_progress: OnProgress) -> Callable[[], None]:
        result = verb(
            one.pop("source"),
            secrets,
            keys=table,
            footer=footer,
            columns=columns,
            replace=replace,
            on_progress=on_progress,
            **one,
            **given,
        )
        lines = [f"  {part}: {alias}" for part, alias in result.keys.items()]
        return lambda: out.result(result.to_json(), f"{result.target}: adopted", *lines)

    return run(out, paths, files, work, progress=pace.progress)
