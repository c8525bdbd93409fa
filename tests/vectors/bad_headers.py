"""Files that reader steps 1 to 6 refuse: what can be seen without any key."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.independent_reader import b64u_text
from tests.vectors.scene import LAKE, Json, message, stream


def add_all(add: Callable[..., None]) -> None:
    def bad(name: str, what: str, error: str, step: int, data: bytes, **more: Any) -> None:
        add(name, what, data, error=error, step=step, **more)

    add_fixed_part(bad)
    add_json(bad)
    add_members(bad)
    add_crit_and_context(bad)


def add_fixed_part(bad: Callable[..., None]) -> None:
    whole = message("fixed part", size=4096)
    plain = whole.data()
    bad("nothing", "An empty file", "NotEncrypted", 1, b"")
    bad("plain", "A file that was never encrypted", "NotEncrypted", 1, b"a,b\n1,2\n" * 40)
    lines = whole.but(fixed={"magic": b"\x89ENV\n\x1a\n\n"}).data()
    bad("magic-line-ends", "A magic after a text-mode copy", "NotEncrypted", 1, lines)
    bits = whole.but(fixed={"magic": b"\x09ENV\r\n\x1a\n"}).data()
    bad("magic-seven-bits", "A magic that lost its eighth bit", "NotEncrypted", 1, bits)
    for field, value in (("version", 0), ("version", 2), ("suite", 0), ("suite", 2), ("flags", 1)):
        data = whole.but(fixed={field: value}).data()
        what = f"{field} = {value}, under a MAC that fits"
        bad(f"{field}-{value}", what, "UnsupportedFormat", 2, data)
    data = whole.but(fixed={"flags": 32768}).data()
    bad("flags-32768", "flags = 32768, under a MAC that fits", "UnsupportedFormat", 2, data)
    sizes: dict[str, dict[str, int]] = {
        "header-size-59": {"H": 59, "B": 2, "K": 2},
        "header-size-65537": {"H": 65537},
        "header-size-huge": {"H": 2**32 - 1, "B": 2**32 - 1, "K": 2**32 - 1},
        "bound-size-16385": {"H": 65536, "B": 16385, "K": 400},
        "bound-size-huge": {"B": 2**32 - 1},
        "keys-size-huge": {"K": 2**32 - 1},
        "parts-overlap-mac": {"H": 56 + len(whole.bound) + len(whole.keys) - 1},
    }
    for name, fixed in sizes.items():
        what = ", ".join(f"{field} = {value}" for field, value in fixed.items())
        bad(name, what, "Malformed", 3, whole.but(fixed=fixed).data())
    for at, where in (
        (1, "after its first byte"),
        (7, "inside the magic"),
        (8, "after the magic"),
        (23, "inside the fixed part"),
        (24, "after the fixed part"),
        (4095, "inside the header"),
        (4096, "after the header"),
        (4096 + 73, "inside the FLOE header"),
        (4096 + 74, "after the FLOE header"),
        (4096 + 105, "inside the shortest of segments"),
    ):
        bad(f"cut-at-{at}", f"A file cut {where}", "Truncated", 3, plain[:at])
    hidden = b64u_text(stream("retired")(40)).encode()
    bad(
        "padding",
        "Something in the padding, under a MAC that fits",
        "Malformed",
        4,
        whole.but(padding=hidden).data(),
    )
    room = 4096 - 32 - 24 - len(whole.bound) - len(whole.keys)
    last = whole.but(padding=b"\0" * (room - 1) + b"\1").data()
    bad("padding-last-byte", "The last byte of the padding is not zero", "Malformed", 4, last)


def add_json(bad: Callable[..., None]) -> None:
    context = b'{"context":{"table":"orders"}'
    brackets = b"[" * 16000
    texts: dict[str, tuple[str, bytes]] = {
        "empty": ("No bytes at all where JSON is due", b""),
        "array": ("An array, not an object", b"[]"),
        "space-before": ("White space before the brace", b" " + context + b"}"),
        "space-after": ("A line end after the brace", context + b"}\n"),
        "byte-order-mark": ("A byte order mark", b"\xef\xbb\xbf" + context + b"}"),
        "utf-16": ("UTF-16", b"\xff\xfe" + (context + b"}").decode().encode("utf-16-le")),
        "utf-16-bare": ("UTF-16 without its mark", (context + b"}").decode().encode("utf-16-le")),
        "not-utf-8": ("A byte that is not UTF-8", b'{"context":{"table":"\xff"}}'),
        "overlong": ("An over-long form of a slash", b'{"context":{"table":"\xc0\xaf"}}'),
        "raw-surrogate": ("An encoded surrogate", b'{"context":{"table":"\xed\xa0\x80"}}'),
        "lone-surrogate": ("An escape without its pair", b'{"context":{"table":"\\ud83d"}}'),
        "lone-surrogate-name": ("The same in a name", b'{"context":{"\\ude00":"orders"}}'),
        "swapped-surrogates": ("A pair the wrong way round", b'{"context":{"t":"\\ude00\\ud83d"}}'),
        "control-character": ("A raw control character", b'{"context":{"table":"a\nb"}}'),
        "bad-escape": ("An escape that JSON has not", b'{"context":{"table":"\\x41"}}'),
        "loose-escape": ("An escape with an underscore", b'{"context":{"table":"\\u0_41"}}'),
        "twice": ("A name twice", context + b',"context":{"table":"payroll"}}'),
        "twice-escaped": ("A name twice, once escaped", context + b',"\\u0063ontext":{}}'),
        "twice-nested": ("A name twice in the context", b'{"context":{"t":"a","t":"a"}}'),
        "twice-unknown": ("An unknown name twice", context + b',"x":{"y":1,"y":2}}'),
        "two-objects": ("Two objects in a row", context + b"}" + context + b"}"),
        "trailing-comma": ("A comma too many", context + b",}"),
        "comment": ("A comment", context + b"/* */}"),
        "single-quotes": ("Single quotes", b"{'context':{}}"),
        "nan": ("NaN", context + b',"x":NaN}'),
        "infinity": ("-Infinity", context + b',"x":-Infinity}'),
        "fraction": ("A fraction", context + b',"x":1.0}'),
        "exponent": ("An exponent", context + b',"x":1e2}'),
        "minus-zero": ("Minus zero", context + b',"x":-0}'),
        "leading-zero": ("A leading zero", context + b',"x":01}'),
        "two-to-53": ("2^53", context + b',"x":9007199254740992}'),
        "minus-two-to-53": ("-2^53", context + b',"x":-9007199254740992}'),
        "long-number": ("A number of 16,000 digits", context + b',"x":' + b"9" * 16000 + b"}"),
        "depth-9": ("Nine levels", context + b',"x":' + b"[" * 8 + b"]" * 8 + b"}"),
        "brackets": ("16,000 brackets", context + b',"x":' + brackets + b"}"),
        "objects": ("2,000 objects", context + b',"x":' + b'{"":' * 2000 + b"}"),
        "open-string": ("An open string of escaped quotes", b'{"' + b'\\"' * 8000 + b"}"),
    }
    for name, (what, bound) in texts.items():
        bad(f"json-{name}", what, "Malformed", 4, message(f"json-{name}", bound=bound).data())
    deep = b'{"kek":' + b"[" * 60000 + b"}"
    data = message("brackets in keys", size=65536).but(keys=deep).data()
    bad("json-brackets-in-keys", "60,000 brackets in `keys`", "Malformed", 4, data)


def add_members(bad: Callable[..., None]) -> None:
    pairs = {f"n{at}": "" for at in range(65)}
    bounds: dict[str, tuple[str, Json]] = {
        "no-context": ("`bound` without `context`", {"created": "2025-01-31T12:00:00Z"}),
        "context-array": ("A context that is no object", {"context": []}),
        "context-65-pairs": ("65 context pairs", {"context": pairs}),
        "context-name-empty": ("An empty context name", {"context": {"": "x"}}),
        "context-name-129": ("A context name of 129 bytes", {"context": {"é" * 64 + "x": ""}}),
        "context-value-number": ("A context value that is a number", {"context": {"n": 1}}),
        "context-value-null": ("A context value that is null", {"context": {"n": None}}),
        "created-number": ("`created` is no text", {"context": {}, "created": 1738324800}),
        "created-null": ("`created` is null", {"context": {}, "created": None}),
        "writer-array": ("`writer` is no text", {"context": {}, "writer": []}),
    }
    for name, (what, bound) in bounds.items():
        bad(name, what, "Malformed", 4, message(name, bound=bound).data())
    text = LAKE["encrypted_key"]
    loose = text[:-1] + chr(ord(text[-1]) + 1)  # other left-over bits, the same bytes
    spaced = text[:4] + "\n" + text[4:]
    recipients: dict[str, tuple[str, list[Any]]] = {
        "recipients-none": ("No recipients", []),
        "recipients-17": ("17 recipients", [LAKE | {"kid": f"local:k{at}/1"} for at in range(17)]),
        "recipient-text": ("A recipient that is no object", [LAKE, "local:lake/1"]),
        "kid-missing": ("A recipient without kid", [{k: v for k, v in LAKE.items() if k != "kid"}]),
        "kid-empty": ("An empty kid", [LAKE | {"kid": ""}]),
        "kid-513": ("A kid of 513 bytes", [LAKE, LAKE | {"kid": "later:" + "k" * 507}]),
        "kid-twice": ("A kid twice", [LAKE, LAKE]),
        "kid-twice-capitals": (
            "A kid twice, the scheme once in capitals",
            [LAKE, LAKE | {"kid": LAKE["kid"].replace("local:", "Local:")}],
        ),
        "kid-twice-vault": (
            "One Key Vault key in two spellings",
            [
                LAKE,
                LAKE | {"kid": "https://Acme.vault.azure.net:443/keys/lake/0123456789abcdef"},
                LAKE | {"kid": "azurekeyvault://acme/Lake/0123456789ABCDEF/"},
            ],
        ),
        "kid-twice-unknown": (
            "A kid twice as text, of an unknown scheme",
            [LAKE, LAKE | {"kid": "later:k"}, LAKE | {"kid": "later:k"}],
        ),
        "alg-missing": ("A recipient without alg", [{k: v for k, v in LAKE.items() if k != "alg"}]),
        "alg-number": ("An alg that is no text", [LAKE | {"alg": 1}]),
        "key-missing": (
            "A recipient without encrypted_key",
            [{k: v for k, v in LAKE.items() if k != "encrypted_key"}],
        ),
        "key-short": ("39 bytes for A256KW", [LAKE | {"encrypted_key": text[:-2]}]),
        "key-short-ckm": (
            "39 bytes for CKM_AES_KEY_WRAP",
            [LAKE | {"alg": "CKM_AES_KEY_WRAP", "encrypted_key": b64u_text(bytes(39))}],
        ),
        "key-long-pad": (
            "48 bytes for CKM_AES_KEY_WRAP_PAD",
            [LAKE | {"alg": "CKM_AES_KEY_WRAP_PAD", "encrypted_key": b64u_text(bytes(48))}],
        ),
        "key-padded": ("Padded base64url", [LAKE | {"encrypted_key": text + "=="}]),
        "key-not-canonical": (
            "Left-over bits that are not zero",
            [LAKE | {"encrypted_key": loose}],
        ),
        "key-spaced": ("A line end inside base64url", [LAKE | {"encrypted_key": spaced}]),
        "key-other-alphabet": (
            "Base64's + and / instead of - and _",
            [LAKE | {"encrypted_key": "+/" + text[2:]}],
        ),
        "key-huge": (
            "An encrypted_key of 1,025 bytes",
            [LAKE, LAKE | {"kid": "later:k", "alg": "X", "encrypted_key": b64u_text(bytes(1025))}],
        ),
    }
    for name, (what, list_of) in recipients.items():
        data = message(name, recipients=list_of).data()
        bad(name, what, "Malformed", 4, data)
    id_31 = b64u_text(stream("id")(31))
    keks: dict[str, tuple[str, Json]] = {
        "kek-id-31": ("A KEK id of 31 bytes", {"id": id_31}),
        "kek-id-null": ("A KEK id that is null", {"id": None}),
        "keyset-15": ("A keyset id of 15 bytes", {"keyset": b64u_text(bytes(15))}),
        "keyset-null": ("A keyset that is null", {"keyset": None}),
        "signature-object": ("A signature that is no text", {"signature": {}}),
        "signature-null": ("A signature that is null", {"signature": None}),
    }
    for name, (what, members) in keks.items():
        bad(name, what, "Malformed", 4, message(name, kek_members=members).data())
    honest = message("both and neither").keys
    both = honest.replace(b'"recipients"', b'"keyset":"AAAAAAAAAAAAAAAAAAAAAA","recipients"')
    neither = honest.replace(b'"recipients"', b'"recipiants"')
    for name, what, keys in (
        ("keyset-and-recipients", "A keyset and recipients", both),
        ("no-keyset-no-recipients", "Neither a keyset nor recipients", neither),
        ("no-kek", "`keys` without `kek`", honest.replace(b'"kek"', b'"kak"')),
        ("no-dek", "`keys` without `dek`", honest.replace(b'"dek"', b'"dak"')),
        ("dek-key-39", "A wrapped DEK of 39 bytes", honest[:-5] + b'"}}'),
    ):
        data = message("both and neither").but(keys=keys).data()
        bad(name, what, "Malformed", 4, data)
    later = honest.replace(b'"dek":{"alg":"A256KW"', b'"dek":{"alg":"A256XX"')
    data = message("both and neither").but(keys=later).data()
    bad("dek-alg", "A DEK wrapped by an unknown algorithm", "UnsupportedFormat", 5, data)


def add_crit_and_context(bad: Callable[..., None]) -> None:
    crits: dict[str, tuple[str, Json]] = {
        "empty": ("An empty crit", {"crit": []}),
        "text": ("A crit that is no array", {"crit": "x", "x": 1}),
        "null": ("A crit that is null", {"crit": None}),
        "number": ("A number in crit", {"crit": ["x", 1], "x": 1}),
        "absent": ("crit names what is not there", {"crit": ["x"]}),
        "twice": ("crit names a member twice", {"crit": ["x", "x"], "x": 1}),
        "itself": ("crit names itself", {"crit": ["crit"]}),
    }
    for name, (what, members) in crits.items():
        data = message(f"crit-{name}", bound={"context": {}, **members}).data()
        bad(f"crit-{name}", f"{what}, in `bound`", "Malformed", 4, data)
        data = message(f"crit-{name}", keys_members=members).data()
        bad(f"crit-{name}-keys", f"{what}, in `keys`", "Malformed", 4, data)
    unknown = {"crit": ["x"], "x": 1}
    data = message("crit-unknown", bound={"context": {}, **unknown}).data()
    what = "An unknown critical member, in"
    bad("crit-unknown", f"{what} `bound`", "UnsupportedFormat", 5, data)
    data = message("crit-unknown", keys_members=unknown).data()
    bad("crit-unknown-keys", f"{what} `keys`", "UnsupportedFormat", 5, data)
    data = message("crit-known", bound={"context": {}, "crit": ["context"]}).data()
    bad("crit-known", "crit names what is no extension", "UnsupportedFormat", 5, data)

    composed = message("context", bound={"context": {"table": "café"}}).data()
    for name, what, how in (
        ("absent", "A pair is expected that is not there", {"context": {"tenant": "acme"}}),
        ("other-value", "Another value is expected", {"context": {"table": "Café"}}),
        ("other-form", "The same text, decomposed", {"context": {"table": "cafe\u0301"}}),
        ("required", "A required name is not there", {"required": ["tenant"]}),
    ):
        bad(f"context-{name}", what, "ContextMismatch", 6, composed, **how)
    moved = {"context": {"path": "2025/01/orders.csv"}}
    data = message("moved", bound=moved).data()
    how = {"context": {"path": "2025/02/orders.csv"}}
    bad("context-moved", "A bound path, moved", "ContextMismatch", 6, data, **how)
