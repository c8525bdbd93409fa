"""The options of commands that work on files, and the stores that they name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from envelope.cli.options import ContextOptions, KeyOptions
from envelope.cli.output import Output
from envelope.cli.stores import Own, StorageOptions, Stores
from envelope.cli.trees import SelectOptions
from envelope.errors import ConfigurationError

__all__ = [
    "FileOptions",
    "Jobs",
    "Paths",
    "Recursive",
    "SegmentLength",
    "TargetOptions",
    "stores_of",
]

Paths = Annotated[
    list[str],
    typer.Argument(metavar="PATH...", help="Files, URLs, folders with -r, or - for a pipe."),
]
Recursive = Annotated[
    bool, typer.Option("--recursive", "-r", help="Go through folders. Symbolic links are skipped.")
]
Jobs = Annotated[int, typer.Option("--jobs", "-j", min=1, max=64, help="Files at a time.")]
SegmentLength = Annotated[
    int | None,
    typer.Option(
        "--segment-length",
        metavar="BYTES",
        help="Length of stored segments: a power of two from 4096 to 16777216 [262144].",
    ),
]


@dataclass(frozen=True)
class TargetOptions(SelectOptions, StorageOptions):
    """From where to where."""

    recursive: Recursive = False
    out: Annotated[
        str | None,
        typer.Option("--out", "-o", metavar="PATH", help="Target file or folder; - for a pipe."),
    ] = None
    jobs: Jobs = 1
    force: Annotated[bool, typer.Option("--force", "-f", help="Replace existing targets.")] = False
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="Only show what would be done.")
    ] = False
    no_durable: Annotated[
        bool, typer.Option("--no-durable", help="Do not wait until targets are on the disk.")
    ] = False
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Skip what an earlier run has done, also where files were named; behind URLs, "
            "a target that opens and is newer than its source is taken for done.",
        ),
    ] = False


@dataclass(frozen=True)
class FileOptions(TargetOptions):
    """The same where sources and targets have different names."""

    suffix: Annotated[
        str | None,
        typer.Option("--suffix", metavar="TEXT", help="Suffix of encrypted files [.env1]."),
    ] = None
    remove_source: Annotated[
        bool,
        typer.Option("--remove-source", help="Remove each source once its target is proven."),
    ] = False


def stores_of(
    out: Output,
    storage: StorageOptions,
    urls: list[str | None],
    keys: KeyOptions | None = None,
    context: ContextOptions | None = None,
    segment_length: int | None = None,
) -> Stores:
    """The file systems of a command's URLs, with what its options say to chains."""
    bound = context.verb() if context else {}
    others = {"context": bound.get("context"), "segment_length": segment_length}
    named = [] if keys is None else keys.named()
    named += ["--context"] if bound.get("context") else []
    named += ["--bind-path"] if bound.get("bind_path") else []
    named += ["--segment-length"] if segment_length else []
    own = Own(
        tuple(named),
        (lambda: None) if keys is None else (lambda: keys.ring(out)),
        {name: value for name, value in others.items() if value},
    )
    if bound.get("bind_path") and any(url and url.startswith("envelope::") for url in urls):
        raise ConfigurationError(
            "--bind-path goes with files that are named by their store",
            next_step='For a chain, give --storage-options \'{"bind_path": true, "root": …}\'.',
        )
    return Stores(storage, urls, own, out.options.config)
