"""Tables for a terminal and for Markdown: what was missed stands first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from benchmarks.results import TIMES, Row, Table

__all__ = ["as_markdown", "as_text", "summary"]

_HEAD = ("reached?", "measure", "÷", "median", "min – max", "middle half", "target", "")


def summary(tables: Sequence[Table]) -> str:
    """What was missed, or that nothing was. Markdown wants an empty line before a list."""
    missed = [(table, row) for table in tables for row in table.missed]
    with_target = sum(row.target is not None for table in tables for row in table.rows)
    if not missed:
        return f"All {with_target} targets reached."
    lines = [f"{len(missed)} of {with_target} targets missed:", ""]
    for table, row in missed:
        value = _number(row.median, row.unit) if row.values else "not measured"
        of = f" ÷ {row.of}" if row.of else ""
        target = _number(row.target or 0, row.unit)
        lines.append(f"- {table.title}, {row.what}{of}: {value}, target {target}")
    return "\n".join(lines)


def in_brief(tables: Sequence[Table], headlines: Sequence[tuple[str, str, str]]) -> str:
    """A table of some rows, by table, row and denominator, for the README."""
    rows = []
    for name, what, of in headlines:
        for table in tables:
            for row in table.rows:
                if (table.name, row.what, row.of) == (name, what, of) and row.values:
                    _, _, _, median, _, middle, _, _ = _cells(row)
                    rows.append((f"{table.title}: {what}", of, median, middle))
    first = summary(tables).splitlines()[0].rstrip(":.")
    head = ("measure", "÷", "median", "middle half")
    return "\n".join([f"{first}.", "", *_markdown_rows(head, iter(rows))])


def as_text(table: Table) -> str:
    """For a terminal."""
    lines = [_HEAD, *(_cells(row) for row in _missed_first(table))]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEAD))]
    body = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
    notes = [note.replace("*", "") for note in table.notes]
    measured = [f"measured {table.measured}"] if table.measured else []
    heading = [table.title, "-" * len(table.title), table.setting, *measured]
    return "\n".join([*heading, "", *body, *([""] if notes else []), *notes])


def as_markdown(table: Table, image: str | None = None) -> str:
    """For docs/benchmarks.md."""
    measured = f" Measured {table.measured}." if table.measured else ""
    setting = f"{table.setting[0].upper()}{table.setting[1:]}.{measured}"
    lines = [f"### {table.title}", "", setting, ""]
    lines += _markdown_rows(_HEAD, (_cells(row) for row in _missed_first(table)))
    for note in table.notes:
        lines += ["", note]
    if image is not None:
        lines += ["", f"![{table.title}: medians and spread]({image})"]
    return "\n".join(lines)


def machine_as_markdown(machine: Mapping[str, str]) -> str:
    """What the numbers are from."""
    rows = ((name, value) for name, value in machine.items())
    return "\n".join(_markdown_rows(("what", "which"), rows))


def _markdown_rows(head: Sequence[str], rows: Iterator[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        cells = (f"**{cell}**" if cell == "missed" else cell for cell in row)
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _missed_first(table: Table) -> list[Row]:
    return sorted(table.rows, key=lambda row: row.reached is not False)


def _cells(row: Row) -> tuple[str, ...]:
    reached = {True: "reached", False: "missed", None: ""}[row.reached]
    target = "" if row.target is None else f"≤ {_number(row.target, row.unit)}"
    if not row.values:
        return (reached, row.what, row.of, "", "", "", target, row.note)
    low, high = row.quartiles
    spread = f"{_plain(min(row.values), row.unit)} – {_plain(max(row.values), row.unit)}"
    middle = f"{_plain(low, row.unit)} – {_plain(high, row.unit)}"
    if len(row.values) == 1:
        spread = middle = ""
    median = _number(row.median, row.unit)
    return (reached, row.what, row.of, median, spread, middle, target, row.note)


def _number(value: float, unit: str) -> str:
    return f"{_plain(value, unit)} {unit}"


def _plain(value: float, unit: str) -> str:
    if unit == "calls":
        return f"{value:.0f}"
    return f"{value:.1f}" if unit != TIMES or value >= 100 else f"{value:.2f}"
