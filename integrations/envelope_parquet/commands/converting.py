"""``envelope parquet encrypt``, ``decrypt`` and ``reencrypt``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from envelope.cli.batch import each
from envelope.cli.filing import stores_of
from envelope.cli.options import ContextOptions, KeyOptions, PaceOptions, WritingKeyOptions
from envelope.cli.output import Output
from envelope.cli.progress import progress_bar
from envelope.cli.signatures import examples
from envelope.cli.stores import Place
from envelope.cli.targets import Direction, Targets
from envelope.cli.trees import Input, Skipped, total_size
from envelope.errors import ConfigurationError
from envelope.sources import OnProgress
from envelope_parquet.commands.options import (
    FileOptions,
    ParquetOptions,
    Paths,
    RawKeysOption,
    raw_keys,
    verb_of,
    wanted,
)
from envelope_parquet.commands.policies import FormOptions, PolicyOptions

__all__ = ["decrypt", "encrypt", "reencrypt"]


@dataclass(frozen=True)
class ConvertOptions(FileOptions):
    """From where to where."""

    out: Annotated[
        str | None,
        typer.Option(
            "--out", "-o", metavar="PATH", help="Target file; a folder for several, or with -r."
        ),
    ] = None
    force: Annotated[bool, typer.Option("--force", "-f", help="Replace existing targets.")] = False
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="Only show what would be done.")
    ] = False
    no_durable: Annotated[
        bool, typer.Option("--no-durable", help="Do not wait until targets are on the disk.")
    ] = False


@examples(
    "envelope parquet encrypt plain.parquet --out people.parquet --footer local:lake "
    "--column name,address=local:pii",
    "envelope parquet encrypt -r plain --out lake --policy people",
)
def encrypt(
    out: Output,
    paths: Paths,
    files: ConvertOptions,
    policy: PolicyOptions,
    form: FormOptions,
    keys: WritingKeyOptions,
    context: ContextOptions,
    parquet: ParquetOptions,
    pace: PaceOptions,
) -> int:
    """Write plain Parquet files as ones with column keys.

    A file keeps its schema, row groups, compression and encodings. Below a folder --out, files
    keep their names and folders.
    """
    from envelope_parquet.converting import check_policy

    table, chosen = parquet.table(keys, out), policy.made(out)
    given = {"policy": chosen, "keys": table, **parquet.reading(context), **form.given()}

    def check(one: dict[str, Any]) -> None:
        check_policy(one["source"], chosen, table, one["storage_options"], interop=form.interop)

    job = _Job(out, "encrypted", paths, files, keys, context, pace)
    return job.run(verb_of("encrypt"), given, check)


@examples(
    "envelope parquet decrypt people.parquet --out plain.parquet",
    "envelope parquet decrypt -r lake --out plain --bind-path lake",
)
def decrypt(
    out: Output,
    paths: Paths,
    files: ConvertOptions,
    keys: KeyOptions,
    context: ContextOptions,
    parquet: ParquetOptions,
    pace: PaceOptions,
    raw: RawKeysOption = None,
) -> int:
    """Write Parquet files with column keys as plain ones. Every column has to open."""
    given = {**parquet.reading(context), **parquet.prefix(), "raw_keys": raw_keys(raw)}
    if raw is None:
        given["keys"] = parquet.table(keys, out)
    job = _Job(out, "decrypted", paths, files, keys, context, pace)
    return job.run(verb_of("decrypt"), given)


@examples(
    "envelope parquet reencrypt people.parquet",
    "envelope parquet reencrypt -r lake --policy people --bind-path lake",
)
def reencrypt(
    out: Output,
    paths: Paths,
    files: ConvertOptions,
    policy: PolicyOptions,
    form: FormOptions,
    keys: WritingKeyOptions,
    context: ContextOptions,
    parquet: ParquetOptions,
    pace: PaceOptions,
) -> int:
    """Write Parquet files anew under fresh data keys: what revokes somebody's access.

    Rewrapping does not: who opened a file before may have kept its data keys. Columns stay under
    their keys where no option says otherwise. Without --out each file takes its own place, once
    it is whole.
    """
    given: dict[str, Any] = {"policy": policy.made_or_kept(out)}
    given |= {
        "keys": parquet.table(keys, out),
        **parquet.reading(context),
        **parquet.prefix(),
        **form.given(),
    }
    job = _Job(out, "encrypted anew", paths, files, keys, context, pace, in_place=True)
    return job.run(verb_of("reencrypt"), given)


def _of_rows(item: Input, on_progress: OnProgress) -> OnProgress:
    """Verbs count rows, and progress is shown in bytes of the sources."""
    size = item.size() or 0
    return lambda done, rows: on_progress(size * done // (rows or 1), size)


def _same(name: str, _suffix: str) -> str | None:
    return name


class _Targets(Targets):
    """Files that begin as Parquet files do, whatever their names, under the same names."""

    def _unwanted(self, found: Input) -> Skipped | None:
        return wanted(found)


class _Job:
    """Files through a verb, each to its target."""

    def __init__(
        self,
        out: Output,
        done: str,
        paths: list[str],
        files: ConvertOptions,
        keys: KeyOptions,
        context: ContextOptions,
        pace: PaceOptions,
        *,
        in_place: bool = False,
    ) -> None:
        if "-" in (*paths, files.out):
            raise ConfigurationError("a Parquet file cannot go through a pipe")
        if files.out is None and not in_place:
            raise ConfigurationError(
                "the result needs a place", next_step="Name it with --out: a file, or a folder."
            )
        self._out, self._done, self._files, self._pace = out, done, files, pace
        self._stores = stores_of(out, files, [*paths, files.out], keys, context)
        self._targets = _Targets(
            Direction(done, _same),
            paths,
            recursive=files.recursive,
            out=files.out,
            suffix="",
            stores=self._stores,
            select=files,
        )
        self._written = 0

    def run(
        self,
        verb: Callable[..., Any],
        given: dict[str, Any],
        check: Callable[[dict[str, Any]], None] | None = None,
    ) -> int:
        """Do it; ``check`` is what ``--dry-run`` looks at."""
        from envelope import caller

        durable = not self._files.no_durable and self._out.configuration().files.get(
            "durable", True
        )
        given = {**given, "durable": durable}

        def one(item: Input, on_progress: OnProgress) -> Callable[[], None]:
            sides = {"source": item.path, "storage_options": self._options(item)}
            if self._files.dry_run:
                if check is not None:
                    check(sides)
                return self._planned(item)
            if self._files.out is not None:
                sides |= self._target(item)
            with caller.deadline(self._pace.timeout):
                result = verb(**sides, **given, on_progress=_of_rows(item, on_progress))
            return lambda: self._told(result)

        found, several = self._targets.inputs(), self._targets.several
        everything = self._targets.inputs
        with progress_bar(self._out, self._pace.progress, lambda: total_size(everything())) as bar:
            status = each(self._out, found, one, bar=bar, several=several, jobs=self._files.jobs)
        if several and not self._out.options.json:
            would = "would have " if self._files.dry_run else ""
            failed = f"; failed {self._out.failures}" if self._out.failures else ""
            self._out.result({}, f"{would}{self._done} {self._written} files{failed}")
        return status

    def _options(self, item: Input) -> dict[str, Any] | None:
        return (self._stores.options(item.path) or None) if item.place is not None else None

    def _target(self, item: Input) -> dict[str, Any]:
        target = self._targets.claim(item)
        sides: dict[str, Any] = {"target": target, "overwrite": self._files.force}
        if isinstance(target, Place):
            sides["target"] = target.url
            sides["target_options"] = self._stores.options(target.url) or None
        return sides

    def _planned(self, item: Input) -> Callable[[], None]:
        target = self._targets.of(item) if self._files.out is not None else item.path

        def report() -> None:
            self._written += 1
            document = {"source": item.path, "target": target, "size": item.size()}
            self._out.result({**document, "dry_run": True}, f"{item.path} -> {target}")

        return report

    def _told(self, result: Any) -> None:
        self._written += 1
        rows = "1 row" if result.rows == 1 else f"{result.rows} rows"
        self._out.result(result.to_json(), f"{result.source} -> {result.target} ({rows})")
