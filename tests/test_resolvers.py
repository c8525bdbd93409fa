from __future__ import annotations

import importlib.metadata
from typing import Any

import pytest

from envelope import resolvers, runtime
from envelope.errors import ConfigurationError
from tests.forking import holds_in_child
from tests.memory_driver import MemoryDriver, installed


class EntryPoint:
    def __init__(self, loaded: Any) -> None:
        self.loaded = loaded
        self.loads = 0

    def load(self) -> Any:
        self.loads += 1
        if isinstance(self.loaded, Exception):
            raise self.loaded
        return self.loaded


@pytest.fixture
def offered(monkeypatch: pytest.MonkeyPatch) -> dict[str, EntryPoint]:
    """What installed packages offer, by scheme."""
    points: dict[str, EntryPoint] = {}

    def entry_points(*, group: str, name: str) -> list[EntryPoint]:
        assert group == "envelope.resolvers"
        return [points[name]] if name in points else []

    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
    monkeypatch.setattr(runtime, "_current", runtime.Runtime())  # nothing is loaded yet
    return points


def test_an_installed_driver_is_loaded_when_it_is_first_asked_for_and_once(
    offered: dict[str, EntryPoint],
) -> None:
    ours, other = MemoryDriver(), EntryPoint(MemoryDriver())
    offered.update({"test-lazy": EntryPoint(ours), "test-other": other})
    assert resolvers.driver("test-lazy") is ours
    assert resolvers.driver("test-lazy") is ours
    assert (offered["test-lazy"].loads, other.loads) == (1, 0)


@pytest.mark.parametrize(
    ("scheme", "step"),
    [
        ("azurekeyvault", 'pip install "envelope-encryption[azure]"'),
        ("awskms", "No release"),
        ("gcpkms", "No release"),
        ("openbao", "No release"),
        ("pkcs11", "No release"),
        ("locla", "Check the spelling"),
    ],
)
def test_a_scheme_without_a_driver_says_what_to_do(
    offered: dict[str, EntryPoint], scheme: str, step: str
) -> None:
    with pytest.raises(ConfigurationError, match=scheme) as caught:
        resolvers.driver(scheme)
    assert step in caught.value.next_step


def test_a_driver_whose_packages_are_missing_names_the_extra(
    offered: dict[str, EntryPoint],
) -> None:
    offered["azurekeyvault"] = EntryPoint(ModuleNotFoundError("No module", name="azure.identity"))
    with pytest.raises(ConfigurationError, match=r"azure\.identity") as caught:
        resolvers.driver("azurekeyvault")
    assert 'pip install "envelope-encryption[azure]"' in caught.value.next_step


def test_a_registered_driver_goes_before_an_installed_one_and_can_be_taken_back(
    offered: dict[str, EntryPoint],
) -> None:
    installed_one, mine, inner = MemoryDriver(), MemoryDriver(), MemoryDriver()
    offered["test-both"] = EntryPoint(installed_one)
    assert resolvers.driver("test-both") is installed_one
    with installed(mine, "test-both"):
        assert resolvers.driver("test-both") is mine
        with installed(inner, "test-both"):
            assert resolvers.driver("test-both") is inner
        assert resolvers.driver("test-both") is mine
    assert resolvers.driver("test-both") is installed_one


class Counting(MemoryDriver):
    made = 0

    def resolver(self, settings: Any) -> MemoryDriver:
        self.made += 1
        return MemoryDriver(seed=str(settings))


def test_equal_settings_share_a_resolver_however_they_are_ordered() -> None:
    driver = Counting()
    with installed(driver):
        one = resolvers.resolver("local", {"a": 1, "b": 2})
        assert resolvers.resolver("local", {"b": 2, "a": 1}) is one
        assert resolvers.resolver("local", {"a": 1, "b": 3}) is not one
    assert driver.made == 2


def test_registering_another_driver_drops_the_resolvers_of_the_scheme() -> None:
    with installed(MemoryDriver(), "local", "test-kept"):
        kept = resolvers.resolver("test-kept", {})
        before = resolvers.resolver("local", {})
        with installed(MemoryDriver()):
            assert resolvers.resolver("local", {}) is not before
        assert resolvers.resolver("test-kept", {}) is kept


def test_settings_that_are_no_plain_json_are_refused() -> None:
    with installed(), pytest.raises(ConfigurationError, match="plain JSON"):
        resolvers.resolver("local", {"credential": object()})


def test_a_forked_child_has_the_registered_driver_and_a_resolver_of_its_own() -> None:
    driver = Counting()
    with installed(driver):
        before = resolvers.resolver("local", {})
        assert holds_in_child(
            lambda: (
                resolvers.resolver("local", {}) is not before
                and resolvers.driver("local") is driver
            )
        )
