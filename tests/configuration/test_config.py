"""Which source of configuration wins, and whether its document tells the truth."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

import envelope
from envelope import config, events, keyurl, schema
from envelope.limits import Limits
from tests.configuration.places import Places, refusal, write

DOCS = Path(__file__).parents[2] / "docs" / "configuration.md"


def fill_all(places: Places, monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], object]]:
    """Keys in every source, the strongest first; each callable takes one away."""
    other = write(places.named.parent / "other.toml", 'keys = "local:environment-file"')
    write(places.named, 'keys = "local:argument"')
    write(places.here, 'keys = "local:here"')
    write(places.user, 'keys = "local:user"')
    write(places.system, 'keys = "local:system"')
    monkeypatch.setenv("ENVELOPE_KEYS", "local:environment")
    monkeypatch.setenv("ENVELOPE_CONFIG", str(other))
    return [
        lambda: write(places.named, ""),
        lambda: monkeypatch.delenv("ENVELOPE_KEYS"),
        lambda: monkeypatch.delenv("ENVELOPE_CONFIG"),
        places.here.unlink,
        places.user.unlink,
    ]


def test_the_strongest_source_that_names_keys_provides_them(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = ["argument", "environment", "environment-file", "here", "user", "system"]
    takes = fill_all(places, monkeypatch)
    for number, name in enumerate(expected):
        found = config.resolve(places.named)
        assert found["encrypt_to"] == found["decrypt_with"] == [f"local:{name}"]
        if number < len(takes):
            takes[number]()


def test_keys_are_taken_whole_and_never_merged(places: Places) -> None:
    write(places.user, 'encrypt_to = "local:user"')
    write(
        places.system,
        'encrypt_to = "local:system"\ndecrypt_with = "local:system"\n'
        'required_context = "tenant"\n[aliases]\n"local:a/1" = "local:b/2"\n',
    )
    found = config.resolve()
    assert found["encrypt_to"] == ["local:user"]
    assert found["decrypt_with"] == []
    assert found["required_context"] == []
    assert found["aliases"] == {}


def test_other_settings_are_merged_one_by_one(places: Places) -> None:
    write(places.user, 'keys = "local:k"\n[limits]\nkek_age = 60\n[files]\nthreads = 2')
    write(
        places.system,
        "[limits]\nkek_age = 90\ndeadline = 5\n[files]\nthreads = 3\ndurable = false",
    )
    found = config.explain()
    assert found.result["limits"] == {"kek_age": 60, "deadline": 5}
    assert found.files == {"threads": 2, "durable": False}
    assert config.file_settings() == found.files
    assert found.origins["limits.kek_age"] == str(places.user)
    assert found.origins["limits.deadline"] == str(places.system)


def test_the_result_is_what_a_key_ring_is_made_from(places: Places) -> None:
    write(places.user, 'keys = ["local:k"]\n[local]\nkeystore = "store"\n[limits]\nkek_age = 60')
    ring = envelope.KeyRing.load()
    assert ring.encrypt_to == ring.decrypt_with == ("local:k",)
    assert ring.limits == Limits(kek_age=60)
    assert str(places.user.parent / "store") in repr(ring)
    assert envelope.KeyRing.from_config(ring.to_config()) == ring


def test_explain_tells_the_origin_of_each_value_and_why_a_source_does_not_count(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENVELOPE_KEYS", "local:k")
    write(places.user, 'keys = "local:user"\n[limits]\nkek_age = 60')
    found = config.explain()
    assert found.origins["encrypt_to"] == "ENVELOPE_KEYS"
    states = {source.origin: source.state for source in found.sources}
    assert states == {
        "ENVELOPE_KEYS": "used",
        "working directory": "absent",
        "user": "used",
        "system": "absent",
    }
    assert found.sources[2].reason == "ENVELOPE_KEYS already named keys"
    assert json.loads(json.dumps(found.to_json()))["origins"] == found.origins


def test_settings_for_keys_of_arguments_come_with_no_keys_and_are_told_when_used(
    places: Places, told: list[events.Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENVELOPE_KEYS", "not a key")
    write(places.here, 'keys = "local:here"\n[local]\nkeystore = "store"')
    write(places.user, 'keys = "local:user"')
    found = config.use(keys=False)
    store = {"local": {"keystore": str(places.work / "store")}}
    assert found.result == {"limits": {}, "settings": store}
    assert [source.reason for source in found.sources if source.path == str(places.user)] == [
        "arguments named keys"
    ]
    assert found.sources[0] == config.Source(
        "ENVELOPE_KEYS", None, "passed over", "arguments named keys"
    )
    assert told == [events.ConfigurationUsed(str(places.here), "working directory")]


def test_without_any_configuration_there_is_an_error_with_the_next_step_and_no_key(
    places: Places, tmp_path: Path
) -> None:
    before = sorted(tmp_path.rglob("*"))
    text = refusal(config.resolve)
    assert "no key is configured" in text
    assert "envelope init" in text
    assert "ENVELOPE_KEYS" in text
    assert "send the KeyRing itself" in text
    assert str(places.user) in text
    assert sorted(tmp_path.rglob("*")) == before
    assert "encrypt_to" not in config.explain().result


def test_a_home_that_is_not_known_is_not_looked_for_in_the_working_directory(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config, "user_path", lambda: "~/.config/envelope/envelope.toml")
    trap = places.work / "~" / ".config" / "envelope" / "envelope.toml"
    trap.parent.mkdir(parents=True)
    write(trap, 'keys = "local:attacker"')
    assert "encrypt_to" not in config.explain().result


@pytest.mark.parametrize("how", ["argument", "environment"])
def test_a_named_file_has_to_exist(
    places: Places, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    write(places.user, 'keys = "local:user"')
    missing = str(places.named)
    if how == "environment":
        monkeypatch.setenv("ENVELOPE_CONFIG", missing)
    text = refusal(config.resolve, missing if how == "argument" else None)
    assert f"{missing}: there is no such file" in text


# --- The document ---------------------------------------------------------------------------------


def test_the_examples_of_the_document_are_configurations(places: Places) -> None:
    blocks = re.findall(r"```toml\n(.*?)```", DOCS.read_text("utf-8"), re.DOTALL)
    assert len(blocks) >= 3
    profiles: set[str] = set()
    files: list[str] = []
    for block in blocks:
        found = schema.parse(block, "/folder/envelope.toml")
        assert found.top.keys is not None
        profiles |= set(found.profiles)
        files += list(found.top.sections.get("local", {}).values())
    assert profiles == {"dev", "prod"}
    assert "/folder/keystore.passphrase" in files


def test_the_examples_of_the_keys_variable_are_understood(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    [block] = re.findall(r"```text\n(ENVELOPE_KEYS.*?)```", DOCS.read_text("utf-8"), re.DOTALL)
    for line in block.splitlines():
        monkeypatch.setenv("ENVELOPE_KEYS", line.partition("=")[2].strip("\"'"))
        assert [keyurl.parse(key) for key in config.resolve()["encrypt_to"]]


def test_the_document_names_every_setting_of_the_file() -> None:
    text = DOCS.read_text("utf-8")
    for name in [*schema.KEY_NAMES, *schema.FILE_OPTIONS, "default_profile"]:
        assert f"`{name}`" in text or f"`[{name}]`" in text, name
