"""The look afterwards finds what it looks for: a canary, a plain file, a URL that became a path."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.programs.conftest import CANARY, Lake, check


def test_plaintext_and_local_folders_are_found(lake: Lake) -> None:
    work = Path.cwd()
    lake.fs.pipe_file(lake.path("a.txt"), CANARY.encode())
    check(lake, work)
    plain = lake.path("b.txt")
    for data in (CANARY.encode(), b"anything"):
        lake.store.raw.pipe_file(plain, data)
        with pytest.raises(AssertionError, match="stored as it is"):
            check(lake, work)
    lake.store.raw.rm_file(plain)
    (work / "copy.txt").write_text(f"x{CANARY}x")
    with pytest.raises(AssertionError, match=r"copy\.txt"):
        check(lake, work)
    (work / "copy.txt").unlink()
    (work / "envelope::memory:").mkdir()
    with pytest.raises(AssertionError, match="local path"):
        check(lake, work)
    (work / "envelope::memory:").rmdir()
