"""The worked examples of docs/format.md, from the independent writer alone.

    python -m tests.format_examples

writes them into the page, between ``<!-- generated: NAME -->`` and ``<!-- end of NAME -->``.
tests/test_format_document.py compares, so that neither page nor program can go stale.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from tests.independent_reader import b64u, b64u_text, floe_of_file, kdf, kek_id
from tests.independent_writer import (
    build_header,
    compact,
    keys_section,
    recipient_a256kw,
    seal_body,
)

PAGE = Path(__file__).parents[1] / "docs" / "format.md"

KEK, DEK = bytes(range(0x20)), bytes(range(0x20, 0x40))
FLOE_IV, SEGMENT_IV = bytes(range(0x40, 0x60)), bytes(range(0x60, 0x6C))
MEK = bytes(range(0x80, 0xA0))
BOUND = b'{"context":{"table":"orders"}}'
KID = "local:lake/0123456789abcdef"
VAULT_KID = "https://acme-lake.vault.azure.net/keys/orders/0123456789abcdef0123456789abcdef"


def rows(pairs: Iterable[tuple[str, str | bytes]], width: int = 64) -> str:
    """Names and values in two columns; bytes as hex, long ones on several lines."""
    lines = []
    for name, value in pairs:
        text = value if isinstance(value, str) else value.hex()
        parts = [text[at : at + width] for at in range(0, len(text), width)] or [""]
        if isinstance(value, str):
            parts = [text]
        lines += [f"{name if at == 0 else '':<16}{part}" for at, part in enumerate(parts)]
    return "\n".join(line.rstrip() for line in lines)


def dump(fields: Iterable[tuple[str, bytes]]) -> str:
    """Bytes as hex with offsets, 16 a line, a new line for each field; its name at its start."""
    lines, offset = [], 0
    for name, data in fields:
        for at in range(0, len(data), 16):
            row = data[at : at + 16]
            shown = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
            label = name if at == 0 else ""
            lines.append(f"{offset + at:5d}  {row.hex(' '):<47}  {shown:<16}  {label}".rstrip())
        offset += len(data)
    return "\n".join(lines)


def known_answer() -> str:
    section = keys_section(KEK, DEK, keyset="A" * 22)
    header = build_header(DEK, BOUND, compact(section))
    floe = floe_of_file(DEK, BOUND, 262144, FLOE_IV)
    return rows(
        [
            ("KEK", KEK),
            ("DEK", DEK),
            ("FLOE IV", FLOE_IV),
            ("S", "262144"),
            ("bound", BOUND.decode()),
            ("keyset", "AAAAAAAAAAAAAAAAAAAAAA"),
            ("H", str(len(header))),
            ("kek_id", kek_id(KEK)),
            ("encrypted_key", b64u(section["dek"]["encrypted_key"])),
            ("floe_key", kdf(DEK, "envelope/1 suite 1 FLOE key")),
            ("mac", header[-32:]),
            ("SHA-256(header)", hashlib.sha256(header).digest()),
            ("FLOE tag", floe.header[-32:]),
        ],
        width=80,
    )


def derivations() -> str:
    floe = floe_of_file(DEK, BOUND, 262144, FLOE_IV)
    labels = {
        "KEK": (KEK, ["envelope/1 KEK id", "envelope/1 DEK wrap A256KW"]),
        "DEK": (DEK, ["envelope/1 suite 1 header MAC", "envelope/1 suite 1 FLOE key"]),
    }
    lines = [
        f'KDF({name}, "{label}")\n    {kdf(key, label).hex()}'
        for name, (key, names) in labels.items()
        for label in names
    ]
    lines += [
        f"SHA-256(bound)\n    {hashlib.sha256(BOUND).hexdigest()}",
        f"FLOE parameters\n    {floe.header[:10].hex()}",
        f"FLOE header tag\n    {floe.header[42:].hex()}",
        f"FLOE message key (48 bytes)\n    {floe.message_key.hex()}",
    ]
    for position in (0, 2**20 - 1, 2**20):
        lines.append(f"key of segment {position}\n    {floe.segment_key(position).hex()}")
    return "\n".join(lines)


def value_fields(plaintext: bytes) -> list[tuple[str, bytes]]:
    section = keys_section(KEK, DEK, recipients=[recipient_a256kw(KID, MEK, KEK)])
    keys = compact(section)
    header = build_header(DEK, BOUND, keys)
    floe = floe_of_file(DEK, BOUND, 262144, FLOE_IV)
    [segment] = seal_body(floe, plaintext, lambda: SEGMENT_IV)
    k = 24 + len(BOUND)
    return [
        ("magic", header[:8]),
        ("version, suite, flags", header[8:12]),
        ("H, B, K", header[12:24]),
        ("bound", header[24:k]),
        ("keys", header[k : k + len(keys)]),
        ("mac", header[-32:]),
        ("FLOE parameters", floe.header[:10]),
        ("FLOE IV", floe.header[10:42]),
        ("FLOE header tag", floe.header[42:]),
        ("length field", segment[:4]),
        ("IV", segment[4:16]),
        ("ciphertext", segment[16:-16]),
        ("tag", segment[-16:]),
    ]


def compact_value() -> str:
    return dump(value_fields(b"one order\n"))


def empty_message() -> str:
    return dump(value_fields(b"")[-4:])


def two_segments() -> str:
    size, h, s = 300_000, 4096, 262144
    room, body = s - 32, h + 74
    count = -(-size // room)
    last = size - (count - 1) * room + 32
    total = body + (count - 1) * s + last
    return rows(
        [
            ("plaintext", f"{size:>8}"),
            ("H", f"{h:>8}"),
            ("S", f"{s:>8}"),
            ("room", f"{room:>8}  = S - 32"),
            ("n", f"{count:>8}  = ceil(plaintext / room)"),
            ("segment 0", f"{body:>8}  = H + 74, to {body + s}; plaintext 0 to {room}"),
            ("segment 1", f"{body + s:>8}  = H + 74 + S, to {total}; plaintext {room} to {size}"),
            ("its length", f"{last:>8}  = plaintext - room + 32; its length field {last:08x}"),
            ("file", f"{total:>8}  = H + 74 + plaintext + 32 n"),
            ("", "and back:"),
            ("L", f"{total - body:>8}  = file - H - 74"),
            ("n", f"{-(-(total - body) // s):>8}  = ceil(L / S)"),
            ("plaintext", f"{total - body - 32 * count:>8}  = L - 32 n"),
        ]
    )


def sizes() -> str:
    """How many recipients a file's header holds beside 400 bytes of `bound`; what a value costs."""
    lines = []
    for bits in (2048, 3072, 4096):
        wrapped = {"kid": VAULT_KID, "alg": "RSA-OAEP-256", "encrypted_key": ""}
        wrapped["encrypted_key"] = b64u_text(bytes(bits // 8))
        fits = 0
        while True:
            keys = keys_section(KEK, DEK, recipients=[wrapped] * (fits + 1))
            if 56 + 400 + len(compact(keys)) > 4096:
                break
            fits += 1
        lines.append(f"H = 4096 holds {fits} recipients of RSA-{bits}")
    wrapped["encrypted_key"] = b64u_text(bytes(256))
    local = recipient_a256kw(KID, MEK, KEK)
    for name, section in (
        ("under one RSA-2048 recipient", keys_section(KEK, DEK, recipients=[wrapped])),
        ("under one A256KW recipient", keys_section(KEK, DEK, recipients=[local])),
        ("with a keyset", keys_section(KEK, DEK, keyset="A" * 22)),
    ):
        cost = len(build_header(DEK, b'{"context":{}}', compact(section))) + 74 + 32
        lines.append(f"a value {name} grows by {cost} bytes")
    return "\n".join(lines)


def keys_json() -> str:
    section = keys_section(KEK, DEK, recipients=[recipient_a256kw(KID, MEK, KEK)])
    return json.dumps(section, indent=2)


BLOCKS: dict[str, Callable[[], str]] = {
    "known answer": known_answer,
    "derivations": derivations,
    "keys": keys_json,
    "compact value": compact_value,
    "empty message": empty_message,
    "two segments": two_segments,
    "sizes": sizes,
}


def filled(page: str) -> str:
    """The page with each marked block as the program has it."""
    for name, block in BLOCKS.items():
        language = "json" if name == "keys" else "text"
        new = f"<!-- generated: {name} -->\n```{language}\n{block()}\n```\n<!-- end of {name} -->"
        pattern = rf"<!-- generated: {name} -->.*?<!-- end of {name} -->"
        old = re.findall(pattern, page, flags=re.DOTALL)
        if len(old) != 1:
            raise ValueError(f"the page has {len(old)} blocks {name!r}")
        page = page.replace(old[0], new)
    return page


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text()))
