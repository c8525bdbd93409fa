"""The signature of a KEK as text: what is made, what is refused, and what others make of it."""

from __future__ import annotations

import base64
import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import given
from hypothesis import strategies as st

from envelope import jws
from envelope.errors import KeyOperationForbidden, Malformed
from envelope.jose import b64u_encode
from tests.memory_signers import Private, private_key, signed, spki_of

KEK_ID = bytes(range(32))
SIGNERS = {"ES256": "local:signer/v1", "PS256": "local:signer-rsa/v1"}
PROTECTED = {"alg": "ES256", "kid": SIGNERS["ES256"], "typ": jws.TYP}
PAYLOAD = {"id": b64u_encode(KEK_ID), "aud": ["local:lake"], "iat": 1_700_000_000}
each_alg = pytest.mark.parametrize("alg", ["ES256", "PS256"])


def made(alg: str = "ES256") -> str:
    data = jws.signing_input(alg, SIGNERS[alg], KEK_ID, ["local:lake"], 1_700_000_000)
    return jws.assemble(data, signed(private_key(SIGNERS[alg]), data))


def forged(protected: Any = PROTECTED, payload: Any = PAYLOAD, key: Private | None = None) -> str:
    """A JWS of any parts, with the trusted signer's true signature."""
    parts = [
        b64u_encode(part if isinstance(part, bytes) else json.dumps(part).encode())
        for part in (protected, payload)
    ]
    data = ".".join(parts).encode()
    return jws.assemble(data, signed(key or private_key(SIGNERS["ES256"]), data))


def holds(text: str, alg: str = "ES256") -> bool:
    return jws.verify(jws.parse(text), jws.load(spki_of(private_key(SIGNERS[alg])), "the signer"))


@each_alg
def test_what_was_signed_holds_and_says_what_it_said(alg: str) -> None:
    claims = jws.parse(made(alg))
    assert (claims.alg, claims.kid, claims.kek_id) == (alg, SIGNERS[alg], KEK_ID)
    assert (claims.audience, claims.issued_at) == (("local:lake",), 1_700_000_000)
    assert holds(made(alg), alg)


@each_alg
def test_pyjwt_verifies_what_was_made_here(alg: str) -> None:
    key: Any = private_key(SIGNERS[alg]).public_key()
    found = jwt.api_jws.decode_complete(made(alg), key, algorithms=[alg])
    assert found["header"] == {**PROTECTED, "alg": alg, "kid": SIGNERS[alg]}
    assert json.loads(found["payload"]) == PAYLOAD


@each_alg
def test_what_pyjwt_makes_is_verified_here(alg: str) -> None:
    key: Any = private_key(SIGNERS[alg])
    headers = {"kid": SIGNERS[alg], "typ": jws.TYP}
    text = jwt.api_jws.encode(json.dumps(PAYLOAD).encode(), key, alg, headers=headers)
    assert jws.parse(text).audience == ("local:lake",)
    assert holds(text, alg)


def without(value: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: item for key, item in value.items() if key != name}


OTHER_FORMS: list[tuple[str, str]] = [
    (forged(PROTECTED | {"typ": "JWT"}), "typ"),
    (forged(PROTECTED | {"typ": "application/envelope-kek+jws"}), "typ"),
    (forged(without(PROTECTED, "typ")), "exactly"),
    (forged(PROTECTED | {"alg": "none"}), "alg"),
    (forged(PROTECTED | {"alg": "HS256"}), "alg"),
    (forged(PROTECTED | {"alg": "es256"}), "alg"),
    (forged(PROTECTED | {"alg": ["ES256"]}), "alg"),
    (forged(PROTECTED | {"alg": "RS256"}), "alg"),
    (forged(without(PROTECTED, "alg")), "exactly"),
    (forged(PROTECTED | {"kid": ""}), "kid"),
    (forged(PROTECTED | {"kid": None}), "kid"),
    (forged(PROTECTED | {"kid": "k" * 513}), "kid"),
    *(
        (forged(PROTECTED | {name: "x"}), "exactly")
        for name in ("jwk", "jku", "x5u", "x5c", "x5t", "cty", "crit", "b64", "zip")
    ),
    (forged(b'{"alg":"none","alg":"ES256","kid":"k","typ":"envelope-kek+jws"}'), "twice"),
    (forged(b"[]"), "JSON"),
    (forged(b'\xef\xbb\xbf{"alg":"ES256"}'), "JSON"),
    (forged(payload=PAYLOAD | {"exp": 1}), "exactly"),
    (forged(payload=without(PAYLOAD, "aud")), "exactly"),
    (forged(payload=without(PAYLOAD, "iat")), "exactly"),
    (forged(payload=PAYLOAD | {"aud": []}), "aud"),
    (forged(payload=PAYLOAD | {"aud": "local:lake"}), "aud"),
    (forged(payload=PAYLOAD | {"aud": ["local:lake", 1]}), "aud"),
    (forged(payload=PAYLOAD | {"aud": [f"local:k{n}" for n in range(17)]}), "aud"),
    (forged(payload=PAYLOAD | {"iat": -1}), "iat"),
    (forged(payload=PAYLOAD | {"iat": True}), "iat"),
    (forged(payload=PAYLOAD | {"iat": "now"}), "iat"),
    (forged(payload=PAYLOAD | {"iat": 1.5}), "integers"),
    (forged(payload=PAYLOAD | {"iat": 2**53}), "2\\^53"),
    (forged(payload=PAYLOAD | {"id": b64u_encode(bytes(31))}), "32 bytes"),
    (forged(payload=PAYLOAD | {"id": b64u_encode(KEK_ID) + "="}), "base64url"),
    (forged(payload=b'{"id":"","id":"","aud":[],"iat":0}'), "twice"),
    (forged(payload=b'{"aud":' + b"[" * 9 + b"]" * 9 + b"}"), "nested"),
    ("", "three parts"),
    ("..", "empty"),
    (made().replace(".", "", 1), "three parts"),
    (made() + ".", "three parts"),
    (made() + ".AAAA", "three parts"),
    (made() + "=", "base64url"),
    (made() + " ", "base64url"),
    (" " + made(), "base64url"),
    (made().replace(".", "=.", 1), "base64url"),
    (made()[:-1] + chr(ord(made()[-1]) + 1), "base64url"),  # left-over bits that are not zero
    ("A" * 1025 + ".AAAA.AAAA", "longer than 1024"),
    ("AAAA." + "A" * 12289 + ".AAAA", "longer than 12288"),
    ("AAAA.AAAA." + "A" * 701, "longer than 700"),
    ("ÄÄÄÄ.AAAA.AAAA", "base64url"),
]


# Numbered, since ECDSA is random and test workers have to agree on the names.
@pytest.mark.parametrize(
    ("text", "words"), OTHER_FORMS, ids=[str(number) for number in range(len(OTHER_FORMS))]
)
def test_another_form_than_the_documented_one_is_refused(text: str, words: str) -> None:
    with pytest.raises(Malformed, match=words):
        jws.parse(text)


def raw(claims: jws.Claims, signature: bytes) -> bool:
    changed = jws.parse(jws.assemble(claims.signed, signature))
    return jws.verify(changed, jws.load(spki_of(private_key(SIGNERS["ES256"])), "the signer"))


def test_only_64_bytes_of_r_and_s_are_a_signature() -> None:
    claims = jws.parse(made())
    r, s = claims.signature[:32], claims.signature[32:]
    assert raw(claims, r + s)
    key = private_key(SIGNERS["ES256"])
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    for other in (
        r,
        (r + s)[:-1],
        r + s + b"\0",
        b"\0" + r + b"\0" + s,
        s + r,
        bytes(64),
        r + bytes(32),
        bytes(32) + s,
        b"\xff" * 64,
        key.sign(claims.signed, ec.ECDSA(SHA256())),  # DER, as OpenSSL writes it
    ):
        assert not raw(claims, other), other.hex()


def test_a_leading_zero_of_r_or_s_is_kept() -> None:
    key = private_key(SIGNERS["ES256"])
    seen: set[int] = set()
    data = jws.signing_input("ES256", SIGNERS["ES256"], KEK_ID, ["local:lake"], 0)
    while len(seen) < 2:  # each is one in 256 signatures
        signature = signed(key, data)
        seen |= {half for half in (0, 32) if signature[half] == 0}
        if 0 in (signature[0], signature[32]):
            assert holds(jws.assemble(data, signature))
        if signature[32] == 0:  # the same numbers in fewer bytes
            assert not holds(jws.assemble(data, signature[:32] + signature[33:]))


def test_another_salt_or_scheme_is_no_ps256() -> None:
    data = jws.signing_input("PS256", SIGNERS["PS256"], KEK_ID, ["local:lake"], 0)
    key = private_key(SIGNERS["PS256"])
    assert isinstance(key, rsa.RSAPrivateKey)
    for scheme in (
        padding.PSS(padding.MGF1(SHA256()), 0),
        padding.PSS(padding.MGF1(SHA256()), 31),
        padding.PSS(padding.MGF1(SHA256()), padding.PSS.MAX_LENGTH),
        padding.PKCS1v15(),
    ):
        assert not holds(jws.assemble(data, key.sign(data, scheme, SHA256())), "PS256")
    assert not holds(jws.assemble(data, b"\0" + signed(key, data)), "PS256")
    assert not holds(jws.assemble(data, signed(key, data)[:-1]), "PS256")


def test_the_type_of_the_key_decides_and_never_the_text() -> None:
    """A signature that is right for its key, under a header that names the other algorithm."""
    text = forged(PROTECTED | {"alg": "PS256"})
    assert not holds(text)
    rsa_key = private_key(SIGNERS["PS256"])
    assert not holds(forged(PROTECTED | {"alg": "ES256"}, key=rsa_key), "PS256")
    assert not holds(made("PS256"), "ES256")
    assert not holds(made("ES256"), "PS256")


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP384R1()),
        ec.generate_private_key(ec.SECP256K1()),
        rsa.generate_private_key(65537, 1024),
        rsa.generate_private_key(65537, 5120),
    ],
    ids=["P-384", "secp256k1", "RSA 1024", "RSA 5120"],
)
def test_other_keys_sign_no_keks(key: Private) -> None:
    with pytest.raises(KeyOperationForbidden, match="P-256"):
        jws.load(spki_of(key), "local:other/v1")


def test_what_is_no_key_is_none() -> None:
    for data in (b"", b"0", b"-----BEGIN PUBLIC KEY-----"):
        with pytest.raises(KeyOperationForbidden):
            jws.load(data, "local:other/v1")


@each_alg
@given(data=st.data())
def test_no_bit_of_a_signature_can_change(alg: str, data: st.DataObject) -> None:
    honest = made_once(alg).encode()
    at, bit = data.draw(st.integers(0, len(honest) - 1)), data.draw(st.integers(0, 7))
    changed = honest[:at] + bytes([honest[at] ^ 1 << bit]) + honest[at + 1 :]
    try:
        assert not holds(changed.decode("latin-1"), alg)
    except Malformed:
        pass  # refused even sooner


@each_alg
@given(data=st.data())
def test_no_bit_of_what_is_signed_can_change(alg: str, data: st.DataObject) -> None:
    """The same below base64url: each part is decoded, changed and encoded anew."""
    parts = [decoded(part) for part in made_once(alg).split(".")]
    which = data.draw(st.integers(0, 2))
    at = data.draw(st.integers(0, len(parts[which]) - 1))
    flipped = bytearray(parts[which])
    flipped[at] ^= 1 << data.draw(st.integers(0, 7))
    parts[which] = bytes(flipped)
    try:
        assert not holds(".".join(map(b64u_encode, parts)), alg)
    except Malformed:
        pass


@given(st.text(max_size=2000) | st.from_regex(r"[A-Za-z0-9_-]{1,40}(\.[A-Za-z0-9_-]{1,40}){2}"))
def test_any_text_is_refused_with_malformed_and_nothing_else(text: str) -> None:
    with pytest.raises(Malformed):
        jws.parse(text)


def test_the_shortest_signature_is_no_longer_than_a_true_one() -> None:
    assert len(jws.shortest("local:signer", ["local:lake"])) <= len(made())


_made: dict[str, str] = {}


def made_once(alg: str) -> str:
    return _made.setdefault(alg, made(alg))


def decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
