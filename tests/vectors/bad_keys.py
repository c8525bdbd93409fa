"""Files that reader steps 7 to 9 refuse: keys that are not trusted, or do not fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives.keywrap import aes_key_wrap

from tests.independent_reader import b64u_text, kek_wrap
from tests.independent_writer import compact, recipient_a256gcm, recipient_a256kw
from tests.vectors.scene import (
    KEK,
    KIDS,
    LAKE,
    MEKS,
    flip,
    hsm_recipient,
    message,
    recipient_rsa,
    stream,
)


def add_all(add: Callable[..., None]) -> None:
    def bad(name: str, what: str, error: str, step: int, data: bytes, **more: Any) -> None:
        add(name, what, data, error=error, step=step, **more)

    add_untrusted(bad)
    add_mismatches(bad)
    add_unauthentic(bad)


def add_untrusted(bad: Callable[..., None]) -> None:
    version = KIDS["lake"].partition("/")[2]
    kids = {
        "other-name": ("Another key", f"local:lake2/{version}"),
        "other-version": ("A version that is not configured", "local:lake/0000000000000000"),
        "prefix": ("A kid that starts with the trusted one", f"{KIDS['lake']}0"),
        "no-version": ("A kid without its version", "local:lake"),
        "two-slashes": ("A kid with an empty part", f"local:lake//{version}"),
        "dots": ("A kid with a step upwards", f"local:other/../lake/{version}"),
        "capitals": ("A name in capitals, which is another name", f"local:LAKE/{version}"),
        "percent": ("A percent-encoded kid", f"local:%6cake/{version}"),
        "space": ("A kid with a space at its end", f"{KIDS['lake']} "),
        "homoglyph": ("A kid with a Cyrillic letter", f"local:l\u0430ke/{version}"),
        "other-scheme": ("Another scheme", f"vault:lake/{version}"),
    }
    for name, (what, kid) in kids.items():
        data = message(f"kid-{name}", recipients=[LAKE | {"kid": kid}]).data()
        bad(f"kid-{name}", what, "UntrustedKey", 7, data)
    later = message("later", recipients=[LAKE | {"alg": "X-LATER"}]).data()
    bad("alg-unknown", "Only an unknown algorithm, on a trusted kid", "UntrustedKey", 7, later)
    pkcs1 = recipient_rsa(KEK, "downgrade") | {"alg": "RSA1_5"}
    data = message("downgrade", recipients=[pkcs1]).data()
    what = "RSA1_5, which a vault would do with the same key, on a trusted kid"
    bad("alg-rsa1_5", what, "UntrustedKey", 7, data, keys=["rsa"])
    data = message("a128kw", recipients=[LAKE | {"alg": "A128KW"}]).data()
    bad("alg-a128kw", "A128KW on a trusted kid", "UntrustedKey", 7, data)
    keyset = message("keyset", kek_members={"keyset": b64u_text(bytes(16))}).data()
    bad("keyset-unknown", "A keyset that is not configured", "UntrustedKey", 7, keyset)


def add_gcm(bad: Callable[..., None]) -> None:
    honest = recipient_a256gcm(KIDS["hsm"], MEKS["hsm"], KEK, stream("gcm")(12))
    bound_to_another = recipient_a256gcm(
        KIDS["hsm"], MEKS["hsm"], stream("gcm other")(32), bytes(12)
    )
    cases = {
        "gcm-no-tag": ("A256GCM without a tag", {k: v for k, v in honest.items() if k != "tag"}),
        "gcm-short-iv": ("A256GCM with 11 bytes of iv", honest | {"iv": b64u_text(bytes(11))}),
        "gcm-altered-tag": (
            "A256GCM whose tag does not hold",
            honest | {"tag": b64u_text(bytes(16))},
        ),
        "gcm-other-kek": ("A256GCM that is bound to another KEK's id", bound_to_another),
    }
    for name, (what, recipient) in cases.items():
        data = message(name, recipients=[recipient]).data()
        bad(name, what, "KeyMismatch", 8, data, keys=["hsm"])


def add_mismatches(bad: Callable[..., None]) -> None:
    add_gcm(bad)
    rsa = recipient_rsa(KEK, "mismatch")
    says_rsa = LAKE | {"alg": "RSA-OAEP-256"}
    as_rsa = recipient_a256kw(KIDS["rsa"], MEKS["lake"], KEK)
    modulus = (rsa_bytes := 256) * b"\xff"
    cases: dict[str, tuple[str, dict[str, Any], str]] = {
        "alg-rsa-on-aes": ("A trusted AES key that the file calls RSA", says_rsa, "lake"),
        "alg-aes-on-rsa": ("A trusted RSA key that the file calls AES", as_rsa, "rsa"),
        "pad-wrapped-plainly": (
            "CKM_AES_KEY_WRAP_PAD on what was wrapped without padding",
            hsm_recipient("ckm", said="pad"),
            "pad",
        ),
        "ckm-wrapped-padded": (
            "CKM_AES_KEY_WRAP on what was wrapped with padding",
            hsm_recipient("pad", said="ckm"),
            "ckm",
        ),
        "garbage": (
            "A trusted kid and 40 bytes that it never wrapped",
            LAKE | {"encrypted_key": b64u_text(stream("garbage KEK")(40))},
            "lake",
        ),
        "other-kek": (
            "The trusted key wraps another KEK than the one named",
            recipient_a256kw(KIDS["lake"], MEKS["lake"], stream("other KEK")(32)),
            "lake",
        ),
        "wrong-mek": (
            "The trusted kid over a KEK that another key wrapped",
            recipient_a256kw(KIDS["lake"], MEKS["other"], KEK),
            "lake",
        ),
        "rsa-garbage": (
            "256 bytes that are no RSA ciphertext",
            rsa | {"encrypted_key": b64u_text(b"\1" + stream("garbage RSA")(rsa_bytes - 1))},
            "rsa",
        ),
        "rsa-beyond-modulus": (
            "A number larger than the modulus",
            rsa | {"encrypted_key": b64u_text(modulus)},
            "rsa",
        ),
        "rsa-short": (
            "An RSA ciphertext shorter than the modulus",
            rsa | {"encrypted_key": b64u_text(stream("short RSA")(rsa_bytes - 1))},
            "rsa",
        ),
        "rsa-label": ("OAEP with a label", recipient_rsa(KEK, "l", label=b"x"), "rsa"),
        "rsa-sha-1": ("OAEP with SHA-1", recipient_rsa(KEK, "s", sha="sha1"), "rsa"),
        "rsa-16-bytes": ("A KEK of 16 bytes", recipient_rsa(KEK[:16], "16"), "rsa"),
    }
    for name, (what, recipient, key) in cases.items():
        data = message(f"mismatch-{name}", recipients=[recipient]).data()
        bad(f"mismatch-{name}", what, "KeyMismatch", 8, data, keys=[key])
    wrong_id = {"id": b64u_text(stream("wrong id")(32))}
    data = message("wrong id", kek_members=wrong_id).data()
    bad("mismatch-kek-id", "The honest key under another KEK id", "KeyMismatch", 8, data)


def add_unauthentic(bad: Callable[..., None]) -> None:
    seed = "unauthentic"
    honest, another = message(seed), message("another DEK")
    ours, theirs = (
        b64u_text(aes_key_wrap(kek_wrap(KEK), parts.dek)).encode() for parts in (honest, another)
    )
    assert ours in honest.keys
    garbage = b64u_text(stream("garbage DEK")(40)).encode()
    data = honest.but(keys=honest.keys.replace(ours, garbage)).data()
    bad("dek-garbage", "40 bytes that the KEK never wrapped", "Tampered", 9, data)
    data = honest.but(keys=honest.keys.replace(ours, theirs)).data()
    bad("dek-of-another-file", "The DEK of another file of this KEK", "Tampered", 9, data)
    as_kek = b64u_text(aes_key_wrap(MEKS["lake"], honest.dek)).encode()
    data = honest.but(keys=honest.keys.replace(ours, as_kek)).data()
    bad("dek-under-mek", "The DEK wrapped by the master key itself", "Tampered", 9, data)
    bare = b64u_text(aes_key_wrap(KEK, honest.dek)).encode()
    data = honest.but(keys=honest.keys.replace(ours, bare)).data()
    what = "The DEK wrapped by the KEK itself, not by the key derived from it"
    bad("dek-under-bare-kek", what, "Tampered", 9, data)

    data, size = honest.data(), len(honest.header())
    bad("mac-first-bit", "The MAC's first bit", "Tampered", 9, flip(data, size - 32, 7))
    bad("mac-last-bit", "The MAC's last bit", "Tampered", 9, flip(data, size - 1))
    zero = data[: size - 32] + bytes(32) + data[size:]
    bad("mac-zero", "A MAC of zeros", "Tampered", 9, zero)
    at = data.index(b"orders")
    bad("bound-bit", "A bit of a context value", "Tampered", 9, flip(data, at))
    file = message("shrunk", size=4096).data()
    smaller = file[:12] + (4096 - 32).to_bytes(4) + file[16 : 4096 - 64] + file[4096 - 32 :]
    bad("padding-removed", "32 bytes of padding less, and H to suit", "Tampered", 9, smaller)

    one, two = message("one of two"), message("two of two", bound={"context": {"table": "other"}})
    for name, mac in (("", two.header()[-32:]), ("-and-mac", one.header()[-32:])):
        header = two.but(keys=one.keys).header()[:-32] + mac
        data = header + two.floe.header + b"".join(two.segments)
        what = f"`keys`{name.replace('-', ' ')} of one file in the header of another of this KEK"
        bad(f"keys{name}-exchanged", what, "Tampered", 9, data)
    unknown = compact({"x": 1})[1:]
    longer = honest.keys[:-1] + b"," + unknown
    header = honest.but(keys=longer).header()[:-32] + honest.header()[-32:]
    data = header + honest.floe.header + b"".join(honest.segments)
    bad("member-added", "An unknown member added, under the old MAC", "Tampered", 9, data)
