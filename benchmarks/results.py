"""Results as values: what a measure returns, and what JSON, tables and plots are made of."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["TIMES", "Row", "Table", "ratios"]

TIMES = "×"


@dataclass(frozen=True)
class Row:
    """One measured thing.

    Args:
        what: Its name.
        of: The denominator; empty for values that are no ratio.
        values: One for each round.
        unit: ``×`` for ratios.
        target: The median must be at most this; ``None``: stated only.
        note: What else there is to say. A row without values says why there are none.
    """

    what: str
    of: str = ""
    values: tuple[float, ...] = ()
    unit: str = TIMES
    target: float | None = None
    note: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def reached(self) -> bool | None:
        """Whether the target was reached; ``None`` where there is none. Unmeasured is missed."""
        if self.target is None:
            return None
        return bool(self.values) and self.median <= self.target

    @property
    def quartiles(self) -> tuple[float, float]:
        """The middle half of the values lies between these."""
        if len(self.values) < 2:
            return self.values[0], self.values[0]
        first, _, third = statistics.quantiles(self.values, n=4, method="inclusive")
        return first, third


@dataclass(frozen=True)
class Table:
    """What one measure found.

    Args:
        name: As on the command line.
        title: What was measured.
        setting: Sizes, file system, fsync, rounds: what the numbers depend on.
        rows: The results.
        notes: Sentences for below the table.
        measured: When, and how busy the machine was: tables of several runs can stand together.
    """

    name: str
    title: str
    setting: str
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = field(default=())
    measured: str = ""

    @property
    def missed(self) -> tuple[Row, ...]:
        return tuple(row for row in self.rows if row.reached is False)

    def to_json(self) -> dict[str, Any]:
        """With the median beside the values, for those who only want that."""
        rows = [
            {
                **asdict(row),
                "median": row.median if row.values else None,
                "reached": row.reached,
            }
            for row in self.rows
        ]
        return {**asdict(self), "rows": rows}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Table:
        """The inverse of :meth:`to_json`."""
        rows = tuple(
            Row(
                row["what"],
                row["of"],
                tuple(row["values"]),
                row["unit"],
                row["target"],
                row["note"],
            )
            for row in value["rows"]
        )
        notes, measured = tuple(value["notes"]), value.get("measured", "")
        return cls(value["name"], value["title"], value["setting"], rows, notes, measured)


def ratios(seconds: Sequence[float], of: Sequence[float]) -> tuple[float, ...]:
    """Round by round, so that what slowed both down cancels out."""
    return tuple(mine / base for mine, base in zip(seconds, of, strict=True))
