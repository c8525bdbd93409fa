"""The drivers of `local:` and `public:` pass the suite that every vault has to pass."""

from __future__ import annotations

from pathlib import Path

import pytest

from envelope.keystore import passphrase
from envelope.keystore.public import PUBLIC
from envelope.secret import Secret
from envelope.testing.conformance import MasterKeyConformance, Subject
from tests.keystore.conftest import FLOOR, PASSPHRASE, Open


def subject_in(open_keystore: Open, tmp_path: Path, protect: str, kty: str, alg: str) -> Subject:
    keys = open_keystore()
    bits = {"bits": 2048} if kty == "RSA" else {}
    keys.create("local:lake", protect=protect, kty=kty, **bits)
    keys.create("local:other", kty=kty, **bits)
    from envelope.keystore.driver import LOCAL

    material = keys.contents.require("lake").versions[0].material
    assert material is not None
    return Subject(
        LOCAL,
        {"keystore": str(tmp_path / "ks"), "argon2": FLOOR},
        "local:lake",
        other="local:other",
        missing="local:missing",
        alg=alg,
        rotate=lambda: keys.rotate("local:lake"),
        disable=lambda kid: keys.set_enabled(kid, False),
        canaries=[material, Secret(PASSPHRASE.encode())],
    )


class TestAesByPermissions(MasterKeyConformance):
    @pytest.fixture
    def subject(self, open_keystore: Open, tmp_path: Path) -> Subject:
        return subject_in(open_keystore, tmp_path, "permissions", "oct", "A256KW")


class TestAesByPassphrase(MasterKeyConformance):
    @pytest.fixture
    def subject(
        self, open_keystore: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> Subject:
        monkeypatch.setenv("ENVELOPE_PASSPHRASE", PASSPHRASE)
        return subject_in(open_keystore, tmp_path, "passphrase", "oct", "A256KW")

    def test_a_wrong_passphrase_is_access_denied(self, subject: Subject) -> None:
        def deny() -> None:
            passphrase.forget()
            passphrase.provide(Secret(b"another"))

        subject.deny = deny
        subject.deny()
        from envelope.errors import AccessDenied

        with pytest.raises(AccessDenied) as caught:
            subject.master()
        assert caught.value.operation == "unlock"


class TestRsaByPassphrase(MasterKeyConformance):
    @pytest.fixture
    def subject(
        self, open_keystore: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> Subject:
        monkeypatch.setenv("ENVELOPE_PASSPHRASE", PASSPHRASE)
        return subject_in(open_keystore, tmp_path, "passphrase", "RSA", "RSA-OAEP-256")


class TestPublicHalf(MasterKeyConformance):
    @pytest.fixture
    def subject(self, open_keystore: Open, tmp_path: Path) -> Subject:
        keys = open_keystore()
        keys.create("local:lake", protect="permissions", kty="RSA", bits=2048)
        pem = tmp_path / "lake.pem"
        pem.write_bytes(keys.public("local:lake"))
        return Subject(
            PUBLIC,
            {},
            f"public:{pem}",
            missing=f"public:{tmp_path}/missing.pem",
            alg="RSA-OAEP-256",
            unwraps=False,
        )


def test_the_suite_finds_a_driver_that_maps_no_errors(tmp_path: Path, open_keystore: Open) -> None:
    class Careless(Subject):
        def master(self):  # type: ignore[no-untyped-def] # a key that answers anything
            real = super().master()

            class Key:
                kid, alg = real.kid, real.alg
                wrap = staticmethod(real.wrap)

                def unwrap(self, wrapped, *, aad):  # type: ignore[no-untyped-def]
                    return Secret(bytes(32))

            return Key()

    good = subject_in(open_keystore, tmp_path, "permissions", "oct", "A256KW")
    careless = Careless(**vars(good))
    with pytest.raises(pytest.fail.Exception):
        MasterKeyConformance().test_every_changed_byte_is_a_key_mismatch(careless)
    with pytest.raises(AssertionError):
        MasterKeyConformance().test_eight_threads_share_a_key(careless)
