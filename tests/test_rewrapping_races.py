"""What others do to a file while it is rewrapped (docs/adr/0003-rewrap.md)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import envelope
from envelope.errors import FileChanged
from tests.memory_driver import installed


def test_a_file_published_while_the_copy_is_synced_is_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with installed() as driver:
        ring = envelope.KeyRing("local:lake")
        for name in ("old", "new"):
            (tmp_path / name).write_text(name)
            envelope.encrypt_file(tmp_path / name, tmp_path / f"{name}.env1", keys=ring)
        driver.rotate("local:lake")
        sync = os.fsync
        synced: list[int] = []

        def sync_slowly(descriptor: int) -> None:
            sync(descriptor)
            if not synced:
                os.replace(tmp_path / "new.env1", tmp_path / "old.env1")
            synced.append(descriptor)

        monkeypatch.setattr(os, "fsync", sync_slowly)
        # A ring of its own, or the newest version would be known from before.
        again = envelope.KeyRing("local:lake", limits={"refresh": 1})
        with pytest.raises(FileChanged):
            envelope.rewrap(tmp_path / "old.env1", keys=again)
        assert synced
        envelope.decrypt_file(tmp_path / "old.env1", tmp_path / "out", keys=ring)
        assert (tmp_path / "out").read_text() == "new"
        assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "old", "old.env1", "out"]
