"""``inspect`` and ``verify``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

from envelope import strength
from envelope.cli.batch import each
from envelope.cli.filing import Jobs, Paths, Recursive, stores_of
from envelope.cli.globs import has_magic
from envelope.cli.handover import Handover
from envelope.cli.options import ContextOptions, KeyOptions, WorkOptions
from envelope.cli.output import Output, amount, columns
from envelope.cli.progress import progress_bar
from envelope.cli.signatures import examples
from envelope.cli.standard import standard_input
from envelope.cli.stores import StorageOptions, enveloped
from envelope.cli.targets import DEFAULT_SUFFIX
from envelope.cli.trees import Input, SelectOptions, Skipped, inputs, is_encrypted, total_size
from envelope.sources import OnProgress
from envelope.urls import is_url

if TYPE_CHECKING:
    from envelope.inspection import Inspection

__all__ = ["inspect", "verify"]


@examples(
    "envelope inspect report.csv.env1",
    "envelope inspect report.csv.env1 --json",
    "envelope inspect -r sealed --json",
    "envelope inspect report.csv.env1 --key local:lake --require-signed public:signer.pem",
)
def inspect(
    out: Output,
    paths: Paths,
    keys: KeyOptions,
    storage: StorageOptions,
    select: SelectOptions,
    recursive: Recursive = False,
) -> int:
    """Show what files claim about themselves. No key is needed, and nothing of it is proven.

    With --require-signed, it also tells whether a file's signature holds. With -r, every file
    that starts as an encrypted one is shown, whatever its name.
    """
    from envelope.inspection import inspect as verb

    ring = keys.ring(out) if keys.require_signed else None
    stores = stores_of(out, storage, list(paths), keys if keys.named() else None)
    handover = Handover(lambda: keys.ring(out))

    def show(found: Input, _on_progress: OnProgress) -> Callable[[], None]:
        claims = verb(handover.stored(_side(out, found)), keys=ring)
        if found.place is not None:
            claims = replace(claims, source=found.path)
        return lambda: out.answer(claims.to_json(), *_claims(claims))

    with progress_bar(out, False, lambda: None) as bar:
        found = inputs(
            paths, recursive=recursive, wanted=_only_encrypted, stores=stores, select=select
        )
        return each(out, found, show, bar=bar, several=_several(paths, recursive))


@examples(
    "envelope verify report.csv.env1 --key local:lake",
    "envelope verify -r sealed --trust local:lake --jobs 4",
    "curl -s https://example.com/report.env1 | envelope verify -",
)
def verify(
    out: Output,
    paths: Paths,
    keys: KeyOptions,
    context: ContextOptions,
    work: WorkOptions,
    storage: StorageOptions,
    select: SelectOptions,
    recursive: Recursive = False,
    jobs: Jobs = 1,
) -> int:
    """Prove every byte of files, without writing their plaintext anywhere.

    With -r, files are checked that start as encrypted ones or whose name ends in the suffix. In
    a mount or a chain all are, with the keys and the context that hold there.
    """
    from envelope.inspection import verify as verb

    suffix = out.configuration().files.get("suffix", DEFAULT_SUFFIX)
    stores = stores_of(out, storage, list(paths), keys, context)
    handover = Handover(cache(lambda: keys.ring(out)), context.verb())
    if not all(map(enveloped, paths)):
        handover.ring()

    def check(found: Input, on_progress: OnProgress) -> Callable[[], None]:
        given = handover.reading(_side(out, found))
        proven = verb(on_progress=on_progress, **given, **work.verb(out))
        if found.place is not None:
            proven = replace(proven, source=found.path)
        signed = f", signed by {proven.signer}" if proven.signer else ""
        line = f"OK  {proven.source} ({amount(proven.size)}{signed})"
        return lambda: out.result(proven.to_json(), line)

    def wanted(found: Input) -> Skipped | None:
        if enveloped(found.path) or (suffix and found.path.endswith(suffix)):
            return None
        return _only_encrypted(found)

    def all_inputs() -> Any:
        return inputs(paths, recursive=recursive, wanted=wanted, stores=stores, select=select)

    several = _several(paths, recursive)
    with progress_bar(out, work.progress, lambda: total_size(all_inputs())) as bar:
        return each(out, all_inputs(), check, bar=bar, several=several, jobs=jobs)


def _side(out: Output, found: Input) -> Any:
    return standard_input(out) if found.path == "-" else found.place or found.path


def _several(paths: list[str], recursive: bool) -> bool:
    return len(paths) > 1 or recursive or any(is_url(path) and has_magic(path) for path in paths)


def _only_encrypted(found: Input) -> Skipped | None:
    if is_encrypted(found):
        return None
    return Skipped(found.path, "not encrypted", told=False)


def _claims(claims: Inspection) -> list[str]:
    unknown = "unknown: it came through a pipe"
    rows = [
        ("format", "envelope/1, header of {} B, segments of {} B"),
        ("size", unknown if claims.size is None else f"{claims.size} B"),
        ("stored size", unknown if claims.stored_size is None else f"{claims.stored_size} B"),
        ("created", claims.created or "not said"),
        ("writer", claims.writer or "not said"),
        ("KEK id", claims.kek_id),
        *(("recipient", f"{kid} ({alg})") for kid, alg in claims.recipients),
        *(("context", f"{name}={value}") for name, value in sorted(claims.context.items())),
    ]
    kids = (kid for kid, _ in claims.recipients)
    weakest = strength.least(zip(kids, claims.strengths, strict=True))
    if weakest is not None:
        rows.append(
            ("strength", f"about {weakest[1]} bits, that of its weakest recipient: {weakest[0]}")
        )
    if claims.keyset:
        rows.append(("keyset", claims.keyset))
    rows += _origin(claims)
    form = rows[0][1].format(claims.header_size, claims.segment_length)
    rows[0] = ("format", form)
    lines = columns([f"  {name}", value] for name, value in rows)
    return [f"{claims.source}: claims, not verified:", *lines]


def _origin(claims: Inspection) -> list[tuple[str, str]]:
    """Who claims to have made the KEK, and what came of verifying it."""
    if not claims.signed:
        rows = [("signature", "none")]
    elif claims.signature is None:
        rows = [("signature", "not of the documented form")]
    else:
        said = claims.signature
        rows = [("signer", f"{said.kid} ({said.alg})"), ("signed for", ", ".join(said.audience))]
    if claims.origin != "unverified":
        why = f": {claims.origin_refused}" if claims.origin_refused else ""
        rows.append(("origin", f"{claims.origin}{why}"))
    return rows
