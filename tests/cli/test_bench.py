"""bench."""

from __future__ import annotations

import os
from typing import Any

import pytest

from envelope import files
from tests.cli.conftest import Cli


def test_it_measures_without_a_key_and_leaves_nothing(cli: Cli) -> None:
    found = cli.objects("bench", ".", "--size", "1", "--rounds", "1", schema="bench")
    assert [each["measure"] for each in found][:4] == ["copy", "encrypt", "decrypt", "read"]
    assert found[0]["ratio"] == 1
    assert [each["threads"] for each in found] == [1, 4, 4, 4, 1, 1]
    assert os.listdir() == []
    assert "time / copy's" in cli("bench", ".", "--size", "1", "--rounds", "1").out
    assert not os.path.exists(os.environ["ENVELOPE_KEYSTORE"])


def test_a_disk_that_is_too_small_is_told_beforehand(cli: Cli) -> None:
    said = cli("bench", ".", "--size", "65536", "--rounds", "1", status=2)
    assert "free" in said.err
    assert os.listdir() == []


def test_every_measure_writes_a_new_file(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    # Replacing one also frees its memory, which took longer than encrypting.
    real, written = files.encrypt_file, []

    def encrypt_file(source: str, target: str, **given: Any) -> Any:
        written.append(os.path.exists(target))
        return real(source, target, **given)

    monkeypatch.setattr(files, "encrypt_file", encrypt_file)
    cli("bench", ".", "--size", "1", "--rounds", "2")
    assert written == [False] * 4
