"""Hostile headers: refused by every verb, in little memory and time, and without a vault's call."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

import envelope
from envelope import errors
from tests.hostile.scene import (
    SEED,
    WAYS,
    assert_refused,
    by_open,
    fresh_ring,
    outcome_of,
    parts_of,
    recipient,
    told,
    vault,
)
from tests.independent_reader import FIXED, b64u_text, floe_of_file
from tests.vectors.scene import Parts

HONEST = parts_of("header", 5000, size=65536)
MALFORMED = frozenset({"Malformed"})
MOST_MEMORY = 4 * 2**20  # bytes beyond the file's own, for any header at all

CONTEXT = b'{"context":{"table":"orders"}'


def nested(opening: bytes, count: int) -> bytes:
    return CONTEXT + b',"x":' + opening * count + b"}"


# What stands for `bound`; in `keys` the same members stand beside honest ones.
TEXTS: dict[str, bytes] = {
    "a name twice": CONTEXT + b',"context":{}}',
    "a name twice, once escaped": CONTEXT + b',"\\u0063ontext":{}}',
    "a name twice, deep inside": CONTEXT + b',"x":[{"y":{"z":1,"z":1}}]}',
    "NaN": CONTEXT + b',"x":NaN}',
    "infinity": CONTEXT + b',"x":Infinity}',
    "a fraction": CONTEXT + b',"x":0.5}',
    "a number of 15,000 digits": CONTEXT + b',"x":' + b"7" * 15_000 + b"}",
    "a negative number of 15,000 digits": CONTEXT + b',"x":-' + b"7" * 15_000 + b"}",
    "brackets": nested(b"[", 15_000),
    "braces": nested(b'{"a":', 3_000),
    "closing brackets": nested(b"]", 15_000),
    "brackets after a string that looks closed": CONTEXT + b',"\\\\":' + b"[" * 15_000 + b"}",
    "brackets after an open string": CONTEXT + b',"' + b'\\"[' * 5_000 + b"}",
    "many empty strings": CONTEXT + b',"x":[' + b'"",' * 5_000 + b"]}",
    "many escapes": CONTEXT + b',"x":"' + b"\\u00" * 3_500 + b'"}',
    "a lone surrogate": CONTEXT + b',"x":"\\ud800"}',
    "a lone surrogate as a name": CONTEXT + b',"\\udfff":1}',
    "a surrogate in bytes": CONTEXT + b',"x":"\xed\xa0\x80"}',
    "UTF-16": b"\xff\xfe" + (CONTEXT + b"}").decode().encode("utf-16-le"),
    "UTF-16 without a mark": (CONTEXT + b"}").decode().encode("utf-16-be"),
    "UTF-32": (CONTEXT + b"}").decode().encode("utf-32-le"),
    "a byte order mark": b"\xef\xbb\xbf" + CONTEXT + b"}",
    "bytes that are no UTF-8": CONTEXT + b',"x":"\xff\xfe"}',
    "a null byte": CONTEXT + b"\0}",
    "a null byte at the end": CONTEXT + b"}\0",
    "another value after it": CONTEXT + b"}{}",
    "nothing": b"",
    "one brace": b"{",
    "an array": b"[" + CONTEXT + b"}]",
    "a literal": b"true",
}


def with_text(part: str, text: bytes) -> bytes:
    if part == "bound":
        return HONEST.but(bound=text).data()
    inner = text.replace(CONTEXT, HONEST.keys[:-1]) if CONTEXT in text else text
    return HONEST.but(keys=inner).data()


@pytest.mark.parametrize(
    ("name", "part"),
    # The first two are about a name that `keys` has not.
    [*((name, "bound") for name in TEXTS), *((name, "keys") for name in list(TEXTS)[2:])],
)
def test_hostile_json_is_malformed_in_little_memory_and_without_a_call(
    name: str, part: str, tmp_path: Path
) -> None:
    data = with_text(part, TEXTS[name])
    assert told(data) == "Malformed"
    with vault() as driver:
        ring = fresh_ring()
        assert_refused(data, MALFORMED, b"", tmp_path, ring)
        assert every_verb_refuses(data, ring, tmp_path) == {"Malformed"}
        assert peak(data, ring, tmp_path) < MOST_MEMORY
        assert not driver.calls


def test_sixty_thousand_brackets_in_keys(tmp_path: Path) -> None:
    for opening in (b"[", b"{", b'{"":', b'"', b'"\\"', b"[]"):
        text = b'{"kek":' + (opening * 60_000)[:60_000] + b"}"
        data = HONEST.but(keys=text).data()
        with vault() as driver:
            ring = fresh_ring()
            assert_refused(data, MALFORMED, b"", tmp_path, ring)
            assert peak(data, ring, tmp_path) < MOST_MEMORY
            assert not driver.calls


def peak(data: bytes, ring: envelope.KeyRing, folder: Path) -> int:
    """The most bytes that opening ``data`` held at a time."""
    tracemalloc.start()
    try:
        outcome_of(by_open, data, ring, folder)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def every_verb_refuses(data: bytes, ring: envelope.KeyRing, folder: Path) -> set[str]:
    """The classes by which the other verbs refuse; the file stays, and nothing is left behind."""
    path = folder / "spoilt"
    path.write_bytes(data)
    both = envelope.KeyRing("local:lake", settings={"local": {"seed": SEED}})
    verbs: list[Callable[[], object]] = [
        lambda: envelope.inspect(path),
        lambda: envelope.rewrap(path, keys=both),
        lambda: envelope.rewrap(path, keys=both, target=folder / "other"),
        lambda: envelope.reencrypt(path, keys=both),
        lambda: envelope.reencrypt(path, folder / "other", keys=both),
        lambda: envelope.rewrap(io.BytesIO(data), keys=both, target=folder / "other"),
    ]
    found = set()
    before = sorted(os.listdir(folder))
    for verb in verbs:
        try:
            verb()
            found.add("none")
        except errors.EnvelopeError as error:
            found.add(type(error).__name__)
        assert path.read_bytes() == data
        assert sorted(os.listdir(folder)) == before
    path.unlink()
    return found


# --- Members ------------------------------------------------------------------------------------

KEY = recipient()["encrypted_key"]
LOOSE = KEY[:-1] + chr(ord(KEY[-1]) + 1)  # left-over bits that are not zero


@pytest.mark.parametrize(
    "text",
    [
        *(LOOSE, KEY + "=", KEY + "==", KEY[:-1], KEY + "A", KEY[:-1] + " ", "\n" + KEY[1:]),
        *(
            KEY[:-1] + "+",
            KEY[:-1] + "/",
            "",
            KEY[:53] + "\u0131",
            KEY.encode().hex(),
            "A" * 30_000,
        ),
    ],
)
def test_base64_has_one_spelling(text: str, tmp_path: Path) -> None:
    recipients = [recipient() | {"encrypted_key": text}]
    data = parts_of("base64", 10, recipients=recipients, size=65536).data()
    assert told(data) == "Malformed"
    with vault() as driver:
        assert_refused(data, MALFORMED, b"", tmp_path, fresh_ring())
        assert not driver.calls


@pytest.mark.parametrize("member", ["id", "dek"])
def test_base64_of_the_kek_id_and_the_data_key_has_one_spelling(
    member: str, tmp_path: Path
) -> None:
    honest = parts_of("base64", 10)
    start = honest.keys.index(b'"id":"') if member == "id" else honest.keys.rindex(b'key":"')
    end = honest.keys.index(b'"', start + 6)
    last = bytes([honest.keys[end - 1]])
    spelt = honest.keys[: end - 1] + bytes([last[0] + 1]) + honest.keys[end:]
    for keys in (spelt, honest.keys[:end] + b"=" + honest.keys[end:]):
        data = honest.but(keys=keys).data()
        assert told(data) == "Malformed"
        with vault() as driver:
            assert_refused(data, MALFORMED, b"", tmp_path, fresh_ring())
            assert not driver.calls


def test_nothing_hides_in_the_padding(tmp_path: Path) -> None:
    used = len(HONEST.bound) + len(HONEST.keys)
    room = 65536 - 56 - used
    with vault() as driver:
        ring = fresh_ring()
        for at in (0, 1, room // 2, room - 2, room - 1):
            data = HONEST.but(padding=b"\0" * at + b"\1").data()
            assert len(data) == len(HONEST.data())
            assert_refused(data, MALFORMED, b"", tmp_path, ring)
        assert not driver.calls


# --- Lengths ------------------------------------------------------------------------------------

LENGTHS = [
    {"H": h, "B": b, "K": k}
    for h in (0, 59, 60, 4096, 65536, 65537, 2**31, 2**32 - 1)
    for b in (0, 16384, 16385, 2**31, 2**32 - 1)
    for k in (0, 65480, 2**31, 2**32 - 1)
]


def test_absurd_lengths_are_refused_in_little_memory(tmp_path: Path) -> None:
    small = parts_of("lengths", 10)
    with vault() as driver:
        ring = fresh_ring()
        for base in (small, HONEST):
            for fixed in LENGTHS:
                data = base.data()
                data = FIXED.pack(*FIXED.unpack_from(data)[:4], *fixed.values()) + data[24:]
                expected = told(data)
                assert expected in ("Malformed", "Truncated"), fixed
                for way in WAYS:
                    out = outcome_of(way, data, ring, tmp_path)
                    assert out.error in {expected, "Malformed"}, (fixed, way.__name__)
                assert peak(data, ring, tmp_path) < MOST_MEMORY
        assert not driver.calls


def floe_says(parts: Parts, length: int) -> bytes:
    """The file under a FLOE header of this segment length, whose tag fits."""
    floe = floe_of_file(parts.dek, parts.bound, length, b"\5" * 32)
    return parts.but(floe=floe).data()


@pytest.mark.parametrize(
    "length", [0, 1, 31, 32, 33, 2048, 4095, 4097, 12288, 2**24 + 1, 2**25, 2**31, 2**32 - 1]
)
def test_a_segment_length_outside_the_profile_takes_no_memory(length: int, tmp_path: Path) -> None:
    data = floe_says(parts_of("geometry", 100), length)
    with vault():
        ring = fresh_ring()
        assert_refused(data, frozenset({"Tampered"}), b"", tmp_path, ring)
        assert peak(data, ring, tmp_path) < MOST_MEMORY


CHILD = """
import resource, sys
import envelope, envelope.ring, envelope.files, envelope.streams, envelope.inspection
from tests.hostile.scene import WAYS, fresh_ring, outcome_of, vault
from pathlib import Path
folder = Path(sys.argv[1])
files = [path.read_bytes() for path in sorted(folder.glob("*.env1"))]
with vault():
    ring = fresh_ring()
    with open("/proc/self/statm") as statm:
        now = int(statm.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + int(sys.argv[2]),) * 2)
    place = folder / "reading"
    place.mkdir()
    for data in files:
        for way in WAYS:
            print(outcome_of(way, data, ring, place).error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS bounds memory on Linux only")
def test_hostile_files_are_refused_where_there_is_hardly_any_memory(tmp_path: Path) -> None:
    """A child that may take 24 MiB more (a thread's stack is 8 of them) meets the worst of them."""
    files = [
        HONEST.but(keys=b'{"kek":' + b"[" * 60_000 + b"}").data(),
        HONEST.but(bound=TEXTS["a number of 15,000 digits"]).data(),
        HONEST.but(fixed={"H": 2**32 - 1, "B": 2**32 - 1, "K": 2**32 - 1}).data(),
        HONEST.but(fixed={"K": 2**32 - 1}).data(),
        floe_says(parts_of("geometry", 100), 2**31),
        floe_says(parts_of("geometry", 100), 2**32 - 1),
    ]
    for number, data in enumerate(files):
        (tmp_path / f"{number}.env1").write_bytes(data)
    command = [sys.executable, "-c", CHILD, str(tmp_path), str(24 * 2**20)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=Path.cwd())
    assert done.returncode == 0, done.stderr
    said = done.stdout.split()
    assert len(said) == len(files) * len(WAYS)
    assert set(said[: 4 * len(WAYS)]) == {"Malformed"}
    assert set(said[4 * len(WAYS) :]) == {"Tampered"}


def test_the_limits_of_the_format_open(tmp_path: Path) -> None:
    """What is just inside the bounds above is no attack."""
    context = {f"{number:0128}": "x" for number in range(64)}
    recipients = [recipient(f"local:{'k' * 60}{number:02}/v1") for number in range(15)]
    recipients += [{"kid": "x:" + "k" * 510, "alg": "X", "encrypted_key": b64u_text(bytes(1024))}]
    trusted = [str(item["kid"]) for item in recipients[:1]]
    parts = parts_of("limits", 100, size=65536, bound={"context": context}, recipients=recipients)
    with vault():
        for way in WAYS:
            out = outcome_of(way, parts.data(), fresh_ring(trusted), tmp_path)
            assert out.error is None, way.__name__
            assert out.context in (None, context)
