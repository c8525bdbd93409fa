"""Options of ``envelope parquet``, and how its commands go through files."""

from __future__ import annotations

import base64
import binascii
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Annotated, Any

import typer

from envelope import jose
from envelope.cli.batch import each
from envelope.cli.filing import Jobs, Recursive, stores_of
from envelope.cli.options import ContextOptions, KeyOptions
from envelope.cli.output import Output
from envelope.cli.progress import progress_bar
from envelope.cli.stores import StorageOptions, start_of
from envelope.cli.trees import Input, SelectOptions, Skipped, inputs, total_size
from envelope.errors import ConfigurationError
from envelope.secret import Secret
from envelope.sources import OnProgress
from envelope_parquet.keytable import KeyTable

__all__ = [
    "FileOptions",
    "ParquetOptions",
    "Paths",
    "RawKeysOption",
    "pairs",
    "raw_keys",
    "run",
    "verb_of",
    "wanted",
]

Paths = Annotated[
    list[str], typer.Argument(metavar="PATH...", help="Files, URLs, or folders with -r.")
]
RawKeysOption = Annotated[
    str | None,
    typer.Option(
        "--raw-keys",
        metavar="FILE",
        help="A JSON object of base64 keys by column path, the footer's under the empty name; - "
        "for standard input.",
    ),
]
_MAGICS = (b"PAR1", b"PARE")
_MAX_RAW_KEYS = 2**20


@dataclass(frozen=True)
class FileOptions(SelectOptions, StorageOptions):
    """Which files."""

    recursive: Recursive = False
    jobs: Jobs = 1


@dataclass(frozen=True)
class ParquetOptions:
    """What names in files stand for, and where files may be."""

    alias: Annotated[
        list[str],
        typer.Option(
            "--alias",
            metavar="NAME=URL",
            help="In files, this name stands for this key. May be repeated.",
        ),
    ] = field(default_factory=list)
    anywhere: Annotated[
        bool,
        typer.Option("--anywhere", help="Take files that are not where they were written."),
    ] = False
    aad_prefix: Annotated[
        str | None,
        typer.Option(
            "--aad-prefix",
            metavar="TEXT",
            help="The AAD prefix of files of other programs that do not tell it.",
        ),
    ] = None

    def table(self, keys: KeyOptions, out: Output) -> KeyTable:
        """The key ring of the options with its names; the configuration's go with its keys."""
        aliases: dict[str, Any] = {}
        if not (keys.key or keys.encrypt_to or keys.trust):
            aliases |= out.configuration().parquet.get("aliases", {})
        return KeyTable(keys.ring(out), aliases=aliases | pairs(self.alias, "--alias"))

    def reading(self, context: ContextOptions) -> dict[str, Any]:
        """As the verbs take it."""
        given = context.verb()
        return {
            "aad": None if self.anywhere else "path",
            "root": given["bind_path"],
            "context": given["context"],
        }

    def prefix(self) -> dict[str, Any]:
        """As the verbs take it, that work on files of others too."""
        return {"aad_prefix": None if self.aad_prefix is None else self.aad_prefix.encode()}


def pairs(texts: Iterable[str], option: str) -> dict[str, str]:
    """``NAME=VALUE`` options.

    Raises:
        ConfigurationError: One has no ``=``, or stands twice.
    """
    found: dict[str, str] = {}
    for text in texts:
        # Keys are URLs, which may have an equals sign; names have none.
        name, sign, value = text.partition("=")
        if not sign or not name or not value or name in found:
            raise ConfigurationError(f"{option} {text!r} is not NAME=VALUE, or stands twice")
        found[name] = value
    return found


def raw_keys(path: str | None) -> dict[str, Secret] | None:
    """Raw keys out of a file, which an argument could not keep secret.

    Raises:
        ConfigurationError: It is not a JSON object of base64 texts.
    """
    if path is None:
        return None
    if path == "-":
        data = sys.stdin.buffer.read(_MAX_RAW_KEYS)
    else:
        with open(path, "rb") as file:
            data = file.read(_MAX_RAW_KEYS)
    try:
        return {
            name: Secret(base64.b64decode(text, validate=True))
            for name, text in jose.loads(data.strip(), "--raw-keys").items()
        }
    except (binascii.Error, ValueError, TypeError):
        raise ConfigurationError("--raw-keys has something that is not base64") from None


def verb_of(name: str) -> Any:
    """A function of the package, which needs pyarrow as the command line does not.

    Raises:
        ConfigurationError: pyarrow is not installed.
    """
    import envelope_parquet

    try:
        return getattr(envelope_parquet, name)
    except ImportError as error:
        raise ConfigurationError(
            str(error).partition(":")[0],
            next_step="Run: pip install 'envelope-encryption[parquet]'",
        ) from error


def run(
    out: Output,
    paths: list[str],
    files: FileOptions,
    work: Callable[[dict[str, Any], OnProgress], Callable[[], None]],
    *,
    progress: bool | None = False,
) -> int:
    """Do ``work`` for all files; it gets ``source`` and ``storage_options``.

    In folders, files count that begin as Parquet files do, whatever their names.
    """
    if "-" in paths:
        raise ConfigurationError("a Parquet file cannot be read from a pipe")
    stores = stores_of(out, files, [*paths])

    def found() -> Any:
        return inputs(paths, recursive=files.recursive, wanted=wanted, stores=stores, select=files)

    def one(item: Input, on_progress: OnProgress) -> Callable[[], None]:
        options = stores.options(item.path) if item.place is not None else None
        return work({"source": item.path, "storage_options": options or None}, on_progress)

    several = len(paths) > 1 or files.recursive
    with progress_bar(out, progress, lambda: total_size(found())) as bar:
        return each(out, found(), one, bar=bar, several=several, jobs=files.jobs)


def wanted(item: Input) -> Skipped | None:
    """What a file is passed over for that does not begin as a Parquet file does."""
    if item.place is not None:
        begins = start_of(item.place.store, item.place.path, 4)
    else:
        with open(item.path, "rb", buffering=0) as file:
            begins = file.read(4)
    return None if begins in _MAGICS else Skipped(item.path, "no Parquet file", told=False)
