"""Forged recipients: what they cost a vault, and that they never stand in an honest file's way."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest

import envelope
from envelope import errors
from tests.hostile.scene import (
    KID,
    WAYS,
    assert_refused,
    by_decrypt,
    fresh_ring,
    mek,
    outcome_of,
    parts_of,
    recipient,
    told,
    vault,
)
from tests.independent_reader import b64u_text, kek_id
from tests.independent_writer import recipient_a256kw
from tests.vectors.scene import KEK, Json

HONEST = parts_of("honest", 100)
GARBAGE = recipient() | {"encrypted_key": b64u_text(b"\x17" * 40)}
OTHER_KEK = b"\x42" * 32
MISMATCH = frozenset({"KeyMismatch"})


def forged(name: str, recipients: list[Json], **more: object) -> bytes:
    return parts_of(f"forged {name}", 100, recipients=recipients, **more).data()


FORGERIES: dict[str, tuple[list[Json], int]] = {
    # Each with the unwraps that a first look at it costs.
    "an honest KEK id over a garbage key": ([GARBAGE], 1),
    "an honest KEK id over another KEK": ([recipient(kek=OTHER_KEK)], 1),
    "an honest KEK id over another master key's wrap": (
        [recipient_a256kw(KID, mek("local:other/v1"), KEK)],
        1,
    ),
    "a trusted kid that says RSA": (
        [recipient() | {"alg": "RSA-OAEP-256", "encrypted_key": b64u_text(b"\x17" * 256)}],
        0,
    ),
    "a trusted kid that says RSA, over the honest bytes": (
        [recipient() | {"alg": "RSA-OAEP-256"}],
        0,
    ),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forged_recipient_is_a_key_mismatch_that_is_looked_at_once(
    name: str, tmp_path: Path
) -> None:
    recipients, cost = FORGERIES[name]
    data = forged(name, recipients)
    assert told(data) == "KeyMismatch"
    with vault() as driver:
        ring = fresh_ring()
        assert outcome_of(by_decrypt, data, ring, tmp_path).error == "KeyMismatch"
        assert driver.calls["unwrap"] == cost
        assert_refused(data, MISMATCH, b"", tmp_path, ring)
        assert driver.calls["unwrap"] == cost, "the refusal was not remembered"


@pytest.mark.parametrize("name", FORGERIES)
@pytest.mark.parametrize("first", ["forged", "honest"])
def test_an_honest_file_opens_before_and_after_a_forged_one_of_its_kek(
    name: str, first: str, tmp_path: Path
) -> None:
    data, honest = forged(name, FORGERIES[name][0]), HONEST.data()
    with vault() as driver:
        ring = fresh_ring()
        for what in (data, honest) if first == "forged" else (honest, data):
            out = outcome_of(by_decrypt, what, ring, tmp_path)
            if what is honest:
                assert (out.error, out.plaintext) == (None, told(honest))
            elif first == "forged":
                assert out.error == "KeyMismatch"
        assert driver.calls["unwrap"] <= 1 + FORGERIES[name][1]
        # With the KEK in the cache the forged file is looked at as far as its MAC, which its maker
        # could compute: so it is the same message, and never other bytes.
        out = outcome_of(by_decrypt, data, ring, tmp_path)
        assert out.plaintext in (None, told(data, kek_known=True))


def test_a_garbage_key_beside_the_honest_one_costs_a_call_and_nothing_else(tmp_path: Path) -> None:
    other = "local:other/v1"
    pairs: list[list[Json]] = [
        [GARBAGE | {"kid": other}, recipient()],
        [recipient(), GARBAGE | {"kid": other}],
    ]
    for number, recipients in enumerate(pairs):
        data = forged(f"beside {number}", recipients)
        for trusted, cost in (([other, KID], 2), ([KID, other], 1)):  # in the reader's order
            with vault() as driver:
                ring = fresh_ring(trusted)
                for way in WAYS:
                    assert outcome_of(way, data, ring, tmp_path).error is None
                assert driver.calls["unwrap"] == cost
                assert driver.called[0][1] == trusted[0]


def test_the_honest_wrapped_key_beside_a_forged_id_blocks_nothing(tmp_path: Path) -> None:
    data = forged("id", [recipient()], kek_members={"id": b64u_text(kek_id(OTHER_KEK))})
    with vault() as driver:
        ring = fresh_ring()
        assert_refused(data, MISMATCH, b"", tmp_path, ring)
        assert outcome_of(by_decrypt, HONEST.data(), ring, tmp_path).error is None
        assert_refused(data, MISMATCH, b"", tmp_path, ring)
        assert driver.calls["unwrap"] <= 2


@pytest.mark.parametrize("count", [4, 15, 16])
def test_at_most_three_recipients_are_tried(count: int, tmp_path: Path) -> None:
    kids = [f"local:k{number:02}/v1" for number in range(count)]
    data = forged(f"{count} recipients", [GARBAGE | {"kid": kid} for kid in kids])
    with vault() as driver:
        ring = fresh_ring(kids)
        assert outcome_of(by_decrypt, data, ring, tmp_path).error == "KeyMismatch"
        assert driver.calls["unwrap"] == 3
        assert {kid for _, kid in driver.called} == set(kids[:3]), "in the reader's order"
        assert_refused(data, MISMATCH, b"", tmp_path, ring)
        assert driver.calls["unwrap"] == 3
        with pytest.raises(errors.KeyMismatch, match=f"{count - 3} more"):
            envelope.decrypt(data, keys=ring)


def test_the_fourth_trusted_recipient_is_found_where_the_reader_puts_it_first(
    tmp_path: Path,
) -> None:
    kids = [f"local:k{number:02}/v1" for number in range(16)]
    recipients = [GARBAGE | {"kid": kid} for kid in kids[:15]] + [recipient(kids[15])]
    data = forged("sixteenth", recipients)
    with vault() as driver:
        assert outcome_of(by_decrypt, data, fresh_ring(kids), tmp_path).error == "KeyMismatch"
        assert driver.calls["unwrap"] == 3
        ring = fresh_ring([kids[15], *kids[:15]])
        for way in WAYS:
            assert outcome_of(way, data, ring, tmp_path).error is None
        assert driver.calls["unwrap"] == 4


def test_sixteen_recipients_open_for_each_of_them_with_one_call(tmp_path: Path) -> None:
    kids = [f"local:k{number:02}/v1" for number in range(16)]
    data = forged("sixteen", [recipient(kid) for kid in kids], size=8192)
    for kid in kids:
        with vault() as driver:
            ring = fresh_ring(kid)
            for way in WAYS:
                assert outcome_of(way, data, ring, tmp_path).error is None
            assert driver.calls["unwrap"] == 1
            assert driver.called == [("resolve", kid), ("unwrap", kid)]


@pytest.mark.parametrize(
    "kid",
    [
        "local:lake2/v1",
        "local:lake",
        "local:lake/v1/",
        "local:lake/../lake/v1",
        "LOCAL:LAKE/v1",
        "local:lake/v1 ",
        "local:l\u0430ke/v1",
        "https://attacker.example/keys/lake/v1",
        "azurekeyvault://attacker/lake/v1",
        "file:///etc/passwd",
        "http://169.254.169.254/latest",
        "https://[::1/keys/a/b",
        "https://\u2100.example/keys/a/b",
        ":",
        "x" * 512,
    ],
)
def test_a_kid_that_is_not_configured_is_never_called(kid: str, tmp_path: Path) -> None:
    data = forged("untrusted", [recipient() | {"kid": kid}])
    with vault() as driver:
        assert_refused(data, frozenset({"UntrustedKey"}), b"", tmp_path, fresh_ring())
        assert not driver.calls


def test_an_untrusted_file_is_refused_even_where_its_kek_is_in_the_cache(tmp_path: Path) -> None:
    data = forged("cached", [recipient("local:other/v1")])
    with vault() as driver:
        ring = fresh_ring()
        assert outcome_of(by_decrypt, HONEST.data(), ring, tmp_path).error is None
        calls = driver.calls.copy()
        assert_refused(data, frozenset({"UntrustedKey"}), b"", tmp_path, ring)
        assert driver.calls == calls


def test_a_folder_of_forged_files_does_not_starve_honest_ones(tmp_path: Path) -> None:
    """A metered vault: thousands of different forgeries use up the allowance for failures alone.

    Limits are such that nothing waits: the allowance is ten seconds' worth at once.
    """
    files, rate = 3000, 0.5
    limits = {"failed_unwrap_rate": rate, "unwrap_rate": 10_000, "deadline": 0.02}
    keks = itertools.count()
    refusals: dict[str, int] = {}
    with vault(metered=True) as driver:
        ring = fresh_ring(limits=limits)
        envelope.decrypt(HONEST.data(), keys=ring)  # the KEK of this lake is known
        honest_before = driver.calls["unwrap"]
        for number in range(files):
            garbage = GARBAGE | {"encrypted_key": b64u_text(os.urandom(40))}
            members = {"id": b64u_text(kek_id(next(keks).to_bytes(32)))}
            data = parts_of("flood", 10, recipients=[garbage], kek_members=members).data()
            out = outcome_of(by_decrypt, data, ring, tmp_path)
            assert out.error in ("KeyMismatch", "LimitExceeded")
            refusals[out.error] = refusals.get(out.error, 0) + 1
            if number % 500 == 0:
                assert envelope.decrypt(HONEST.data(), keys=ring) == told(HONEST.data())
        # Ten seconds' worth, and what was earned back while the test ran.
        assert driver.calls["unwrap"] - honest_before == refusals["KeyMismatch"]
        assert refusals["KeyMismatch"] <= 10 * rate + 60 * rate
        assert refusals["LimitExceeded"] > files * 0.9
