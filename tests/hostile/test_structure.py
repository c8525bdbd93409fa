"""Cuts at every boundary, segments in other places, and parts of one file in another."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

import envelope
from tests.hostile.scene import (
    KID,
    ROOM,
    WAYS,
    assert_refused,
    by_verify,
    fresh_ring,
    from_pipe,
    outcome_of,
    parts_of,
    recipient,
    told,
    vault,
)
from tests.vectors.scene import Parts, text_of

CUT = frozenset({"Truncated"})
CHANGED = frozenset({"Tampered", "Truncated"})
FILES = {
    "value": parts_of("structure value", 50),
    "file": parts_of("structure file", 3 * ROOM + 100, size=4096),
    "file that ends full": parts_of("structure full", 3 * ROOM, size=4096),
    "large header": parts_of("structure large", 2 * ROOM + 1, size=65536),
}


def boundaries(parts: Parts) -> list[int]:
    """Every place where something starts or ends, and its neighbours."""
    header = len(parts.header())
    marks = [8, 9, 10, 12, 16, 20, 24, 24 + len(parts.bound)]
    marks += [24 + len(parts.bound) + len(parts.keys), header - 32, header, header + 10]
    marks += [header + 42, header + 74]
    at = header + 74
    for segment in parts.segments:
        marks += [at + 4, at + 16, at + 31, at + 32, at + len(segment) - 16, at + len(segment)]
        at += len(segment)
    near = {mark + d for mark in marks for d in (-1, 0, 1)}
    return sorted(mark for mark in near if 0 < mark < at)


@pytest.mark.parametrize("name", FILES)
def test_a_cut_file_is_truncated_wherever_it_was_cut(name: str, tmp_path: Path) -> None:
    data = FILES[name].data()
    plain = told(data)
    assert isinstance(plain, bytes)
    with vault():
        ring = fresh_ring()
        for at in boundaries(FILES[name]):
            assert told(data[:at]) == "Truncated", at
            assert_refused(data[:at], CUT, plain, tmp_path, ring)
        assert_refused(b"", frozenset({"NotEncrypted"}), plain, tmp_path, ring)


@pytest.mark.parametrize("name", FILES)
def test_bytes_after_the_end_are_refused(name: str, tmp_path: Path) -> None:
    data = FILES[name].data()
    plain = told(data)
    assert isinstance(plain, bytes)
    with vault():
        ring = fresh_ring()
        for more in (b"\0", b"x" * 31, b"x" * 32, bytes(4096), data[-40:], data):
            assert_refused(data + more, CHANGED, plain, tmp_path, ring)


def arrangements(count: int) -> list[tuple[int, ...]]:
    """All orders of the segments, each of them left out or twice: all but the honest one."""
    whole = tuple(range(count))
    orders = set(itertools.permutations(whole))
    for i in whole:
        orders.add(whole[:i] + whole[i + 1 :])
        orders.update((*whole[:at], i, *whole[at:]) for at in range(count + 1))
        orders.update((*whole[:at], i, *whole[at + 1 :]) for at in whole)
    return sorted(orders - {whole, ()})


@pytest.mark.parametrize("name", ["file", "file that ends full"])
def test_segments_hold_only_in_their_places(name: str, tmp_path: Path) -> None:
    parts = FILES[name]
    plain = told(parts.data())
    assert isinstance(plain, bytes)
    with vault():
        ring = fresh_ring()
        for order in arrangements(len(parts.segments)):
            data = parts.but(segments=[parts.segments[i] for i in order]).data()
            assert told(data) in CHANGED, order
            assert_refused(data, CHANGED, plain, tmp_path, ring)


# --- Two files of one KEK, of one context, of one size -------------------------------------------

ONE = parts_of("one", text_of(3 * ROOM), size=4096)
TWO = parts_of("two", text_of(3 * ROOM)[::-1], size=4096)
ELSEWHERE = parts_of("elsewhere", text_of(3 * ROOM)[::-1], size=4096, bound={"context": {"a": "b"}})


def taken_apart(parts: Parts) -> dict[str, bytes]:
    header = parts.header()
    pieces = {
        "fixed": header[:24],
        "bound": parts.bound,
        "keys": parts.keys,
        "padding": header[24 + len(parts.bound) + len(parts.keys) : -32],
        "mac": header[-32:],
        "floe parameters": parts.floe.header[:10],
        "floe iv": parts.floe.header[10:42],
        "floe tag": parts.floe.header[42:],
    }
    return pieces | {f"segment {i}": segment for i, segment in enumerate(parts.segments)}


@pytest.mark.parametrize("other", [TWO, ELSEWHERE], ids=["same context", "other context"])
def test_no_mixture_of_two_files_opens(other: Parts, tmp_path: Path) -> None:
    """All of them: each part from the one file or from the other, under one KEK."""
    mine, theirs = taken_apart(ONE), taken_apart(other)
    assert b"".join(mine.values()) == ONE.data()
    whole = {ONE.data(): told(ONE.data()), other.data(): told(other.data())}
    names = [name for name in mine if mine[name] != theirs[name]]
    opened = 0
    with vault():
        ring = fresh_ring()
        for number in range(2 ** len(names)):
            chosen = {name for bit, name in enumerate(names) if number >> bit & 1}
            data = b"".join(theirs[n] if n in chosen else mine[n] for n in mine)
            ways = WAYS if number % 64 == 0 else WAYS[:1]
            for way in ways:
                out = outcome_of(way, data, ring, tmp_path)
                if data in whole:
                    opened += 1
                    assert out.error is None
                    assert out.plaintext in (None, whole[data])
                else:
                    assert out.error in {"Tampered", "Malformed", "Truncated"}, chosen
                    assert out.plaintext is None
    assert opened >= 2, "neither of the two honest files was among the mixtures"


def test_a_header_goes_with_its_body_alone(tmp_path: Path) -> None:
    with vault():
        ring = fresh_ring()
        header, body = ONE.header(), b"".join(TWO.segments)
        assert_refused(header + TWO.floe.header + body, CHANGED, b"", tmp_path, ring)
        assert_refused(header + ONE.floe.header + body, CHANGED, b"", tmp_path, ring)
        assert_refused(TWO.header() + ONE.data()[4096:], CHANGED, b"", tmp_path, ring)


def test_the_header_of_a_rewrapped_file_fits_its_old_body_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(ONE.data())
    folder = tmp_path / "reading"
    folder.mkdir()
    with vault() as driver:
        both = envelope.KeyRing("local:lake", settings={"local": {"seed": "hostile"}})
        driver.rotate("local:lake")
        done = envelope.rewrap(path, keys=both)
        assert (done.refreshed, done.changed) == (("local:lake/v2",), True)
        new = path.read_bytes()
        assert new[4096:] == ONE.data()[4096:], "the body was touched"
        ring = fresh_ring("local:lake")
        for data in (ONE.data(), new, new[:4096] + ONE.data()[4096:]):
            for way in WAYS:
                assert outcome_of(way, data, ring, folder).error is None
        assert_refused(new[:4096] + TWO.data()[4096:], CHANGED, b"", folder, ring)


def test_verify_names_the_first_bad_segment_and_its_plaintext(tmp_path: Path) -> None:
    first, second, third = ONE.segments
    spoilt = ONE.but(segments=[first, second[:-1] + bytes([second[-1] ^ 1]), third[:-9]]).data()
    path = tmp_path / "file"
    path.write_bytes(spoilt)
    with vault(), pytest.raises(envelope.errors.Tampered) as caught:
        envelope.verify(path, keys=fresh_ring())
    assert f"segment 1 (plaintext bytes {ROOM} to {2 * ROOM - 1})" in str(caught.value)


def test_the_same_recipient_twice_in_another_spelling_is_malformed(tmp_path: Path) -> None:
    twice = [recipient(), recipient() | {"kid": KID.replace("local", "LOCAL")}]
    data = parts_of("twice", 10, recipients=twice).data()
    with vault() as driver:
        assert_refused(data, frozenset({"Malformed"}), b"", tmp_path, fresh_ring())
        assert not driver.calls


def test_from_a_pipe_only_a_proven_beginning_comes_out(tmp_path: Path) -> None:
    first, second, third = ONE.segments
    data = ONE.but(segments=[first, second, third[:100] + b"\0" + third[101:]]).data()
    with vault():
        ring = fresh_ring()
        out = outcome_of(from_pipe, data, ring, tmp_path)
        assert out.error == "Tampered"
        assert text_of(3 * ROOM).startswith(out.released)
        assert len(out.released) <= 2 * ROOM
        assert outcome_of(by_verify, data, ring, tmp_path).error == "Tampered"
