from __future__ import annotations

import json
import logging
import multiprocessing
import pickle
import threading
import traceback
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given
from hypothesis import strategies as st

import envelope
from envelope import header, resolvers, runtime
from envelope.errors import (
    ConfigurationError,
    EnvelopeError,
    KeyDisabled,
    KeyMismatch,
    LimitExceeded,
    Tampered,
    UntrustedKey,
)
from envelope.header import Header
from envelope.limits import Limits
from envelope.ring import KeyRing, as_ring
from envelope.secret import Secret
from tests.forking import holds_in_child
from tests.headers import edited, written
from tests.memory_driver import MemoryDriver, installed

SEED = "the same in every process"


@pytest.fixture
def driver() -> Iterator[MemoryDriver]:
    with installed(MemoryDriver(), "local", "azurekeyvault", "public") as memory:
        yield memory


# --- Which keys ---------------------------------------------------------------------------------


def test_a_key_url_is_encrypted_to_and_trusted_in_all_its_versions(driver: MemoryDriver) -> None:
    ring = KeyRing("local:lake")
    assert (ring.encrypt_to, ring.decrypt_with) == (("local:lake",), ("local:lake",))
    old = written(ring)
    driver.rotate("local:lake")
    new = written(KeyRing("local:lake", limits={"kek_age": 5}))
    assert [r.kid for r in new.keys.recipients] == ["local:lake/v2"]
    assert {ring.open(old).kid, ring.open(new).kid} == {"local:lake/v1", "local:lake/v2"}


def test_key_names_are_normalised_and_named_once(driver: MemoryDriver) -> None:
    ring = KeyRing(["https://ACME.vault.azure.net/keys/Lake/", "azurekeyvault://acme/lake"])
    assert ring.encrypt_to == ("azurekeyvault://acme.vault.azure.net/lake",)


def test_a_break_glass_key_is_encrypted_to_and_never_called_for_reading(
    driver: MemoryDriver,
) -> None:
    ring = KeyRing(encrypt_to=["local:glass", "local:lake"], decrypt_with="local:lake")
    parsed = written(ring)
    driver.called.clear()
    assert ring.open(parsed).kid == "local:lake/v1"
    assert not [kid for _, kid in driver.called if "glass" in kid]


def test_an_encrypt_only_ring_opens_nothing(driver: MemoryDriver) -> None:
    ring = KeyRing(encrypt_to="local:lake")
    parsed = written(ring)
    driver.calls.clear()
    with pytest.raises(UntrustedKey, match="only encrypts"):
        ring.open(parsed)
    assert not driver.calls


def test_a_decrypt_only_ring_grants_nothing(driver: MemoryDriver) -> None:
    ring = KeyRing(decrypt_with="local:lake")
    with pytest.raises(ConfigurationError, match="only decrypts"):
        ring.grant()
    assert ring.open(written(KeyRing("local:lake"))).kid == "local:lake/v1"


def test_a_public_half_among_keys_is_only_encrypted_to(driver: MemoryDriver) -> None:
    ring = KeyRing(["public:/lake.pem", "local:spare"])
    assert ring.encrypt_to == ("public:/lake.pem", "local:spare")
    assert ring.decrypt_with == ("local:spare",)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "at least one key"),
        ({"encrypt_to": []}, "at least one key"),
        ({"encrypt_to": "azurekeyvault://acme/*"}, "pattern"),
        ({"decrypt_with": "public:/lake.pem"}, "public half"),
        ({"encrypt_to": "lake"}, "not a key name"),
        ({"encrypt_to": ""}, "not a key name"),
        ({"encrypt_to": "nowhere:lake"}, "no driver is installed"),
        ({"encrypt_to": [f"local:k{n}" for n in range(17)]}, "at most 16"),
        ({"encrypt_to": "local:a", "limits": {"kek_ages": 1}}, "kek_ages"),
        ({"encrypt_to": "local:a", "require_signed": []}, "names no signer"),
        ({"encrypt_to": "local:a", "require_signed": "azurekeyvault://acme/*"}, "any key of that"),
        ({"encrypt_to": "local:a", "sign_with": "azurekeyvault://acme/*"}, "cannot sign"),
        ({"encrypt_to": "local:a", "sign_with": "public:/s.pem"}, "cannot sign"),
        ({"encrypt_to": "local:a", "sign_with": "local:a"}, "one use"),
        ({"encrypt_to": "local:a", "sign_with": "signer"}, "not a key name"),
        ({"encrypt_to": "local:a", "aliases": {"local:a": "lake"}}, "not a key name"),
        ({"encrypt_to": "local:a", "settings": {"local": {"x": object()}}}, "plain JSON"),
    ],
)
def test_what_cannot_work_is_refused_when_the_ring_is_made(
    driver: MemoryDriver, arguments: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigurationError, match=words):
        KeyRing(**arguments)


def test_keys_go_with_neither_of_the_two_directions(driver: MemoryDriver) -> None:
    with pytest.raises(ConfigurationError, match="not both"):
        KeyRing("local:lake", encrypt_to="local:lake")


@pytest.mark.parametrize(
    "keys", [b"local:lake", 5, {"keys": "local:lake"}, [b"local:lake"], [None]]
)
def test_what_is_no_text_is_a_type_error(driver: MemoryDriver, keys: Any) -> None:
    with pytest.raises(TypeError):
        KeyRing(keys)


def test_recipients_that_cannot_fit_in_a_header_are_refused_when_the_ring_is_made(
    driver: MemoryDriver,
) -> None:
    keys = [f"azurekeyvault://acme/{'k' * 124}{number:03}" for number in range(16)]
    with pytest.raises(LimitExceeded, match="header_size"):
        KeyRing(keys)
    assert len(written_large(KeyRing(keys, limits={"header_size": 8192})).keys.recipients) == 16
    assert driver.calls["wrap"] == 16


def written_large(ring: KeyRing) -> Header:
    grant = ring.grant()
    return header.parse(header.build(header.bound_json({}), grant.keys, grant.dek, 8192))


# --- Writing ------------------------------------------------------------------------------------


def test_each_grant_is_a_fresh_dek_under_the_same_kek(driver: MemoryDriver) -> None:
    ring = KeyRing("local:lake")
    grants = [ring.grant() for _ in range(100)]
    assert len({grant.keys for grant in grants}) == 100
    assert len({grant.kek_id for grant in grants}) == 1
    assert not any(one.dek == two.dek for one, two in pairwise(grants))
    assert driver.calls["wrap"] == 1


def test_rings_of_equal_configuration_share_a_kek_and_others_do_not(driver: MemoryDriver) -> None:
    one, equal, other = (
        KeyRing("local:lake"),
        KeyRing(["local:lake"]),
        KeyRing("local:lake", required_context=("tenant",)),
    )
    assert one.grant().kek_id == equal.grant().kek_id != other.grant().kek_id


def test_counted_bytes_bring_the_next_kek(driver: MemoryDriver) -> None:
    ring = KeyRing("local:lake", limits={"kek_bytes": 10})
    first = ring.grant()
    assert ring.grant().kek_id == first.kek_id
    first.count_bytes(10)
    assert ring.grant().kek_id != first.kek_id


# --- Reading ------------------------------------------------------------------------------------


def test_what_was_granted_is_opened(driver: MemoryDriver) -> None:
    ring = KeyRing("local:lake")
    grant = ring.grant()
    parsed = header.parse(header.build(header.bound_json({}), grant.keys, grant.dek, 4096))
    access = ring.open(parsed)
    assert access.dek == grant.dek
    assert access.kek_id == grant.kek_id == access.kek.id
    header.verify_mac(parsed, access.dek)


def test_ten_thousand_files_that_one_process_wrote_cost_one_unwrap(driver: MemoryDriver) -> None:
    ring = KeyRing("local:lake")
    files = [written(ring) for _ in range(1000)]
    driver.calls.clear()
    for _ in range(10):
        for parsed in files:
            ring.open(parsed)
    assert driver.calls["unwrap"] == 1


def test_the_recipient_that_was_unwrapped_is_told_and_none_where_the_kek_was_known(
    driver: MemoryDriver,
) -> None:
    ring = KeyRing("local:lake")
    assert ring.open(written(ring)).kid == "local:lake/v1"
    assert ring.open(written(ring)).kid is None


def test_a_key_that_is_not_configured_is_never_called(driver: MemoryDriver) -> None:
    parsed = written(KeyRing(["local:other", "azurekeyvault://acme/lake"]))
    driver.calls.clear()
    with pytest.raises(UntrustedKey, match="local:other/v1") as caught:
        KeyRing("local:lake").open(parsed)
    assert "--trust" in caught.value.next_step
    assert not driver.calls


def test_a_known_kek_opens_no_file_that_names_no_trusted_key(driver: MemoryDriver) -> None:
    ring = KeyRing("local:lake")
    parsed = written(ring)
    ring.open(parsed)

    def rename(keys: dict[str, Any]) -> None:
        keys["kek"]["recipients"][0]["kid"] = "local:evil/v1"

    with pytest.raises(UntrustedKey):
        ring.open(edited(parsed, rename))


def test_keys_are_tried_in_the_rings_order(driver: MemoryDriver) -> None:
    parsed = written(KeyRing(["local:a", "local:b"]))
    driver.called.clear()
    KeyRing(decrypt_with=["local:b", "local:a"]).open(parsed)
    assert [kid for operation, kid in driver.called if operation == "unwrap"] == ["local:b/v1"]


def test_an_unknown_algorithm_beside_a_known_one_is_passed_over(driver: MemoryDriver) -> None:
    parsed = written(KeyRing(["local:a", "local:b"]))

    def unknown(keys: dict[str, Any]) -> None:
        keys["kek"]["recipients"][0]["alg"] = "ML-KEM-768"

    assert KeyRing(["local:a", "local:b"]).open(edited(parsed, unknown)).kid == "local:b/v1"
    assert ("unwrap", "local:a/v1") not in driver.called


def test_only_unknown_algorithms_are_untrusted(driver: MemoryDriver) -> None:
    def unknown(keys: dict[str, Any]) -> None:
        keys["kek"]["recipients"][0]["alg"] = "RSA1_5"

    ring = KeyRing("local:lake")
    with pytest.raises(UntrustedKey, match="RSA1_5"):
        ring.open(edited(written(ring), unknown))


def test_another_known_algorithm_than_the_keys_is_no_call(driver: MemoryDriver) -> None:
    def other(keys: dict[str, Any]) -> None:
        keys["kek"]["recipients"][0]["alg"] = "RSA-OAEP-256"

    ring = KeyRing("local:lake")
    with pytest.raises(KeyMismatch):
        ring.open(edited(written(ring), other))
    assert driver.calls["unwrap"] == 0


def test_a_keyset_is_untrusted_until_there_are_keysets(driver: MemoryDriver) -> None:
    def keyset(keys: dict[str, Any]) -> None:
        del keys["kek"]["recipients"]
        keys["kek"]["keyset"] = "A" * 22

    ring = KeyRing("local:lake")
    with pytest.raises(UntrustedKey, match="keyset"):
        ring.open(edited(written(ring), keyset))


def test_a_dek_of_another_kek_is_tampered_with(driver: MemoryDriver) -> None:
    ring = KeyRing("local:lake")

    def zero(keys: dict[str, Any]) -> None:
        keys["dek"]["encrypted_key"] = "AAAA" * 13 + "AA"

    with pytest.raises(Tampered):
        ring.open(edited(written(ring), zero))


def test_an_alias_opens_files_of_a_key_that_moved(driver: MemoryDriver) -> None:
    with installed(MemoryDriver(seed=driver.seed), "azurekeyvault") as moved:
        ring = KeyRing(
            decrypt_with="azurekeyvault://acme/lake",
            aliases={"local:lake": "azurekeyvault://acme/lake"},
        )
        assert ring.open(written(KeyRing("local:lake"))).kid == "local:lake/v1"
        assert moved.called[-1] == ("unwrap", "azurekeyvault://acme.vault.azure.net/lake/v1")


# --- What it is: configuration ------------------------------------------------------------------


def test_its_repr_is_its_configuration_as_canonical_json(driver: MemoryDriver) -> None:
    ring = KeyRing("local:lake", limits={"kek_age": 60.0}, required_context=("tenant",))
    assert json.loads(repr(ring)) == ring.to_config()
    assert repr(ring) == json.dumps(ring.to_config(), sort_keys=True, separators=(",", ":"))


keys = st.sampled_from(["local:a", "local:b", "local:a/v1", "azurekeyvault://acme/a"])
configurations = st.fixed_dictionaries(
    {"encrypt_to": st.lists(keys, min_size=1, max_size=3)},
    optional={
        "decrypt_with": st.lists(keys | st.just("azurekeyvault://acme/*"), max_size=3),
        "limits": st.fixed_dictionaries({}, optional={"kek_files": st.integers(1, 3)}),
        "required_context": st.lists(st.sampled_from(["tenant", "table"]), max_size=2),
        "aliases": st.dictionaries(keys, keys, max_size=2),
        "settings": st.fixed_dictionaries({}, optional={"local": st.just({"x": 1})}),
    },
)


@given(configurations, configurations)
def test_rings_print_alike_exactly_where_they_are_equal(one: Any, other: Any) -> None:
    with installed(MemoryDriver(), "local", "azurekeyvault"):
        a, b = KeyRing.from_config(one), KeyRing.from_config(other)
        same = (
            a.encrypt_to == b.encrypt_to
            and a.decrypt_with == b.decrypt_with
            and a.limits == b.limits
            and a.required_context == b.required_context
            and a.to_config()["aliases"] == b.to_config()["aliases"]
            and a.to_config()["settings"] == b.to_config()["settings"]
        )
        assert (repr(a) == repr(b)) == (a == b) == same
        assert (hash(a) == hash(b)) or not same


@given(configurations)
def test_to_config_and_from_config_are_inverses_and_so_is_pickle(config: Any) -> None:
    with installed(MemoryDriver(), "local", "azurekeyvault"):
        ring = KeyRing.from_config(config)
        assert KeyRing.from_config(ring.to_config()) == ring
        assert pickle.loads(pickle.dumps(ring)) == ring
        assert KeyRing.from_config(json.loads(json.dumps(ring.to_config()))) == ring


def test_a_changed_copy_of_the_configuration_does_not_change_the_ring(
    driver: MemoryDriver,
) -> None:
    ring = KeyRing("local:lake")
    ring.to_config()["settings"]["local"]["seed"] = "another"
    assert ring.to_config()["settings"]["local"]["seed"] == driver.seed


def test_an_unknown_setting_is_refused_by_name(driver: MemoryDriver) -> None:
    with pytest.raises(ConfigurationError, match="decrypt_wth"):
        KeyRing.from_config({"encrypt_to": "local:lake", "decrypt_wth": "local:lake"})


def test_options_of_schemes_that_are_not_in_use_do_not_count(driver: MemoryDriver) -> None:
    ring = KeyRing("local:lake", settings={"azurekeyvault": {"x": 1}})
    assert ring == KeyRing("local:lake")


def test_limits_come_as_an_object_or_by_name(driver: MemoryDriver) -> None:
    assert KeyRing("local:lake", limits=Limits(kek_files=5)) == KeyRing(
        "local:lake", limits={"kek_files": 5}
    )


def test_a_driver_whose_keys_are_files_pins_their_content(driver: MemoryDriver) -> None:
    class Pinning(MemoryDriver):
        content = "one"

        def pinned(self, settings: Any, names: Any) -> dict[str, Any]:
            return {"pins": settings.get("pins") or dict.fromkeys(names, self.content)}

        def settings(self, options: Any) -> dict[str, Any]:
            return dict(options)

    with installed(Pinning(), "public") as files:
        before = KeyRing(encrypt_to="public:/lake.pem")
        files.content = "two"  # type: ignore[attr-defined]  # of the class above
        assert KeyRing(encrypt_to="public:/lake.pem") != before
        assert pickle.loads(pickle.dumps(before)) == before


def test_every_form_of_keys_becomes_a_ring(
    driver: MemoryDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    ring = KeyRing("local:lake")
    assert as_ring(ring) is ring
    assert as_ring("local:lake") == ring
    assert as_ring(["local:lake"]) == ring
    assert as_ring({"keys": ["local:lake"]}) == ring
    assert as_ring(encrypt_to="local:lake", decrypt_with="local:lake") == ring
    monkeypatch.setenv("ENVELOPE_KEYS", "local:lake")
    assert as_ring(None) == ring == KeyRing.load()


def test_a_key_url_takes_limits_from_the_configuration_and_keys_from_nowhere_else(
    driver: MemoryDriver, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    file = tmp_path / "envelope.toml"
    file.write_text('keys = ["local:configured"]\n[limits]\nkek_files = 7\n')
    monkeypatch.setenv("ENVELOPE_CONFIG", str(file))
    ring = as_ring("local:lake")
    assert (ring.encrypt_to, ring.limits.kek_files) == (("local:lake",), 7)


def test_bytes_are_no_keys(driver: MemoryDriver) -> None:
    with pytest.raises(TypeError):
        as_ring(b"local:lake")  # type: ignore[arg-type]  # that is the point


# --- Threads and processes ----------------------------------------------------------------------


def test_eight_threads_read_and_write_through_one_ring(driver: MemoryDriver) -> None:
    ring = KeyRing("local:lake", limits={"kek_files": 10})
    start = threading.Barrier(8)

    def work(_: int) -> bool:
        start.wait(10)
        for _ in range(50):
            grant = ring.grant()
            raw = header.build(header.bound_json({}), grant.keys, grant.dek)
            assert ring.open(header.parse(raw)).dek == grant.dek
        return True

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))
    assert driver.calls["wrap"] == 8 * 50 / 10
    assert driver.calls["unwrap"] == 8 * 50 / 10


def test_a_forked_child_starts_a_kek_of_its_own_and_reads_what_the_parent_wrote(
    driver: MemoryDriver,
) -> None:
    ring = KeyRing("local:lake")
    parsed = written(ring)
    ring.open(parsed)
    mine = ring.grant().kek_id

    def check() -> bool:
        driver.calls.clear()
        own = ring.grant().kek_id != mine
        return own and ring.open(parsed).kid == "local:lake/v1" and driver.calls["unwrap"] == 1

    assert holds_in_child(check)
    assert ring.grant().kek_id == mine


def test_a_fork_during_an_unwrap_does_not_hang_the_child(driver: MemoryDriver) -> None:
    ring = KeyRing("local:lake")
    parsed = written(ring)
    inside, go_on = threading.Event(), threading.Event()

    def hold(operation: str, kid: str) -> None:
        if operation == "unwrap" and not inside.is_set():
            inside.set()
            go_on.wait(30)

    driver.fail = hold
    with ThreadPoolExecutor(1) as pool:
        busy = pool.submit(ring.open, parsed)
        assert inside.wait(10)
        try:
            assert holds_in_child(lambda: ring.open(parsed).kid == "local:lake/v1")
        finally:
            go_on.set()
        assert busy.result(10).kid == "local:lake/v1"


def serve_memory_keys() -> None:
    """What a worker process does that was not forked: it registers the driver again."""
    resolvers.register("local", MemoryDriver(seed=SEED))


def open_elsewhere(ring: KeyRing, raw: bytes) -> tuple[str, bytes, bytes]:
    """In another process: open a header, write one, and say what the ring is there."""
    access = ring.open(header.parse(raw))
    grant = ring.grant()
    return repr(ring), access.kek_id, header.build(header.bound_json({}), grant.keys, grant.dek)


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_ring_works_in_other_processes(method: str) -> None:
    with installed(MemoryDriver(seed=SEED)):
        ring = KeyRing("local:lake")
        raw = written(ring).raw
        context = multiprocessing.get_context(method)
        with ProcessPoolExecutor(2, mp_context=context, initializer=serve_memory_keys) as pool:
            for text, kek_id, other in pool.map(open_elsewhere, [ring] * 4, [raw] * 4):
                assert text == repr(ring)
                assert kek_id == header.parse(raw).keys.kek_id
                theirs = ring.open(header.parse(other))
                assert theirs.kek_id != kek_id


# --- Secrets ------------------------------------------------------------------------------------


def test_no_key_bytes_show_anywhere(
    driver: MemoryDriver, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Canaries: the KEK and the DEKs, in every repr, log line, pickle and traceback with locals."""
    secrets: list[Secret] = []
    random = Secret.random

    def remembered(length: int = 32) -> Secret:
        secrets.append(random(length))
        return secrets[-1]

    monkeypatch.setattr(Secret, "random", remembered)
    caplog.set_level(logging.DEBUG)
    ring = KeyRing("local:lake")
    grant = ring.grant()
    parsed = header.parse(header.build(header.bound_json({}), grant.keys, grant.dek))
    access = ring.open(parsed)
    driver.rotate("local:lake")
    shown = [repr(ring), repr(grant), repr(access), caplog.text, repr(ring.to_config())]
    shown += [repr(ring.rekey(parsed, access, replace=False)), repr(vars(runtime.current()))]
    shown.append(repr(pickle.dumps(ring)))
    for failing in (KeyRing("local:lake"), KeyRing("local:other")):
        with pytest.raises(EnvelopeError) as caught:
            failing.open(edited(parsed, lambda keys: keys["kek"].update(id="A" * 43)))
        trace = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
        shown.append("".join(trace.format()))
    driver.fail = lambda operation, kid: ZeroDivisionError()
    with pytest.raises(EnvelopeError) as caught:
        KeyRing("local:lake", limits={"kek_age": 3}).grant()
    trace = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    shown.append("".join(trace.format()))
    assert len(secrets) >= 2
    everything = "".join(shown)
    assert "Secret(<32 bytes>)" in everything  # so secrets were in sight, and did not show
    for secret in secrets:
        for form in (repr(secret.reveal())[2:-1], secret.reveal().hex()):
            assert form not in everything


def test_its_repr_names_a_public_key_by_its_digest_and_not_by_its_path(tmp_path: Path) -> None:
    pem = (
        rsa.generate_private_key(65537, 2048)
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    rings = []
    for folder in ("here", "there"):
        path = tmp_path / folder / "orders.pem"
        path.parent.mkdir()
        path.write_bytes(b"kid: local:orders/v1\n" + pem)
        rings.append(KeyRing(encrypt_to=f"public:{path}"))
    here, there = rings
    assert str(tmp_path) not in repr(here)
    assert "public:sha256-" in repr(here)
    assert here == there
    assert hash(here) == hash(there)
    assert pickle.loads(pickle.dumps(here)) == here


def test_forgetting_asks_the_vault_again_for_each_ring_of_the_configuration(
    driver: MemoryDriver,
) -> None:
    ring, same = (KeyRing("local:lake", settings={"local": {"seed": driver.seed}}) for _ in "12")
    file = envelope.encrypt(b"orders", keys=ring)
    assert envelope.decrypt(file, keys=same) == b"orders"
    ring.forget()
    driver.disabled.add("local:lake/v1")
    for each in (ring, same):
        with pytest.raises(KeyDisabled):
            envelope.decrypt(file, keys=each)
        with pytest.raises(KeyDisabled):
            envelope.encrypt(b"orders", keys=each)
