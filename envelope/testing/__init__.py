"""For the tests of drivers and of programs that use this library. Needs pytest.

What packages offer under the entry-point group ``envelope.testing`` is found
here by name, such as ``from envelope.testing import keyvault``.
"""

from __future__ import annotations

from typing import Any

import pytest

# Before the module is first imported, so that a failing suite shows the values that differ.
pytest.register_assert_rewrite("envelope.testing.conformance")

_GROUP = "envelope.testing"


def __getattr__(name: str) -> Any:
    from importlib.metadata import entry_points

    if not name.startswith("_"):
        for point in entry_points(group=_GROUP, name=name):
            return point.load()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
