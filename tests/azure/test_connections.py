"""One pool of connections a vault and process: it fits many threads, and a fork makes its own."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor

import pytest

import envelope
from envelope.ring import KeyRing
from tests.azure.conftest import Azure
from tests.forking import holds_in_child

THREADS = 24  # the SDK's own pool keeps 10, throws the others away, and warns of each
LIMITS = {"kek_files": 1, "kek_cache_size": 1, "unwrap_rate": 10_000, "failed_unwrap_rate": 10_000}


def opened(azure: Azure) -> int:
    """How often a connection to the vault was asked for at the proxy."""
    return azure.local.connections.count(f"{azure.host}:443")


def test_connections_are_kept_for_more_threads_than_the_sdks_ten(
    azure: Azure, caplog: pytest.LogCaptureFixture
) -> None:
    azure.client().create_rsa_key("lake", size=2048)
    ring = KeyRing(azure.key(), limits=LIMITS)
    sealed = [envelope.encrypt(b"x", keys=ring) for _ in range(4 * THREADS)]
    azure.restart()
    azure.local.world.faults.add(
        host=azure.host, operation="unwrapkey", times=None, latency=0.3
    )  # so that all threads are in a call at once
    before = opened(azure)
    with caplog.at_level(logging.WARNING), ThreadPoolExecutor(THREADS) as pool:
        assert set(pool.map(lambda data: envelope.decrypt(data, keys=ring), sealed)) == {b"x"}
    made = opened(azure) - before
    assert 10 < made <= THREADS + 2, "as many as threads at once, and not one for each call"
    # Entra's pool is azure-identity's own, and overflows where all threads start without a token.
    assert f"discarding connection: {azure.host}" not in caplog.text


def test_a_forked_child_makes_connections_of_its_own(azure: Azure) -> None:
    azure.client().create_rsa_key("lake", size=2048)
    ring = KeyRing(azure.key(), limits=LIMITS)
    sealed = [envelope.encrypt(b"x", keys=ring) for _ in range(3)]
    assert envelope.decrypt(sealed[0], keys=ring) == b"x"
    before = opened(azure)
    assert holds_in_child(lambda: envelope.decrypt(sealed[1], keys=ring) == b"x")
    assert opened(azure) == before + 1
    assert envelope.decrypt(sealed[2], keys=ring) == b"x"  # over the one that was there
    assert opened(azure) == before + 1
