"""Single flipped bits, ten thousand of them: every bit of a file is authenticated."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.hostile.scene import (
    ROOM,
    WAYS,
    by_decrypt,
    by_verify,
    fresh_ring,
    from_pipe,
    outcome_of,
    parts_of,
    told,
    vault,
)
from tests.vectors.scene import Parts, flip

FLIPS = 10_000
FILES: dict[str, Parts] = {
    "value": parts_of("value", 100),
    "value of three segments": parts_of("value of three", 2 * ROOM + 777),
    "file": parts_of("file", 2 * ROOM + 777, size=4096),
    "file that ends full": parts_of("full", 2 * ROOM, size=4096),
    "empty": parts_of("empty", 0),
}


@pytest.mark.parametrize("name", FILES)
def test_no_file_opens_with_one_bit_flipped_and_each_raises_its_class(
    name: str, tmp_path: Path
) -> None:
    random_ = random.Random(f"flips of {name}")
    data = FILES[name].data()
    plain = told(data)
    assert isinstance(plain, bytes)
    # Half of the flips go anywhere, half where the structure is: headers and ends of segments.
    header = len(FILES[name].header())
    edges = [header + 74 + n * 4096 + d for n in range(4) for d in range(-16, 20)]
    structure = [*range(24), *range(header - 32, header + 74), *edges, *range(24, 700)]
    structure = [at for at in structure if 0 <= at < len(data)]
    with vault() as driver:
        ring = fresh_ring()
        outcome_of(by_decrypt, data, ring, tmp_path)  # the KEK is known from here on
        for number in range(FLIPS // len(FILES)):
            at = random_.randrange(len(data)) if number % 2 else random_.choice(structure)
            bit = random_.randrange(8)
            spoilt = flip(data, at, bit)
            before = driver.calls["unwrap"]
            for way in (by_decrypt, WAYS[1 + number % (len(WAYS) - 1)]):
                out = outcome_of(way, spoilt, ring, tmp_path)
                where = f"{way.__name__}, byte {at}, bit {bit}"
                expected = {told(spoilt, pipe=way is from_pipe, kek_known=True)}
                if way is from_pipe and expected == {"Tampered"} and at >= header + 74:
                    expected |= {"Truncated"}  # docs/format.md: a reader that sees the end alone
                if way is by_verify and expected <= {"Tampered", "Truncated"}:
                    expected |= {"Tampered", "Truncated"}  # it names the first, not the last
                assert out.error in expected, where
                assert out.plaintext is None, where
                assert plain.startswith(out.released), where
            assert driver.calls["unwrap"] - before <= 1, "a flipped bit costs a call at most"
