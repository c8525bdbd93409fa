"""Everything goes wrong at once, and moved vaults and forged names: what still has to hold."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from azure.identity import DefaultAzureCredential
from azure.keyvault.keys import KeyClient
from azure.keyvault.keys._shared import http_challenge_cache

import envelope
from envelope.errors import AccessDenied, EnvelopeError, Malformed, UntrustedKey
from envelope.ring import KeyRing
from envelope_testing.keyvault.service.errors import VaultError
from tests.azure.chaos_worker import content
from tests.azure.conftest import Azure
from tests.headers import edited, written

pytestmark = pytest.mark.slow

FILES = int(os.environ.get("ENVELOPE_CHAOS_FILES", "400"))
SEED = int(os.environ.get("ENVELOPE_CHAOS_SEED", "20260101"))
PROCESSES, THREADS = 2, 8
MOST_CALLS = 4
"""How many times the calls that calm weather takes, challenges and failures included."""

LIMITS = {
    "kek_files": 8,  # so that the vault is called often
    "refresh": 2,
    "negative_age": 0.5,
    "deadline": 6,
    "unwrap_rate": 200,
    "failed_unwrap_rate": 100,  # of honest files here, while their key is disabled
}
ROOT = Path(__file__).parents[2]
WORK = ("get_key", "wrapkey", "unwrapkey")


@dataclass
class Weather:
    """Makes one thing after another go wrong, by a seed, as the work goes on.

    Args:
        azure: Where.
        seed: Of all that is chosen.
    """

    azure: Azure
    seed: int
    happened: Counter[str] = field(default_factory=Counter)
    #: Times by the world's clock at which an outage ended.
    recoveries: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.kinds: list[Callable[[], None]] = [
            self.throttle,
            self.drop,
            self.fail,
            self.hang,
            self.rotate,
            self.disable_an_old_version,
            self.expire_tokens,
            self.move,
            self.outage,
        ]
        self.versions = [self._client().get_key("lake").properties.version]
        home, away = self.azure.vault.tenant, str(uuid.UUID(int=self.random.getrandbits(128)))
        self.tenants = [home, away]
        developer = self.azure.local.world.principal("developer")
        there = self.azure.local.consent(developer, away)
        self.azure.vault.grant(there, "Key Vault Administrator")

    def go_on(self, progress: Callable[[], int], running: Callable[[], bool], every: int) -> None:
        """One thing each ``every`` files; each kind once before any comes again."""
        due, order = every, list[Callable[[], None]]()
        while running():
            if progress() < due:
                time.sleep(0.02)
                continue
            due += every
            if not order:
                order = self.random.sample(self.kinds, len(self.kinds))
            kind = order.pop()
            kind()
            self.happened[kind.__name__.replace("_", " ")] += 1

    def _client(self) -> KeyClient:
        """The administrator's, who knows which tenant the vault is in today."""
        http_challenge_cache.clear()
        credential = DefaultAzureCredential(additionally_allowed_tenants=["*"])
        return KeyClient(f"https://{self.azure.host}", credential)

    def _strike(self, **fault: Any) -> None:
        for operation in WORK:
            self.azure.local.world.faults.add(
                host=self.azure.host, operation=operation, times=self.random.randint(1, 4), **fault
            )

    def throttle(self) -> None:
        """By its own counting, with Retry-After or without."""
        throttle = self.azure.vault.throttle
        throttle.window, throttle.scale = 1.0, self.random.choice([0.001, 0.002])
        throttle.retry_after = self.random.random() < 0.5
        time.sleep(1)
        throttle.scale = 1.0

    def drop(self) -> None:
        self._strike(drop=True)

    def fail(self) -> None:
        self._strike(status=self.random.choice([408, 500, 502, 503, 504]))

    def hang(self) -> None:
        """For longer than the deadline."""
        self.azure.local.world.faults.add(
            host=self.azure.host, operation=self.random.choice(WORK), times=2, hang=8
        )

    def rotate(self) -> None:
        self.versions.append(self._client().rotate_key("lake").properties.version)

    def disable_an_old_version(self) -> None:
        if len(self.versions) < 2:
            self.rotate()
        client, version = self._client(), self.random.choice(self.versions[:-1])
        client.update_key_properties("lake", version, enabled=False)
        time.sleep(0.7)
        client.update_key_properties("lake", version, enabled=True)

    def expire_tokens(self) -> None:
        self.azure.local.world.tokens.expire_all()

    def move(self) -> None:
        """Into another tenant, or back."""
        self.tenants.reverse()
        self.azure.vault.tenant = self.tenants[0]

    def outage(self) -> None:
        faults = self.azure.local.world.faults
        faults.add(host=self.azure.host, times=None, status=503)
        time.sleep(2)
        faults.clear()
        self.recoveries.append(self.azure.local.world.clock.now())


def start(plan: dict[str, Any]) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.azure.chaos_worker", json.dumps(plan)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def recovered(calls: list[Any], outages: list[float]) -> list[float]:
    """Seconds from the end of each outage to the first call that the vault did again."""
    good = [call.at for call in calls if call.operation in WORK and call.status == 200]
    firsts = [next((at - end for at in good if at >= end), None) for end in outages]
    return [first for first in firsts if first is not None]


def test_whatever_a_vault_does_what_was_reported_written_opens_and_nothing_storms(
    azure: Azure, tmp_path: Path
) -> None:
    azure.client().create_rsa_key("lake", size=2048)
    weather = Weather(azure, SEED)
    folder = tmp_path / "files"
    folder.mkdir()
    plans = [
        {
            "process": number,
            "processes": PROCESSES,
            "threads": THREADS,
            "files": FILES,
            "folder": str(folder),
            "key": azure.key(),
            "limits": LIMITS,
            # One process wraps here, and the other has the vault do it.
            "settings": {"additionally_allowed_tenants": ["*"], "wrap": wrap},
        }
        for number, wrap in enumerate(["local", "vault"])
    ]
    before = len(azure.local.world.calls)
    workers = [start(plan) for plan in plans]
    done = threading.Event()
    with ThreadPoolExecutor(1 + PROCESSES) as pool:
        made = pool.submit(
            weather.go_on,
            lambda: len(os.listdir(folder)),
            lambda: not done.is_set(),
            max(20, FILES // 100),
        )
        try:
            outputs = [pool.submit(worker.communicate) for worker in workers]
            results = [json.loads(output.result()[0]) for output in outputs]
        finally:
            done.set()
            for worker in workers:
                worker.kill()
        made.result()
    azure.local.world.faults.clear()

    calls = [
        call
        for call in azure.local.world.calls[before:]
        if call.host == azure.host and call.operation in WORK
    ]
    written = [name for result in results for name in result["written"]]
    read = sum(len(result["read"]) for result in results)
    needed = _needed(results, folder, calls)
    failed = sum((Counter(result["failed"]) for result in results), Counter[str]())
    print(f"\n{FILES} files: {len(written)} written, {read} read by the other process")
    print(f"{sum(failed.values())} tries failed: {failed}")
    print(f"weather: {dict(weather.happened)}")
    print(f"calls: {len(calls)}, {len(calls) / sum(needed.values()):.2f} x the least: {needed}")
    print(f"in {[round(result['seconds'], 1) for result in results]} s")
    print(f"answers: {dict(Counter((c.operation, c.status, c.error) for c in calls))}")
    recoveries = recovered(calls, weather.recoveries)
    print(f"seconds to recover from outages: {sorted(round(each, 2) for each in recoveries)}")

    assert not [text for result in results for text in result["untyped"]]
    assert not [name for result in results for name in result["wrong"]]
    azure.restart()
    ring = KeyRing(
        decrypt_with=azure.key(),
        limits=LIMITS,
        settings={"azurekeyvault": {"additionally_allowed_tenants": ["*"]}},
    )
    refused = sum(count for what, count in failed.items() if what.startswith("encrypt"))
    assert len(written) + refused == FILES, "each was reported, in one way or the other"
    assert len(written) > FILES / 2
    assert weather.happened
    for name in written:
        sealed = (folder / name).read_bytes()
        assert envelope.decrypt(sealed, keys=ring, context={"name": name}) == content(name)
    assert len(calls) <= MOST_CALLS * sum(needed.values())


def _needed(results: list[dict[str, Any]], folder: Path, calls: list[Any]) -> dict[str, int]:
    """The calls without which the same work cannot be done."""
    keks = [
        {envelope.inspect(folder / name).kek_id for name in result["read"]} for result in results
    ]
    allowed = sum(1 + int(result["seconds"] / LIMITS["refresh"]) for result in results)
    looked = sum(call.operation == "get_key" and call.status == 200 for call in calls)
    return {
        "unwraps, one a KEK and process": sum(map(len, keks)),
        "wraps, one a KEK made in the vault": results[1]["calls"].get("keks", 0),
        "look-ups, one a refresh at most": min(looked, allowed),
    }


# --- Moved vaults -------------------------------------------------------------------------------


def test_a_vault_that_moved_to_another_tenant_goes_on_working_in_both_directions(
    azure: Azure,
) -> None:
    azure.client().create_rsa_key("lake", size=2048)
    home, away = azure.vault.tenant, str(uuid.uuid4())
    there = azure.local.consent(azure.local.world.principal("developer"), away)
    azure.vault.grant(there, "Key Vault Crypto User")
    ring = KeyRing(
        azure.key(),
        limits={"kek_files": 1, "refresh": 0.001},
        settings={"azurekeyvault": {"additionally_allowed_tenants": [away]}},
    )
    sealed = [envelope.encrypt(b"x", keys=ring)]
    for tenant in (away, home, away):
        azure.vault.tenant = tenant
        sealed.append(envelope.encrypt(b"x", keys=ring))
        assert [envelope.decrypt(each, keys=ring) for each in sealed[-2:]] == [b"x", b"x"]
    refused = [call.error for call in azure.local.world.calls if call.host == azure.host]
    assert refused.count("AKV10032") <= 2 * 3, "one a move, and once more by the SDK"


def test_a_vault_in_a_tenant_that_nobody_allowed_says_which_setting_is_missing(
    azure: Azure,
) -> None:
    azure.client().create_rsa_key("lake", size=2048)
    ring = KeyRing(azure.key())
    sealed = envelope.encrypt(b"x", keys=ring)
    azure.vault.tenant = str(uuid.uuid4())
    with pytest.raises(AccessDenied) as caught:
        envelope.decrypt(sealed, keys=ring)
    assert "additionally_allowed_tenants" in caught.value.next_step


# --- Forged names -------------------------------------------------------------------------------

FORGED = {
    "another vault": "https://evil.vault.azure.net/keys/lake/{version}",
    "another key of the vault": "https://{host}/keys/other/{version}",
    "a longer host": "https://{host}.evil.example/keys/lake/{version}",
    "a host that ends alike": "https://evil-{host}/keys/lake/{version}",
    "another cloud": "https://{vault}.vault.azure.cn/keys/lake/{version}",
    "a Managed HSM of that name": "https://{vault}.managedhsm.azure.net/keys/lake/{version}",
    "a letter that looks alike": "https://{vault}.vault.\u0430zure.net/keys/lake/{version}",
    "punycode": "https://{vault}.vault.xn--zure-53d.net/keys/lake/{version}",
    "user info": "https://{host}@evil.example/keys/lake/{version}",
    "user info with a password": "https://{host}:443@evil.example/keys/lake/{version}",
    "a backslash": "https://evil.example\\@{host}/keys/lake/{version}",
    "a fragment": "https://evil.example#@{host}/keys/lake/{version}",
    "a query": "https://{host}/keys/lake/{version}?@evil.example",
    "an encoded slash": "https://evil.example%2f{host}/keys/lake/{version}",
    "an encoded host": "https://%65vil.example/keys/lake/{version}",
    "another port": "https://{host}:8443/keys/lake/{version}",
    "a trailing dot": "https://{host}./keys/lake/{version}",
    "an IP address": "https://169.254.169.254/keys/lake/{version}",
    "an IPv6 address": "https://[::1]/keys/lake/{version}",
    "an IP address as a number": "https://2852039166/keys/lake/{version}",
    "the machine itself": "https://localhost/keys/lake/{version}",
    "plain HTTP": "http://{host}/keys/lake/{version}",
    "a path that goes up": "https://{host}/keys/lake/../other/{version}",
    "a line feed": "https://{host}/keys/lake/{version}\r\nHost: evil.example",
    "no version": "https://{host}/keys/lake",
    "a pattern": "azurekeyvault://{host}/*",
}


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_name_in_a_header_makes_no_connection(azure: Azure, name: str) -> None:
    azure.client().create_rsa_key("lake", size=2048)
    azure.local.vault("evil")  # it would answer
    ring = KeyRing(azure.key())
    parsed = written(ring)
    version = parsed.keys.recipients[0].kid.rpartition("/")[2]
    kid = FORGED[name].format(host=azure.host, vault=azure.vault.name, version=version)

    def forge(keys: dict[str, Any]) -> None:
        keys["kek"]["recipients"][0]["kid"] = kid

    azure.restart()
    asked, called = len(azure.local.connections), len(azure.local.world.calls)
    with pytest.raises((UntrustedKey, Malformed)):
        ring.open(edited(parsed, forge))
    assert azure.local.connections[asked:] == []
    assert len(azure.local.world.calls) == called


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("moment", ["before the challenge", "after it"])
def test_a_redirect_is_not_followed(
    azure: Azure, monkeypatch: pytest.MonkeyPatch, status: int, moment: str
) -> None:
    azure.client().create_rsa_key("lake", size=2048)
    azure.local.vault("evil")
    ring = KeyRing(azure.key(), settings={"azurekeyvault": {"wrap": "vault"}})
    sealed = envelope.encrypt(b"x", keys=ring)

    def moved() -> VaultError:
        error = VaultError(status, "Moved", "It is somewhere else now.")
        error.headers["Location"] = "https://evil.vault.azure.net/keys/lake/unwrapkey"
        return error

    async def strike(*_: object) -> None:
        raise moved()

    def authenticate(*_: object) -> None:
        raise moved()

    if moment == "after it":
        monkeypatch.setattr("envelope_testing.keyvault.service.app._Service._strike", strike)
    else:
        monkeypatch.setattr(
            "envelope_testing.keyvault.service.app._Service._authenticate", authenticate
        )
    azure.restart()
    http_challenge_cache.clear()
    asked = len(azure.local.connections)
    with pytest.raises(EnvelopeError, match=str(status)):
        envelope.decrypt(sealed, keys=ring)
    with pytest.raises(EnvelopeError, match=str(status)):
        envelope.encrypt(b"x", keys=KeyRing(azure.key()))
    hosts = {each.rpartition(":")[0] for each in azure.local.connections[asked:]}
    assert "evil.vault.azure.net" not in hosts
    assert azure.host in hosts
