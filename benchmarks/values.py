"""encrypt and decrypt of a 4 KiB value under a warm ring."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import Any

import envelope
from benchmarks import bare
from benchmarks.plan import KIB, Plan
from benchmarks.results import Row, Table, ratios
from benchmarks.rounds import Contestant, interleave
from benchmarks.scene import Scene
from envelope import header, jose

__all__ = ["primitives_of", "values"]

_SIZE = 4 * KIB
_PRIMITIVES = "bare primitives"


def values(plan: Plan) -> Table:
    """What the library adds to the primitives that a value needs, and what others do."""
    repeat = 20 if plan.tiny else 2000
    plain = bytes(range(256)) * (_SIZE // 256)
    with plan.folder(plan.memory) as folder:
        ring = Scene.make(folder).ring
        sealed = envelope.encrypt(plain, keys=ring)
        kek_wrap, member, bound = primitives_of(ring, sealed)
        pairs: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
            _PRIMITIVES: (
                functools.partial(bare.seal_value, plain, kek_wrap, member, bound),
                functools.partial(bare.open_value, sealed, kek_wrap),
            ),
            "envelope": (
                functools.partial(envelope.encrypt, plain, keys=ring),
                functools.partial(envelope.decrypt, sealed, keys=ring),
            ),
        }
        absent = []
        for name, peer in (("Tink, envelope AEAD", _tink), ("pyrage, X25519", _pyrage)):
            try:
                pairs[name] = peer(plain)
            except ImportError as error:
                absent.append(Row(name, note=f"not installed: {error.name}"))
        contestants = [
            Contestant(f"{name} {side}", functools.partial(_repeat, run, repeat))
            for name, both in pairs.items()
            for side, run in zip(("encrypt", "decrypt"), both, strict=True)
        ]
        seconds = interleave(contestants, plan.rounds)
    rows = []
    for side in ("encrypt", "decrypt"):
        base = seconds[f"{_PRIMITIVES} {side}"]
        for name in pairs:
            mine = seconds[f"{name} {side}"]
            note = f"{sorted(mine)[len(mine) // 2] / repeat * 1e6:.1f} µs"
            target = 1.8 if (name, side) == ("envelope", "encrypt") else None
            of = f"{_PRIMITIVES}, {side}"
            rows.append(Row(f"{name}, {side}", of, ratios(mine, base), target=target, note=note))
    return Table(
        "values",
        "Values of 4 KiB",
        f"in memory, one thread, warm ring, {repeat} values a round, {plan.rounds} paired rounds; "
        "bare primitives: the calls of `cryptography` that docs/format.md asks for, on the same "
        "inputs, and the joining of their outputs",
        (*rows, *absent),
        (
            "Encrypting takes 76 bytes of the system's generator in three calls, one AES key wrap, "
            "five HKDF-Expands, one HMAC, one SHA-256 and one AES-GCM. Tink wraps each value's key "
            "by a key in memory, without key commitment or a bound context; a remote key would be "
            "called once a value. pyrage does an X25519 agreement a value.",
        ),
    )


def primitives_of(ring: envelope.KeyRing, sealed: bytes) -> tuple[bytes, bytes, bytes]:
    """The wrapping key, the `kek` member and `bound` of a value, for the bare primitives."""
    parsed = header.parse(sealed)
    member = jose.dumps(dict(parsed.keys.kek))
    return ring.open(parsed).kek.wrapping.reveal(), member, parsed.bound


def _repeat(run: Callable[[], object], times: int) -> None:
    for _ in range(times):
        run()


def _tink(plain: bytes) -> tuple[Callable[[], object], Callable[[], object]]:
    tink: Any = importlib.import_module("tink")
    aead: Any = importlib.import_module("tink.aead")
    aead.register()
    template = aead.aead_key_templates.AES256_GCM
    remote = tink.new_keyset_handle(template).primitive(aead.Aead)
    primitive = aead.KmsEnvelopeAead(template, remote)
    sealed = primitive.encrypt(plain, b"")
    return (
        functools.partial(primitive.encrypt, plain, b""),
        functools.partial(primitive.decrypt, sealed, b""),
    )


def _pyrage(plain: bytes) -> tuple[Callable[[], object], Callable[[], object]]:
    pyrage: Any = importlib.import_module("pyrage")
    identity = pyrage.x25519.Identity.generate()
    recipients = [identity.to_public()]
    sealed = pyrage.encrypt(plain, recipients)
    return (
        functools.partial(pyrage.encrypt, plain, recipients),
        functools.partial(pyrage.decrypt, sealed, [identity]),
    )
