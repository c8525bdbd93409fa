"""Files that reader steps 10 to 12 refuse: a body that is not the one that was written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.independent_floe import Floe
from tests.independent_reader import floe_of_file, kdf
from tests.independent_writer import seal_body
from tests.vectors.scene import Parts, flip, message, stream, text_of

ROOM = 4096 - 32


def add_all(add: Callable[..., None]) -> None:
    def bad(name: str, what: str, error: str, step: int, data: bytes, **more: Any) -> None:
        add(name, what, data, error=error, step=step, **more)

    add_floe_headers(bad)
    add_exchanged(bad)
    add_segments(bad)
    add_ends(bad)


def add_floe_headers(bad: Callable[..., None]) -> None:
    parts, take = message("floe header"), stream("floe header again")

    def with_floe(length: int, iv: bytes, parts: Parts = parts) -> bytes:
        """The file with a FLOE message of other parameters, right in itself."""
        floe = floe_of_file(parts.dek, parts.bound, length, iv)
        segments = seal_body(floe, b"one order\n" * 10, lambda: take(12))
        return parts.but(floe=floe, segments=segments).data()

    for length, why in (
        (5000, "which is no power of two"),
        (2048, "which is too short"),
        (2**25, "which is too long"),
        (2**32 - 1, "which is absurd"),
    ):
        data = with_floe(length, take(32))
        bad(f"segments-of-{length}", f"S = {length}, {why}; tags fit", "Tampered", 10, data)
    for size in (16, 64):
        data = with_floe(4096, take(size))
        bad(f"floe-iv-{size}", f"A FLOE IV of {size} bytes; tags fit", "Tampered", 10, data)
    data, at = parts.data(), len(parts.header())
    for name, what, where in (
        ("aead-1", "An unknown AEAD", 0),
        ("kdf-1", "An unknown KDF", 1),
        ("floe-iv-bit", "A bit of the FLOE IV", 10),
        ("floe-tag-bit", "The FLOE header tag's first byte", 42),
        ("floe-tag-last-bit", "The FLOE header tag's last byte", 73),
    ):
        bad(name, what, "Tampered", 10, flip(data, at + where))
    longer = flip(data, at + 4, 5)  # 4096 becomes 12288; see also the next
    bad("segment-length-bit", "A bit of the segment length", "Tampered", 10, longer)
    data = flip(flip(data, at + 4, 4), at + 4, 5)
    bad("segment-length-doubled", "The segment length doubled", "Tampered", 10, data)
    other = b'{"context":{"table":"payroll"}}'
    floe = floe_of_file(parts.dek, other, 4096, take(32))
    data = parts.but(floe=floe, segments=seal_body(floe, b"x", lambda: take(12))).data()
    bad("aad-of-another-bound", "A body made for another `bound`", "Tampered", 10, data)
    floe = Floe(kdf(parts.dek, "envelope/1 suite 1 FLOE key"), parts.bound, 4096, take(32))
    data = parts.but(floe=floe, segments=seal_body(floe, b"x", lambda: take(12))).data()
    bad("aad-plain", "A body whose AAD is `bound` itself", "Tampered", 10, data)


def add_exchanged(bad: Callable[..., None]) -> None:
    one, two = message("first of a pair"), message("second of a pair")
    body = two.floe.header + b"".join(two.segments)
    what = "The header of another file of one KEK and context"
    bad("header-exchanged", what, "Tampered", 10, one.header() + body)
    what = "Both headers of another file of one KEK and context"
    data = one.header() + one.floe.header + b"".join(two.segments)
    bad("both-headers-exchanged", what, "Tampered", 11, data)
    one, two = message("first pair", text_of(9000)), message("second pair", text_of(9000))
    data = one.but(segments=[one.segments[0], two.segments[1], one.segments[2]]).data()
    bad("segment-exchanged", "A segment of another file, in its place", "Tampered", 12, data)


def add_segments(bad: Callable[..., None]) -> None:
    parts = message("segments", text_of(9000))
    first, second, last = parts.segments
    floe, take = parts.floe, stream("segments again")

    def of(*segments: bytes) -> bytes:
        return parts.but(segments=list(segments)).data()

    middle = {"field": 0, "iv": 4, "text": 2000, "tag": 4095}
    for name, at in middle.items():
        data = of(first, flip(second, at), last)
        bad(f"middle-{name}-bit", f"A bit of a middle segment's {name}", "Tampered", 12, data)
    for name, at in {"iv": 4, "text": 20, "tag": len(last) - 1}.items():
        data = of(first, second, flip(last, at))
        bad(f"last-{name}-bit", f"A bit of the last segment's {name}", "Tampered", 11, data)
    bad("swapped", "Two segments swapped", "Tampered", 12, of(second, first, last))
    bad("repeated", "A segment repeated in another's place", "Tampered", 12, of(first, first, last))
    late = {"pipe": {"error": "Tampered", "step": 12}}
    data = of(first, second, second, last)
    bad("doubled", "A segment doubled", "Tampered", 11, data, **late)
    bad("removed", "A segment removed", "Tampered", 11, of(first, last))
    data = of(floe.seal(0, text_of(ROOM), take(12), last=True), second, last)
    what = "A first segment sealed as the last, and more after it"
    bad("two-last", what, "Tampered", 12, data)
    data = of(first, second, floe.seal(1, b"x" * 100, take(12), last=True))
    bad("last-of-another-place", "A last segment sealed for another place", "Tampered", 11, data)
    unmarked = floe.seal(2, b"x" * 100, take(12), last=False)
    data = of(first, second, (132).to_bytes(4) + unmarked[4:])
    what = "A last segment with the right length field, sealed as not the last"
    bad("last-sealed-as-middle", what, "Tampered", 11, data)


def add_ends(bad: Callable[..., None]) -> None:
    parts = message("ends", text_of(9000))
    data, last = parts.data(), parts.segments[-1]
    body = len(data) - 2 * 4096 - len(last)
    for name, at, where in (
        ("first-boundary", body + 4096, "after the first segment"),
        ("boundary", body + 2 * 4096, "after the last segment but one"),
        ("middle", body + 4096 + 2000, "inside a segment that is not the last"),
        ("field", body + 2 * 4096 + 2, "inside the last segment's length field"),
        ("last-31", body + 2 * 4096 + 31, "31 bytes into the last segment"),
        ("last", body + 2 * 4096 + 500, "inside the last segment"),
        ("last-byte", len(data) - 1, "before its last byte"),
    ):
        bad(f"cut-{name}", f"A file cut {where}", "Truncated", 11, data[:at])
    late = {"pipe": {"error": "Tampered", "step": 12}}
    bad("one-byte-more", "A byte after the end", "Tampered", 11, data + b"\n", **late)
    bad("file-twice", "The body stands twice", "Tampered", 11, data + data[body:], **late)
    full = message("full end", text_of(2 * ROOM))
    what = "Ten bytes after a last segment that is exactly full"
    bad("ten-bytes-after-full", what, "Truncated", 11, full.data() + b"0123456789", **late)
    what = "A last segment after one that is the last and exactly full"
    more = full.floe.seal(2, b"more", stream("full end again")(12), last=True)
    bad("last-after-full-last", what, "Tampered", 12, full.data() + more)
    at = len(data) - len(last)
    for name, what, value, error in (
        ("longer", "one more than there is", len(last) + 1, "Truncated"),
        ("shorter", "one less than there is", len(last) - 1, "Tampered"),
        ("31", "31, less than a segment can have", 31, "Tampered"),
        ("zero", "zero", 0, "Tampered"),
        ("beyond", "more than the segment length", 4097, "Tampered"),
        ("not-last", "the mark of a segment that is not the last", 2**32 - 1, "Truncated"),
    ):
        changed = data[:at] + value.to_bytes(4) + data[at + 4 :]
        how = late if name in ("31", "zero", "beyond") else {}
        what = f"The last segment's length field is {what}"
        bad(f"length-field-{name}", what, error, 11, changed, **how)
    unended = message("unended", text_of(2 * ROOM))
    middle = unended.floe.seal(1, text_of(ROOM), stream("unended again")(12), last=False)
    cut = unended.but(segments=[unended.segments[0], middle]).data()
    what = "Full segments only, none of them the last"
    bad("never-ended", what, "Truncated", 11, cut)
