"""Keystores in temporary folders, with Argon2id at its floor so that the suite stays quick."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from envelope import events
from envelope.keystore import passphrase
from envelope.keystore.driver import LOCAL, LocalKeys
from envelope.secret import Secret

FLOOR = {"memory_kib": 19456, "iterations": 2, "lanes": 1}
PASSPHRASE = "a canary in the coal mine"

Open = Callable[..., LocalKeys]


@pytest.fixture(autouse=True)
def _nothing_configured(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("PASSPHRASE", "PASSPHRASE_FILE", "KEYSTORE"):
        monkeypatch.delenv(f"ENVELOPE_{name}", raising=False)
    passphrase.forget()
    yield
    passphrase.forget()


@pytest.fixture
def open_keystore(tmp_path: Path) -> Open:
    """Opens the keystore in the folder ``ks`` (or another) with further options."""

    def opened(folder: str = "ks", **options: Any) -> LocalKeys:
        given = {"keystore": str(tmp_path / folder), "argon2": FLOOR, **options}
        return LOCAL.resolver(LOCAL.settings(given))

    return opened


@pytest.fixture
def plain(open_keystore: Open) -> LocalKeys:
    """A keystore protected by permissions, with the key local:lake."""
    keys = open_keystore()
    keys.create("local:lake", protect="permissions")
    return keys


@pytest.fixture
def protected(open_keystore: Open) -> LocalKeys:
    """A keystore protected by PASSPHRASE, which this process was given, with the key local:lake."""
    passphrase.provide(Secret(PASSPHRASE.encode()))
    keys = open_keystore()
    keys.create("local:lake")
    return keys


@pytest.fixture
def notices() -> Iterator[list[str]]:
    """The texts of all notices."""
    texts: list[str] = []
    unsubscribe = events.subscribe(
        lambda event: texts.append(event.text) if isinstance(event, events.Notice) else None
    )
    yield texts
    unsubscribe()
