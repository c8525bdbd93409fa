"""Where the public test vectors are that are not in the repository: FLOE, Wycheproof, Parquet.

``ENVELOPE_VECTORS`` names the folder; it has ``floe/`` (known answers of
Snowflake-Labs/floe-specification), ``wycheproof/`` (C2SP/wycheproof, ``testvectors_v1``), and
``parquet-testing/`` (the encrypted files of apache/parquet-testing).
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

_BESIDE = Path(__file__).parents[2] / "shared" / "vectors"


def folder(name: str) -> Path:
    """The folder of that name; without it the test is skipped, or in CI fails."""
    found = Path(os.environ.get("ENVELOPE_VECTORS") or _BESIDE) / name
    if not found.is_dir():
        reason = f"no test vectors of {name}: set ENVELOPE_VECTORS to their folder"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


def wycheproof(name: str, **group: Any) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Group and test, of the groups that have these values."""
    document = json.loads((folder("wycheproof") / name).read_text())
    found = [
        (one, test)
        for one in document["testGroups"]
        if all(one[key] == value for key, value in group.items())
        for test in one["tests"]
    ]
    assert found, f"{name} has no tests of {group}"
    return found
