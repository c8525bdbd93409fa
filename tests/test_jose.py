"""The strict subset of JSON and canonical base64url: hostile texts, and what must survive."""

from __future__ import annotations

import base64
import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from envelope import jose
from envelope.errors import Malformed

LARGEST = 2**53 - 1


def nested(levels: int, opening: str = '{"a":', closing: str = "}") -> bytes:
    """An object with that many levels, its own included; the innermost holds 0."""
    return ('{"a":' + opening * (levels - 1) + "0" + closing * (levels - 1) + "}").encode()


def escaped(text: str) -> bytes:
    """``text`` with all its characters escaped, as the value of a member."""
    units = text.encode("utf-16-be", "surrogatepass").hex()
    codes = [units[start : start + 4] for start in range(0, len(units), 4)]
    return b'{"a":"' + "".join(f"\\u{code}" for code in codes).encode() + b'"}'


HOSTILE = {
    "empty": b"",
    "a bare brace": b"{",
    "a closing brace": b"}",
    "an array": b"[]",
    "a string": b'"a"',
    "a number": b"1",
    "null": b"null",
    "two objects": b"{}{}",
    "a comma between two objects": b"{},{}",
    "an object that ends within a string": b'{"a":"}',
    "leading space": b" {}",
    "trailing space": b"{} ",
    "a trailing newline": b'{"a":1}\n',
    "a trailing NUL": b"{}\0",
    "a leading NUL": b"\0{}",
    "a byte order mark": b"\xef\xbb\xbf{}",
    "a byte order mark inside": b"{\xef\xbb\xbf}",
    "UTF-16, little-endian": '{"a":1}'.encode("utf-16-le"),
    "UTF-16, big-endian": '{"a":1}'.encode("utf-16-be"),
    "UTF-16 with its mark": '{"a":1}'.encode("utf-16"),
    "UTF-32": '{"a":1}'.encode("utf-32-le"),
    "no UTF-8": b'{"a":"\xff"}',
    "an over-long form of a slash": b'{"a":"\xc0\xaf"}',
    "an over-long form of NUL": b'{"a":"\xc0\x80"}',
    "a cut UTF-8 sequence": b'{"a":"\xe2\x82"}',
    "a code point beyond Unicode": b'{"a":"\xf4\x90\x80\x80"}',
    "a lone high surrogate, raw": b'{"a":"\xed\xa0\x80"}',
    "a surrogate pair, raw (CESU-8)": b'{"a":"\xed\xa0\xbd\xed\xb8\x80"}',
    "a lone high surrogate, escaped": b'{"a":"\\ud800"}',
    "a lone low surrogate, escaped": b'{"a":"\\udc00"}',
    "a pair the wrong way round": b'{"a":"\\udc00\\ud800"}',
    "a lone surrogate as a name": b'{"\\ud800":1}',
    "a lone surrogate deep inside": b'{"a":[{"b":["\\uDBFF"]}]}',
    "a name twice": b'{"a":1,"a":1}',
    "a name twice, once escaped": b'{"a":1,"\\u0061":2}',
    "a name twice, deep inside": b'{"x":[{"a":1,"b":2,"a":3}]}',
    "the empty name twice": b'{"":1,"":2}',
    "NaN": b'{"a":NaN}',
    "Infinity": b'{"a":Infinity}',
    "minus Infinity": b'{"a":-Infinity}',
    "minus NaN": b'{"a":-NaN}',
    "a fraction": b'{"a":1.5}',
    "a whole number with a fraction": b'{"a":1.0}',
    "an exponent": b'{"a":1e3}',
    "a huge exponent": b'{"a":1e999999999}',
    "minus zero": b'{"a":-0}',
    "minus zero with a fraction": b'{"a":-0.0}',
    "a leading zero": b'{"a":01}',
    "a leading plus": b'{"a":+1}',
    "hexadecimal": b'{"a":0x10}',
    "an underscore in a number": b'{"a":1_0}',
    "digits that are not ASCII": '{"a":١}'.encode(),
    "2^53": b'{"a":9007199254740992}',
    "-2^53": b'{"a":-9007199254740992}',
    "an integer of 18 digits": b'{"a":100000000000000000}',
    "an integer of 5,000 digits": b'{"a":' + b"9" * 5000 + b"}",
    "an integer of 60,000 digits": b'{"a":' + b"9" * 60_000 + b"}",
    "depth 9, objects": nested(9),
    "depth 9, arrays": nested(9, "[", "]"),
    "60,000 opening brackets": b'{"a":' + b"[" * 60_000 + b"}",
    "60,000 opening braces": b"{" * 60_000 + b"}",
    "60,000 balanced brackets": b'{"a":' + b"[" * 30_000 + b"]" * 30_000 + b"}",
    "brackets behind a string that hides none": b'{"a":"\\\\",' + b'"b":' + b"[" * 60_000 + b"}",
    "brackets behind closing ones": b"{}" + b"}" * 1000 + b"[" * 60_000 + b"}",
    "32,000 escaped quotes outside a string": b"{" + b'\\"' * 32_000 + b"}",
    "60,000 quotes": b"{" + b'"' * 60_000 + b"}",
    "an unterminated string": b'{"a":"' + b"x" * 60_000 + b"}",
    "a string that ends in an escape": b'{"a":"\\"}',
    "a raw newline in a string": b'{"a":"\n"}',
    "a raw NUL in a string": b'{"a":"\0"}',
    "an escape that does not exist": b'{"a":"\\x41"}',
    "a short unicode escape": b'{"a":"\\u41"}',
    "a comment": b'{"a":1/*x*/}',
    "a trailing comma": b'{"a":1,}',
    "a leading comma": b'{,"a":1}',
    "a missing comma": b'{"a":1 "b":2}',
    "single quotes": b"{'a':1}",
    "a bare name": b"{a:1}",
    "a number as a name": b"{1:1}",
    "True of Python": b'{"a":True}',
    "space that JSON does not know": b'{\x0c"a":1}',
    "a no-break space": '{\u00a0"a":1}'.encode(),
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_what_is_not_in_the_subset_is_malformed(data: bytes) -> None:
    with pytest.raises(Malformed) as caught:
        jose.loads(data, "keys")
    assert caught.value.message.startswith("keys is n")


def test_an_error_does_not_repeat_what_the_text_says() -> None:
    for data in (b'{"canary" 1}', b'{"canary":1,"canary":2}', b'{"a":canary}', b'{"\xffcanary":1}'):
        with pytest.raises(Malformed) as caught:
            jose.loads(data, "bound")
        assert "canary" not in str(caught.value)
        assert caught.value.__context__ is None or caught.value.__suppress_context__


ACCEPTED: dict[str, tuple[bytes, dict[str, Any]]] = {
    "the empty object": (b"{}", {}),
    "space between tokens": (b'{ "a" :\r\n\t1 }', {"a": 1}),
    "depth 8, objects": (nested(8), json.loads(nested(8))),
    "depth 8, arrays": (nested(8, "[", "]"), {"a": [[[[[[[0]]]]]]]}),
    "8 levels next to each other": (
        b'{"a":[[[]],[[]]],"b":[[[]]]}',
        {"a": [[[]], [[]]], "b": [[[]]]},
    ),
    "brackets in strings": (b'{"a":"' + b"[{" * 5000 + b'"}', {"a": "[{" * 5000}),
    "brackets in a name": (b'{"[[[[[[[[[[":1}', {"[[[[[[[[[[": 1}),
    "brackets behind an escaped quote": (b'{"a":"\\"[[[[[[[[[["}', {"a": '"[[[[[[[[[['}),
    "an escaped backslash before the end": (b'{"a":"\\\\","b":[]}', {"a": "\\", "b": []}),
    "many escaped backslashes": (b'{"a":"' + b"\\\\" * 999 + b'"}', {"a": "\\" * 999}),
    "a closing brace in a string": (b'{"a":"}"}', {"a": "}"}),
    "an escaped surrogate pair": (b'{"a":"\\ud83d\\ude00"}', {"a": "\U0001f600"}),
    "a raw astral character": ('{"a":"\U0001f600"}'.encode(), {"a": "\U0001f600"}),
    "an escaped NUL": (b'{"a":"\\u0000"}', {"a": "\0"}),
    "2^53 - 1": (b'{"a":9007199254740991}', {"a": LARGEST}),
    "1 - 2^53": (b'{"a":-9007199254740991}', {"a": -LARGEST}),
    "zero": (b'{"a":0}', {"a": 0}),
    "one name in two objects": (b'{"a":{"a":1}}', {"a": {"a": 1}}),
    "names that differ in case": (b'{"a":1,"A":2}', {"a": 1, "A": 2}),
    "names that differ in normalisation": (
        b'{"\\u00e9":1,"e\\u0301":2}',
        {"\xe9": 1, "e\u0301": 2},
    ),
    "constants": (b'{"a":[true,false,null]}', {"a": [True, False, None]}),
}


@pytest.mark.parametrize(("data", "value"), ACCEPTED.values(), ids=ACCEPTED.keys())
def test_what_is_in_the_subset_is_understood(data: bytes, value: dict[str, Any]) -> None:
    assert jose.loads(data, "bound") == value


def test_hostile_texts_cost_no_more_memory_than_a_few_times_their_size() -> None:
    for data in HOSTILE.values():
        tracemalloc.start()
        with pytest.raises(Malformed):
            jose.loads(data, "keys")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 3_000_000


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
leaves = texts | st.integers(-LARGEST, LARGEST) | st.booleans() | st.none()
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)


def depth(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=0)
    return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0


@given(st.dictionaries(texts, values, max_size=5))
def test_what_is_written_is_read_back_as_it_was(value: dict[str, Any]) -> None:
    data = jose.dumps(value)
    if depth(value) > jose.MAX_DEPTH:
        with pytest.raises(Malformed, match="nested deeper"):
            jose.loads(data, "keys")
    else:
        assert jose.loads(data, "keys") == value


@given(texts)
def test_a_text_is_the_same_however_it_is_escaped(text: str) -> None:
    assert jose.loads(escaped(text), "keys") == {"a": text}


@given(st.binary(max_size=60) | st.text('{}[]":,\\u0ad8 1-.eE', max_size=60).map(str.encode))
@example(b'{"a":"\\"}')
def test_any_bytes_are_an_object_or_malformed(data: bytes) -> None:
    for candidate in (data, b"{" + data + b"}", b'{"a":' + data + b"}"):
        try:
            value = jose.loads(candidate, "keys")
        except Malformed:
            continue
        assert jose.loads(jose.dumps(value), "keys") == value
        assert value == json.loads(candidate)
        assert depth(value) <= jose.MAX_DEPTH


def test_a_writer_cannot_emit_what_json_has_not() -> None:
    for value in ({"a": float("nan")}, {"a": float("inf")}, {"a": "\ud800"}):
        with pytest.raises(ValueError):  # noqa: PT011  UnicodeEncodeError is one, and not the other
            jose.dumps(value)


# --- base64url ----------------------------------------------------------------------------------


@given(st.binary(max_size=80))
def test_bytes_survive_base64url_and_have_no_padding(data: bytes) -> None:
    text = jose.b64u_encode(data)
    assert "=" not in text
    assert base64.urlsafe_b64decode(text + "==") == data
    assert jose.b64u_decode(text, "id", length=len(data)) == data


@given(
    st.text(max_size=12)
    | st.text("AQgwZ_-z9=+/ \n", max_size=12)
    | st.binary(max_size=9).map(jose.b64u_encode)
)
@example("")
@example("AA")
@example("AB")
def test_a_text_that_decodes_is_the_only_text_for_its_bytes(text: str) -> None:
    try:
        data = jose.b64u_decode(text, "id")
    except Malformed:
        return
    assert jose.b64u_encode(data) == text


@given(st.binary(min_size=1, max_size=20), st.data())
def test_a_changed_character_is_other_bytes_or_malformed(data: bytes, draw: st.DataObject) -> None:
    text = jose.b64u_encode(data)
    place = draw.draw(st.integers(0, len(text) - 1))
    character = draw.draw(st.characters().filter(lambda c: c != text[place]))
    changed = text[:place] + character + text[place + 1 :]
    try:
        assert jose.b64u_decode(changed, "id") != data
    except Malformed:
        pass


@pytest.mark.parametrize(
    "text",
    [
        "A",  # 6 bits are no byte
        "AAAAA",
        "AB",  # left-over bits
        "AAF",
        "AA==",
        "AAA=",
        "=",
        "AA\n",
        "\nAA",
        "A A",
        " AA",
        "+A",
        "/w",
        "AA.",
        "ÀA",
        "ＡＡ",
        "AA\0",
        None,
        5,
        b"AA",
        ["AA"],
        {"AA": 1},
        True,
    ],
    ids=ascii,
)
def test_what_is_not_canonical_base64url_is_malformed(text: object) -> None:
    with pytest.raises(Malformed, match=r"kek\.id is not"):
        jose.b64u_decode(text, "kek.id")


@pytest.mark.parametrize("length", [0, 31, 33])
def test_another_length_than_the_fixed_one_is_malformed(length: int) -> None:
    with pytest.raises(Malformed, match="must hold 32 bytes"):
        jose.b64u_decode(jose.b64u_encode(bytes(length)), "kek.id", length=32)
