"""The generated part of docs/benchmarks.md, between its two marks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.render import as_markdown, machine_as_markdown, summary
from benchmarks.results import Table

__all__ = ["BEGIN", "END", "generated", "write_page"]

BEGIN = "<!-- begin: written by `python -m benchmarks --docs` -->"
END = "<!-- end -->"


def generated(machine: Mapping[str, str], tables: Sequence[Table]) -> str:
    """Everything that is measured."""
    parts = [summary(tables), machine_as_markdown(machine)]
    parts += [as_markdown(table, f"images/benchmark-{table.name}.svg") for table in tables]
    return "\n\n".join(parts)


def write_page(page: Path, machine: Mapping[str, str], tables: Sequence[Table]) -> None:
    """Replace what stands between the marks."""
    text = page.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} has no place for the tables")
    page.write_text(
        f"{before}{BEGIN}\n\n{generated(machine, tables)}\n\n{END}{after}", encoding="utf-8"
    )
