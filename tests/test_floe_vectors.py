"""Known answers of FLOE's Java and C++ implementations, through both of ours, byte for byte.

Files: Snowflake-Labs/floe-specification, ``kats``: hex text, the key 32 zero bytes, the AAD
``This is AAD``. Those named ``rotation`` rotate keys every 4 segments, a parameter for tests only.
"""

from __future__ import annotations

from itertools import pairwise

import pytest
from cryptography.exceptions import InvalidTag

from envelope.errors import Tampered
from envelope.floe import Opener, Sealer
from envelope.secret import Secret
from tests.independent_floe import Floe
from tests.public_vectors import folder

KEY, AAD = bytes(32), b"This is AAD"
ANSWERS = {
    "cpp_GCM256_IV256_4K": 4096,
    "cpp_GCM256_IV256_64": 64,
    "cpp_rotation": 40,
    "java_GCM256_IV256_4K": 4096,
    "java_GCM256_IV256_64": 64,
    "java_lastSegAligned": 40,
    "java_lastSegEmpty": 40,
    "java_rotation": 40,
}
each_answer = pytest.mark.parametrize("name", ANSWERS)


def rotation_of(name: str) -> int:
    return 2 if "rotation" in name else 20


def answer(name: str) -> tuple[bytes, list[bytes], bytes]:
    """FLOE header, segments, plaintext."""
    stored, plain = (
        bytes.fromhex((folder("floe") / f"{name}_{kind}.txt").read_text()) for kind in ("ct", "pt")
    )
    length = int.from_bytes(stored[2:6])
    assert length == ANSWERS[name]
    return stored[:74], [stored[i : i + length] for i in range(74, len(stored), length)], plain


def pieces(plain: bytes, segments: list[bytes]) -> list[bytes]:
    """The plaintext as it was divided among these segments."""
    ends = [0]
    for segment in segments:
        ends.append(ends[-1] + len(segment) - 32)
    assert ends[-1] == len(plain)
    return [plain[a:b] for a, b in pairwise(ends)]


def opened(opener: Opener, segments: list[bytes]) -> bytes:
    out = bytearray(sum(len(segment) - 32 for segment in segments))
    at = 0
    for i, segment in enumerate(segments):
        at += opener.open_into(i, i == len(segments) - 1, segment, memoryview(out)[at:])
    return bytes(out[:at])


def test_all_the_known_answers_there_are_are_used() -> None:
    there = {path.name.removesuffix("_ct.txt") for path in folder("floe").glob("*_ct.txt")}
    assert there == set(ANSWERS)


@each_answer
def test_envelope_opens_it(name: str) -> None:
    header, segments, plain = answer(name)
    opener = Opener(Secret(KEY), AAD, header, rotation_bits=rotation_of(name))
    assert opened(opener, segments) == plain


@each_answer
def test_envelope_writes_it_again_from_its_ivs(name: str) -> None:
    header, segments, plain = answer(name)
    sealer = Sealer(
        Secret(KEY), AAD, ANSWERS[name], iv=header[10:42], rotation_bits=rotation_of(name)
    )
    assert sealer.header == header
    for i, (piece, segment) in enumerate(zip(pieces(plain, segments), segments, strict=True)):
        out = bytearray(len(segment))
        last = i == len(segments) - 1
        assert sealer.seal_into(i, last, piece, memoryview(out), segment[4:16]) == len(segment)
        assert bytes(out) == segment


@each_answer
def test_the_independent_reader_opens_and_writes_it(name: str) -> None:
    header, segments, plain = answer(name)
    floe = Floe(KEY, AAD, ANSWERS[name], header[10:42], rotation_of(name))
    assert floe.header == header
    final = len(segments) - 1
    read = [floe.open(i, segment, last=i == final) for i, segment in enumerate(segments)]
    assert b"".join(read) == plain
    assert pieces(plain, segments) == read
    again = [
        floe.seal(i, piece, segments[i][4:16], last=i == final) for i, piece in enumerate(read)
    ]
    assert again == segments


@pytest.mark.parametrize("name", [name for name in ANSWERS if "rotation" in name])
def test_without_its_smaller_rotation_a_later_segment_is_refused(name: str) -> None:
    """Otherwise the rotation answers would say nothing about rotation."""
    header, segments, _ = answer(name)
    opener, out = Opener(Secret(KEY), AAD, header), memoryview(bytearray(40))
    assert opener.open_into(3, False, segments[3], out) == 8
    with pytest.raises(Tampered):
        opener.open_into(4, False, segments[4], out)
    with pytest.raises(InvalidTag):
        Floe(KEY, AAD, 40, header[10:42]).open(4, segments[4], last=False)


@each_answer
def test_another_key_or_aad_is_refused_at_the_header(name: str) -> None:
    header, _, _ = answer(name)
    for key, aad in ((b"\1" + KEY[1:], AAD), (KEY, AAD + b"\0"), (KEY, b"")):
        with pytest.raises(Tampered):
            Opener(Secret(key), aad, header)
