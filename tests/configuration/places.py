"""Four places for configuration files below one folder, and how to expect a refusal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from envelope.errors import ConfigurationError
from envelope.keys import KeyResolver


class LocalSettings:
    """As much of a driver as configuration needs to know; no keystore takes part here."""

    def settings(self, options: Mapping[str, Any]) -> dict[str, Any]:
        return dict(options)

    def resolver(self, settings: Mapping[str, Any]) -> KeyResolver:
        raise AssertionError("configuration asks for no key")


class Places:
    """The four places of files, below one folder; nothing of the real user's is seen."""

    def __init__(self, root: Path) -> None:
        self.work = root / "work"
        self.user = root / "home-config" / "envelope" / "envelope.toml"
        self.system = root / "system-config" / "envelope" / "envelope.toml"
        self.named = root / "named" / "envelope.toml"
        self.here = self.work / "envelope.toml"
        for file in (self.user, self.system, self.named, self.here):
            file.parent.mkdir(parents=True)
            file.parent.chmod(0o755)


def write(file: Path, text: str, mode: int = 0o644) -> Path:
    file.write_text(text, encoding="utf-8")
    file.chmod(mode)
    return file


def refusal(call: Callable[..., object], *args: Any, **options: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        call(*args, **options)
    return str(caught.value)
