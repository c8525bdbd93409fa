"""Signed KEKs: who is believed, what a forger can try, and what it costs (docs/keys.md)."""

from __future__ import annotations

import json
import os
import pickle
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

import envelope
from envelope import caller, header, hierarchy, jose, jws
from envelope.errors import (
    ConfigurationError,
    EnvelopeError,
    KeyDisabled,
    KeyMismatch,
    KeyOperationForbidden,
    LimitExceeded,
    OriginNotProven,
    UntrustedKey,
    VaultUnavailable,
)
from envelope.header import Header
from envelope.keys import PublicHalf
from envelope.keystore.public import PUBLIC
from envelope.limits import Limits
from envelope.ring import KeyRing
from envelope.secret import Secret
from tests.fake_clock import FakeClock
from tests.headers import edited, keys_of, with_keys, written
from tests.memory_driver import MemoryDriver, installed
from tests.memory_signers import SigningDriver, private_key, signed, spki_of

LAKE, SIGNER = "azurekeyvault://acme/lake", "azurekeyvault://acme/lake-signer"
HOST = "azurekeyvault://acme.vault.azure.net"
KID = f"{HOST}/lake-signer/v1"
NAME = f"{HOST}/lake"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    """Allowances of a vault are the process's; each test has its own here."""
    clock = FakeClock()
    process_wide = clock.caller()
    monkeypatch.setattr(caller, "current", lambda: process_wide)
    return clock


@pytest.fixture
def driver(clock: FakeClock) -> Iterator[SigningDriver]:
    with installed(SigningDriver(metered=True), "azurekeyvault", "local") as memory:
        assert isinstance(memory, SigningDriver)
        yield memory


@pytest.fixture
def writer(driver: SigningDriver) -> KeyRing:
    return KeyRing(LAKE, sign_with=SIGNER)


@pytest.fixture
def reader(driver: SigningDriver) -> KeyRing:
    return KeyRing(decrypt_with=LAKE, require_signed=[SIGNER])


def claims_of(parsed: Header) -> jws.Claims:
    assert parsed.keys.signature is not None
    return jws.parse(parsed.keys.signature)


def jws_of(
    kek_id: bytes | str,
    *,
    kid: str = KID,
    aud: Any = (NAME,),
    signer: str | None = None,
    **protected: Any,
) -> str:
    """A signature of any content, by the true key of ``signer`` (of ``kid``, if none is given)."""
    key = private_key(signer or kid)
    alg = "PS256" if "rsa" in (signer or kid) else "ES256"
    head = {"alg": alg, "kid": kid, "typ": jws.TYP} | protected
    shown = kek_id if isinstance(kek_id, str) else jose.b64u_encode(kek_id)
    body = {"id": shown, "aud": list(aud), "iat": 1}
    data = ".".join(jose.b64u_encode(json.dumps(part).encode()) for part in (head, body)).encode()
    return jws.assemble(data, signed(key, data))


def with_signature(parsed: Header, text: object) -> Header:
    return edited(parsed, lambda keys: keys["kek"].update(signature=text))


# --- Signing ------------------------------------------------------------------------------------


def test_a_signed_kek_is_signed_once_for_a_thousand_files(
    driver: SigningDriver, writer: KeyRing
) -> None:
    with ThreadPoolExecutor(8) as pool:
        grants = list(pool.map(lambda _: writer.grant(), range(1000)))
    assert len({grant.kek_id for grant in grants}) == 1
    assert driver.calls["sign"] == driver.calls["wrap"] == 1


def test_ten_thousand_files_of_a_kek_verify_once(
    driver: SigningDriver, writer: KeyRing, reader: KeyRing, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed = written(writer)
    driver.calls.clear()
    verified: list[jws.Claims] = []
    honest = jws.verify

    def counted(claims: jws.Claims, key: Any) -> bool:
        verified.append(claims)
        return honest(claims, key)

    monkeypatch.setattr(jws, "verify", counted)
    for _ in range(10_000):
        assert reader.open(parsed).signer == KID
    assert len(verified) == 1
    assert dict(driver.calls) == {"public key": 1, "resolve": 1, "unwrap": 1}


def test_the_signature_names_the_signer_the_kek_and_the_keys_without_versions(
    driver: SigningDriver,
) -> None:
    before = int(time.time())
    ring = KeyRing(encrypt_to=[LAKE, "local:spare"], sign_with=SIGNER)
    parsed = written(ring)
    claims = claims_of(parsed)
    assert (claims.alg, claims.kid, claims.kek_id) == ("ES256", KID, parsed.keys.kek_id)
    assert claims.audience == (NAME, "local:spare")
    assert before <= claims.issued_at <= time.time()


@pytest.mark.parametrize("signer", [SIGNER, "local:signer", "local:rsa-signer"])
def test_files_of_a_trusted_signer_open(driver: SigningDriver, signer: str) -> None:
    ring = KeyRing(LAKE, sign_with=signer, require_signed=signer)
    data = envelope.encrypt(b"orders", keys=ring)
    assert envelope.decrypt(data, keys=ring) == b"orders"
    assert envelope.decrypt(data, keys=LAKE) == b"orders"  # who requires nothing reads it, too


def test_a_signature_that_does_not_hold_under_its_own_key_is_never_written(
    driver: SigningDriver, writer: KeyRing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.memory_signers.signed", lambda key, data: bytes(64))
    with pytest.raises(EnvelopeError, match="does not hold"):
        writer.grant()


def test_a_signer_that_was_rotated_and_disabled_is_looked_up_again(
    driver: SigningDriver,
) -> None:
    ring = KeyRing(LAKE, sign_with=SIGNER, limits={"kek_files": 1})
    assert claims_of(written(ring)).kid == KID
    driver.rotate(str(NAME) + "-signer")
    driver.disabled.add(KID)
    assert claims_of(written(ring)).kid == f"{NAME}-signer/v2"


def test_a_signer_that_is_out_of_service_stops_writing(
    driver: SigningDriver, writer: KeyRing
) -> None:
    driver.disabled.add(KID)
    with pytest.raises(KeyDisabled):
        writer.grant()


def test_a_key_of_a_scheme_that_cannot_sign_is_refused() -> None:
    with (
        installed(MemoryDriver(), "local"),
        pytest.raises(ConfigurationError, match="cannot sign"),
    ):
        KeyRing("local:lake", sign_with="local:signer").grant()


def test_the_signature_counts_towards_the_size_of_a_header(driver: SigningDriver) -> None:
    def fits(count: int, **more: Any) -> bool:
        keys = [f"azurekeyvault://acme/{'k' * 100}{number}" for number in range(count)]
        try:
            KeyRing(keys, **more)
        except LimitExceeded:
            return False
        return True

    unsigned = max(count for count in range(1, 17) if fits(count))
    with_signer = max(count for count in range(1, 17) if fits(count, sign_with=SIGNER))
    assert with_signer < unsigned


# --- Forging ------------------------------------------------------------------------------------


def refused(driver: MemoryDriver, ring: KeyRing, parsed: Header, words: str) -> OriginNotProven:
    """The file is refused before any call of a recipient; the error says why and what to do."""
    before = driver.calls["unwrap"]
    with pytest.raises(OriginNotProven, match=words) as caught:
        ring.open(parsed)
    assert driver.calls["unwrap"] == before
    assert caught.value.code == "ENV-ORIGIN"
    assert len(caught.value.next_step) > 20
    return caught.value


FORGERIES: dict[str, tuple[Callable[[Header], Header], str]] = {
    "no signature": (lambda h: edited(h, lambda k: k["kek"].pop("signature")), "not signed"),
    "empty": (lambda h: with_signature(h, ""), "documented form"),
    "no jws": (lambda h: with_signature(h, "a.b.c"), "documented form"),
    "other typ": (
        lambda h: with_signature(h, jws_of(h.keys.kek_id, typ="JWT")),
        "documented form.*typ",
    ),
    "extra member": (
        lambda h: with_signature(h, jws_of(h.keys.kek_id, jwk={"kty": "EC"})),
        "documented form",
    ),
    "alg none": (
        lambda h: with_signature(h, jws_of(h.keys.kek_id, alg="none")),
        "documented form.*alg",
    ),
    "untrusted signer": (
        lambda h: with_signature(h, jws_of(h.keys.kek_id, kid=f"{HOST}/mallory/v1")),
        "does not trust to sign",
    ),
    "untrusted signer of a longer name": (
        lambda h: with_signature(h, jws_of(h.keys.kek_id, kid=f"{HOST}/lake-signer2/v1")),
        "does not trust to sign",
    ),
    "untrusted vault": (
        lambda h: with_signature(
            h, jws_of(h.keys.kek_id, kid="azurekeyvault://acme.evil.example/lake-signer/v1")
        ),
        "does not trust to sign",
    ),
    "a recipient as its own signer": (
        lambda h: with_signature(h, jws_of(h.keys.kek_id, kid=f"{NAME}/v1")),
        "does not trust to sign",
    ),
    "signer without a version": (
        lambda h: with_signature(h, jws_of(h.keys.kek_id, kid=f"{HOST}/lake-signer")),
        "does not trust to sign",
    ),
    "signer that is no name": (
        lambda h: with_signature(h, jws_of(h.keys.kek_id, kid="../lake-signer")),
        "does not trust to sign",
    ),
    "signer's name, other key": (
        lambda h: with_signature(h, jws_of(h.keys.kek_id, signer=f"{HOST}/mallory/v1")),
        "does not hold",
    ),
    "signature of another KEK": (
        lambda h: with_signature(h, jws_of(bytes(32))),
        "another key",
    ),
    "kid outside aud": (
        lambda h: with_signature(h, jws_of(h.keys.kek_id, aud=[f"{HOST}/archive"])),
        "other keys",
    ),
    "aud with a look-alike host": (
        lambda h: with_signature(
            h, jws_of(h.keys.kek_id, aud=["azurekeyvault://acme.vault.azure.net.evil/lake"])
        ),
        "other keys",
    ),
    "aud with a longer name": (
        lambda h: with_signature(h, jws_of(h.keys.kek_id, aud=[f"{NAME}2"])),
        "other keys",
    ),
    "aud with a prefix": (
        lambda h: with_signature(h, jws_of(h.keys.kek_id, aud=[NAME[:-1]])),
        "other keys",
    ),
    "aud with a pattern": (
        lambda h: with_signature(h, jws_of(h.keys.kek_id, aud=[f"{HOST}/*"])),
        "other keys",
    ),
    "aud that is no name": (
        lambda h: with_signature(h, jws_of(h.keys.kek_id, aud=["%6cake", "*", ".."])),
        "other keys",
    ),
    "RSA said of an EC key": (
        lambda h: with_signature(h, jws_of(h.keys.kek_id, signer="rsa forger", alg="PS256")),
        "says PS256.*signs with ES256",
    ),
}


@pytest.mark.parametrize("name", FORGERIES)
@pytest.mark.parametrize("cached", [False, True], ids=["fresh", "KEK in the cache"])
def test_a_forged_origin_is_refused_before_any_call(
    driver: SigningDriver, writer: KeyRing, reader: KeyRing, name: str, cached: bool
) -> None:
    forge, words = FORGERIES[name]
    honest = written(writer)
    if cached:  # an opened KEK opens nothing that is not signed
        assert reader.open(honest).kid == f"{NAME}/v1"
    forged = forge(honest)
    assert forged.keys.kek_id == honest.keys.kek_id
    driver.calls.clear()
    refused(driver, reader, forged, words)
    needs_key = name in ("signer's name, other key", "RSA said of an EC key")
    assert sum(driver.calls.values()) == (1 if needs_key and not cached else 0)
    assert reader.open(honest).signer == KID  # and it blocks no honest file


def test_every_bit_of_the_signature_counts(writer: KeyRing, reader: KeyRing) -> None:
    honest = written(writer)
    text = str(honest.keys.signature)
    reader.open(honest)
    for at in range(0, len(text), 7):
        other = "A" if text[at] != "A" else "B"
        with pytest.raises(OriginNotProven):
            reader.open(with_signature(honest, text[:at] + other + text[at + 1 :]))


def test_a_signed_kek_carried_to_another_lake_is_refused(driver: SigningDriver) -> None:
    """A reader of one lake knows its KEK, and wraps it to the other lake's key."""
    ours, theirs = "azurekeyvault://acme/lake", "azurekeyvault://acme/archive"
    honest = written(KeyRing(ours, sign_with=SIGNER))
    insider = KeyRing(ours).open(honest)
    wrapped = driver.resolve(f"{theirs}/v1").wrap(insider.kek.secret, aad=honest.keys.kek_id)
    keys = keys_of(honest)
    keys["kek"]["recipients"] = [wrapped.to_json()]
    dek = Secret.random()
    keys["dek"]["encrypted_key"] = jose.b64u_encode(hierarchy.wrap_dek(insider.kek.wrapping, dek))
    carried = with_keys(honest, json.dumps(keys).encode(), dek)
    other_lake = KeyRing(decrypt_with=theirs, require_signed=SIGNER)
    # It is as good as it can be: without the audience it would open.
    assert KeyRing(decrypt_with=theirs).open(carried).kek_id == honest.keys.kek_id
    driver.calls.clear()
    refused(driver, other_lake, carried, "for other keys")
    assert not driver.calls


def test_a_recipient_outside_the_audience_is_not_called_beside_one_inside(
    driver: SigningDriver,
) -> None:
    honest = written(KeyRing(LAKE, sign_with=SIGNER))

    def add(keys: dict[str, Any]) -> None:
        extra = dict(keys["kek"]["recipients"][0], kid=f"{HOST}/archive/v1")
        keys["kek"]["recipients"].insert(0, extra)

    ring = KeyRing(decrypt_with=["azurekeyvault://acme/archive", LAKE], require_signed=SIGNER)
    driver.called.clear()
    with pytest.raises(KeyMismatch):  # without the audience, archive comes first, and fails
        KeyRing(decrypt_with="azurekeyvault://acme/archive").open(edited(honest, add))
    driver.called.clear()
    assert ring.open(edited(honest, add)).kid == f"{NAME}/v1"
    assert not [kid for operation, kid in driver.called if "archive" in kid]


def test_another_kek_under_a_signed_id_is_found(
    driver: SigningDriver, writer: KeyRing, reader: KeyRing
) -> None:
    """Signature and audience are honest; the recipient holds a KEK of the forger's."""
    honest = written(writer)
    kek = Secret.random()
    wrapped = driver.resolve(f"{NAME}/v1").wrap(kek, aad=honest.keys.kek_id)
    forged = edited(honest, lambda k: k["kek"].update(recipients=[wrapped.to_json()]))
    with pytest.raises(KeyMismatch):
        reader.open(forged)


def test_trust_comes_before_signatures(driver: SigningDriver, writer: KeyRing) -> None:
    other = KeyRing(decrypt_with="azurekeyvault://acme/archive", require_signed=SIGNER)
    driver.calls.clear()
    with pytest.raises(UntrustedKey):
        other.open(written(writer))


# --- Whose public key ---------------------------------------------------------------------------


def test_a_rotated_signer_stays_trusted_and_an_exact_version_means_that_one(
    driver: SigningDriver,
) -> None:
    old = written(KeyRing(LAKE, sign_with=SIGNER))
    driver.rotate(f"{NAME}-signer")
    new = written(KeyRing(LAKE, sign_with=SIGNER, limits={"kek_age": 5}))
    any_version = KeyRing(decrypt_with=LAKE, require_signed=SIGNER)
    assert [any_version.open(each).signer for each in (old, new)] == [KID, f"{NAME}-signer/v2"]
    only_old = KeyRing(decrypt_with=LAKE, require_signed=KID)
    assert only_old.open(old).signer == KID
    refused(driver, only_old, new, "does not trust to sign")


def test_a_disabled_version_of_the_signer_proves_nothing(
    driver: SigningDriver, writer: KeyRing, reader: KeyRing
) -> None:
    parsed = written(writer)
    driver.disabled.add(KID)
    error = refused(driver, reader, parsed, "proves nothing.*disabled")
    assert error.kid == KID


def test_an_outage_of_the_signers_vault_is_one_and_no_verdict(
    driver: SigningDriver, writer: KeyRing
) -> None:
    parsed = written(writer)
    reader = KeyRing(decrypt_with=LAKE, require_signed=SIGNER)
    driver.fail = lambda operation, kid: (
        VaultUnavailable("away") if operation == "public key" else None
    )
    with pytest.raises(VaultUnavailable):
        reader.open(parsed)
    driver.fail = lambda operation, kid: None
    assert reader.open(parsed).signer == KID


def test_forged_versions_of_the_signer_cost_no_more_than_failed_unwraps(
    clock: FakeClock,
) -> None:
    driver = SigningDriver(metered=True, versions={KID})
    with installed(driver, "azurekeyvault"):
        honest = written(KeyRing(LAKE, sign_with=SIGNER))
        reader = KeyRing(decrypt_with=LAKE, require_signed=SIGNER, limits={"deadline": 0.5})
        reader.open(honest)
        driver.calls.clear()
        raised = set()
        for _ in range(1000):
            kid = f"{HOST}/lake-signer/{os.urandom(8).hex()}"
            forged = with_signature(honest, jws_of(honest.keys.kek_id, kid=kid, signer=KID))
            with pytest.raises((OriginNotProven, LimitExceeded)) as caught:
                reader.open(forged)
            raised.add(type(caught.value))
            assert reader.open(honest).signer == KID
        assert raised == {OriginNotProven, LimitExceeded}
        assert driver.calls["public key"] <= 10


def test_the_same_forged_version_is_asked_for_once(
    driver: SigningDriver, writer: KeyRing, reader: KeyRing
) -> None:
    honest = written(writer)
    driver.versions.add(KID)
    forged = with_signature(honest, jws_of(honest.keys.kek_id, kid=f"{HOST}/lake-signer/v9"))
    driver.calls.clear()
    for _ in range(5):
        refused(driver, reader, forged, "proves nothing")
    assert driver.calls["public key"] == 1


def test_a_key_of_another_curve_signs_nothing(driver: SigningDriver) -> None:
    honest = written(KeyRing(LAKE, sign_with=SIGNER))
    kid = f"{HOST}/p384-signer/v1"
    forged = with_signature(honest, jws_of(honest.keys.kek_id, kid=kid, signer=KID))
    with pytest.raises(KeyOperationForbidden):
        KeyRing(decrypt_with=LAKE, require_signed=f"{HOST}/p384-signer").open(forged)


def test_a_signer_that_moved_is_found_by_its_alias(driver: SigningDriver) -> None:
    old = "local:old-signer"
    parsed = written(KeyRing(LAKE, sign_with=old))
    moved = private_key(f"{HOST}/moved-signer/v1")
    forged = with_signature(
        parsed, jws_of(parsed.keys.kek_id, kid=f"{old}/v1", signer=f"{HOST}/moved-signer/v1")
    )
    assert moved is not None
    new = "azurekeyvault://acme/moved-signer"
    ring = KeyRing(decrypt_with=LAKE, require_signed=new, aliases={old: new})
    driver.called.clear()
    assert ring.open(forged).signer == f"{old}/v1"
    assert ("public key", f"{HOST}/moved-signer/v1") in driver.called
    refused(driver, KeyRing(decrypt_with=LAKE, require_signed=new), forged, "does not trust")


# --- A public key from a file -------------------------------------------------------------------


def pem_of(kid: str, folder: Path, *lines: str, name: str = "signer.pem") -> str:
    pem = (
        private_key(kid).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    text = "".join(f"{line}\n" for line in (f"kid: {kid}", *lines))
    (folder / name).write_bytes(text.encode() + pem)
    return f"public:{folder / name}"


@pytest.mark.parametrize("signer", [SIGNER, "azurekeyvault://acme/rsa-signer"])
def test_a_pem_file_verifies_without_any_call(
    driver: SigningDriver, tmp_path: Path, signer: str
) -> None:
    parsed = written(KeyRing(LAKE, sign_with=signer))
    key = pem_of(claims_of(parsed).kid, tmp_path)
    ring = KeyRing(decrypt_with=LAKE, require_signed=key)
    driver.calls.clear()
    assert ring.open(parsed).signer == claims_of(parsed).kid
    assert dict(driver.calls) == {"resolve": 1, "unwrap": 1}
    other = written(KeyRing(LAKE, sign_with="local:other-signer"))
    driver.calls.clear()
    refused(driver, ring, other, "does not trust")
    assert not driver.calls


def test_the_ring_keeps_the_key_of_the_file_and_prints_its_digest(
    driver: SigningDriver, writer: KeyRing, tmp_path: Path
) -> None:
    ring = KeyRing(decrypt_with=LAKE, require_signed=pem_of(KID, tmp_path))
    before = repr(ring)
    assert "sha256-" in before
    assert str(tmp_path) not in before
    (tmp_path / "signer.pem").unlink()
    assert pickle.loads(pickle.dumps(ring)) == ring
    assert ring.open(written(writer)).signer == KID
    pem_of(f"{HOST}/mallory/v1", tmp_path)
    assert KeyRing(decrypt_with=LAKE, require_signed=f"public:{tmp_path}/signer.pem") != ring


@pytest.mark.parametrize(
    ("kid", "lines", "words"),
    [
        (f"{HOST}/p384-signer/v1", (), "P-256"),
        (KID, ("alg: RSA-OAEP-256",), "one use"),
        (KID, (f"kid: {KID}",), "more than one kid"),
    ],
)
def test_a_file_that_is_no_signers_is_refused_when_the_ring_is_made(
    driver: SigningDriver, tmp_path: Path, kid: str, lines: tuple[str, ...], words: str
) -> None:
    with pytest.raises(ConfigurationError, match=words):
        KeyRing(decrypt_with=LAKE, require_signed=pem_of(kid, tmp_path, *lines))


def test_a_signers_file_is_not_encrypted_to(driver: SigningDriver, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="RSA public key"):
        KeyRing(encrypt_to=pem_of(KID, tmp_path))
    rsa = pem_of(f"{HOST}/rsa-signer/v1", tmp_path, "alg: PS256")
    with pytest.raises(ConfigurationError, match="one use"):
        KeyRing(encrypt_to=rsa)


def test_a_public_half_does_not_sign() -> None:
    with pytest.raises(KeyOperationForbidden):
        PUBLIC.resolver({}).signer("public:/s.pem")


# --- The ring as a configuration ----------------------------------------------------------------


def test_a_ring_with_signers_is_its_configuration(driver: SigningDriver) -> None:
    ring = KeyRing(LAKE, sign_with=SIGNER, require_signed=[SIGNER, "local:signer"])
    assert ring.sign_with == f"{HOST}/lake-signer"
    assert ring.require_signed == (f"{HOST}/lake-signer", "local:signer")
    config = ring.to_config()
    assert (config["sign_with"], config["require_signed"]) == (
        ring.sign_with,
        list(ring.require_signed),
    )
    for same in (KeyRing.from_config(config), pickle.loads(pickle.dumps(ring))):
        assert same == ring
        assert repr(same) == repr(ring)
    plain = KeyRing(LAKE)
    assert len({ring, plain, KeyRing(LAKE, sign_with=SIGNER)}) == 3
    assert plain.require_signed == ()
    assert plain.sign_with is None


@pytest.mark.parametrize("given", [b"local:s", 5, [b"local:s"]])
def test_signers_are_texts(driver: SigningDriver, given: Any) -> None:
    with pytest.raises(TypeError):
        KeyRing(LAKE, require_signed=given)
    with pytest.raises(TypeError):
        KeyRing(LAKE, sign_with=given)


def test_a_ring_never_writes_what_it_would_refuse_to_read(driver: SigningDriver) -> None:
    ring = KeyRing(LAKE, require_signed=SIGNER)
    with pytest.raises(ConfigurationError, match="sign_with") as caught:
        ring.grant()
    assert "--sign-with" in caught.value.next_step


def test_values_with_a_signature_are_short(driver: SigningDriver, writer: KeyRing) -> None:
    data = envelope.encrypt(b"", keys=writer)
    assert len(data) < 1000


# --- Rewrapping ---------------------------------------------------------------------------------


def file_of(ring: KeyRing, path: Path) -> Path:
    (path / "plain").write_bytes(b"orders")
    envelope.encrypt_file(path / "plain", path / "file.env1", keys=ring, overwrite=True)
    return path / "file.env1"


def header_of(path: Path) -> Header:
    return header.parse(path.read_bytes())


def test_a_refresh_keeps_the_signature_and_its_readers(
    driver: SigningDriver, tmp_path: Path
) -> None:
    ring = KeyRing(LAKE, sign_with=SIGNER, require_signed=SIGNER)
    file = file_of(ring, tmp_path)
    before = header_of(file).keys.signature
    driver.rotate(NAME)
    driver.calls.clear()
    result = envelope.rewrap(file, keys=KeyRing(LAKE, require_signed=SIGNER))
    assert result.refreshed == (f"{NAME}/v2",)
    assert header_of(file).keys.signature == before
    assert driver.calls["sign"] == 0
    fresh = KeyRing(decrypt_with=LAKE, require_signed=SIGNER)
    assert envelope.verify(file, keys=fresh).signer == KID


def test_a_rewrap_verifies_as_a_reader_and_launders_nothing(
    driver: SigningDriver, tmp_path: Path
) -> None:
    file = file_of(KeyRing(LAKE), tmp_path)
    before = file.read_bytes()
    driver.rotate(NAME)
    ring = KeyRing(LAKE, sign_with=SIGNER, require_signed=SIGNER)
    for recipients in ("refresh", "replace"):
        with pytest.raises(OriginNotProven, match="not signed"):
            envelope.rewrap(file, keys=ring, recipients=recipients)
    assert file.read_bytes() == before


def test_an_unsigned_kek_that_is_refreshed_is_never_signed(
    driver: SigningDriver, tmp_path: Path
) -> None:
    """Whoever wrote the file knows its KEK, so nobody else vouches for it."""
    file = file_of(KeyRing(LAKE), tmp_path)
    driver.rotate(NAME)
    assert envelope.rewrap(file, keys=KeyRing(LAKE, sign_with=SIGNER)).changed
    assert header_of(file).keys.signature is None


def test_another_set_of_recipients_is_another_kek_with_a_signature_of_its_own(
    driver: SigningDriver, tmp_path: Path
) -> None:
    file = file_of(KeyRing(LAKE, sign_with="local:old-signer"), tmp_path)
    before = claims_of(header_of(file))
    ring = KeyRing(
        encrypt_to=[LAKE, "local:partner"],
        decrypt_with=LAKE,
        sign_with=SIGNER,
        require_signed=["local:old-signer", SIGNER],
    )
    envelope.rewrap(file, keys=ring, recipients="replace")
    after = claims_of(header_of(file))
    assert (after.kid, after.audience) == (KID, (NAME, "local:partner"))
    assert after.kek_id != before.kek_id
    assert envelope.verify(file, keys=ring).signer == KID


def test_a_move_without_a_signer_drops_the_signature_or_is_refused(
    driver: SigningDriver, tmp_path: Path
) -> None:
    file = file_of(KeyRing(LAKE, sign_with=SIGNER), tmp_path)
    strict = KeyRing(encrypt_to=[LAKE, "local:partner"], decrypt_with=LAKE, require_signed=SIGNER)
    before = file.read_bytes()
    with pytest.raises(ConfigurationError, match="sign_with"):
        envelope.rewrap(file, keys=strict, recipients="replace")
    assert file.read_bytes() == before
    loose = KeyRing(encrypt_to=[LAKE, "local:partner"], decrypt_with=LAKE)
    envelope.rewrap(file, keys=loose, recipients="replace")
    assert header_of(file).keys.signature is None


# --- Looking at files ---------------------------------------------------------------------------


def test_inspect_tells_who_claims_to_have_signed_and_whether_it_holds(
    driver: SigningDriver, tmp_path: Path
) -> None:
    file = file_of(KeyRing(LAKE, sign_with=SIGNER), tmp_path)
    found = envelope.inspect(file)
    assert (found.signed, found.origin) == (True, "unverified")
    assert found.signature is not None
    assert found.to_json()["signature"] == {
        "kid": KID,
        "alg": "ES256",
        "aud": [NAME],
        "iat": found.signature.issued_at,
    }
    trusted = KeyRing(decrypt_with=LAKE, require_signed=SIGNER)
    other = KeyRing(decrypt_with=LAKE, require_signed="local:other")
    assert envelope.inspect(file, keys=trusted).origin == "verified"
    assert envelope.inspect(file, keys=KeyRing(LAKE)).origin == "unverified"
    refused = envelope.inspect(file, keys=other)
    assert refused.origin == "refused"
    assert "does not trust" in str(refused.origin_refused)
    assert driver.calls["unwrap"] == 0


def test_inspect_shows_a_file_whose_signature_has_another_form(
    driver: SigningDriver, tmp_path: Path
) -> None:
    file = file_of(KeyRing(LAKE, sign_with=SIGNER), tmp_path)
    bad = with_signature(header_of(file), "a.b.c").raw + file.read_bytes()[4096:]
    (tmp_path / "bad.env1").write_bytes(bad)
    found = envelope.inspect(tmp_path / "bad.env1")
    assert (found.signed, found.signature) == (True, None)


def test_limits_of_caches_hold_for_signers(clock: FakeClock) -> None:
    driver = SigningDriver(metered=True)
    with installed(driver, "azurekeyvault"):
        from envelope import keyurl
        from envelope.masters import Masters
        from envelope.signers import Signers
        from envelope.trust import Trust

        parsed = written(KeyRing(LAKE, sign_with=SIGNER))
        limits, now = Limits(), clock
        masters = Masters("a test", {"azurekeyvault": {}}, limits, clock=now)
        trusted = Trust((keyurl.parse(SIGNER),), {})
        signers = Signers(masters, None, trusted, limits, clock=now)
        recipients = [(recipient, recipient.kid) for recipient in parsed.keys.recipients]
        driver.calls.clear()
        for _ in range(3):
            signers.prove(parsed.keys, recipients)
        assert driver.calls["public key"] == 1
        clock.now += limits.refresh + 1
        signers.prove(parsed.keys, recipients)
        assert driver.calls["public key"] == 2
        driver.disabled.add(KID)
        clock.now += limits.refresh + 1
        with pytest.raises(OriginNotProven, match="disabled"):
            signers.prove(parsed.keys, recipients)


def test_what_was_verified_counts_under_that_key_alone(
    driver: SigningDriver, writer: KeyRing, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed = written(KeyRing(LAKE, sign_with="local:signer"))
    driver.metered = False  # so that the key is looked at each time
    reader = KeyRing(decrypt_with=LAKE, require_signed="local:signer")
    assert reader.open(parsed).signer == "local:signer/v1"
    other = PublicHalf("local:signer/v1", spki_of(private_key("local:other/v1")))
    monkeypatch.setattr(driver, "public_half", lambda kid: other)
    refused(driver, reader, parsed, "does not hold")
