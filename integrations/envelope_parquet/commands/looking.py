"""``envelope parquet access``, ``inspect`` and ``verify``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

from envelope.cli.options import ContextOptions, KeyOptions, PaceOptions
from envelope.cli.output import Output, amount, columns
from envelope.cli.signatures import examples
from envelope.sources import OnProgress
from envelope_parquet.commands.options import (
    FileOptions,
    ParquetOptions,
    Paths,
    RawKeysOption,
    raw_keys,
    run,
    verb_of,
)

__all__ = ["access", "inspect", "verify"]


@examples(
    "envelope parquet access people.parquet",
    "envelope parquet access -r lake --key local:lake --json",
)
def access(
    out: Output,
    paths: Paths,
    files: FileOptions,
    keys: KeyOptions,
    context: ContextOptions,
    parquet: ParquetOptions,
) -> int:
    """Show the key of each column, and whether you can open it.

    Reads the footer and no data, and asks the vault once a key at most.
    """
    verb = verb_of("access")

    table, reading = parquet.table(keys, out), parquet.reading(context)

    def look(given: dict[str, Any], _on_progress: OnProgress) -> Callable[[], None]:
        found = verb(given.pop("source"), table, **given, **reading)
        document = {
            "source": found.name,
            "algorithm": found.algorithm,
            "plaintext_footer": found.plaintext_footer,
            "footer": _opens(found.footer),
            "columns": [{"column": each.column, **_opens(each)} for each in found.columns],
        }
        title = f"{found.name}: {found.algorithm or 'not encrypted'}"
        lines = [] if found.algorithm is None else str(found).splitlines()
        return lambda: out.answer(document, title, *(f"  {line}" for line in lines))

    return run(out, paths, files, look)


def _opens(found: Any) -> dict[str, Any]:
    return {
        "key": found.key,
        "recipients": list(found.kids),
        "opens": found.opens,
        "error": None if found.error is None else found.error.code,
    }


@examples(
    "envelope parquet inspect people.parquet",
    "envelope parquet inspect people.parquet --prove --key local:lake",
)
def inspect(
    out: Output,
    paths: Paths,
    files: FileOptions,
    keys: KeyOptions,
    context: ContextOptions,
    parquet: ParquetOptions,
    prove: Annotated[
        bool, typer.Option("--prove", help="Open the footer, or verify its signature.")
    ] = False,
    raw: RawKeysOption = None,
) -> int:
    """Show how files are encrypted, and the keys that they name.

    Without --prove no key is needed and nothing is proven; of an encrypted footer only its own
    key shows then.
    """
    verb = verb_of("inspect")

    reading: dict[str, Any] = {**parquet.reading(context), **parquet.prefix()}
    if raw is not None:
        reading["raw_keys"] = raw_keys(raw)
    elif prove:
        reading["keys"] = parquet.table(keys, out)

    def show(given: dict[str, Any], _on_progress: OnProgress) -> Callable[[], None]:
        found = verb(prove=prove, **given, **reading)
        return lambda: out.answer(found.to_json(), *_described(found))

    return run(out, paths, files, show)


def _described(found: Any) -> list[str]:
    rows = [
        ("algorithm", found.algorithm),
        ("footer", "plaintext, signed" if found.plaintext_footer else "encrypted"),
        ("AAD prefix", found.aad_prefix),
        ("footer's key", *_key(found.footer)),
    ]
    if found.columns is None:
        rows.append(("columns", "in the encrypted footer: --prove opens it"))
    for each in found.columns or ():
        if not each.encrypted:
            rows.append((f"column {each.column}", "plain"))
        elif each.key is None:
            rows.append((f"column {each.column}", "the footer's key"))
        else:
            rows.append((f"column {each.column}", *_key(each.key)))
    kind = "proven" if found.proven else "claims, not verified"
    texts = [[f"  {name}", "; ".join(parts)] for name, *parts in rows]
    return [f"{found.source}: {kind}:", *columns(texts)]


def _key(key: Any) -> list[str]:
    kinds = {
        "envelope": "",
        "pkmt1": "of another KMS client",
        "pkmt1-double": "of another KMS client, double wrapped",
        "raw": "a raw key",
        "other": f"key metadata {key.said}",
        "unreadable": f"unreadable: {key.said}",
    }
    parts = [key.alias] if key.alias else []
    parts += [kinds[key.kind]] if kinds[key.kind] else []
    parts += [f"{kid} ({alg})" for kid, alg in key.recipients]
    parts += [f"KEK {key.kek_id}"] if key.kek_id else []
    parts += [f"{name}={value}" for name, value in sorted(key.context.items())]
    return parts + ([] if key.internal else ["in a file beside"])


@examples(
    "envelope parquet verify people.parquet --key local:lake --key local:pii",
    "envelope parquet verify -r lake --skip-denied --jobs 2",
)
def verify(
    out: Output,
    paths: Paths,
    files: FileOptions,
    keys: KeyOptions,
    context: ContextOptions,
    parquet: ParquetOptions,
    pace: PaceOptions,
    skip_denied: Annotated[
        bool, typer.Option("--skip-denied", help="Leave out columns that you may not open.")
    ] = False,
    raw: RawKeysOption = None,
) -> int:
    """Prove every page, index and footer of files, and name the page that is bad."""
    from envelope import caller

    verb = verb_of("verify")

    reading: dict[str, Any] = {**parquet.reading(context), **parquet.prefix()}
    reading["raw_keys"] = raw_keys(raw)
    if raw is None:
        reading["keys"] = parquet.table(keys, out)
    reading["denied"] = "skip" if skip_denied else "error"

    def check(given: dict[str, Any], on_progress: OnProgress) -> Callable[[], None]:
        with caller.deadline(pace.timeout):
            found = verb(on_progress=on_progress, **given, **reading)
        left = [f"{len(found.denied)} columns denied"] if found.denied else []
        left += [f"{len(found.plain)} columns plain"] if found.plain else []
        left += [f"{found.unproven_pages} pages not provable"] if found.unproven_pages else []
        line = f"OK  {found.source} ({', '.join([amount(found.size), *left])})"
        return lambda: out.result({**found.to_json(), "verified": True}, line)

    return run(out, paths, files, check, progress=pace.progress)
