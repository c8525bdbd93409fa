"""``migrate``: a plain lake into an encrypted one, and back."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any

import typer

from envelope import open as open_encrypted
from envelope.cli.batch import each
from envelope.cli.filing import Jobs, stores_of
from envelope.cli.options import ContextOptions, KeyOptions, PaceOptions
from envelope.cli.output import Output, amount
from envelope.cli.progress import progress_bar
from envelope.cli.signatures import examples
from envelope.cli.stores import Place, StorageOptions, enveloped, start_of
from envelope.cli.trees import (
    Found,
    Input,
    SelectOptions,
    Skipped,
    inputs,
    is_remote,
    total_size,
)
from envelope.errors import ConfigurationError
from envelope.header import MAGIC
from envelope.sources import OnProgress
from envelope_fsspec.migration import Migration, Spot

__all__ = ["MigrateOptions", "migrate"]


@dataclass(frozen=True)
class MigrateOptions(SelectOptions, StorageOptions):
    """Which way, and how."""

    decrypt: Annotated[bool, typer.Option("--decrypt", help="From encrypted to plain.")] = False
    keep: Annotated[bool, typer.Option("--keep", help="Keep the originals. Needs a TARGET.")] = (
        False
    )
    jobs: Jobs = 1
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="Only show what would be done.")
    ] = False
    segment_length: Annotated[
        int | None,
        typer.Option("--segment-length", metavar="BYTES", help="Where no mount says it [262144]."),
    ] = None


@examples(
    "envelope migrate envelope://lake/2026 --dry-run",
    "envelope migrate envelope://lake/2026 --jobs 4",
    "envelope migrate s3://plain/2026 envelope://lake/2026 --keep",
    "envelope migrate envelope://lake/2026 --decrypt",
)
def migrate(
    out: Output,
    source: Annotated[str, typer.Argument(help="A folder or file; of a mount or chain, in place.")],
    files: MigrateOptions,
    keys: KeyOptions,
    context: ContextOptions,
    pace: PaceOptions,
    target: Annotated[
        str | None, typer.Argument(metavar="[TARGET]", help="The other side; without it, in place.")
    ] = None,
) -> int:
    """Encrypt all plain files of a folder, or decrypt all encrypted ones, and remove the originals.

    Each file is written, read back from the store, compared by size and content with a fresh read
    of its original, and only then takes the original's place. Run it again after whatever stopped
    it: what is done is skipped. Nothing else should write to these files meanwhile.
    """
    if files.keep and target is None:
        raise ConfigurationError("--keep needs a TARGET: in place, the copy replaces the original")
    plain, sealed = (target, source) if files.decrypt else (source, target)
    sealed = _chain(sealed or source)
    plain = _url(plain or source) if target is not None else None
    stores = stores_of(out, files, [plain, sealed], keys, context, files.segment_length)
    from_, to = (sealed, plain) if files.decrypt or plain is None else (plain, sealed)
    root = stores.at(sealed)
    if target is None and root.fs.policy.names == "encrypt":
        raise ConfigurationError(
            "where names are encrypted too, plain files have other ones, so nothing is in place",
            next_step="Give the folder of the plain files and the mount: migrate SOURCE TARGET.",
        )
    if plain is not None and enveloped(plain):
        raise ConfigurationError(
            "the plain side lies in a mount or a chain",
            path=plain,
            next_step="Name its store instead; between mounts, see: envelope cp.",
        )
    start, end = stores.at(from_), None if to is None else stores.at(to)
    folder = bool(start.info()["type"] == "directory")

    def all_inputs() -> Iterator[Found]:
        for found in inputs([from_], recursive=folder, stores=stores, select=files):
            yield _as_stored(found) if end is None else found

    count = [0, 0]

    def work(found: Input, on_progress: OnProgress) -> Callable[[], None]:
        assert found.place is not None  # noqa: S101 - as above
        other = found.place
        if end is not None:
            other = end.below(found.relative) if folder else end
        one = _migration(found.place, other, files)
        why = _done(one, files.decrypt, told=out.options.json)
        if why is not None:
            return partial(out.skipped, Skipped(found.path, *why))
        document: dict[str, Any] = {"source": found.path, "target": other.url}
        if files.dry_run:
            size = found.size() or 0
            document |= {"size": size, "dry_run": True}
            line = [f"{found.path} -> {other.url}"]
        else:
            if end is not None and folder:
                other.make_folder()
            size = one.run(on_progress)
            document |= {"size": size, "encrypted": not files.decrypt, "kept": files.keep}
            line = [] if folder else [f"{found.path} -> {other.url} ({amount(size)})"]

        def report() -> None:
            count[0] += 1
            count[1] += size
            out.result(document, *line)

        return report

    with progress_bar(out, pace.progress, lambda: total_size(all_inputs())) as bar:
        status = each(out, all_inputs(), work, bar=bar, several=folder, jobs=files.jobs)
    if folder and not out.options.json:
        out.result({}, _summary(out, files, count))
    return status


def _as_stored(found: Found) -> Found:
    """A file of a mount with its stored size: a plain one has no other."""
    if isinstance(found, Input) and found.info is not None:
        return replace(found, info={**found.info, "size": found.info.get("stored_size")})
    return found


def _summary(out: Output, files: MigrateOptions, count: list[int]) -> str:
    verb = "decrypted" if files.decrypt else "encrypted"
    done = f"would have {verb}" if files.dry_run else f"{verb} and verified"
    text = f"{done} {count[0]} files, {amount(count[1])}"
    if out.skips:
        reasons = ", ".join(f"{why} {number}" for why, number in out.skips.items())
        text += f"; skipped {out.skips.total()} ({reasons})"
    if out.failures:
        text += f"; failed {out.failures}"
    return text


def _chain(location: str) -> str:
    """The encrypted side as a URL of the encrypting file system."""
    return location if enveloped(location) else f"envelope::{_url(location)}"


def _url(location: str) -> str:
    return location if is_remote(location) else f"file://{os.path.abspath(location)}"


def _migration(source: Place, target: Place, files: MigrateOptions) -> Migration:
    sealed, plain = (source, target) if files.decrypt else (target, source)
    behind = sealed.behind
    stored = Spot(behind.store, behind.path, sealed.url)
    store, path = (behind.store, behind.path) if source is target else (plain.fs, plain.path)
    return Migration(
        Spot(store, path, plain.url),
        stored,
        behind.keys,
        behind.context,
        behind.segment_length,
        decrypt=files.decrypt,
        keep=files.keep,
    )


def _done(one: Migration, decrypt: bool, *, told: bool) -> tuple[str, bool] | None:
    """Why there is nothing to do for a file. An encrypted one has to open to count as done."""
    original = one.sealed if decrypt else one.plain
    start = start_of(original.store, original.path, len(MAGIC))
    if decrypt:
        return None if start == MAGIC else ("not encrypted", told)
    if start != MAGIC:
        return None
    if not one.in_place:
        return "encrypted already", True
    with open_encrypted(original.source(), keys=one.keys, context=one.context):
        return "encrypted already", told
