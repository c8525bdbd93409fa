"""Random mutations: exactly the plaintext with its context, or a documented error; nothing else.

ENVELOPE_MUTATIONS says how many, ENVELOPE_SEED which. The independent reader is asked about each,
so that not only "refused" is checked but the class of the error.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from pathlib import Path
from random import Random

from tests.hostile.mutate import mutated
from tests.hostile.scene import (
    DOCUMENTED,
    ROOM,
    WAYS,
    by_decrypt,
    by_verify,
    fresh_ring,
    from_pipe,
    outcome_of,
    parts_of,
    recipient,
    told,
    vault,
)
from tests.independent_writer import recipient_a256kw
from tests.vectors.scene import KEK, text_of

MUTATIONS = int(os.environ.get("ENVELOPE_MUTATIONS", "4000"))
SEED = os.environ.get("ENVELOPE_SEED", "1")

BASES = [
    parts_of("mutated value", b"a value"),
    parts_of("mutated empty", b"", bound={"context": {}}),
    parts_of("mutated segments", 2 * ROOM + 99),
    parts_of("mutated file", 3 * ROOM, size=4096),
    parts_of("mutated twin", text_of(3 * ROOM)[::-1], size=4096),
    parts_of(
        "mutated recipients",
        ROOM,
        size=8192,
        bound={"context": {"table": "orders", "é": "\u2028"}, "created": "2025-01-31T12:00:00Z"},
        recipients=[
            recipient_a256kw("https://acme.vault.azure.net/keys/lake/0123", bytes(32), KEK),
            recipient() | {"note": "unknown members are carried"},
            {"kid": "later:k", "alg": "X-LATER", "encrypted_key": "AAAA"},
        ],
    ),
]


def contexts_of_bases() -> dict[bytes, object]:
    return {str(told(p.data())).encode(): json.loads(p.bound)["context"] for p in BASES}


def test_mutated_files_never_open_to_anything_else(tmp_path: Path) -> None:
    started = time.monotonic()
    contexts = contexts_of_bases()
    counts: Counter[str] = Counter()
    with vault() as driver:
        ring = fresh_ring()
        for base in BASES:
            assert outcome_of(by_decrypt, base.data(), ring, tmp_path).error is None
        for number in range(MUTATIONS):
            random = Random(f"{SEED}-{number}")
            base = random.choice(BASES)
            name, data = mutated(random, base, BASES)
            way = WAYS[number % len(WAYS)]
            before = driver.calls["unwrap"]
            out = outcome_of(way, data, ring, tmp_path)
            where = f"ENVELOPE_SEED={SEED}, mutation {number}: {name}, {way.__name__}"
            assert driver.calls["unwrap"] - before <= 3, where
            answer = told(data, pipe=way is from_pipe, kek_known=True)
            if isinstance(answer, bytes):
                assert out.error is None, f"{where}: {out.error}, and the other reader opens it"
                assert out.plaintext in (None, answer), where
                # Whatever opens is one of the honest files, with its own context.
                assert out.context in (None, contexts[str(answer).encode()]), where
                counts["opened"] += 1
                continue
            counts[answer] += 1
            assert out.error in DOCUMENTED, f"{where}: {out.error}"
            assert out.plaintext is None, where
            same = {answer}
            if answer in ("Tampered", "Truncated") and way in (from_pipe, by_verify, by_decrypt):
                same = {"Tampered", "Truncated"}  # which of two faults comes first
            if way is from_pipe and answer == "Truncated":  # a pipe tells its end only at its end
                same.add(str(told(data + bytes(70_000), pipe=True, kek_known=True)))
            assert out.error in same, f"{where}: {out.error}, and the other reader says {answer}"
            if out.released:
                assert any(told(p.data()).startswith(out.released) for p in BASES), where  # type: ignore[arg-type]
    assert counts["opened"] < MUTATIONS / 5, "the mutations change too little"
    assert len(counts) >= 6, "the mutations reach too few of the checks"
    print(f"{MUTATIONS} mutations in {time.monotonic() - started:.0f} s: {dict(counts)}")
