"""--sign-with and --require-signed, and what inspect, verify and doctor tell of signatures."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Cli


@pytest.fixture
def signed(lake: Cli) -> Path:
    Path("plain").write_bytes(b"orders")
    lake("keys", "create", "local:signer", "--kty", "EC")
    lake("keys", "create", "local:mallory", "--kty", "EC")
    lake("encrypt", "plain", "--out", "signed.env1", "--sign-with", "local:signer")
    lake("encrypt", "plain", "--out", "unsigned.env1")
    lake("encrypt", "plain", "--out", "forged.env1", "--sign-with", "local:mallory")
    return Path("signed.env1")


REQUIRED = ("--require-signed", "local:signer")


def test_only_files_of_the_signer_are_read(lake: Cli, signed: Path) -> None:
    assert lake("cat", signed, *REQUIRED).out == "orders"
    for verb in (("cat",), ("verify",), ("decrypt", "--out", "copy"), ("reencrypt",)):
        for other in ("unsigned.env1", "forged.env1"):
            said = lake(verb[0], other, *verb[1:], *REQUIRED, status=3)
            assert "[ENV-ORIGIN]" in said.err
    assert not Path("copy").exists()
    assert lake("cat", "unsigned.env1").out == "orders"


def test_verify_tells_who_signed(lake: Cli, signed: Path) -> None:
    assert "signed by local:signer/" in lake("verify", signed, *REQUIRED).out
    [proven] = lake.objects("verify", signed, *REQUIRED, schema="verify")
    assert proven["signer"].startswith("local:signer/")
    [plain] = lake.objects("verify", signed, schema="verify")
    assert plain["signer"] is None


def test_inspect_tells_who_claims_to_have_signed_and_whether_it_holds(
    lake: Cli, signed: Path
) -> None:
    said = lake("inspect", signed).out
    assert "signer" in said
    assert "local:signer/" in said
    assert "origin" not in said
    assert "verified" in lake("inspect", signed, *REQUIRED).out.partition("origin")[2]
    origins = {}
    for name in (str(signed), "unsigned.env1", "forged.env1"):
        [found] = lake.objects("inspect", name, *REQUIRED, schema="inspect")
        origins[name.partition(".")[0]] = found["origin"]
    assert origins == {"signed": "verified", "unsigned": "refused", "forged": "refused"}
    [found] = lake.objects("inspect", "unsigned.env1", schema="inspect")
    assert (found["signed"], found["signature"], found["origin"]) == (False, None, "unverified")


def test_a_public_half_is_enough_to_require(lake: Cli, signed: Path) -> None:
    lake("keys", "public", "local:signer", "--out", "signer.pem")
    assert lake("cat", signed, "--require-signed", "public:signer.pem").out == "orders"
    lake("cat", "forged.env1", "--require-signed", "public:signer.pem", status=3)


def test_a_configuration_signs_and_requires_and_options_stand_above_it(
    lake: Cli, signed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ENVELOPE_KEYS")
    text = 'keys = "local:lake"\nsign_with = "local:signer"\nrequire_signed = "local:signer"\n'
    Path("strict.toml").write_text(text)
    lake("encrypt", "plain", "--out", "configured.env1", "--config", "strict.toml")
    assert lake("cat", "configured.env1", "--config", "strict.toml").out == "orders"
    lake("cat", "unsigned.env1", "--config", "strict.toml", status=3)
    other = ("--config", "strict.toml", "--require-signed", "local:mallory")
    lake("cat", "configured.env1", *other, status=3)
    assert lake("cat", "forged.env1", *other).out == "orders"


def test_a_ring_that_requires_and_does_not_sign_writes_nothing(lake: Cli, signed: Path) -> None:
    said = lake("encrypt", "plain", "--out", "new.env1", *REQUIRED, status=2)
    assert "--sign-with" in said.err
    assert not Path("new.env1").exists()


def test_a_rewrap_keeps_the_signature(lake: Cli, signed: Path) -> None:
    lake("keys", "rotate", "local:lake")
    lake("rewrap", signed, *REQUIRED)
    assert lake("cat", signed, *REQUIRED).out == "orders"
    lake("rewrap", "unsigned.env1", *REQUIRED, status=3)


def test_keys_that_sign_are_listed_as_such(lake: Cli, signed: Path) -> None:
    assert "ES256 256" in lake("keys", "list", "local:signer").out
    [made] = lake.objects(
        "keys", "create", "local:rsa-signer", "--kty", "RSA", "--use", "sig", schema="key-change"
    )
    assert (made["alg"], made["use"], made["key_ops"]) == ("PS256", "sig", ["sign", "verify"])
    lake("keys", "create", "local:wrong", "--kty", "EC", "--use", "enc", status=2)


def test_doctor_signs_with_the_signer_and_looks_at_those_that_count(
    lake: Cli, signed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake("keys", "public", "local:mallory", "--out", "other.pem")
    given = ("--require-signed", "local:signer", "--require-signed", "public:other.pem")
    checks = lake.objects("doctor", *given, schema="check")
    texts = [check["text"] for check in checks if check["check"] == "signer"]
    assert [text.split(" (ES256): ")[1] for text in texts] == 2 * ["its signatures can be verified"]
    monkeypatch.delenv("ENVELOPE_KEYS")
    Path("signs.toml").write_text('keys = "local:lake"\nsign_with = "local:signer"\n')
    checks = lake.objects("doctor", "--config", "signs.toml", schema="check")
    [said] = [check["text"] for check in checks if check["check"] == "signer"]
    assert said.endswith("(ES256): signs")


def test_doctor_finds_a_signer_that_cannot_sign(lake: Cli, signed: Path) -> None:
    [kid] = [each["kid"] for each in lake.objects("keys", "list", "local:signer", schema="key")]
    lake("keys", "disable", kid, "--yes")
    said = lake("doctor", "--require-signed", "local:signer", status=3)
    assert "no version of local:signer is enabled" in said.out
