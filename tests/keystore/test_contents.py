"""What the keystore's documents refuse: edits, swaps, splices, other formats."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from envelope import errors
from envelope.keystore import passphrase
from envelope.keystore.driver import LocalKeys
from envelope.secret import Secret
from tests.keystore.conftest import PASSPHRASE, Open


def file(keys: LocalKeys, name: str = "lake.key.json") -> Path:
    return Path(keys.contents.folder.path) / name


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a document and write it as our writer would, with its old MAC."""
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document, separators=(",", ":")) + "\n")


def version(document: dict[str, Any]) -> dict[str, Any]:
    found = document["versions"][0]
    assert isinstance(found, dict)
    return found


EDITS: dict[str, Callable[[dict[str, Any]], object]] = {
    "state": lambda d: version(d).update(state="disabled"),
    "expires": lambda d: version(d).update(expires="2100-01-01T00:00:00Z"),
    "key_ops": lambda d: version(d).update(key_ops=["wrapKey"]),
    "alg": lambda d: version(d).update(alg="dir"),
    "created": lambda d: version(d).update(created="2001-01-01T00:00:00Z"),
    "an unknown member": lambda d: d.update(later=1),
    "no mac": lambda d: d.pop("mac"),
    "an empty mac": lambda d: d.update(mac=""),
    "plain material": lambda d: version(d).update(material={"enc": "none", "value": "AAAA"}),
}


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_without_the_passphrase_is_tampered(protected: LocalKeys, name: str) -> None:
    edit(file(protected), EDITS[name])
    with pytest.raises(errors.Tampered) as caught:
        protected.resolve("local:lake")
    assert caught.value.path == str(file(protected))
    assert "backup" in caught.value.next_step


def test_re_enabling_a_version_by_hand_is_tampered(protected: LocalKeys) -> None:
    protected.set_enabled("local:lake", False)
    text = file(protected).read_text()
    file(protected).write_text(text.replace('"disabled"', '"enabled"'))
    with pytest.raises(errors.Tampered):
        protected.resolve("local:lake")


def test_the_head_cannot_be_edited_either(protected: LocalKeys) -> None:
    edit(file(protected, "keystore.json"), lambda d: d.update(created="2001-01-01T00:00:00Z"))
    with pytest.raises(errors.Tampered):
        protected.resolve("local:lake")


def test_a_files_bytes_may_be_changed_nowhere(protected: LocalKeys) -> None:
    whole = file(protected).read_bytes()
    chance = random.Random(7)
    for place in chance.sample(range(len(whole)), 60):
        changed = bytearray(whole)
        changed[place] ^= 1 << chance.randrange(8)
        file(protected).write_bytes(bytes(changed))
        with pytest.raises((errors.Tampered, errors.Malformed)):
            protected.resolve("local:lake")
    for length in (0, 1, 60, len(whole) - 61, len(whole) - 1):
        file(protected).write_bytes(whole[:length])
        with pytest.raises((errors.Tampered, errors.Malformed)):
            protected.resolve("local:lake")
    file(protected).write_bytes(whole)
    protected.resolve("local:lake")


def test_a_keys_file_is_no_other_keys_file(protected: LocalKeys) -> None:
    protected.create("local:other")
    file(protected, "other.key.json").write_bytes(file(protected).read_bytes())
    with pytest.raises(errors.Tampered):
        protected.resolve("local:other")


def test_a_keystores_file_is_no_other_keystores_file(
    protected: LocalKeys, open_keystore: Open
) -> None:
    there = open_keystore("there")
    there.create("local:lake")
    file(there).write_bytes(file(protected).read_bytes())
    with pytest.raises(errors.Tampered):
        there.resolve("local:lake")


def test_material_is_bound_to_its_version_by_itself(protected: LocalKeys) -> None:
    # Below the file's MAC: as if whoever wrote the file had swapped two versions' material.
    protected.rotate("local:lake")
    _, _, seals = protected.contents._opened()  # type: ignore[misc]
    document = json.loads(file(protected).read_text())
    first, second = document["versions"]
    first["material"], second["material"] = second["material"], first["material"]
    document.pop("mac")
    protected.contents._write("lake.key.json", seals, lambda: document)
    with pytest.raises(errors.Tampered, match="does not belong to it"):
        protected.resolve("local:lake")


def test_a_keystore_replaced_by_another_is_access_denied(
    protected: LocalKeys, open_keystore: Open
) -> None:
    passphrase.provide(Secret(b"the attacker's"))
    attackers = open_keystore("attackers")
    attackers.create("local:lake")
    for name in ("keystore.json", "lake.key.json"):
        file(protected, name).write_bytes(file(attackers, name).read_bytes())
    passphrase.provide(Secret(PASSPHRASE.encode()))
    with pytest.raises(errors.AccessDenied):
        protected.resolve("local:lake")


def test_unknown_members_survive_a_write(plain: LocalKeys) -> None:
    edit(file(plain), lambda d: (d.update(later={"a": [1]}), version(d).update(hint="x")))
    plain.rotate("local:lake")
    document = json.loads(file(plain).read_text())
    assert document["later"] == {"a": [1]}
    assert version(document)["hint"] == "x"


def test_a_signing_key_is_listed_and_not_used(plain: LocalKeys) -> None:
    edit(file(plain), lambda d: version(d).update(kty="EC", alg="ES256", use="sig"))
    (info,) = plain.list_keys()
    assert (info.kty, info.use) == ("EC", "sig")
    with pytest.raises(errors.KeyOperationForbidden):
        plain.resolve("local:lake").wrap(Secret.random(), aad=b"")


HOSTILE: dict[str, Callable[[dict[str, Any]], object]] = {
    "no versions": lambda d: d.update(versions=[]),
    "versions as object": lambda d: d.update(versions={}),
    "another key's name": lambda d: d.update(name="other"),
    "another keystore": lambda d: d.update(keystore="a" * 26),
    "a version twice": lambda d: d.update(versions=[version(d), version(d)]),
    "an unknown state": lambda d: version(d).update(state="paused"),
    "destroyed with material": lambda d: version(d).update(state="destroyed"),
    "enabled without material": lambda d: version(d).pop("material"),
    "a path as version": lambda d: version(d).update(version="../x"),
    "a number as state": lambda d: version(d).update(state=1),
    "bits as text": lambda d: version(d).update(bits="256"),
    "bits as truth": lambda d: version(d).update(bits=True),
    "key_ops as text": lambda d: version(d).update(key_ops="wrapKey"),
    "a local time": lambda d: version(d).update(expires="2100-01-01T00:00:00"),
    "material as text": lambda d: version(d).update(material="AAAA"),
    "no format": lambda d: d.pop("envelope_key"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_document_that_breaks_a_rule_is_malformed(plain: LocalKeys, name: str) -> None:
    edit(file(plain), HOSTILE[name])
    with pytest.raises(errors.Malformed) as caught:
        plain.resolve("local:lake")
    assert caught.value.path == str(file(plain))


def test_keys_whose_keystore_json_is_lost_are_not_taken_for_none(plain: LocalKeys) -> None:
    file(plain, "keystore.json").unlink()
    for use in (
        lambda: plain.resolve("local:lake"),
        plain.list_keys,
        lambda: plain.create("local:other", protect="permissions"),
    ):
        with pytest.raises(errors.Malformed, match=r"no keystore\.json"):
            use()
    assert not file(plain, "keystore.json").exists()


def test_a_later_format_is_unsupported(plain: LocalKeys) -> None:
    edit(file(plain), lambda d: d.update(envelope_key=2))
    with pytest.raises(errors.UnsupportedFormat):
        plain.resolve("local:lake")


def test_sealed_material_in_an_unprotected_keystore_is_tampered(
    plain: LocalKeys, open_keystore: Open
) -> None:
    edit(file(plain), lambda d: version(d)["material"].update(enc="A256GCM"))
    with pytest.raises(errors.Tampered):
        plain.resolve("local:lake")


LEAVES = st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=8)
JSON = LEAVES | st.deferred(
    lambda: st.lists(JSON, max_size=3) | st.dictionaries(st.text(max_size=8), JSON, max_size=3)
)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_whatever_stands_in_a_file_only_our_errors_come_out(
    plain: LocalKeys, data: st.DataObject
) -> None:
    kept = file(plain).read_bytes()
    try:
        document = json.loads(kept)
        holder = data.draw(
            st.sampled_from([document, version(document), version(document)["material"]])
        )
        holder[data.draw(st.sampled_from(sorted(holder)))] = data.draw(JSON)
        file(plain).write_text(json.dumps(document) + "\n")
        try:
            plain.resolve("local:lake").wrap(Secret.random(), aad=b"")
        except errors.EnvelopeError:
            pass
    finally:
        file(plain).write_bytes(kept)


def test_the_first_use_of_a_key_without_backup_is_told_once(
    plain: LocalKeys, open_keystore: Open, notices: list[str]
) -> None:
    plain.create("local:fresh")
    for _ in range(3):
        open_keystore().resolve("local:fresh")
    assert len([text for text in notices if "local:fresh" in text and "backup" in text]) == 1
