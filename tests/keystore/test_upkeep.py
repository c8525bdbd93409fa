"""Passphrases changed and added; what doctor reports."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from envelope import errors
from envelope.keystore import passphrase, upkeep
from envelope.keystore.driver import LocalKeys
from envelope.secret import Secret
from tests.keystore.conftest import PASSPHRASE, Open

FIRST, SECOND, THIRD = Secret(PASSPHRASE.encode()), Secret(b"second"), Secret(b"third")


def opens(keys: LocalKeys, phrase: Secret) -> bool:
    try:
        upkeep.unlock(keys.contents.settings, phrase)
    except errors.AccessDenied:
        return False
    return True


def test_unlocking_checks_the_passphrase_whatever_is_cached(protected: LocalKeys) -> None:
    protected.resolve("local:lake")
    assert upkeep.unlock(protected.contents.settings) == 0
    assert upkeep.unlock(protected.contents.settings, FIRST) == 0
    with pytest.raises(errors.AccessDenied):
        upkeep.unlock(protected.contents.settings, SECOND)


def test_a_changed_passphrase_replaces_the_old_one(
    protected: LocalKeys, open_keystore: Open
) -> None:
    kid, before = protected.resolve("local:lake").kid, protected.contents.raw_head()
    upkeep.change_passphrase(protected.contents.settings, SECOND)
    assert (opens(protected, FIRST), opens(protected, SECOND)) == (False, True)
    assert protected.contents.raw_head() != before
    passphrase.forget()
    passphrase.provide(SECOND)
    assert open_keystore().resolve("local:lake").kid == kid  # the files' MACs hold still


def test_two_passphrases_open_the_same_keystore(protected: LocalKeys, open_keystore: Open) -> None:
    settings = protected.contents.settings
    upkeep.add_passphrase(settings, SECOND, FIRST)
    assert [upkeep.unlock(settings, phrase) for phrase in (FIRST, SECOND)] == [0, 1]
    with pytest.raises(errors.ConfigurationError, match="two passphrases already"):
        upkeep.add_passphrase(settings, THIRD, FIRST)
    upkeep.change_passphrase(settings, THIRD, SECOND)
    assert [opens(protected, phrase) for phrase in (FIRST, SECOND, THIRD)] == [True, False, True]
    upkeep.remove_passphrase(settings, FIRST)
    assert [opens(protected, phrase) for phrase in (FIRST, THIRD)] == [False, True]
    with pytest.raises(errors.ConfigurationError, match="only passphrase"):
        upkeep.remove_passphrase(settings, THIRD)
    passphrase.forget()
    passphrase.provide(THIRD)
    open_keystore().resolve("local:lake")


def test_changing_needs_a_right_passphrase_and_a_new_one(protected: LocalKeys) -> None:
    settings = protected.contents.settings
    with pytest.raises(errors.AccessDenied):
        upkeep.change_passphrase(settings, THIRD, SECOND)
    with pytest.raises(errors.ConfigurationError, match="empty"):
        upkeep.change_passphrase(settings, Secret(b"\n"), FIRST)
    assert opens(protected, FIRST)


def test_a_keystore_under_permissions_or_none_has_no_passphrase(
    plain: LocalKeys, open_keystore: Open
) -> None:
    with pytest.raises(errors.ConfigurationError, match="has no passphrase"):
        upkeep.unlock(plain.contents.settings, FIRST)
    with pytest.raises(errors.KeyNotFound):
        upkeep.unlock(open_keystore("absent").contents.settings, FIRST)


def codes(keys: LocalKeys) -> set[tuple[str, str]]:
    return {(found.level, found.code) for found in upkeep.examine(keys.contents.settings)}


def test_a_sound_keystore_is_found_sound(protected: LocalKeys) -> None:
    protected.backup(None, SECOND)
    assert codes(protected) == {("ok", "access"), ("ok", "protection"), ("ok", "backup")}


def test_what_is_wrong_is_found(plain: LocalKeys, open_keystore: Open) -> None:
    folder = Path(plain.contents.folder.path)
    plain.rotate("local:lake", expires="2020-01-01T00:00:00Z")
    plain.create("local:broken")
    plain.create("local:open")
    (folder / ".x.env1tmp").write_bytes(b"")
    (folder / "broken.key.json").write_text("{}\n")
    (folder / "open.key.json").chmod(0o666)
    found = codes(plain)
    assert {
        ("error", "access"),
        ("error", "unreadable"),
        ("error", "dates"),
        ("warning", "leftover"),
        ("warning", "protection"),
        ("warning", "backup"),
    } <= found
    assert codes(open_keystore("absent")) == {("warning", "folder")}


def test_a_broken_head_is_found(protected: LocalKeys) -> None:
    path = Path(protected.contents.folder.path) / "keystore.json"
    document = json.loads(path.read_text())
    path.write_text(json.dumps(document, separators=(",", ":")) + "\n")
    assert ("error", "unreadable") not in codes(protected)  # the same bytes again
    path.write_text("{\n")
    assert ("error", "unreadable") in codes(protected)


def test_without_a_passphrase_the_rest_is_examined(protected: LocalKeys) -> None:
    passphrase.forget()
    assert codes(protected) == {("ok", "access"), ("ok", "protection"), ("warning", "locked")}


def test_a_resolver_offers_all_of_it_to_the_command_line(protected: LocalKeys) -> None:
    protected.add_passphrase(SECOND)
    protected.change_passphrase(THIRD, SECOND)
    assert (protected.check_passphrase(), protected.check_passphrase(THIRD)) == (0, 1)
    protected.remove_passphrase(THIRD)
    assert protected.examine() == upkeep.examine(protected.contents.settings)


def test_a_lost_keystore_json_is_unreadable_and_not_absent(plain: LocalKeys) -> None:
    (Path(plain.contents.folder.path) / "keystore.json").unlink()
    [found] = upkeep.examine(plain.contents.settings)
    assert (found.level, found.code) == ("error", "unreadable")
    assert "Put keystore.json back" in (found.next_step or "")
