"""One small SVG a table: medians as bars, spread as lines, targets as marks. No library needed."""

from __future__ import annotations

import math
from html import escape

from benchmarks.results import Row, Table

__all__ = ["as_svg"]

_LEFT, _WIDTH, _RIGHT = 430, 420, 90
_BAR, _STEP, _TOP = 14, 24, 52
_NUMBER = 42  # how wide one is
_COLOURS = {True: "#2a7f62", False: "#b3372f", None: "#6b7a90"}
_STYLE = (
    "text{font:12px sans-serif;fill:#222}.s{fill:#666;font-size:11px}"
    "@media(prefers-color-scheme:dark){text{fill:#ddd}.s{fill:#aaa}}"
)


def as_svg(table: Table) -> str:
    """A picture of a table; rows without values are left out."""
    rows = [row for row in table.rows if row.values]
    scale = _Scale(rows)
    height = _TOP + _STEP * len(rows) + 12
    width = _LEFT + _WIDTH + _RIGHT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" role="img">',
        f"<title>{escape(table.title)}</title><style>{_STYLE}</style>",
        _text(10, 20, table.title, "font-weight:bold"),
        f'<text x="10" y="38" class="s">{escape(scale.caption)}</text>',
    ]
    for number, row in enumerate(rows):
        parts += _bar(row, _TOP + number * _STEP, scale)
    return "\n".join([*parts, "</svg>"]) + "\n"


class _Scale:
    """Values to pixels: logarithmic where the largest would hide the others."""

    def __init__(self, rows: list[Row]) -> None:
        values = [value for row in rows for value in row.values]
        values += [row.target for row in rows if row.target is not None]
        positive = [value for value in values if value > 0]
        self._high = max(positive, default=1.0)
        self._low = min(positive, default=1.0) / 1.5
        self._log = self._high / self._low > 30
        unit = rows[0].unit if rows else ""
        kind = "logarithmic scale; " if self._log else ""
        self.caption = (
            f"{unit}; less is better; {kind}bar: median, line: min to max, mark: the most it may be"
        )

    def __call__(self, value: float) -> float:
        if not self._log:
            return _WIDTH * max(0.0, value) / self._high
        at = math.log(max(value, self._low) / self._low) / math.log(self._high / self._low)
        return _WIDTH * at


def _bar(row: Row, y: int, scale: _Scale) -> list[str]:
    label = f"{row.what} ÷ {row.of}" if row.of else row.what
    middle = y + _BAR / 2
    low, high = scale(min(row.values)), scale(max(row.values))
    end = max(high, scale(row.median))
    mark = None if row.target is None else scale(row.target)
    if mark is not None and end < mark < end + _NUMBER:
        end = mark  # else it would stand in the number
    parts = [
        f'<text x="{_LEFT - 8}" y="{y + 11}" text-anchor="end">{escape(_short(label))}</text>',
        f'<rect x="{_LEFT}" y="{y}" width="{scale(row.median):.1f}" height="{_BAR}" '
        f'fill="{_COLOURS[row.reached]}"/>',
        _line(_LEFT + low, middle, _LEFT + high, middle, "#999", 2),
        _text(_LEFT + end + 6, y + 11, f"{row.median:.3g}"),
    ]
    if mark is not None:
        x = _LEFT + mark
        parts.append(_line(x, y - 3, x, y + _BAR + 3, "#d08a00", 2))
    return parts


def _short(label: str) -> str:
    return label if len(label) <= 62 else f"{label[:61]}…"


def _text(x: float, y: float, text: str, style: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y}" style="{style}">{escape(text)}</text>'


def _line(x: float, y: float, to_x: float, to_y: float, colour: str, width: int) -> str:
    return (
        f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{to_x:.1f}" y2="{to_y:.1f}" stroke="{colour}" '
        f'stroke-width="{width}"/>'
    )
