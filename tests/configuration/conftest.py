"""Nothing of the real user's configuration is seen, and `local:` is a scheme with settings."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from envelope import config, events, resolvers
from tests.configuration.places import LocalSettings, Places


@pytest.fixture(autouse=True)
def local_driver() -> Iterator[None]:
    put_back = resolvers.register("local", LocalSettings())
    yield
    put_back()


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Places:
    found = Places(tmp_path)
    for name in [name for name in os.environ if name.startswith("ENVELOPE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(config, "user_path", lambda: str(found.user))
    monkeypatch.setattr(config, "system_path", lambda: str(found.system))
    monkeypatch.chdir(found.work)
    return found


@pytest.fixture
def told() -> Iterator[list[events.Event]]:
    seen: list[events.Event] = []
    unsubscribe = events.subscribe(seen.append)
    yield seen
    unsubscribe()
