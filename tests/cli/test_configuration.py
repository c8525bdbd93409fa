"""config show and config test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Cli


def test_show_says_where_each_value_came_from(lake: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("mine.toml").write_text('[limits]\ndeadline = 10\n[files]\nthreads = 2\nsuffix = ".x"\n')
    said = lake("config", "show", "--config", "mine.toml").out
    assert 'encrypt_to = ["local:lake"]' in said
    assert "from ENVELOPE_KEYS" in said
    assert "limits.deadline = 10" in said
    assert f"from {lake.folder / 'mine.toml'}" in said
    [found] = lake.objects("config", "show", "--config", "mine.toml", schema="config")
    assert found["files"] == {"threads": 2, "suffix": ".x"}
    Path("file").write_bytes(b"data")
    lake("encrypt", "file", "--config", "mine.toml")
    assert Path("file.x").exists()


def test_show_needs_no_key_and_test_does(cli: Cli) -> None:
    assert "nothing" in cli("config", "show").out
    said = cli("config", "test", status=2)
    assert "no key is configured" in said.err
    assert "envelope init" in said.err


def test_an_unsafe_file_of_the_working_directory_is_told(lake: Cli) -> None:
    Path("envelope.toml").write_text('keys = ["local:evil"]\n')
    Path("envelope.toml").chmod(0o666)
    said = lake("config", "show")
    assert "refused" in said.out
    assert "was not used" in said.err


def test_test_tries_each_key(lake: Cli) -> None:
    [done] = lake.objects("config", "test", schema="check")
    assert done["level"] == "ok"
    assert "wraps and unwraps" in done["text"]
    lake("keys", "create", "local:other")
    said = lake("config", "test", "--key", "local:none", "--encrypt-to", "local:other", status=5)
    assert "fail" in said.out
    assert "local:none" in said.out
    assert "wraps" in said.out


def test_a_profile_is_chosen_before_or_after_the_command(lake: Cli) -> None:
    Path("mine.toml").write_text('[profile.prod]\nkeys = ["local:prod"]\n')
    for words in (["--profile", "prod", "config", "show"], ["config", "show", "--profile", "prod"]):
        assert "local:prod" in lake(*words, "--config", "mine.toml").out
    assert (
        "no configuration file has a profile"
        in lake("config", "show", "--profile", "none", status=2).err
    )


def test_show_lists_mounts_and_hides_the_options_of_their_stores(
    lake: Cli, mounts: Callable[..., None]
) -> None:
    mounts(
        '[mount.a]\nurl = "s3://b/a"\nkeys = ["local:lake"]\noptions = {secret = "hush"}\n',
        '[mount.b]\nurl = "s3://b/b"\n[[mount.b.rules]]\nmatch = "**"\nkeys = ["local:x"]\n',
        '[mount.c]\nurl = "s3://b/c"\nprofile = "prod"\n',
        '[mount.d]\nurl = "s3://b/d"\n',
    )
    [found] = lake.objects("config", "show", schema="config")
    assert found["mounts"]["a"]["options"] == {"secret": "hidden"}
    said = lake("config", "show").out
    assert "hush" not in said
    shown = said[said.index("Mounts:") :].splitlines()[1:]
    assert [line.split("  ")[-1] for line in shown] == [
        '["local:lake"]',
        "keys by its rules (1)",
        "keys of the profile prod",
        "keys of the configuration",
    ]


def test_test_tells_what_holds_for_a_path(
    lake: Cli, mounts: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ENVELOPE_KEYS")
    mounts(
        '[mount.a]\nurl = "memory://a"\nbind_path = true\non_plaintext = "read"\n'
        'plaintext_until = "2099-01-31"\n'
        '[[mount.a.rules]]\nmatch = "open/**"\nencrypt_to = ["local:lake"]\n'
        '[[mount.a.rules]]\nmatch = "{tenant}/**"\nkeys = ["local:{tenant}"]\n'
        'context = {tenant = "{tenant}"}\n'
    )
    [found] = lake.objects("config", "test", "envelope://a/acme/x", schema="applies")
    assert found["rule"] == {"number": 2, "match": "{tenant}/**", "names": {"tenant": "acme"}}
    assert (found["encrypt_to"], found["decrypt_with"]) == (["local:acme"], ["local:acme"])
    assert found["context"] == {"tenant": "acme", "path": "acme/x"}
    said = lake("config", "test", "envelope://a/open/x").out
    assert "rule         1: open/**" in said
    assert "trusts       nothing" in said
    assert "plain files  read, until 2099-01-31" in said
    assert "no rule matches" in lake("config", "test", "envelope://a/UPPER/x", status=2).err
    assert "no mount and no chain" in lake("config", "test", "s3://b/x", status=2).err


def test_test_tells_what_options_make_of_a_chain(lake: Cli) -> None:
    given = ("envelope::memory://a/x", "--key", "local:none", "-c", "a=b")
    [found] = lake.objects("config", "test", *given, schema="applies")
    assert (found["encrypt_to"], found["context"]) == (["local:none"], {"a": "b"})
    assert (found["mount"], found["rule"]) == (None, None)
