"""``rewrap``: files to the newest version of their keys, or to other keys."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from envelope.cli.batch import each
from envelope.cli.filing import TargetOptions, stores_of
from envelope.cli.handover import Handover, Side
from envelope.cli.jobs import RENEWING
from envelope.cli.options import ContextOptions, PaceOptions, WritingKeyOptions
from envelope.cli.output import Output, columns
from envelope.cli.progress import progress_bar
from envelope.cli.signatures import examples
from envelope.cli.stores import Stores, enveloped
from envelope.cli.targets import Targets
from envelope.cli.trees import Input, total_size
from envelope.errors import ConfigurationError
from envelope.sources import OnProgress

if TYPE_CHECKING:
    from envelope.rewrapping import RewrapResult

__all__ = ["rewrap"]


@examples(
    "envelope rewrap report.csv.env1",
    "envelope rewrap -r --dry-run sealed",
    "envelope rewrap -r sealed --key local:lake --jobs 4",
    "envelope rewrap report.csv.env1 --replace-recipients --key local:new --trust local:lake",
)
def rewrap(
    out: Output,
    paths: Annotated[
        list[str], typer.Argument(metavar="PATH...", help="Files, URLs, or folders with -r.")
    ],
    files: TargetOptions,
    keys: WritingKeyOptions,
    context: ContextOptions,
    pace: PaceOptions,
    replace_recipients: Annotated[
        bool,
        typer.Option("--replace-recipients", help="Make the recipients those of --encrypt-to."),
    ] = False,
) -> int:
    """Wrap the keys of files anew; their data stays as it is, whatever its size.

    By default recipients move to the newest version of their key. --dry-run needs no key: it
    counts files by the key versions in their headers, which tells what a version is still
    needed for before it is disabled.
    """
    from envelope.rewrapping import rewrap as verb

    if "-" in paths or files.out == "-":
        raise ConfigurationError("a pipe cannot be rewrapped", next_step="Give a file or a folder.")
    counted = files.dry_run and not keys.named()
    stores = stores_of(
        out, files, [*paths, files.out], None if counted else keys, None if counted else context
    )
    handover = Handover(cache(lambda: keys.ring(out)), context.verb())
    targets = Targets(
        RENEWING,
        paths,
        recursive=files.recursive,
        out=files.out,
        suffix="",
        stores=stores,
        select=files,
    )
    if files.dry_run:
        return _count(out, targets, handover)
    if not all(map(enveloped, paths)):
        handover.ring()
    given: dict[str, Any] = {"timeout": pace.timeout}
    given["recipients"] = "replace" if replace_recipients else "refresh"
    given["durable"] = not files.no_durable and out.configuration().files.get("durable", True)
    changes: Counter[bool] = Counter()

    def work_on(found: Input, on_progress: OnProgress) -> Callable[[], None]:
        target = targets.claim(found) if files.out is not None else None
        both = _sides(handover, found, target, stores, files.force)
        result = verb(**both, overwrite=files.force, on_progress=on_progress, **given)
        if found.place is not None:
            result = replace(result, source=found.path, target=targets.of(found) or found.path)
        changes[result.changed] += 1
        lines = [] if found.listed else _described(result)
        return partial(out.result, result.to_json(), *lines)

    with progress_bar(out, pace.progress, lambda: total_size(targets.inputs())) as bar:
        found = targets.inputs()
        status = each(out, found, work_on, bar=bar, several=targets.several, jobs=files.jobs)
    if targets.several and not out.options.json:
        failed = f"; failed {out.failures}" if out.failures else ""
        out.result({}, f"rewrapped {changes[True]}, up to date {changes[False]}{failed}")
    return status


def _sides(
    handover: Handover, found: Input, target: Side | None, stores: Stores, overwrite: bool
) -> dict[str, Any]:
    """What the verb gets. It decides itself how an object is rewrapped, so it gets a URL."""
    if target is not None or found.place is None:
        return handover.writing(RENEWING, found.place or found.path, target, overwrite=overwrite)
    from fsspec.implementations.local import LocalFileSystem

    behind = found.place.behind
    if behind is None:
        given = {"source": found.path, "storage_options": stores.options(found.path)}
    elif isinstance(behind.store, LocalFileSystem):
        given = {"source": behind.path}
    else:
        given = {"source": behind.url, "storage_options": behind.store.storage_options}
    return {**given, **handover.trust(found.place)}


def _count(out: Output, targets: Targets, handover: Handover) -> int:
    """Files by the kids in their headers."""
    from envelope.inspection import inspect

    kids: Counter[str] = Counter()
    encrypted = 0

    def look(found: Input, _on_progress: OnProgress) -> Callable[[], None]:
        nonlocal encrypted
        claims = inspect(handover.stored(found.place or found.path))
        encrypted += 1
        kids.update({kid for kid, _alg in claims.recipients})
        return lambda: None

    with progress_bar(out, False, lambda: None) as bar:
        status = each(out, targets.inputs(), look, bar=bar, several=targets.several)
    ordered = sorted(kids.items())
    if out.options.json:
        for kid, count in ordered:
            out.answer({"kid": kid, "files": count, "of": encrypted})
        return status
    if ordered:
        out.answer({}, *columns([("FILES", "KID"), *((str(n), kid) for kid, n in ordered)]))
    other = f"; {out.skips.total()} others are not encrypted or were skipped" if out.skips else ""
    out.answer({}, f"{encrypted} encrypted files, by what their headers claim{other}")
    return status


def _described(result: RewrapResult) -> list[str]:
    if not result.changed:
        return [f"{result.target}: up to date"]
    lines = [f"{result.target}: rewrapped"]
    for what in ("refreshed", "added", "kept", "dropped"):
        lines += [f"  {what} {kid}" for kid in getattr(result, what)]
    if not result.proven:
        lines.append("  no key is trusted that could prove that it opens")
    return lines
