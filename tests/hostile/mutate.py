"""Spoils files at random. Everything follows from one random generator, so it can be done again."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from tests.independent_reader import FIXED, header_mac
from tests.vectors.scene import Parts

Mutation = Callable[[Random, bytes, Parts, Sequence[Parts]], bytes]

TOKENS = (
    *(b"{", b"}", b"[", b"]", b'"', b":", b",", b"\\", b"\\u", b"\\ud800", b"\0", b"\xff", b"\n"),
    *(b"null", b"true", b"NaN", b"1e9", b"-0", b"9007199254740993", b"[" * 200, b'{"":' * 20),
    *(b'"crit":["x"],"x":1,', b'"keyset":"AAAAAAAAAAAAAAAAAAAAAA",', b'"context":{},', b"A256KW"),
    *(b"RSA-OAEP-256", b"local:lake/v1", b"local:lake", b"https://a/keys/b/c", b"==", b"AAAA"),
    *("é".encode(), b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\xc0\x80", b"\xf4\x90\x80\x80"),
)
NUMBERS = [0, 1, 23, 31, 32, 56, 59, 60, 73, 74, 105, 106, 4095, 4096, 65535, 65536, 65537]
NUMBERS += [2**24, 2**31 - 1, 2**31, 2**32 - 1]


def place(random: Random, data: bytes, parts: Parts) -> int:
    """An offset: anywhere, or (more often) near the structure."""
    header = len(parts.header())
    marks = (0, 12, 24, 24 + len(parts.bound), header - 32, header, header + 74, len(data))
    pick = random.random()
    if pick < 0.3:
        at = random.randrange(len(data) + 1)
    elif pick < 0.6:
        at = random.choice(marks) + random.randint(-40, 40)
    elif pick < 0.8:
        at = 24 + random.randrange(len(parts.bound) + len(parts.keys))
    else:
        at = header + 74 + random.randrange(5) * 4096 + random.randint(-20, 40)
    return min(max(at, 0), len(data))


def bits(random: Random, data: bytes, parts: Parts, others: Sequence[Parts]) -> bytes:
    spoilt = bytearray(data)
    for _ in range(random.randint(1, 8)):
        at = min(place(random, data, parts), len(data) - 1)
        spoilt[at] ^= 1 << random.randrange(8)
    return bytes(spoilt)


def run_of_bytes(random: Random, data: bytes, parts: Parts, others: Sequence[Parts]) -> bytes:
    at, length = place(random, data, parts), random.choice((1, 2, 4, 12, 32, 74, 500, 4096))
    value = random.choice((b"\0" * length, b"\xff" * length, random.randbytes(length)))
    return (data[:at] + value + data[at + length :])[: max(len(data), 1)]


def cut(random: Random, data: bytes, parts: Parts, others: Sequence[Parts]) -> bytes:
    return data[: place(random, data, parts)]


def removal(random: Random, data: bytes, parts: Parts, others: Sequence[Parts]) -> bytes:
    at, length = place(random, data, parts), random.choice((1, 2, 16, 32, 74, 4096))
    return data[:at] + data[at + length :]


def insertion(random: Random, data: bytes, parts: Parts, others: Sequence[Parts]) -> bytes:
    at = place(random, data, parts)
    value = random.choice((random.choice(TOKENS), random.randbytes(random.choice((1, 32, 4096)))))
    return data[:at] + value + data[at:]


def move(random: Random, data: bytes, parts: Parts, others: Sequence[Parts]) -> bytes:
    """A run of bytes a second time, elsewhere or over others."""
    start, at = place(random, data, parts), place(random, data, parts)
    run = data[start : start + random.choice((1, 4, 32, 74, 4096, 8192))]
    return data[:at] + run + data[at + random.choice((0, len(run))) :]


def splice(random: Random, data: bytes, parts: Parts, others: Sequence[Parts]) -> bytes:
    """The beginning of one file and the end of another."""
    other = random.choice(others)
    theirs = other.data()
    at = place(random, data, parts)
    other_at = random.choice((at, at + len(theirs) - len(data), place(random, theirs, other)))
    return data[:at] + theirs[max(other_at, 0) :]


def fields(random: Random, data: bytes, parts: Parts, others: Sequence[Parts]) -> bytes:
    """Other values in the fixed fields, with the MAC that fits or as it was."""
    values = list(FIXED.unpack_from(data))
    for _ in range(random.randint(1, 2)):
        at = random.randrange(1, 7)
        near = values[at] + random.choice((-33, -32, -1, 1, 32, 33))
        most = 2 ** (8 * (1, 1, 2, 4, 4, 4)[at - 1]) - 1
        values[at] = min(max(random.choice((near, random.choice(NUMBERS))), 0), most)
    spoilt = FIXED.pack(*values) + data[24:]
    return authenticated(spoilt, parts) if random.random() < 0.5 else spoilt


def floe_header(random: Random, data: bytes, parts: Parts, others: Sequence[Parts]) -> bytes:
    at = len(parts.header())
    length = random.choice((*NUMBERS, 8192, 262144, 2**20))
    values = struct.pack(">BBII", random.choice((0, 0, 1)), random.choice((0, 0, 1)), length, 32)
    return data[:at] + values + data[at + 10 :]


def json_text(random: Random, data: bytes, parts: Parts, others: Sequence[Parts]) -> bytes:
    """Tokens somewhere in the JSON, under lengths (and mostly a MAC) that fit."""
    texts = [parts.bound, parts.keys]
    which = random.randrange(2)
    text = texts[which]
    for _ in range(random.randint(1, 3)):
        at = random.randrange(len(text) + 1)
        text = text[:at] + random.choice(TOKENS) + text[at + random.choice((0, 0, 1, 5)) :]
    texts[which] = text
    return rebuilt(random, data, parts, texts)


def json_value(random: Random, data: bytes, parts: Parts, others: Sequence[Parts]) -> bytes:
    """Another value, a member more or less, in JSON that is well formed."""
    texts = [parts.bound, parts.keys]
    which = random.randrange(2)
    value = json.loads(texts[which])
    change(random, value)
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=random.random() < 0.3)
    texts[which] = text.encode("utf-8", "surrogatepass")
    return rebuilt(random, data, parts, texts)


def change(random: Random, value: Any) -> None:
    """Change one thing inside ``value``, which is an object."""
    holder = value
    while True:
        places = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
        if not places:
            return
        name = random.choice(places)
        inner = holder[name]
        if isinstance(inner, (dict, list)) and random.random() < 0.8:
            holder = inner
            continue
        break
    strange: tuple[Any, ...] = (
        *(None, True, 0, -1, 2**53, 1.5, "", "x", "\ud800", "local:lake/v1", "A" * 54, [], {}),
        *(
            [inner] * 3,
            {"a": inner},
            [[[[[[[[[]]]]]]]]],
            "A256KW",
            "RSA-OAEP-256",
            "_" * 43,
            "A" * 43,
        ),
    )
    action = random.random()
    if action < 0.5:
        holder[name] = random.choice(strange)
    elif action < 0.7:
        del holder[name]
    elif isinstance(inner, str) and inner and action < 0.9:
        at = random.randrange(len(inner))
        holder[name] = inner[:at] + random.choice("AZaz09-_./:é\0") + inner[at + 1 :]
    elif isinstance(holder, dict):
        holder[random.choice(("crit", "alg", "kid", "keyset", "signature", "x"))] = random.choice(
            strange
        )
    else:
        holder.append(random.choice((*strange, inner)))


def rebuilt(random: Random, data: bytes, parts: Parts, texts: list[bytes]) -> bytes:
    """The file with these texts, their lengths, and mostly with a header that is as long as due."""
    size = 56 + len(texts[0]) + len(texts[1])
    header = FIXED.unpack_from(data)[4]
    if size > header or random.random() < 0.2:
        header = size
    if header > 65536:
        return data[:-1]
    head = FIXED.pack(*FIXED.unpack_from(data)[:4], header, len(texts[0]), len(texts[1]))
    head = (head + b"".join(texts)).ljust(header - 32, b"\0") + data[len(parts.header()) - 32 :][
        :32
    ]
    spoilt = head + data[len(parts.header()) :]
    return authenticated(spoilt, parts) if random.random() < 0.8 else spoilt


def authenticated(data: bytes, parts: Parts) -> bytes:
    """With a MAC that fits: what somebody who may write such files can make."""
    size = FIXED.unpack_from(data)[4]
    if not 56 <= size <= len(data):
        return data
    return data[: size - 32] + header_mac(parts.dek, data[: size - 32]) + data[size:]


MUTATIONS: tuple[Mutation, ...] = (
    *(bits, run_of_bytes, cut, removal, insertion, move, splice, fields, floe_header),
    *(json_text, json_value),
)


def mutated(random: Random, parts: Parts, others: Sequence[Parts]) -> tuple[str, bytes]:
    """One to three mutations, mostly one, and their names."""
    data = parts.data()
    names: list[str] = []
    for _ in range(random.choice((1, 1, 1, 1, 2, 3))):
        mutation = random.choice(MUTATIONS)
        if names and (len(data) < 24 or mutation in (json_text, json_value, fields)):
            continue  # these are about a header that is still whole
        data = mutation(random, data, parts, others)
        names.append(mutation.__name__)
    return "+".join(names), data
