"""inspect and verify."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Cli


@pytest.fixture
def sealed(lake: Cli) -> Path:
    Path("plain").write_bytes(b"data" * 100_000)
    lake("encrypt", "plain", "--out", "sealed.env1", "-c", "table=orders")
    return Path("sealed.env1")


def test_inspect_needs_no_key_and_says_that_nothing_is_verified(
    sealed: Path, lake: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ENVELOPE_KEYS")
    monkeypatch.setenv("ENVELOPE_KEYSTORE", "/nonexistent")
    said = lake("inspect", sealed, "--quiet").out
    assert "claims, not verified" in said
    assert "table=orders" in said
    assert "local:lake/" in said
    [claims] = lake.objects("inspect", sealed, schema="inspect")
    assert claims["verified"] is False
    assert claims["size"] == 400_000


def test_what_a_header_says_cannot_move_the_terminals_cursor(lake: Cli) -> None:
    Path("plain").write_bytes(b"")
    evil = "a\033[2J\nOK  forged (1 B)\u202e"
    lake("encrypt", "plain", "-c", f"note={evil}")
    out = lake("inspect", "plain.env1").out
    assert "\033" not in out
    assert "\u202e" not in out
    assert "\nOK" not in out
    assert "note=a\\x1b[2J\\nOK  forged (1 B)\\u202e" in out
    [claims] = lake.objects("inspect", "plain.env1", schema="inspect")
    assert claims["context"] == {"note": evil}


def test_a_file_that_is_none_is_told(lake: Cli) -> None:
    Path("plain").write_bytes(b"data")
    assert "[ENV-NOT-ENCRYPTED]" in lake("inspect", "plain", status=4).err
    assert "[ENV-NOT-ENCRYPTED]" in lake("verify", "plain", status=4).err


def test_verify_proves_a_file(sealed: Path, lake: Cli) -> None:
    [proven] = lake.objects("verify", sealed, "-c", "table=orders", schema="verify")
    assert proven["verified"] is True
    assert proven["context"] == {"table": "orders"}
    assert lake("verify", sealed, "--quiet").out == ""


def test_verify_names_the_first_bad_segment(sealed: Path, lake: Cli) -> None:
    data = bytearray(sealed.read_bytes())
    data[-10] ^= 1
    sealed.write_bytes(data)
    said = lake("verify", sealed, status=4)
    assert "[ENV-TAMPERED]" in said.err
    assert "segment 1" in said.err
    [error] = lake.objects("verify", sealed, schema=None, status=4)
    assert (error["error"], error["exit"]) == ("ENV-TAMPERED", 4)


def test_a_tree_is_verified_and_what_replaced_an_encrypted_file_is_found(
    sealed: Path, lake: Cli
) -> None:
    Path("tree").mkdir()
    Path("tree/renamed").write_bytes(sealed.read_bytes())
    Path("tree/good.env1").write_bytes(sealed.read_bytes())
    Path("tree/plain.txt").write_bytes(b"never encrypted")
    said = lake("verify", "-r", "tree", "--jobs", "2")
    assert said.out.splitlines() == [
        "OK  tree/good.env1 (390.6 KiB)",
        "OK  tree/renamed (390.6 KiB)",
    ]
    Path("tree/bad.env1").write_bytes(b"replaced by something else")
    said = lake("verify", "-r", "tree", status=1)
    assert "tree/bad.env1" in said.err
    assert said.out.count("OK") == 2


def test_debug_shows_a_traceback_without_values(sealed: Path, lake: Cli) -> None:
    assert "Traceback" not in lake("verify", "missing", status=5).err
    said = lake("verify", "missing", "--debug", status=5)
    assert "Traceback" in said.err
    assert json.dumps("locals") not in said.err
    assert "FileNotFoundError" in said.err
