"""A table with personal columns, a policy for it, and who may open what."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
import pytest

from envelope.ring import KeyRing
from envelope_parquet import ColumnPolicy
from tests.memory_driver import MemoryDriver

Rings = Callable[..., KeyRing]

PEOPLE = pa.table(
    {
        "id": list(range(20)),
        "name": [f"person {i}" for i in range(20)],
        "address": [{"street": f"street {i}", "zip": i} for i in range(20)],
        "tags": [["a", "b"]] * 20,
    }
)
POLICY = ColumnPolicy(footer="local:lake", columns={"local:pii": ["name", "address"]})


@pytest.fixture
def rings(driver: MemoryDriver) -> Rings:
    """Key rings over the in-memory driver."""

    def made(*keys: str, **options: object) -> KeyRing:
        return KeyRing(list(keys) or None, settings={"local": {"seed": driver.seed}}, **options)  # type: ignore[arg-type]  # options of tests

    return made


@pytest.fixture
def owner(rings: Rings) -> KeyRing:
    """May open all."""
    return rings("local:lake", "local:pii")


@pytest.fixture
def analyst(rings: Rings) -> KeyRing:
    """May open the footer and what is under its key."""
    return rings("local:lake")
