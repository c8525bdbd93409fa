"""Backup and restore between two folders."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from envelope import errors
from envelope.keystore import passphrase
from envelope.keystore.driver import LocalKeys
from envelope.secret import Secret
from tests.keystore.conftest import FLOOR, Open

PHRASE = Secret(b"the backup's own")


@pytest.mark.parametrize("kty", ["oct", "RSA"])
def test_files_open_under_a_restored_keystore(
    protected: LocalKeys, open_keystore: Open, kty: str
) -> None:
    protected.create("local:second", kty=kty)
    key, secret = protected.resolve("local:second"), Secret.random()
    wrapped = key.wrap(secret, aad=b"")
    protected.rotate("local:second")
    blob = protected.backup(None, PHRASE)
    passphrase.forget()
    passphrase.provide(Secret(b"the other machine's"))
    there = open_keystore("there")
    restored = there.restore(blob, PHRASE)
    assert [info.kid for info in restored] == [info.kid for info in protected_kids(there)]
    assert there.resolve(wrapped.kid).unwrap(wrapped, aad=b"") == secret
    assert there.contents.head().protect == "passphrase"  # type: ignore[union-attr]


def protected_kids(keys: LocalKeys) -> list[object]:
    return list(keys.list_keys())


def test_a_restored_keystore_has_the_same_versions_states_and_order(
    plain: LocalKeys, open_keystore: Open
) -> None:
    first = plain.list_keys()[0].kid
    second = plain.rotate("local:lake", expires="2100-01-01T00:00:00Z").kid
    third = plain.rotate("local:lake", note="third").kid
    plain.set_enabled(second, False)
    plain.delete(third)
    plain.purge(first)
    there = open_keystore("there")
    there.restore(plain.backup(None, PHRASE), PHRASE)
    assert there.list_keys() == plain.list_keys()
    assert there.contents.head().protect == "permissions"  # type: ignore[union-attr]
    there.recover(third)
    assert there.resolve("local:lake").kid == third


def test_one_key_can_be_backed_up_alone(plain: LocalKeys, open_keystore: Open) -> None:
    plain.create("local:other")
    there = open_keystore("there")
    there.restore(plain.backup("local:other", PHRASE), PHRASE)
    assert {info.kid for info in there.list_keys()} == {
        info.kid for info in plain.list_keys("local:other")
    }
    for bad in ("local:missing", plain.list_keys()[0].kid):
        with pytest.raises(errors.EnvelopeError):
            plain.backup(bad, PHRASE)


def test_the_passphrase_of_a_backup_is_checked(plain: LocalKeys, open_keystore: Open) -> None:
    blob = plain.backup(None, PHRASE)
    there = open_keystore("there")
    with pytest.raises(errors.AccessDenied):
        there.restore(blob, Secret(b"wrong"))
    assert not Path(there.contents.folder.path).exists()
    with pytest.raises(errors.ConfigurationError):
        plain.backup(None, Secret(b""))


def test_a_changed_backup_is_refused(plain: LocalKeys, open_keystore: Open) -> None:
    whole = json.loads(plain.backup(None, PHRASE))
    there = open_keystore("there")
    for member in whole:
        if member in ("envelope_keystore_backup", "kdf"):
            changed = {**whole, member: 2}
        elif isinstance(whole[member], int):
            changed = {**whole, member: whole[member] + 1}
        else:
            text = whole[member]
            changed = {**whole, member: ("B" if text[0] != "B" else "C") + text[1:]}
        with pytest.raises((errors.AccessDenied, errors.IntegrityError)):
            there.restore(json.dumps(changed).encode(), PHRASE)
    for junk in (b"", b"{}", b"junk", b'{"envelope_keystore_backup":1}'):
        with pytest.raises(errors.IntegrityError):
            there.restore(junk, PHRASE)


def test_restoring_twice_changes_nothing(plain: LocalKeys) -> None:
    blob = plain.backup(None, PHRASE)
    files = {p: p.read_bytes() for p in Path(plain.contents.folder.path).iterdir()}
    assert plain.restore(blob, PHRASE) == []
    assert {p: p.read_bytes() for p in files} == files


def test_what_is_here_keeps_its_state(plain: LocalKeys) -> None:
    first, second = plain.list_keys()[0].kid, plain.rotate("local:lake").kid
    blob = plain.backup(None, PHRASE)
    plain.set_enabled(first, False)
    plain.purge(second)
    plain.restore(blob, PHRASE)
    assert [info.state for info in plain.list_keys()] == ["disabled", "destroyed"]


def test_a_backups_tombstone_destroys_nothing(plain: LocalKeys, open_keystore: Open) -> None:
    kid = plain.list_keys()[0].kid
    there = open_keystore("there")
    there.restore(plain.backup(None, PHRASE), PHRASE)
    plain.purge(kid)
    there.restore(plain.backup(None, PHRASE), PHRASE)
    assert there.list_keys()[0].state == "enabled"


def test_versions_made_on_two_machines_merge_in_order(
    plain: LocalKeys, open_keystore: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    from envelope.keystore import admin

    there = open_keystore("there")
    there.restore(plain.backup(None, PHRASE), PHRASE)
    kids = [plain.list_keys()[0].kid]
    for year, keys in ((2101, there), (2102, plain), (2103, there)):
        moment = f"{year}-01-01T00:00:00Z"
        monkeypatch.setattr(admin, "now", lambda moment=moment: moment)
        kids.append(keys.rotate("local:lake").kid)
    added = plain.restore(there.backup(None, PHRASE), PHRASE)
    assert [info.kid for info in added] == [kids[1], kids[3]]
    assert [info.kid for info in plain.list_keys()] == kids
    assert plain.resolve("local:lake").kid == kids[3]


def test_a_different_key_of_the_same_name_is_never_merged_silently(
    plain: LocalKeys, open_keystore: Open
) -> None:
    there = open_keystore("there")
    foreign = there.create("local:lake", protect="permissions").kid
    there.create("local:extra")
    mine = plain.list_keys()
    blob = there.backup(None, PHRASE)
    with pytest.raises(errors.AlreadyExists):
        plain.restore(blob, PHRASE)
    assert plain.list_keys() == mine  # and local:extra was not added by halves
    plain.restore(blob, PHRASE, merge=True)
    assert plain.resolve("local:lake").kid == mine[0].kid  # new files: the same key as before
    assert plain.resolve(foreign).kid == foreign
    assert plain.list_keys("local:extra")


def test_other_material_under_the_same_kid_is_refused(
    plain: LocalKeys, open_keystore: Open
) -> None:
    plain.import_key("local:paper/abc", Secret(bytes(32)))
    there = open_keystore("there")
    there.import_key("local:paper/abc", Secret(bytes([1]) * 32), protect="permissions")
    for merge in (False, True):
        with pytest.raises(errors.AlreadyExists, match="other key material"):
            plain.restore(there.backup(None, PHRASE), PHRASE, merge=merge)
    assert plain.contents.require("paper").versions[0].material == Secret(bytes(32))


def test_protection_can_change_on_the_way(plain: LocalKeys, open_keystore: Open) -> None:
    passphrase.provide(Secret(b"now with one"))
    there = open_keystore("there")
    there.restore(plain.backup(None, PHRASE), PHRASE, protect="passphrase")
    assert there.contents.head().protect == "passphrase"  # type: ignore[union-attr]
    text = (Path(there.contents.folder.path) / "lake.key.json").read_text()
    assert '"enc":"none"' not in text


def test_a_backup_quiets_the_warning_and_a_new_version_brings_it_back(
    plain: LocalKeys, notices: list[str], open_keystore: Open
) -> None:
    plain.backup(None, PHRASE)
    assert all(version.backed_up for version in plain.contents.require("lake").versions)
    plain.rotate("local:lake")
    assert [bool(v.backed_up) for v in plain.contents.require("lake").versions] == [True, False]


def test_there_is_nothing_to_back_up_without_keys(open_keystore: Open) -> None:
    with pytest.raises(errors.KeyNotFound):
        open_keystore("absent").backup(None, PHRASE)


def test_a_backup_uses_the_parameters_that_it_states(plain: LocalKeys) -> None:
    outer = json.loads(plain.backup(None, PHRASE))
    assert {name: outer[name] for name in FLOOR} == FLOOR
    assert outer["kdf"] == "argon2id"
