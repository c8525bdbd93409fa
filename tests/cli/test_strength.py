"""A key ring of unlike keys: which recipient is the weakest is told where somebody looks."""

from __future__ import annotations

from pathlib import Path

from tests.cli.conftest import Cli


def strengths(cli: Cli, *command: str) -> list[tuple[str, str]]:
    found = cli.objects(*command, schema="check")
    return [(one["level"], one["text"]) for one in found if one["check"] == "strength"]


def test_the_weakest_recipient_is_told_where_somebody_looks(lake: Cli) -> None:
    for name, bits in (("small", 2048), ("large", 3072)):
        lake("keys", "create", f"local:{name}", "--kty", "RSA", "--bits", str(bits))
    kid = {
        name: lake.objects("keys", "list", f"local:{name}", schema="key")[0]["kid"]
        for name in ("small", "large")
    }
    mixed = ["--key", "local:lake", "--key", "local:small", "--key", "local:large"]
    Path("file").write_bytes(b"data")
    said = lake("encrypt", "file", *mixed)
    assert "weakest" not in said.out + said.err  # no noise where nobody asked

    row = f"about 112 bits, that of its weakest recipient: {kid['small']}"
    assert row in lake("inspect", "file.env1").out
    [claims] = lake.objects("inspect", "file.env1", schema="inspect")
    assert sorted(one["strength"] for one in claims["recipients"]) == [112, 128, 256]

    text = f"files are as strong as their weakest recipient: {kid['small']}, about 112 bits"
    assert strengths(lake, "doctor", *mixed) == [("warn", text)]
    assert strengths(lake, "config", "test", *mixed) == [("warn", text)]
    good_enough = ["--key", "local:lake", "--encrypt-to", "local:large"]
    [(level, text)] = strengths(lake, "doctor", *good_enough)
    assert level == "ok"
    assert kid["large"] in text


def test_nothing_is_said_of_like_recipients(lake: Cli) -> None:
    lake("keys", "create", "local:other")
    keys = ["--key", "local:lake", "--key", "local:other"]
    assert strengths(lake, "doctor", *keys) == []
    Path("file").write_bytes(b"data")
    lake("encrypt", "file", *keys)
    assert "weakest" not in lake("inspect", "file.env1").out


def test_a_recipient_that_does_not_wrap_is_told_of_once(lake: Cli) -> None:
    keys = ["--key", "local:lake", "--key", "local:none"]
    found = lake.objects("doctor", *keys, schema="check", status=5)
    assert [one["check"] for one in found if one["level"] == "fail"] == ["key"]
    assert not [one for one in found if one["check"] == "strength"]


def test_a_keys_strength_is_shown(lake: Cli) -> None:
    lake("keys", "create", "local:inbox", "--kty", "RSA", "--bits", "3072")
    [info] = lake.objects("keys", "show", "local:inbox", schema="key")
    assert info["strength"] == 128
    lines = lake("keys", "show", "local:inbox").out.splitlines()
    assert ["strength", "128"] in [line.split() for line in lines]
