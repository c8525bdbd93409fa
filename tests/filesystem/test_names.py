"""Encrypted names: frozen answers, an independent implementation, and what holds for any name."""

from __future__ import annotations

import json
import os
import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envelope import errors
from envelope.secret import Secret
from envelope_fsspec.names import MAX_PART_BYTES, Names, looks_encrypted
from tests import independent_names
from tests.vectors import names as vectors

FROZEN: dict[str, Any] = json.loads(vectors.FILE.read_text())
KEY = bytes.fromhex(FROZEN["key"])
NAMES = Names(Secret(KEY))


def allowed(part: str) -> bool:
    try:
        independent_names.part_bytes(part)
    except independent_names.Refused:
        return False
    return "/" not in part


parts = st.text(min_size=1, max_size=60).filter(allowed)
paths = st.lists(parts, min_size=1, max_size=5).map("/".join)


def nfc(path: str) -> str:
    return unicodedata.normalize("NFC", path)


# --- Frozen answers -----------------------------------------------------------------------------


@pytest.mark.parametrize("vector", FROZEN["vectors"], ids=lambda vector: vector["name"])
def test_names_are_as_the_frozen_answers_say(vector: dict[str, Any]) -> None:
    if "error" in vector:
        with pytest.raises(errors.EnvelopeError) as raised:
            NAMES.stored(vector["path"])
        assert type(raised.value).__name__ == vector["error"]
        return
    if "path" in vector:
        assert NAMES.stored(vector["path"]) == vector["stored"]
    assert NAMES.plain(vector["stored"]) == vector["listed"]


def test_the_frozen_answers_are_what_the_independent_implementation_makes() -> None:
    assert vectors.FILE.read_text() == vectors.text()


# RFC 5297, appendix A: key, associated data, plaintext, and SIV with ciphertext.
RFC_5297 = [
    (
        "fffefdfcfbfaf9f8f7f6f5f4f3f2f1f0f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff",
        ["101112131415161718191a1b1c1d1e1f2021222324252627"],
        "112233445566778899aabbccddee",
        "85632d07c6e8f37f950acd320a2ecc9340c02b9690c4dc04daef7f6afe5c",
    ),
    (
        "7f7e7d7c7b7a79787776757473727170404142434445464748494a4b4c4d4e4f",
        [
            "00112233445566778899aabbccddeeffdeaddadadeaddadaffeeddccbbaa99887766554433221100",
            "102030405060708090a0",
            "09f911029d74e35bd84156c5635688c0",
        ],
        "7468697320697320736f6d6520706c61696e7465787420746f20656e6372797074207573696e67205349562d"
        "414553",
        "7bdb6e3b432667eb06f4d14bff2fbd0fcb900f2fddbe404326601965c889bf17dba77ceb094fa663b7a3f748"
        "ba8af829ea64ad544a272e9c485b62a3fd5c0d",
    ),
]


@pytest.mark.parametrize(("key", "associated", "plain", "sealed"), RFC_5297)
def test_the_independent_implementation_does_the_examples_of_rfc_5297(
    key: str, associated: list[str], plain: str, sealed: str
) -> None:
    given = bytes.fromhex(key), [bytes.fromhex(text) for text in associated]
    assert independent_names.siv_encrypt(*given, bytes.fromhex(plain)).hex() == sealed
    assert independent_names.siv_decrypt(*given, bytes.fromhex(sealed)) == bytes.fromhex(plain)


# --- What holds for any name --------------------------------------------------------------------


@given(path=paths)
def test_a_path_comes_back_in_its_normal_form_and_both_implementations_agree(path: str) -> None:
    stored = Names(Secret(KEY)).stored(path)
    assert stored == independent_names.encrypted(KEY, path) == NAMES.stored(path)
    assert NAMES.plain(stored) == Names(Secret(KEY)).plain(stored) == nfc(path)
    assert NAMES.stored(nfc(path)) == stored
    assert all(looks_encrypted(part) and len(part) <= 255 for part in stored.split("/"))


@given(first=paths, second=paths)
def test_names_are_equal_in_the_store_where_their_normal_forms_are(first: str, second: str) -> None:
    assert (NAMES.stored(first) == NAMES.stored(second)) == (nfc(first) == nfc(second))


@given(folder=paths, other=paths, part=parts)
def test_a_name_looks_otherwise_in_another_folder_and_is_foreign_there(
    folder: str, other: str, part: str
) -> None:
    stored = NAMES.stored(f"{folder}/{part}").rpartition("/")[2]
    assert stored != NAMES.stored(part)
    assert NAMES.plain(stored) is None
    if nfc(folder) != nfc(other):
        assert NAMES.plain(f"{NAMES.stored(other)}/{stored}") is None


@given(path=paths)
def test_another_key_finds_all_of_it_foreign(path: str) -> None:
    other = Names(Secret.random(64))
    assert other.plain(NAMES.stored(path)) is None
    assert other.stored(path) != NAMES.stored(path)


@given(path=paths, data=st.data())
def test_a_changed_stored_name_is_foreign(path: str, data: st.DataObject) -> None:
    stored = NAMES.stored(path)
    at = data.draw(st.integers(0, len(stored) - 1))
    character = data.draw(st.sampled_from([*independent_names.ALPHABET, "/", "A", "=", "w", ""]))
    changed = stored[:at] + character + stored[at + 1 :]
    if changed != stored:
        assert NAMES.plain(changed) is None
        assert independent_names.decrypted(KEY, changed) is None


@given(stored=st.one_of(st.text(max_size=300), st.text(independent_names.ALPHABET, max_size=300)))
def test_what_nobody_encrypted_is_foreign(stored: str) -> None:
    assert NAMES.plain(stored) is None
    assert looks_encrypted(stored) == (
        "/" not in stored
        and 28 <= len(stored) <= 255
        and independent_names.from_base32hex(stored) is not None
    )


@given(size=st.integers(1, 200), character=st.sampled_from(["x", "é", "語", "🔒"]))
def test_the_limit_of_a_part_is_143_bytes_exactly(size: int, character: str) -> None:
    width = len(character.encode())
    part = character * (size // width) + "y" * (size % width)
    if size <= MAX_PART_BYTES:
        assert len(NAMES.stored(part)) == -(-8 * (size + 16) // 5) <= 255
    else:
        for path in (part, f"a/{part}", f"{part}/a"):
            with pytest.raises(errors.LimitExceeded, match="143"):
                NAMES.stored(path)


@given(path=paths, bad=st.sampled_from(["", ".", "..", "a\0", "\ud800"]), at=st.integers(0, 5))
def test_what_is_no_name_is_refused_wherever_it_stands(path: str, bad: str, at: int) -> None:
    split = path.split("/")
    split.insert(min(at, len(split)), bad)
    with pytest.raises(errors.ConfigurationError):
        NAMES.stored("/".join(split))


def test_a_name_key_has_64_bytes_and_shows_nowhere() -> None:
    with pytest.raises(ValueError, match="64 bytes"):
        Names(Secret(os.urandom(32)))
    assert KEY.hex()[:16] not in repr(NAMES) + repr(vars(NAMES))
