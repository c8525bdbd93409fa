"""doctor."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.cli.conftest import Cli


def levels(found: list[dict[str, str]], check: str) -> list[str]:
    return [each["level"] for each in found if each["check"] == check]


def test_a_healthy_machine_is_well(lake: Cli) -> None:
    found = lake.objects("doctor", schema="check")
    assert levels(found, "key") == ["ok"]
    assert levels(found, "versions") == levels(found, "cryptography") == ["ok"]
    assert "fail" not in {each["level"] for each in found}
    assert any("in no backup" in each["text"] for each in found)
    assert any("file permissions" in each["text"] for each in found)


def test_without_keys_it_fails_with_what_to_do(cli: Cli) -> None:
    said = cli("doctor", status=2)
    assert "no key is configured" in said.out
    assert "envelope init" in said.out


def test_a_keystore_that_others_can_read_fails(lake: Cli) -> None:
    os.chmod(os.environ["ENVELOPE_KEYSTORE"], 0o755)
    said = lake("doctor", status=2)
    assert "chmod" in said.out
    assert "fail  keystore" in said.out


def test_a_disabled_key_fails_with_the_status_of_its_error(lake: Cli) -> None:
    lake("keys", "disable", "local:lake", "--yes")
    found = lake.objects("doctor", schema="check", status=3)
    assert levels(found, "key") == ["fail"]


def test_leftovers_are_listed(lake: Cli) -> None:
    Path("deep").mkdir()
    Path("deep/.file.0123456789abcdef.env1tmp").touch()
    Path("deep/.file.0123456789abcdef.env1old").touch()
    Path("deep/.other.env1tmp").touch()
    assert levels(lake.objects("doctor", schema="check"), "leftovers") == ["ok"]
    found = lake.objects("doctor", "deep", schema="check")
    assert levels(found, "leftovers") == ["warn", "warn"]


def test_a_file_is_tried(lake: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("file").write_bytes(b"data")
    lake("encrypt", "file")
    assert "opens, 4 bytes" in lake("doctor", "file.env1").out
    Path("cut.env1").write_bytes(Path("file.env1").read_bytes()[:-1])
    assert "[ENV-TRUNCATED]" in lake("doctor", "cut.env1", status=4).out
    assert "No such file" in lake("doctor", "missing", status=5).out
    monkeypatch.delenv("ENVELOPE_KEYS")
    assert "is for local:lake/" in lake("doctor", "file.env1", status=2).out
    lake("doctor", "file.env1", "--key", "local:lake")
