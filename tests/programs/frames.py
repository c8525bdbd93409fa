"""Tables for programs; each has the canary in it."""

from __future__ import annotations

import datetime

import pandas as pd
import pyarrow as pa

from tests.programs.conftest import CANARY

ROWS = 200_000


def frame(rows: int = ROWS) -> pd.DataFrame:
    """Numbers, text, dates and groups."""
    numbers = pd.Series(range(rows))
    start = datetime.datetime(2026, 1, 1)  # noqa: DTZ001 - as most tables have dates
    return pd.DataFrame(
        {
            "id": numbers,
            "amount": numbers * 0.25,
            "name": [f"{CANARY}-{number % 97}" for number in range(rows)],
            "group": ["red" if number % 2 else "blue" for number in range(rows)],
            "day": [start + datetime.timedelta(days=number % 365) for number in range(rows)],
        }
    )


def table(rows: int = ROWS) -> pa.Table:
    """The same for Arrow."""
    return pa.Table.from_pandas(frame(rows), preserve_index=False)
