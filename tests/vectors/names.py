"""Known answers of encrypted names (docs/names.md), made by ``tests/independent_names.py``.

``python -m tests.vectors.names`` writes names.json.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.independent_names import (
    Refused,
    base32hex,
    decrypted,
    encrypted,
    siv_encrypt,
)
from tests.vectors.scene import stream

FILE = Path(__file__).parent / "names.json"
KEY = stream("name key")(64)

GOOD = {
    "one-letter": "a",
    "a-part": "orders.parquet",
    "fifteen-bytes": "x" * 15,
    "sixteen-bytes": "x" * 16,
    "seventeen-bytes": "x" * 17,
    "longest": "x" * 143,
    "longest-of-three-byte-characters": "語" * 47,
    "hive": "year=2026/month=11/part-0.parquet",
    "same-name-in-another-folder": "year=2025/month=11/part-0.parquet",
    "same-name-above-itself": "a/a/a",
    "upper-case": "Orders.Parquet",
    "decomposed": "cafe\u0301.csv",
    "composed": "caf\u00e9.csv",
    "kelvin": "\u212a",
    "hangul": "\u1112\u1161\u11ab",
    "emoji": "\U0001f9ee/\U0001f512",
    "control-characters": "a\tb\x01\x7f",
    "dots": "..../.hidden",
    "spaces": " a ",
    "backslash": "a\\b",
    "magic": "a*[1]?{x}",
}
REFUSED = {
    "empty": "",
    "empty-part": "a//b",
    "leading-slash": "/a",
    "trailing-slash": "a/",
    "dot": "a/./b",
    "dot-dot": "..",
    "nul": "a\0b",
    "surrogate": "a\ud800",
    "too-long": "x" * 144,
    "too-long-in-utf-8": "語" * 48,
    "too-long-once-normalised": "\u0958" * 24,  # NFC has two characters for it
}


def raw(plain: bytes, above: str = "") -> str:
    """Any bytes encrypted as a part, allowed or not."""
    return base32hex(siv_encrypt(KEY, [above.encode()], plain))


def foreign() -> dict[str, str]:
    """Stored paths that no writer has made."""
    part = encrypted(KEY, "a-part")
    folder = encrypted(KEY, "folder")
    flipped = ("1" if part[0] == "0" else "0") + part[1:]
    return {
        "plain": "part-0.parquet",
        "only-digits": "2026",
        "name-key": "envelope-names.env1",
        "upper-case": part.upper(),
        "padded": part + "=" * (-len(part) % 8),
        "cut": part[:-1],
        "flipped": flipped,
        "spare-bits": encrypted(KEY, "a")[:-1] + "1",
        "moved-into-a-folder": f"{folder}/{part}",
        "moved-out-of-a-folder": encrypted(KEY, "folder/b").partition("/")[2],
        "below-a-foreign-folder": f"folder/{part}",
        "of-another-key": base32hex(siv_encrypt(stream("another name key")(64), [b""], b"a-part")),
        "without-associated-data": base32hex(siv_encrypt(KEY, [], b"a-part")),
        "dot": raw(b"."),
        "dot-dot": raw(b".."),
        "slash": raw(b"a/b"),
        "nul": raw(b"a\0b"),
        "not-nfc": raw("cafe\u0301".encode()),
        "not-utf-8": raw(b"a\xff"),
        "surrogate-in-utf-8": raw(b"a\xed\xa0\x80"),
        "too-long": raw(b"x" * 144),
        "no-bytes": raw(b""),
    }


def made() -> dict[str, Any]:
    """What names.json says."""
    vectors: list[dict[str, Any]] = []
    for name, path in GOOD.items():
        stored = encrypted(KEY, path)
        plain = decrypted(KEY, stored)
        vectors.append({"name": name, "path": path, "stored": stored, "listed": plain})
    for name, path in REFUSED.items():
        try:
            encrypted(KEY, path)
        except Refused as error:
            vectors.append({"name": f"refused-{name}", "path": path, "error": str(error)})
        else:
            raise AssertionError(name)
    for name, stored in foreign().items():
        assert decrypted(KEY, stored) is None, name
        vectors.append({"name": f"foreign-{name}", "stored": stored, "listed": None})
    return {
        "about": "Known answers of encrypted names, docs/names.md. Each plain `path` has the "
        "`stored` one under this key, which is `listed` so; or it is refused with the error of "
        "that class. A stored path that is listed as null is foreign.",
        "key": KEY.hex(),
        "vectors": vectors,
    }


def text() -> str:
    """names.json."""
    return json.dumps(made(), indent=1) + "\n"


if __name__ == "__main__":
    FILE.write_text(text())
