"""Files on the disk: whose they must be to count, and how a new one is written."""

from __future__ import annotations

import os
import stat
import threading
import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envelope import config, configfile, events
from envelope.errors import AlreadyExists, ConfigurationError
from tests.configuration.places import Places, refusal, write

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


# --- Writing --------------------------------------------------------------------------------------


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
