"""Files with signed KEKs: read by who requires the signature, or refused before any key is used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.independent_jws import b64u_text, compact, jws, sign_es256
from tests.independent_reader import kek_id
from tests.independent_writer import recipient_a256kw
from tests.vectors.scene import KEK, KIDS, LAKE, MEKS, Json, message, rsa_key, stream

SHORT = b"one order\n"
LAKE_NAME = "local:lake"
ES256, PS256 = "local:signer/1122334455667788", "local:signer-rsa/8877665544332211"


def ec_key(seed: str) -> ec.EllipticCurvePrivateKey:
    number = int.from_bytes(stream(seed)(32)) % (2**256 - 2**225) + 1
    return ec.derive_private_key(number, ec.SECP256R1())


def _spki(key: Any) -> str:
    public = key.public_key()
    return b64u_text(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


SIGNERS: Json = {
    "es256": {"kid": ES256, "alg": "ES256", "spki": _spki(ec_key("signer"))},
    "ps256": {"kid": PS256, "alg": "PS256", "spki": _spki(rsa_key())},
}


def signed(kek: bytes = KEK, *, rsa: bool = False, **how: Any) -> str:
    key, kid = (rsa_key(), PS256) if rsa else (ec_key("signer"), ES256)
    kid = how.pop("kid", kid)
    return jws(key, kid, kek_id(kek), how.pop("aud", [LAKE_NAME]), stream("salt")(32), **how)


def with_jws(seed: str, text: object, recipients: list[Json] | None = None) -> bytes:
    return message(seed, SHORT, recipients=recipients, kek_members={"signature": text}).data()


def add_all(add: Callable[..., None]) -> None:
    other = recipient_a256kw(KIDS["other"], MEKS["other"], KEK)
    for name, what, text in (
        ("signed-es256", "A KEK signed with ES256, which the reader requires", signed()),
        ("signed-ps256", "A KEK signed with PS256, which the reader requires", signed(rsa=True)),
    ):
        add(name, what, with_jws(name, text), plaintext=SHORT, signers=["es256", "ps256"])
    add(
        "signed-aud-other-version",
        "Rotation needs no new signature: the audience has names without versions",
        with_jws("signed-aud", signed(aud=["LOCAL:lake", "local:archive"])),
        plaintext=SHORT,
        signers=["es256"],
    )
    add(
        "signed-two-recipients",
        "A recipient outside the audience is passed over beside one inside",
        with_jws("signed-two", signed(), [other, LAKE]),
        plaintext=SHORT,
        keys=["other", "lake"],
        signers=["es256"],
    )

    def bad(name: str, what: str, text: object, **more: Any) -> None:
        recipients = more.pop("recipients", None)
        data = with_jws(f"origin-{name}", text, recipients)
        signers = more.pop("signers", ["es256", "ps256"])
        add(
            f"origin-{name}",
            what,
            data,
            error="OriginNotProven",
            step=7,
            signers=signers,
            **more,
        )

    unsigned = message("origin-none", SHORT).data()
    what = "No signature, and the reader requires one"
    add("origin-none", what, unsigned, error="OriginNotProven", step=7, signers=["es256"])
    add_forged_origins(bad)
    honest = signed()
    head, body, signature = honest.split(".")
    raw = sign_es256(ec_key("signer"), f"{head}.{body}".encode())
    bad("untrusted", "A signer that the reader does not trust", honest, signers=["ps256"])
    bad("flipped", "A bit of the signature", f"{head}.{body}.{b64u_text(_flip(raw))}")
    bad("cut", "63 bytes of R and S", f"{head}.{body}.{b64u_text(raw[:-1])}")
    bad("padded", "65 bytes of R and S", f"{head}.{body}.{b64u_text(raw + bytes(1))}")
    bad("zero", "R and S are zero", f"{head}.{body}.{b64u_text(bytes(64))}")
    bad("b64u-padding", "base64url with padding", f"{head}.{body}.{signature}==")
    bad("b64u-loose", "base64url with left-over bits", f"{head}.{body}.{signature[:-1]}B")
    bad("two-parts", "Two parts", f"{head}.{body}")
    bad("four-parts", "Four parts", f"{honest}.{signature}")
    bad("detached", "A detached payload (RFC 7515, appendix F)", f"{head}..{signature}")
    bad("long", "A protected header of 1,025 characters", f"{'A' * 1025}.{body}.{signature}")
    bad(
        "recipients-replaced",
        "A signed KEK whose recipients were replaced by the key of another lake",
        honest,
        recipients=[other],
        keys=["other"],
    )


def add_forged_origins(bad: Callable[..., None]) -> None:
    forger = ec_key("forger")
    impostor = jws(forger, ES256, kek_id(KEK), [LAKE_NAME], b"")
    bad("impostor", "The signer's kid, and the signature of another key", impostor)
    bad("other-kek", "The honest signature of another KEK", signed(stream("another KEK")(32)))
    for name, what, aud in (
        ("aud-other", "An audience without the file's key", ["local:archive"]),
        ("aud-prefix", "An audience that the key's name starts with", ["local:lak"]),
        ("aud-longer", "An audience that starts with the key's name", ["local:lake2"]),
        ("aud-empty", "An empty audience", []),
        ("aud-17", "An audience of 17", [f"local:k{at}" for at in range(16)] + [LAKE_NAME]),
    ):
        bad(name, what, signed(aud=aud))
    bad("aud-text", "An audience that is a text", signed(payload={"aud": LAKE_NAME}))
    for name, protected in {
        "typ": {"typ": "JWT"},
        "alg-none": {"alg": "none"},
        "alg-confusion": {"alg": "PS256"},
        "alg-hs256": {"alg": "HS256"},
        "crit": {"crit": ["exp"]},
        "jwk": {"jwk": {"kty": "EC", "crv": "P-256", "x": "", "y": ""}},
        "jku": {"jku": "https://evil.example/keys"},
    }.items():
        what = f"A protected header with {compact(protected).decode()}"
        bad(f"protected-{name}", what, signed(protected=protected))
    bad("payload-exp", "A further member of the payload", signed(payload={"exp": 2**40}))
    bad("iat-text", "An iat that is no number", signed(payload={"iat": "1735689600"}))
    twice = compact({"alg": "ES256", "kid": ES256, "typ": "envelope-kek+jws"})
    twice = b'{"typ":"JWT",' + twice[1:]
    bad("member-twice", "A member that stands twice", signed(raw_protected=twice))
    versionless = ES256.rpartition("/")[0]
    bad("kid-no-version", "A signer without its version", signed(kid=versionless))
    bad("kid-longer", "A kid that starts with the trusted one", signed(kid=f"{ES256}0"))
    bad(
        "rsa-as-ec",
        "ES256 under the kid of an RSA key",
        jws(forger, PS256, kek_id(KEK), [LAKE_NAME], b""),
    )


def _flip(data: bytes) -> bytes:
    return data[:40] + bytes([data[40] ^ 1]) + data[41:]
