"""Where configuration comes from, what may stand in it, and who must not be able to choose it."""

from __future__ import annotations

import json
import os
import re
import stat
import threading
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import envelope
from envelope import config, configfile, events, keyurl, resolvers, schema
from envelope.errors import AlreadyExists, ConfigurationError
from envelope.keys import KeyResolver
from envelope.limits import Limits

DOCS = Path(__file__).parent.parent / "docs" / "configuration.md"


class LocalSettings:
    """As much of a driver as configuration needs to know; no keystore takes part here."""

    def settings(self, options: Mapping[str, Any]) -> dict[str, Any]:
        return dict(options)

    def resolver(self, settings: Mapping[str, Any]) -> KeyResolver:
        raise AssertionError("configuration asks for no key")


@pytest.fixture(autouse=True)
def local_driver() -> Iterator[None]:
    put_back = resolvers.register("local", LocalSettings())
    yield
    put_back()


class Places:
    """The four places of files, below one folder; nothing of the real user's is seen."""

    def __init__(self, root: Path) -> None:
        self.work = root / "work"
        self.user = root / "home-config" / "envelope" / "envelope.toml"
        self.system = root / "system-config" / "envelope" / "envelope.toml"
        self.named = root / "named" / "envelope.toml"
        self.here = self.work / "envelope.toml"
        for file in (self.user, self.system, self.named, self.here):
            file.parent.mkdir(parents=True)
            file.parent.chmod(0o755)


def write(file: Path, text: str, mode: int = 0o644) -> Path:
    file.write_text(text, encoding="utf-8")
    file.chmod(mode)
    return file


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Places:
    found = Places(tmp_path)
    for name in [name for name in os.environ if name.startswith("ENVELOPE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(config, "user_path", lambda: str(found.user))
    monkeypatch.setattr(config, "system_path", lambda: str(found.system))
    monkeypatch.chdir(found.work)
    return found


@pytest.fixture
def told() -> Iterator[list[events.Event]]:
    seen: list[events.Event] = []
    unsubscribe = events.subscribe(seen.append)
    yield seen
    unsubscribe()


def refusal(call: Callable[..., object], *args: Any, **options: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        call(*args, **options)
    return str(caught.value)


# --- Which source wins --------------------------------------------------------------------------


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


# --- ENVELOPE_KEYS ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "to", "using"),
    [
        ("local:a", ["local:a"], ["local:a"]),
        (" local:a,local:b ", ["local:a", "local:b"], ["local:a", "local:b"]),
        ("local:a\n local:b , local:a", ["local:a", "local:b"], ["local:a", "local:b"]),
        ('["local:a"]', ["local:a"], ["local:a"]),
        ('{"encrypt_to": "local:a", "decrypt_with": []}', ["local:a"], []),
        ('{"keys": "local:a", "encrypt_to": ["local:b"]}', ["local:a", "local:b"], ["local:a"]),
    ],
)
def test_the_keys_variable_takes_lists_and_json(
    places: Places, monkeypatch: pytest.MonkeyPatch, text: str, to: list[str], using: list[str]
) -> None:
    monkeypatch.setenv("ENVELOPE_KEYS", text)
    found = config.resolve()
    assert (found["encrypt_to"], found["decrypt_with"]) == (to, using)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (",", "no key is named"),
        ("{}", "names no key"),
        ("lake", "is not a key name"),
        ('["local:a"', "is not JSON"),
        ("[" * 60_000, "is not JSON"),
        ('{"keys": "local:a", "keys": "local:b"}', "stands twice"),
        ('{"key": "local:a"}', "Did you mean 'keys'?"),
        ('{"limits": {}}', "unknown name 'limits'"),
        ('{"aliases": {"local:a/1": "local:a/2"}}', "aliases without keys"),
        ('{"keys": "local:a", "aliases": ["x"]}', "aliases must be a table"),
        ('{"keys": "local:a", "aliases": {"local:a/1": 5}}', "a key's name is text"),
        ("[1]", "keys must be text or a list of texts"),
        ('{"keys": NaN}', "keys must be text"),
        ('{"keys": "local:a", "required_context": [""]}', "1 to 128 bytes"),
        ('["local:a\\u0000"]', "only printable ASCII"),
    ],
)
def test_a_bad_keys_variable_is_refused_with_what_is_wrong(
    places: Places, monkeypatch: pytest.MonkeyPatch, text: str, said: str
) -> None:
    write(places.user, 'keys = "local:user"')
    monkeypatch.setenv("ENVELOPE_KEYS", text)
    message = refusal(config.resolve)
    assert said in message
    assert message.startswith("ENVELOPE_KEYS")


def test_an_empty_keys_variable_counts_as_none(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(places.user, 'keys = "local:user"')
    monkeypatch.setenv("ENVELOPE_KEYS", "  ")
    assert config.resolve()["encrypt_to"] == ["local:user"]


# --- Profiles -----------------------------------------------------------------------------------

PROFILES = """
default_profile = "dev"
keys = "local:top"
required_context = ["tenant"]
[limits]
kek_age = 1
deadline = 2
[profile.dev]
keys = "local:dev"
[profile.prod]
encrypt_to = "local:prod"
[profile.prod.limits]
kek_age = 3
[profile.quick.limits]
deadline = 1
"""


def test_a_profile_replaces_the_keys_as_a_whole_and_merges_the_rest(places: Places) -> None:
    write(places.user, PROFILES)
    found = config.explain(profile="prod")
    assert found.result["encrypt_to"] == ["local:prod"]
    assert found.result["decrypt_with"] == found.result["required_context"] == []
    assert found.result["limits"] == {"kek_age": 3, "deadline": 2}
    assert found.origins["encrypt_to"] == f"{places.user} [profile.prod]"
    assert found.origins["limits.deadline"] == str(places.user)


def test_a_profile_without_keys_has_those_of_its_file(places: Places) -> None:
    write(places.user, PROFILES)
    found = config.resolve(profile="quick")
    assert found["encrypt_to"] == ["local:top"]
    assert found["required_context"] == ["tenant"]
    assert found["limits"] == {"kek_age": 1, "deadline": 1}


def test_the_profile_is_chosen_by_argument_then_environment_then_the_file(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(places.user, PROFILES)
    assert config.resolve()["encrypt_to"] == ["local:dev"]
    monkeypatch.setenv("ENVELOPE_PROFILE", "prod")
    assert config.resolve()["encrypt_to"] == ["local:prod"]
    assert config.resolve(profile="dev")["encrypt_to"] == ["local:dev"]


def test_a_file_that_does_not_know_the_profile_cannot_provide_its_keys(places: Places) -> None:
    write(places.here, 'keys = "local:here"\n[limits]\ndeadline = 9')
    write(places.user, PROFILES)
    found = config.explain(profile="prod")
    assert found.result["encrypt_to"] == ["local:prod"]
    assert found.result["limits"]["deadline"] == 9
    assert found.sources[1].reason == "it has no profile 'prod'"


def test_a_profile_that_no_file_knows_is_refused_with_the_nearest_name(places: Places) -> None:
    write(places.user, PROFILES)
    assert "Did you mean 'prod'?" in refusal(config.explain, profile="prdo")
    assert "Known: dev, prod, quick." in refusal(config.explain, profile="zzz")


def test_a_profile_given_as_argument_stands_above_the_keys_variable(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(places.user, PROFILES)
    monkeypatch.setenv("ENVELOPE_KEYS", "local:environment")
    assert config.resolve(profile="prod")["encrypt_to"] == ["local:prod"]
    monkeypatch.setenv("ENVELOPE_PROFILE", "prod")
    assert config.resolve()["encrypt_to"] == ["local:environment"]


# --- Whose working directory it is --------------------------------------------------------------

ATTACK = 'keys = "azurekeyvault://attacker/key"'


def assert_passed_over(places: Places, told: list[events.Event], why: str) -> None:
    """The user's keys count, and the refused file is named with the reason."""
    write(places.user, 'keys = "local:user"')
    assert config.resolve()["encrypt_to"] == ["local:user"]
    [notice] = [event for event in told if isinstance(event, events.Notice)]
    assert str(places.here) in notice.text
    assert why in notice.text
    used = [event.path for event in told if isinstance(event, events.ConfigurationUsed)]
    assert used == [str(places.user)]
    assert [s.state for s in config.explain().sources if s.path == str(places.here)] == ["refused"]


def test_a_safe_file_of_the_working_directory_is_named_when_used(
    places: Places, told: list[events.Event]
) -> None:
    write(places.here, 'keys = "local:here"')
    assert config.resolve()["encrypt_to"] == ["local:here"]
    assert told == [events.ConfigurationUsed(str(places.here), "working directory")]


@pytest.mark.parametrize("mode", [0o646, 0o664, 0o666, 0o602])
def test_a_file_that_others_can_write_is_passed_over(
    places: Places, told: list[events.Event], mode: int
) -> None:
    write(places.here, ATTACK, mode)
    assert_passed_over(places, told, "others can write to it")


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o775, 0o757])
def test_a_file_in_a_folder_that_others_can_write_is_passed_over(
    places: Places, told: list[events.Event], mode: int
) -> None:
    write(places.here, ATTACK)
    places.work.chmod(mode)
    assert_passed_over(places, told, "others can write to its folder")


def test_a_symbolic_link_is_passed_over_even_to_a_safe_file(
    places: Places, told: list[events.Event]
) -> None:
    places.here.symlink_to(write(places.named, ATTACK))
    assert_passed_over(places, told, "symbolic link")


def test_a_fifo_is_passed_over_and_does_not_hang(places: Places, told: list[events.Event]) -> None:
    os.mkfifo(places.here, 0o600)
    assert_passed_over(places, told, "not a regular file")


def test_a_folder_of_that_name_is_passed_over(places: Places, told: list[events.Event]) -> None:
    places.here.mkdir()
    places.here.chmod(0o755)
    assert_passed_over(places, told, "not a regular file")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_file_or_folder_of_another_user_is_passed_over(
    places: Places, told: list[events.Event]
) -> None:
    write(places.here, ATTACK)
    os.chown(places.here, 12345, -1)
    assert_passed_over(places, told, "it belongs to another user")
    os.chown(places.here, 0, -1)
    os.chown(places.work, 12345, -1)
    told.clear()
    assert_passed_over(places, told, "its folder belongs to another user")


def test_the_owner_that_counts_is_the_effective_user(
    places: Places, told: list[events.Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(places.here, ATTACK)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert_passed_over(places, told, "it belongs to another user")


def test_a_file_exchanged_after_the_check_is_not_what_is_read(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(places.here, 'keys = "local:checked"')
    real = os.fstat

    def exchange(descriptor: int) -> os.stat_result:
        status = real(descriptor)
        other = write(places.work / "other", ATTACK)
        other.rename(places.here)
        return status

    monkeypatch.setattr(os, "fstat", exchange)
    assert config.resolve()["encrypt_to"] == ["local:checked"]
    assert "attacker" in places.here.read_text()


def test_files_exchanged_all_the_time_never_smuggle_in_a_writable_one(places: Places) -> None:
    """A safe and an unsafe file take turns under the name; what is used was always the safe one."""
    write(places.user, 'keys = "local:user"')
    stop = threading.Event()

    def exchange() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            text, mode = (ATTACK, 0o666) if number % 2 else ('keys = "local:checked"', 0o644)
            write(places.work / "other", text, mode).rename(places.here)

    thread = threading.Thread(target=exchange)
    thread.start()
    try:
        seen = {config.explain().result["encrypt_to"][0] for _ in range(300)}
    finally:
        stop.set()
        thread.join()
    assert seen <= {"local:checked", "local:user"}


def test_a_removed_working_directory_has_no_configuration(places: Places) -> None:
    write(places.user, 'keys = "local:user"')
    places.work.rmdir()
    assert config.resolve()["encrypt_to"] == ["local:user"]


def test_a_file_of_the_working_directory_cannot_start_a_program(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(places.here, 'keys = "local:a"\n[local]\npassphrase_command = ["touch", "x"]')
    text = refusal(config.resolve)
    assert f"{places.here}:3: local.passphrase_command would start a program" in text
    named = config.resolve(places.here)  # named by a person, who may
    assert named["settings"] == {"local": {"passphrase_command": ["touch", "x"]}}


def test_a_profile_of_the_working_directory_cannot_start_a_program_either(places: Places) -> None:
    write(places.here, '[profile.x.local]\npassphrase_command = "touch x"')
    assert "would start a program" in refusal(config.explain)


def test_the_users_own_folder_as_working_directory_has_no_restrictions(
    places: Places, monkeypatch: pytest.MonkeyPatch, told: list[events.Event]
) -> None:
    write(places.user, 'keys = "local:user"\n[local]\npassphrase_command = "x"', 0o664)
    monkeypatch.chdir(places.user.parent)
    assert config.resolve()["settings"] == {"local": {"passphrase_command": "x"}}
    assert told == [events.ConfigurationUsed(str(places.user), "user")]


def test_a_named_file_may_be_a_link_and_one_that_anybody_can_write_is_told(
    places: Places, told: list[events.Event]
) -> None:
    write(places.named, 'keys = "local:named"', 0o666)
    link = places.work / "link.toml"
    link.symlink_to(places.named)
    assert config.resolve(link)["encrypt_to"] == ["local:named"]
    assert events.Notice(f"anybody can write to the configuration {link}") in told


def test_a_user_file_that_anybody_can_write_is_an_error(places: Places) -> None:
    write(places.user, ATTACK, 0o646)
    assert f"anybody can write to {places.user}" in refusal(config.resolve)


# --- What may stand in a file -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ('kyes = "local:a"', 1, "unknown name 'kyes' [ENV-CONFIG]. Did you mean 'keys'?"),
        ('\nkeys = "local:a"\nencrypt_too = []', 3, "Did you mean 'encrypt_to'?"),
        ("[limit]\nkek_age = 1", 1, "Did you mean 'limits'?"),
        ("[loacl]", 1, "Did you mean 'local'?"),
        ("[limits]\nkek_agee = 1", 2, "Did you mean 'kek_age'?"),
        ("[limits]\nkek_age = 0", 2, "must be a number above zero"),
        ("[limits]\nkek_age = nan", 2, "kek_age"),
        ("[limits]\nkek_age = 1979-05-27", 2, "kek_age"),
        ("limits = 5", 1, "limits must be a table"),
        ("[files]\nthread = 1", 2, "Did you mean 'threads'?"),
        ("[files]\nthreads = 0", 2, "1 to 64"),
        ("[files]\nthreads = true", 2, "1 to 64"),
        ('[files]\ndurable = "no"', 2, "true or false"),
        ('[files]\nsuffix = "../x"', 2, "a dot and up to 31"),
        ('[files]\nsuffix = "env1"', 2, "a dot and up to 31"),
        ("local = 5", 1, "local must be a table"),
        ("[local]\nkeystore = 1979-05-27", 2, "local.keystore has a value of a kind"),
        ("[local]\nnumber = inf", 2, "local.number has a value of a kind"),
        ('[local]\nkeystore = ""', 2, "is not a path"),
        ('[local]\nkeystore = "~no-such-user-here/x"', 2, "is not a path"),
        ("keys = 5", 1, "keys must be text or a list"),
        ("keys = [5]", 1, "keys must be text or a list"),
        ("keys = []", 1, "no key is named"),
        ('keys = "lake"', 1, "'lake' is not a key name"),
        ('keys = "local:Lake"', 1, "'local:Lake' is not a key name"),
        ('keys = "local:a"\nrequired_context = 5', 2, "required_context must be text"),
        ('required_context = ["a"]', 1, "required_context without keys"),
        ('[aliases]\n"local:a/1" = "local:a/2"', 1, "aliases without keys"),
        ("[profile.a.limit]", 1, "unknown name 'profile.a.limit'"),
        ("[limits]\ndeadline = 1\n[profile.a.limits]\ndeadline = 0", 4, "above zero"),
        ("[profile.a]\nprofile = 5", 1, "unknown name 'profile.a.profile'"),
        ("profile = 5", 1, "profile must be a table"),
        ('default_profile = "prdo"\n[profile.prod]', 1, "Did you mean 'prod'?"),
        ('default_profile = "prod"', 1, "None is known here."),
    ],
)
def test_a_mistake_is_named_with_file_line_and_nearest_name(
    places: Places, text: str, line: int, said: str
) -> None:
    write(places.user, text)
    message = refusal(config.explain)
    assert message.startswith(f"{places.user}:{line}: ")
    assert said in message


def test_a_scheme_without_a_driver_is_no_section(places: Places) -> None:
    write(places.user, 'keys = "local:a"\n[nosuchvault]\nx = 1')
    assert "unknown name 'nosuchvault'" in refusal(config.resolve)


def test_paths_are_relative_to_their_file_and_know_the_home(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    write(
        places.named,
        'encrypt_to = ["public:./keys/a.pem", "public:~/b.pem", "public:/c.pem"]\n'
        '[local]\nkeystore = "~/keys"\npassphrase_file = "../secret"\nname = "~/as-it-is"',
    )
    found = config.resolve(os.path.relpath(places.named))
    folder = places.named.parent
    assert found["encrypt_to"] == [
        f"public:{folder}/keys/a.pem",
        "public:/home/someone/b.pem",
        "public:/c.pem",
    ]
    assert found["settings"]["local"] == {
        "keystore": "/home/someone/keys",
        "passphrase_file": f"{folder.parent}/secret",
        "name": "~/as-it-is",
    }


def test_a_public_half_among_keys_is_only_encrypted_to(places: Places) -> None:
    write(places.user, 'keys = ["local:a", "public:/b.pem"]')
    found = config.resolve()
    assert found["encrypt_to"] == ["local:a", "public:/b.pem"]
    assert found["decrypt_with"] == ["local:a"]


def test_a_path_in_the_environment_wins_over_the_file(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(places.user, 'keys = "local:a"\n[local]\nkeystore = "/file"\npassphrase_prompt = "x"')
    monkeypatch.setenv("ENVELOPE_KEYSTORE", "from-environment")
    monkeypatch.setenv("ENVELOPE_PASSPHRASE_PROMPT", "a setting that is no path stays")
    found = config.explain()
    assert found.result["settings"]["local"] == {
        "keystore": str(places.work / "from-environment"),
        "passphrase_prompt": "x",
    }
    assert found.origins["local.keystore"] == "ENVELOPE_KEYSTORE"


def test_a_passphrase_in_the_environment_never_enters_the_configuration(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(places.user, 'keys = "local:a"\n[local]\npassphrase = "in the file"')
    monkeypatch.setenv("ENVELOPE_PASSPHRASE", "canary-in-the-environment")
    assert "canary" not in json.dumps(config.explain().to_json())


def test_a_key_that_is_spelt_twice_counts_once(places: Places) -> None:
    write(
        places.user,
        'keys = ["azurekeyvault://acme/lake", "https://ACME.vault.azure.net:443/keys/lake/"]',
    )
    assert config.resolve()["encrypt_to"] == ["azurekeyvault://acme/lake"]


# --- Files that are attacks on the parser -------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"# \xff", ":1: it is not UTF-8"),
        (b'keys = "local:a"\n\n# \xed\xa0\x80', ":3: it is not UTF-8"),
        ('keys = "local:a"'.encode("utf-16"), "it is not UTF-8"),
        (b"\xef\xbb\xbfkeys = 'local:a'", "it is not TOML"),
        (b"keys = ", "it is not TOML"),
        (b"a\x00b", "it is not TOML"),
        (b'"' + b"a" * 10**6 + b'" = 1', "unknown name 'aaaa"),
        (b'keys = "' + b"a" * 10**6 + b'"', "'aaaa"),
        (b"#" * 2**20 + b"\n", "larger than 1048576 bytes"),
        (b"a = " + b"[" * 200_000, "nested too deeply"),
        (b"a = " + b"{a=" * 200_000, "nested too deeply"),
        (b".".join([b"a"] * 400_000) + b" = 1", "more than 64 dots"),
        (b'"=".' + b".".join([b"a"] * 400_000) + b" = 1", "more than 64 dots"),
        (b"[limits]\nkek_files = " + b"9" * 500_000, "it is not TOML"),
        (b'keys = "local:a"\nkeys = "local:b"', "it is not TOML"),
        (b"keys.a = 1\n[keys]\nb = 2", "it is not TOML"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_file_that_is_no_configuration_is_refused_in_bounded_time(
    places: Places, data: bytes, said: str
) -> None:
    places.user.write_bytes(data)
    message = refusal(config.explain)
    assert said in message
    assert str(places.user) in message
    assert len(message) < 1000


def test_a_comment_may_have_as_many_dots_as_it_likes(places: Places) -> None:
    write(places.user, f'  # {"." * 80}\nkeys = "local:a"')
    assert config.resolve()["encrypt_to"] == ["local:a"]


def test_a_file_of_exactly_the_largest_size_is_read(places: Places) -> None:
    text = 'keys = "local:a"\n'
    write(places.user, text + "#" * (2**20 - len(text)))
    assert config.resolve()["encrypt_to"] == ["local:a"]


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/null", "a\0b", "."])
def test_what_is_no_regular_file_is_no_configuration(places: Places, path: str) -> None:
    assert "[ENV-CONFIG]" in refusal(config.resolve, path)


plain = st.text(max_size=12) | st.integers(-9, 9) | st.booleans()
names = st.sampled_from(["keys", "encrypt_to", "limits", "local", "files", "profile", "kek_age"])
shapes = st.recursive(
    plain | st.lists(plain, max_size=3),
    lambda inner: st.dictionaries(names | st.text(max_size=5), inner, max_size=3),
    max_leaves=12,
)


@settings(deadline=None)
@given(st.dictionaries(names, shapes, max_size=4))
def test_any_shape_of_values_is_either_understood_or_a_configuration_error(
    content: dict[str, Any],
) -> None:
    try:
        text = toml_of(content)
        tomllib.loads(text)
    except (ConfigurationError, ValueError):
        return
    try:
        found = schema.parse(text, "/folder/envelope.toml")
    except ConfigurationError as error:
        assert error.message.startswith("/folder/envelope.toml")  # noqa: PT017  both ends are right
    else:
        assert found.path == "/folder/envelope.toml"


def toml_of(content: dict[str, Any]) -> str:
    """Inline tables, which the library itself never writes."""

    def value(given: Any) -> str:
        if isinstance(given, dict):
            return "{" + ", ".join(f"{json.dumps(k)} = {value(v)}" for k, v in given.items()) + "}"
        if isinstance(given, list):
            return "[" + ", ".join(map(value, given)) + "]"
        return json.dumps(given).replace("\x7f", "\\u007f")

    return "\n".join(f"{name} = {value(given)}" for name, given in content.items())


# --- Writing ------------------------------------------------------------------------------------


def test_what_is_written_is_read_back_and_explains_itself(places: Places) -> None:
    mapping = {
        "encrypt_to": ["local:a", "azurekeyvault://acme/lake"],
        "decrypt_with": ["local:a"],
        "required_context": [],
        "aliases": {},
        "limits": {"kek_age": 60},
        "settings": {"local": {"keystore": '/tmp/with "quotes" and \\ and \x7f and é'}},
    }
    config.write_new(places.named, mapping)
    text = places.named.read_text("utf-8")
    assert text.count("#") >= 4
    assert "required_context" not in text
    assert "aliases" not in text
    assert config.resolve(places.named) == mapping


def test_the_users_file_is_private_and_others_are_readable_whatever_the_umask(
    places: Places,
) -> None:
    before = os.umask(0o077)
    try:
        config.write_new(places.named, {"keys": "local:a"})
        config.write_new(places.user, {"keys": "local:a"})
        os.umask(0)
        config.write_new(places.here, {"keys": "local:a"})
    finally:
        os.umask(before)
    modes = [stat.S_IMODE(f.stat().st_mode) for f in (places.user, places.named, places.here)]
    assert modes == [0o600, 0o644, 0o644]
    assert config.explain().sources[1].state == "used"  # what was written here is safe to use


@pytest.mark.parametrize("kind", ["file", "folder", "broken link"])
def test_nothing_is_ever_overwritten(places: Places, kind: str) -> None:
    if kind == "file":
        write(places.named, "# mine")
    elif kind == "folder":
        places.named.mkdir()
    else:
        places.named.symlink_to("nowhere")
    before = sorted(places.named.parent.iterdir())
    with pytest.raises(AlreadyExists) as caught:
        config.write_new(places.named, {"keys": "local:a"})
    assert str(places.named) in str(caught.value)
    assert sorted(places.named.parent.iterdir()) == before
    assert kind != "file" or places.named.read_text() == "# mine"
    assert not (places.named.parent / "nowhere").exists()


def test_of_many_writers_one_wins_and_nothing_is_left_over(places: Places) -> None:
    results: list[str] = []

    def work(number: int) -> None:
        try:
            config.write_new(places.named, {"keys": f"local:k{number}"})
            results.append(f"local:k{number}")
        except AlreadyExists:
            pass

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert config.resolve(places.named)["encrypt_to"] == results
    assert os.listdir(places.named.parent) == ["envelope.toml"]


def test_a_file_system_without_hard_links_is_written_to_and_not_overwritten_either(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: Any, **__: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    config.write_new(places.named, {"keys": "local:a"})
    assert config.resolve(places.named)["encrypt_to"] == ["local:a"]
    with pytest.raises(AlreadyExists):
        config.write_new(places.named, {"keys": "local:b"})
    assert os.listdir(places.named.parent) == ["envelope.toml"]


def test_a_failed_write_leaves_nothing_behind(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        config.write_new(places.named, {"keys": "local:a"})
    assert os.listdir(places.named.parent) == []


@pytest.mark.parametrize(
    "mapping",
    [
        {"keys": "not a key"},
        {"kyes": "local:a"},
        {"keys": "local:a", "settings": {"local": {"x": None}}},
        {"keys": "local:a", "settings": {"local": {"x": "\ud800"}}},
        {"keys": "local:a", "limits": {"kek_age": float("nan")}},
    ],
)
def test_what_would_not_be_a_valid_configuration_is_not_written(
    places: Places, mapping: dict[str, Any]
) -> None:
    with pytest.raises(ConfigurationError):
        config.write_new(places.named, mapping)
    assert os.listdir(places.named.parent) == []


@given(
    st.dictionaries(
        st.text(min_size=1, max_size=8),
        st.text(max_size=20)
        | st.booleans()
        | st.integers(-(2**60), 2**60)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.lists(st.text(max_size=5), max_size=3),
        min_size=1,
        max_size=4,
    )
)
def test_any_plain_value_survives_writing_and_reading(options: dict[str, Any]) -> None:
    text = configfile.render({"keys": ["local:a"], "settings": {"local": options}})
    assert tomllib.loads(text) == {"keys": ["local:a"], "local": options}


# --- The document -------------------------------------------------------------------------------


def test_the_examples_of_the_document_are_configurations(places: Places) -> None:
    blocks = re.findall(r"```toml\n(.*?)```", DOCS.read_text("utf-8"), re.DOTALL)
    assert len(blocks) >= 2
    for block in blocks:
        found = schema.parse(block, "/folder/envelope.toml")
        assert found.top.keys is not None
    assert set(found.profiles) == {"dev", "prod"}
    assert found.top.sections["local"]["passphrase_file"] == "/folder/keystore.passphrase"


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
