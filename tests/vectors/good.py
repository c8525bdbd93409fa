"""Files that must open, also those that only a generous writer makes."""

from __future__ import annotations

from collections.abc import Callable

from cryptography.hazmat.primitives.keywrap import aes_key_wrap

from tests.independent_reader import b64u_text, floe_of_file, kek_wrap
from tests.independent_writer import (
    compact,
    keys_section,
    recipient_a256gcm,
    recipient_a256kw,
    seal_body,
)
from tests.vectors import names
from tests.vectors.scene import (
    KEK,
    KEYS,
    KIDS,
    LAKE,
    MEKS,
    Parts,
    hsm_recipient,
    message,
    recipient_rsa,
    stream,
    text_of,
)

ROOM = 4096 - 32  # plaintext of a full segment
KNOWN = {"kek": bytes(range(32)), "dek": bytes(range(32, 64)), "iv": bytes(range(64, 96))}


def known_answer() -> Parts:
    """The known answer of docs/format.md, with one segment whose IV is 60 … 6b."""
    bound = b'{"context":{"table":"orders"}}'
    keys = compact(keys_section(KNOWN["kek"], KNOWN["dek"], keyset="A" * 22))
    floe = floe_of_file(KNOWN["dek"], bound, 262144, KNOWN["iv"])
    segments = seal_body(floe, b"one order\n", lambda: bytes(range(96, 108)))
    return Parts(KNOWN["dek"], bound, keys, floe, segments)


def add_all(add: Callable[..., None]) -> None:
    short = b"one order\n"
    add(
        "known-answer",
        "The known answer of docs/format.md; the KEK comes from a keyset",
        known_answer().data(),
        plaintext=short,
        keys=[],
        keks=[KNOWN["kek"].hex()],
        without_keyset="UntrustedKey",
    )
    for name, what, size in (
        ("empty", "No plaintext: one segment of 32 bytes", 0),
        ("one-byte", "One byte", 1),
        ("one-less-than-full", "A last segment one byte short of full", ROOM - 1),
        ("full-last", "One segment, exactly full, is the last", ROOM),
        ("one-more-than-full", "A full segment, and a last one of one byte", ROOM + 1),
        ("three-segments", "Two full segments and a last one", 10_000),
        ("full-last-of-three", "Three segments, all of them exactly full", 3 * ROOM),
    ):
        add(name, what, message(name, text_of(size)).data(), plaintext=text_of(size))
    for name, full in (("empty-last-after-one", 1), ("empty-last-after-two", 2)):
        what = "An empty last segment after full ones: not written (W5), but read"
        plain = text_of(full * ROOM)
        parts, take = message(name, plain), stream(f"{name} again")
        segments = [
            parts.floe.seal(at, plain[at * ROOM : (at + 1) * ROOM], take(12), last=False)
            for at in range(full)
        ]
        segments.append(parts.floe.seal(full, b"", take(12), last=True))
        add(name, what, parts.but(segments=segments).data(), plaintext=plain)
    add(
        "default-segments",
        "Segments of 262,144 bytes, as files and values have by default",
        message("default-segments", text_of(1000), segment_length=262144).data(),
        plaintext=text_of(1000),
    )
    add(
        "largest-segments",
        "Segments of 16,777,216 bytes, the longest allowed",
        message("largest-segments", short, segment_length=16777216).data(),
        plaintext=short,
    )
    bound = {"context": {"table": "orders"}, "created": "2025-01-31T12:00:00Z", "writer": "a test"}
    add(
        "file-header",
        "A header of 4,096 bytes, as files have, with `created` and `writer`",
        message("file-header", text_of(5000), bound=bound, size=4096).data(),
        plaintext=text_of(5000),
        context={"table": "orders"},
    )
    add(
        "largest-header",
        "H = 65,536, B = 16,384, 64 context pairs, one name of 128 bytes",
        message("largest-header", short, bound=largest_bound(), size=65536).data(),
        plaintext=short,
        required=["n" * 128],
    )
    add(
        "no-context",
        "An empty context",
        message("no-context", short, bound={"context": {}}).data(),
        plaintext=short,
    )
    path = {"context": {"path": "2025/01/orders.csv", "tenant": "acme"}}
    add(
        "bound-path",
        "The path of /lake/2025/01/orders.csv bound relative to /lake, beside another pair",
        message("bound-path", short, bound=path, size=4096).data(),
        plaintext=short,
        context={"path": "2025/01/orders.csv"},
        required=["tenant"],
    )
    escaped = b'{ "context" : {"gr\\u00f6\\u00dfe":"\\ud83d\\ude00 \\"\\\\\\/","\xce\xb1":"" } }'
    add(
        "escapes",
        "White space, escapes, a surrogate pair, an empty value and raw UTF-8 in `bound`",
        message("escapes", short, bound=escaped).data(),
        plaintext=short,
        context={"größe": '😀 "\\/', "α": ""},
    )
    add_recipients(add, short)


def largest_bound() -> bytes:
    context = {f"name {at}": "v" for at in range(62)} | {"n" * 128: "", "fill": ""}
    bare = compact({"context": context})
    return compact({"context": context | {"fill": "x" * (16384 - len(bare))}})


def add_recipients(add: Callable[..., None], short: bytes) -> None:
    rsa = recipient_rsa(KEK, "rsa")
    other = recipient_a256kw(KIDS["other"], MEKS["other"], KEK)
    future = {"kid": "later:key/1", "alg": "X-LATER", "encrypted_key": "", "epk": {"kty": "OKP"}}
    add(
        "rsa",
        "One RSA-OAEP-256 recipient of 2,048 bits",
        message("rsa", short, recipients=[rsa]).data(),
        plaintext=short,
        keys=["rsa"],
    )
    hsm = recipient_a256gcm(KIDS["hsm"], MEKS["hsm"], KEK, stream("hsm iv")(12))
    add(
        "a256gcm",
        "One A256GCM recipient, which the KEK's id is bound to",
        message("a256gcm", short, recipients=[hsm]).data(),
        plaintext=short,
        keys=["hsm"],
    )
    for name in ("ckm", "pad"):
        add(
            f"{name}-recipient",
            f"One {KEYS[name]['alg']} recipient",
            message(f"{name}-recipient", short, recipients=[hsm_recipient(name)]).data(),
            plaintext=short,
            keys=[name],
        )
    add(
        "two-recipients",
        "Two recipients; the reader's order is not the file's",
        message("two-recipients", short, recipients=[rsa, LAKE]).data(),
        plaintext=short,
        keys=["lake", "rsa"],
    )
    garbage = other | {"encrypted_key": b64u_text(stream("garbage")(40))}
    add(
        "one-bad-recipient",
        "The first recipient tried unwraps to nothing, the second is honest",
        message("one-bad-recipient", short, recipients=[garbage, LAKE]).data(),
        plaintext=short,
        keys=["other", "lake"],
    )
    add(
        "unknown-recipient",
        "A recipient with an algorithm of the future is passed over",
        message("unknown-recipient", short, recipients=[future, LAKE]).data(),
        plaintext=short,
    )
    many = [other | {"kid": f"local:key-{at}/1"} for at in range(14)]
    longest = other | {"kid": "later:" + "k" * 506}
    add(
        "sixteen-recipients",
        "Sixteen recipients, one with a kid of 512 bytes",
        message("sixteen-recipients", short, recipients=[*many, longest, LAKE], size=4096).data(),
        plaintext=short,
    )
    capitals = LAKE | {"kid": LAKE["kid"].replace("local:", "LOCAL:")}
    add(
        "kid-scheme-in-capitals",
        "Kids match by parsed parts: a scheme's letter case does not matter",
        message("kid-scheme-in-capitals", short, recipients=[capitals]).data(),
        plaintext=short,
    )
    signed = message("signature", short, kek_members={"signature": "e30.e30.AAAA"})
    add(
        "signature",
        "A `signature` member, which a reader that requires none does not look into",
        signed.data(),
        plaintext=short,
    )
    # `deep` makes the object at the top the first of exactly eight levels.
    unknown = {"x": [True, False, None, 2**53 - 1, 1 - 2**53], "deep": [[[[[[[]]]]]]]}
    add(
        "unknown-members",
        "Unknown members at every level, nested to 8, with the largest integers",
        message(
            "unknown-members",
            short,
            bound={"context": {"table": "orders"}, **unknown},
            recipients=[LAKE | {"x": {"y": 1}}],
            kek_members={"x": 0},
            keys_members=unknown,
        ).data(),
        plaintext=short,
    )
    # The same message before and after a rewrap to another master key under another KEK.
    before = message("rewrapped", text_of(5000), size=4096)
    kek = stream("another KEK")(32)
    wrapped = b64u_text(aes_key_wrap(kek_wrap(kek), before.dek))
    keys = keys_section(
        kek, before.dek, recipients=[recipient_a256kw(KIDS["other"], MEKS["other"], kek)]
    )
    assert keys["dek"]["encrypted_key"] == wrapped
    after = before.but(keys=compact(keys))
    for name, parts, key in (("rewrap-before", before, "lake"), ("rewrap-after", after, "other")):
        what = "One message, before and after a rewrap: `bound` and body are the same bytes"
        add(name, what, parts.data(), plaintext=text_of(5000), keys=[key])
    purpose = {"purpose": "envelope-names/1"}
    add(
        "name-key",
        "The name key of a root (docs/names.md), with which names.json was made",
        message("name-key", names.KEY, bound={"context": purpose}, size=4096).data(),
        plaintext=names.KEY,
        context=purpose,
    )
