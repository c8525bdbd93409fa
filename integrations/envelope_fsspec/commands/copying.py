"""``cp``: plaintext into, out of and between mounts and chains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import typer

from envelope.cli.batch import each
from envelope.cli.filing import Jobs, Recursive, stores_of
from envelope.cli.finished import is_same, is_there, keep_time
from envelope.cli.handover import Side, refuse_same, sink_of, source_of
from envelope.cli.options import ContextOptions, KeyOptions, PaceOptions
from envelope.cli.output import Output, amount
from envelope.cli.progress import progress_bar
from envelope.cli.signatures import examples
from envelope.cli.stores import Place, StorageOptions, enveloped
from envelope.cli.targets import Direction, Targets
from envelope.cli.trees import Input, SelectOptions, Skipped, is_remote, total_size
from envelope.errors import AlreadyExists, ConfigurationError
from envelope.sinks import open_sink, publishing
from envelope.sources import OnProgress, open_source

__all__ = ["CopyOptions", "cp"]

_PIECE = 2**20


def _same(name: str, _suffix: str) -> str | None:
    return name


_COPYING = Direction("copied", _same)


@dataclass(frozen=True)
class CopyOptions(SelectOptions, StorageOptions):
    """What to copy, and how."""

    recursive: Recursive = False
    jobs: Jobs = 1
    force: Annotated[bool, typer.Option("--force", "-f", help="Replace existing targets.")] = False
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="Only show what would be done.")
    ] = False
    resume: Annotated[
        bool, typer.Option("--resume", help="Skip files whose target has the same plaintext.")
    ] = False


@examples(
    "envelope cp report.csv envelope://lake/2026/",
    "envelope cp -r envelope://lake/2026 copy --jobs 4",
    "envelope cp -r envelope://lake/acme envelope://archive/acme --resume",
)
def cp(
    out: Output,
    sources: Annotated[
        list[str], typer.Argument(metavar="SOURCE... TARGET", help="Files, folders with -r, URLs.")
    ],
    files: CopyOptions,
    keys: KeyOptions,
    context: ContextOptions,
    pace: PaceOptions,
) -> int:
    """Copy plaintext into, out of or between mounts and chains.

    What goes into one is encrypted under the keys of its place, what comes out is authenticated.
    Within one key domain the store copies by itself. A folder's tree goes directly below TARGET.
    """
    if len(sources) < 2:
        raise ConfigurationError("cp needs a source and a target")
    *paths, target = sources
    if not any(map(enveloped, sources)):
        raise ConfigurationError(
            "neither source nor target lies in a mount or a chain",
            next_step="Name one as envelope://MOUNT/…, or see: envelope encrypt, envelope decrypt.",
        )
    if "-" in sources:
        raise ConfigurationError("cp takes no pipe", next_step="See: envelope cat.")
    stores = stores_of(out, files, [*sources], keys, context)
    if is_remote(target) and not target.endswith("/") and _is_folder(stores.at(target)):
        target += "/"
    targets = Targets(
        _COPYING,
        paths,
        recursive=files.recursive,
        out=target,
        suffix="",
        stores=stores,
        select=files,
    )
    count = [0, 0]

    def work(found: Input, on_progress: OnProgress) -> Callable[[], None]:
        shown = targets.of(found)
        if files.dry_run:
            size = found.size()
            document = {"source": found.path, "target": shown, "size": size, "dry_run": True}
            line = f"{found.path} -> {shown}"
        else:
            source: Side = found.place or found.path
            to = targets.claim(found)
            if files.resume and is_same(found, to):
                return partial(
                    out.skipped, Skipped(found.path, "done before", told=out.options.json)
                )
            size = _copy(source, to, files.force, on_progress)
            if found.listed:
                keep_time(found, to)
            document = {"source": found.path, "target": shown, "size": size}
            line = "" if found.listed else f"{found.path} -> {shown} ({amount(size)})"

        def report() -> None:
            count[0] += 1
            count[1] += size or 0
            out.result(document, *([line] if line else []))

        return report

    with progress_bar(out, pace.progress, lambda: total_size(targets.inputs())) as bar:
        status = each(
            out, targets.inputs(), work, bar=bar, several=targets.several, jobs=files.jobs
        )
    if targets.several and not out.options.json:
        done = "would have copied" if files.dry_run else "copied"
        skipped = f"; skipped {out.skips.total()}" if out.skips else ""
        failed = f"; failed {out.failures}" if out.failures else ""
        out.result({}, f"{done} {count[0]} files, {amount(count[1])}{skipped}{failed}")
    return status


def _is_folder(place: Place) -> bool:
    try:
        return bool(place.info()["type"] == "directory")
    except FileNotFoundError:
        return False


def _copy(source: Side, target: Side, overwrite: bool, on_progress: OnProgress) -> int:
    """Copy one file; returns the bytes of its plaintext.

    Raises:
        AlreadyExists: The target is there, and ``overwrite`` is false.
        EnvelopeError, OSError: See docs/errors.md. The target is then as it was.
    """
    refuse_same(source, target)
    if isinstance(source, Place) and isinstance(target, Place) and source.fs == target.fs:
        if not overwrite and is_there(target):
            raise AlreadyExists("the target exists", path=target.url)
        source.fs.cp_file(source.path, target.path)
        size = int(source.info().get("size") or 0)
        on_progress(size, size)
        return size
    opened = open_source(source_of(source))
    try:
        sink = open_sink(sink_of(target, overwrite), overwrite, mode=opened.mode)
        with publishing(sink):
            buffer, done = memoryview(bytearray(_PIECE)), 0
            while count := opened.read_into(done, buffer):
                sink.write_at(done, buffer[:count])
                done += count
                on_progress(done, opened.size)
            opened.check_unchanged()
    finally:
        opened.close()
    return done
