"""Writes the frozen files of `envelope/1` and their manifest, always the same bytes.

    python -m tests.vectors.generate

Run once for a format version; tests/test_vectors.py fails when the files and this program differ.
Each bad file is right in everything but the one thing that it is about: its MAC and tags are made
anew after the change where an attacker who knows the keys could do so. The files are made by
tests/independent_writer.py, so they owe nothing to envelope.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.vectors import bad_bodies, bad_headers, bad_keys, good, signed
from tests.vectors.scene import KEYS

FOLDER = Path(__file__).parent
CODES = {
    "ContextMismatch": "ENV-CONTEXT",
    "KeyMismatch": "ENV-KEY-MISMATCH",
    "Malformed": "ENV-MALFORMED",
    "NotEncrypted": "ENV-NOT-ENCRYPTED",
    "OriginNotProven": "ENV-ORIGIN",
    "Tampered": "ENV-TAMPERED",
    "Truncated": "ENV-TRUNCATED",
    "UnsupportedFormat": "ENV-UNSUPPORTED",
    "UntrustedKey": "ENV-UNTRUSTED",
}
ABOUT = (
    "Frozen files of envelope/1. Each is read with the named keys (and KEKs), in that order, and "
    "the given context; it gives the plaintext of that size and SHA-256, or the error of that "
    "class, found by that reader step of docs/format.md. Where `signers` are named, the reader "
    "requires the signature of one of them; `spki` is a public key, DER in base64url. `pipe` "
    "says where a reader of a pipe answers otherwise than one that knows the file's size."
)


def generate() -> dict[str, bytes]:
    """All files by name, the manifest included."""
    files: dict[str, bytes] = {}
    entries: list[dict[str, Any]] = []

    def add(
        name: str,
        what: str,
        data: bytes,
        *,
        keys: list[str] | None = None,
        plaintext: bytes | None = None,
        error: str | None = None,
        step: int | None = None,
        **more: Any,
    ) -> None:
        file = f"{'bad' if plaintext is None else 'good'}/{name}.env1"
        assert file not in files, f"{name} stands twice"
        files[file] = data
        entry: dict[str, Any] = {"name": name, "what": what, "file": file}
        entry["keys"] = ["lake"] if keys is None else keys
        if plaintext is not None:
            digest = hashlib.sha256(plaintext).hexdigest()
            entry["plaintext"] = {"size": len(plaintext), "sha256": digest}
        else:
            assert error is not None
            entry |= {"error": error, "code": CODES[error], "step": step}
        entries.append(entry | more)

    rooms: tuple[Callable[[Callable[..., None]], None], ...]
    rooms = (
        good.add_all,
        bad_headers.add_all,
        bad_keys.add_all,
        bad_bodies.add_all,
        signed.add_all,
    )
    for add_all in rooms:
        add_all(add)
    manifest = {"about": ABOUT, "keys": KEYS, "signers": signed.SIGNERS, "vectors": entries}
    files["manifest.json"] = json.dumps(manifest, indent=1, ensure_ascii=True).encode() + b"\n"
    return files


def main() -> None:
    for name, data in generate().items():
        path = FOLDER / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)


if __name__ == "__main__":
    main()
