"""The compact protocol: what is read is given back as it was, and only what is put changes."""

from __future__ import annotations

import datetime
import decimal
import io
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envelope.errors import Malformed
from envelope_parquet import thrift
from envelope_parquet.compact import Kind, varint, zigzag
from envelope_parquet.thrift import Struct
from tests import public_vectors

I64 = st.integers(-(2**63), 2**63 - 1)


# --- A writer of its own, from the specification: structures as lists of (number, kind, bytes) ---


def encoded(fields: list[tuple[int, int, bytes]], long_heads: bool = False) -> bytes:
    out, previous = b"", 0
    for number, kind, value in fields:
        delta = number - previous
        if 0 < delta < 16 and not long_heads:
            out += bytes([delta * 16 + kind]) + value
        else:
            out += bytes([kind]) + varint(zigzag(number)) + value
        previous = number
    return out + b"\x00"


def _length(items: list[Any], kind: int) -> bytes:
    if len(items) < 15:
        return bytes([len(items) * 16 + kind])
    return bytes([0xF0 + kind]) + varint(len(items))


def values(depth: int) -> st.SearchStrategy[tuple[int, bytes]]:
    """A type and a value of it, as it stands in a list."""
    simple = st.one_of(
        I64.map(lambda n: (Kind.I64, varint(zigzag(n)))),
        st.integers(-(2**15), 2**15 - 1).map(lambda n: (Kind.I16, varint(zigzag(n)))),
        st.binary(max_size=200).map(lambda b: (Kind.BINARY, varint(len(b)) + b)),
        st.binary(min_size=8, max_size=8).map(lambda b: (Kind.DOUBLE, b)),
        st.binary(min_size=16, max_size=16).map(lambda b: (Kind.UUID, b)),
        st.binary(min_size=1, max_size=1).map(lambda b: (Kind.BYTE, b)),
    )
    if depth == 0:
        return simple
    inner = values(depth - 1)

    def alike(item: tuple[int, bytes]) -> tuple[int, bytes]:
        return Kind.LIST, _length([item] * 3, item[0]) + item[1] * 3

    return st.one_of(
        simple,
        inner.map(alike),
        st.tuples(inner, inner).map(
            lambda pair: (
                Kind.MAP,
                varint(2) + bytes([pair[0][0] * 16 + pair[1][0]]) + (pair[0][1] + pair[1][1]) * 2,
            )
        ),
        st.lists(st.sampled_from([b"\x00", b"\x01", b"\x02"]), max_size=20).map(
            lambda bits: (Kind.LIST, _length(bits, Kind.TRUE) + b"".join(bits))
        ),
        structs(depth - 1).map(lambda b: (Kind.STRUCT, b)),
    )


@st.composite
def structs(draw: Any, depth: int = 2) -> bytes:
    numbers = draw(st.lists(st.integers(-20, 2000), max_size=6, unique=True))
    if draw(st.booleans()):
        numbers.sort()
    fields = []
    for number in numbers:
        if draw(st.integers(0, 4)) == 0:
            fields.append((number, draw(st.sampled_from([Kind.TRUE, Kind.FALSE])), b""))
        else:
            fields.append((number, *draw(values(depth))))
    return encoded(fields, draw(st.booleans()))


@given(structs(), st.binary(max_size=5))
def test_any_structure_is_given_back_byte_for_byte(data: bytes, following: bytes) -> None:
    read = Struct(data + following)
    assert read.dump() == data
    assert read.end == len(data)


@given(structs(), st.integers(1, 2000), st.binary(max_size=50))
def test_what_is_put_reads_back_and_everything_else_stays(
    data: bytes, number: int, value: bytes
) -> None:
    read = Struct(data)
    others = {
        each: read._data[field.start : field.end]
        for each, field in read._fields.items()
        if each != number
    }
    read.put(number, value)
    again = Struct(read.dump())
    assert again.binary(number) == value
    assert {n: again._data[f.start : f.end] for n, f in again._fields.items() if n != number} == (
        others
    )
    assert again.end == len(again._data)


@given(structs(), st.integers(1, 2000))
def test_what_is_put_and_taken_away_again_leaves_what_was_there(data: bytes, number: int) -> None:
    read = Struct(data)
    if number in read:
        return
    read.put(number, b"for a moment")
    read.remove(number)
    assert read.dump() == data


@given(I64, st.booleans(), st.lists(st.binary(max_size=9), max_size=40))
def test_all_types_that_are_put_read_back(number: int, truth: bool, texts: list[bytes]) -> None:
    inner = Struct()
    inner.put(1, b"inner")
    made = Struct()
    made.put_integer(3, number, Kind.I64)
    made.put(2, truth)
    made.put(40, inner)
    made.put(5, [inner] * len(texts))
    made.put_binaries(6, texts)
    again = Struct(made.dump())
    assert again.numbers == (2, 3, 5, 6, 40)
    assert again.integer(3) == number
    assert again.truth(2) is truth
    assert again.binaries(6) == texts
    found = again.struct(40)
    assert found is not None
    assert found.binary(1) == b"inner"
    assert [each.binary(1) for each in again.structs(5) or []] == [b"inner"] * len(texts)
    assert again.binary(7) is again.integer(7) is again.struct(7) is again.structs(7) is None


def test_a_change_far_inside_leaves_the_rest_of_the_file_footer() -> None:
    deep = encoded([(1, Kind.BINARY, b"\x03old"), (900, Kind.DOUBLE, b"\x7f\xf0\0\0\0\0\0\1")])
    data = encoded([(4, Kind.LIST, _length([0] * 2, Kind.STRUCT) + deep * 2), (99, Kind.TRUE, b"")])
    outer = Struct(data)
    items = outer.structs(4)
    assert items is not None
    items[1].put(1, b"new")
    outer.put(4, items)
    assert outer.dump() == data[: data.rindex(b"old")] + b"new" + data[data.rindex(b"old") + 3 :]


@settings(max_examples=500)
@given(st.binary(max_size=400))
def test_of_any_bytes_only_a_typed_error_comes(data: bytes) -> None:
    _walked(data)


@given(structs(1), st.randoms(use_true_random=False))
def test_a_structure_with_changed_bytes_is_read_or_malformed(data: bytes, random: Random) -> None:
    for _ in range(20):
        changed = bytearray(data)
        for _ in range(random.randint(1, 3)):
            changed[random.randrange(len(data))] = random.randrange(256)
        _walked(bytes(changed))


def _walked(data: bytes) -> None:
    """Everything of a structure is asked for, in each type."""
    try:
        found = Struct(data)
    except Malformed:
        return
    assert found.dump() == data[: found.end]
    for number in found.numbers:
        for ask in (
            found.truth,
            found.integer,
            found.binary,
            found.binaries,
            found.struct,
            found.structs,
        ):
            try:
                ask(number)
            except Malformed:
                pass


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "ends early"),
        (b"\x18", "ends early"),
        (b"\x18\x05abcd", "ends early"),
        (b"\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "ends early"),
        (b"\x16" + b"\xff" * 11, "too long"),
        (b"\x19\xfc\xff\xff\xff\x7f\x00", "ends early"),
        (b"\x1b\xff\xff\xff\x7f\x88\x00", "ends early"),
        (b"\x1e\x00\x00", "unknown type"),
        (b"\x10\x00", "without a type"),
        (b"\x08\x80\x80\x40\x00\x00", "number that no field"),
        (b"\x11\x01\x02\x00", "field 1 twice"),
        (b"\x1c" * 40, "nested deeper"),
        (b"\x19" + b"\x19" * 40, "nested deeper"),
    ],
)
def test_a_broken_structure_is_told(data: bytes, says: str) -> None:
    with pytest.raises(Malformed, match=says):
        Struct(data)


def test_absurd_counts_and_depths_cost_little_memory() -> None:
    hostile = [
        b"\x19\xfc" + varint(2**62) + b"\x00" * 1000,
        b"\x19\xfd" + varint(2**20) + b"\x00" * 2**20,  # counted by bytes that there are not
        b"\x1c" * 100_000,
        b"\x18" + varint(2**63),
    ]
    tracemalloc.start()
    for data in hostile:
        with pytest.raises(Malformed):
            Struct(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**20


def test_a_list_of_millions_of_nothing_is_walked_over_but_not_taken_apart() -> None:
    count = thrift.MAX_COUNT + 1
    data = encoded([(1, Kind.LIST, _length(range(count), Kind.STRUCT) + b"\x00" * count)])  # type: ignore[arg-type]
    found = Struct(data)
    tracemalloc.start()
    with pytest.raises(Malformed, match="absurdly long"):
        found.structs(1)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**16


# --- Real files -----------------------------------------------------------------------------------


def _many_kinds() -> pa.Table:
    rows = range(500)
    moment = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    return pa.table(
        {
            "i8": pa.array([i % 100 for i in rows], pa.int8()),
            "i64": pa.array([None if i % 7 == 0 else i * 10**12 for i in rows], pa.int64()),
            "f": [float("nan") if i % 5 == 0 else i / 3 for i in rows],
            "text": [f"text {i % 11}" for i in rows],
            "raw": pa.array([bytes([i % 256]) * 4 for i in rows], pa.binary(4)),
            "when": pa.array(
                [moment] * 500,
                pa.timestamp("us", "UTC"),
            ),
            "day": pa.array([datetime.date(2026, 1, 1)] * 500),
            "price": pa.array([decimal.Decimal(i) / 100 for i in rows], pa.decimal128(20, 2)),
            "flag": [i % 2 == 0 for i in rows],
            "list": [[i, i + 1] for i in rows],
            "map": pa.array([[("a", i)] for i in rows], pa.map_(pa.string(), pa.int32())),
            "struct": [{"a": i, "b": {"c": str(i)}} for i in rows],
            "kind": pa.array([f"k{i % 3}" for i in rows]).dictionary_encode(),
        },
    ).replace_schema_metadata({"made": "here", "ä": "ö" * 300})


WRITTEN: dict[str, dict[str, Any]] = {
    "plain": {},
    "indexed": {"write_page_index": True, "data_page_size": 200, "write_page_checksum": True},
    "bloom": {"bloom_filter_options": {"text": {"ndv": 100, "fpp": 0.05}}},
    "old": {"version": "1.0", "use_dictionary": False, "compression": "none"},
    "v2": {"data_page_version": "2.0", "compression": "zstd", "row_group_size": 50},
    "sorted": {"sorting_columns": [pq.SortingColumn(1)], "write_statistics": ["i64"]},
    "sized": {"store_decimal_as_integer": True, "max_rows_per_page": 20},
}


def footer_of(data: bytes) -> bytes:
    """The bytes of a plaintext file's FileMetaData and of what may follow them."""
    assert data[-4:] == b"PAR1"
    return data[-8 - int.from_bytes(data[-8:-4], "little") : -8]


def taken_apart(data: bytes) -> Iterator[tuple[Struct, bytes]]:
    """Every structure of a footer, with its bytes, however deep."""
    waiting = [data]
    while waiting:
        bytes_ = waiting.pop()
        found = Struct(bytes_)
        yield found, bytes_[: found.end]
        for field in found._fields.values():
            value = bytes_[field.start : field.end]
            if field.kind == Kind.STRUCT:
                waiting.append(value)
            elif field.kind == Kind.LIST and value[0] & 15 == Kind.STRUCT:
                items = found.structs(field.number) or []
                waiting += [item.dump() for item in items]


def _check(data: bytes) -> int:
    count = 0
    footer = footer_of(data)
    for found, bytes_ in taken_apart(footer):
        assert found.dump() == bytes_
        count += 1
    # Taken apart and put together again at each level that a rewrap goes through.
    outer = Struct(footer)
    groups = outer.structs(4) or []
    for group in groups:
        group.put(1, group.structs(1) or [])
    outer.put(4, groups)
    assert outer.dump() == footer[: outer.end]
    return count


@pytest.mark.parametrize("how", WRITTEN)
def test_footers_that_pyarrow_writes_come_back_as_they_were(how: str) -> None:
    target = io.BytesIO()
    pq.write_table(_many_kinds(), target, **WRITTEN[how])
    assert _check(target.getvalue()) > 40


def _by_polars(path: Path) -> None:
    polars = pytest.importorskip("polars")
    polars.from_arrow(_many_kinds().drop(["map", "raw"])).write_parquet(path)


def _by_duckdb(path: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    kinds = _many_kinds()
    duckdb.connect().execute(f"COPY (SELECT * FROM kinds) TO '{path}' (FORMAT parquet)")
    del kinds  # DuckDB finds it by its name


def _by_fastparquet(path: Path) -> None:
    fastparquet = pytest.importorskip("fastparquet")
    frame = _many_kinds().select(["i8", "f", "text", "flag"]).to_pandas()
    fastparquet.write(str(path), frame)


@pytest.mark.parametrize("write", [_by_polars, _by_duckdb, _by_fastparquet])
def test_footers_of_other_writers_come_back_as_they_were(
    write: Callable[[Path], None], tmp_path: Path
) -> None:
    write(tmp_path / "x.parquet")
    assert _check((tmp_path / "x.parquet").read_bytes()) > 10


def test_structures_of_the_published_files_come_back_as_they_were() -> None:
    found = sorted(public_vectors.folder("parquet-testing").rglob("*.parquet.encrypted"))
    for path in found:
        data = path.read_bytes()
        if data[-4:] == b"PAR1":
            assert _check(data) > 10
        else:
            end = data[-8 - int.from_bytes(data[-8:-4], "little") : -8]
            crypto = Struct(end)
            assert crypto.dump() == end[: crypto.end]
            assert int.from_bytes(end[crypto.end : crypto.end + 4], "little") == (
                len(end) - crypto.end - 4
            )
    assert len(found) >= 12
