"""The generated parts of docs/benchmarks.md and of the README, each between two marks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.render import as_markdown, in_brief, machine_as_markdown, summary
from benchmarks.results import Table

__all__ = ["BEGIN", "END", "HEADLINES", "generated", "write_page"]

BEGIN = "<!-- begin: written by `python -m benchmarks --docs` -->"
END = "<!-- end -->"

# What the README shows, by table, row and denominator: what a user sees, not what flatters.
HEADLINES = (
    ("tmpfs", "encrypt_file, 4 threads", "copy; both into new files"),
    ("tmpfs", "decrypt_file, 4 threads", "copy; both into new files"),
    ("disk", "encrypt_file", "copy and fsync"),
    ("disk", "decrypt_file", "copy and fsync"),
    ("streams", "write", "copy into a new file"),
    ("streams", "read", "copy over an existing file"),
    ("random", "segments of 256 KiB", "raw"),
    ("random", "segments of 256 KiB", "pread of the plain file"),
    ("values", "envelope, encrypt", "bare primitives, encrypt"),
    ("rewrap", "rewrap", "cp and sync"),
)


def generated(machine: Mapping[str, str], tables: Sequence[Table]) -> str:
    """Everything that is measured."""
    parts = [summary(tables), machine_as_markdown(machine)]
    parts += [as_markdown(table, f"images/benchmark-{table.name}.svg") for table in tables]
    return "\n\n".join(parts)


def write_page(
    page: Path, readme: Path | None, machine: Mapping[str, str], tables: Sequence[Table]
) -> None:
    """Replace what stands between the marks."""
    _write(page, generated(machine, tables))
    if readme is not None:
        _write(readme, in_brief(tables, HEADLINES))


def _write(page: Path, generated: str) -> None:
    text = page.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} has no place for the tables")
    page.write_text(f"{before}{BEGIN}\n\n{generated}\n\n{END}{after}", encoding="utf-8")
