"""A lake for programs: a folder of a store, its URL, and afterwards a look at what lies around.

Each test writes with one program and reads with another, and compares with what
the programs do without encryption. All data hold :data:`CANARY`; afterwards
neither the store nor the working directory may, each stored file must be an
encrypted one, and no URL may have become a local folder.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import fsspec
import pytest

import envelope
from tests.filesystem.conftest import Store, keystore, make, ring, s3_server

__all__ = ["CANARY", "Lake", "keystore", "needs", "ring", "s3_server"]

CANARY = "kanarienvogel"
MAGIC = b"\x89ENV\r\n\x1a\n"


def needs(module: str) -> pytest.MarkDecorator:
    """A mark for tests of what is too heavy to install for each run."""
    return pytest.mark.skipif(
        find_spec(module) is None, reason=f"{module} is in the extra programs"
    )


@dataclass
class Lake:
    """A store's folder as programs see it.

    Args:
        store: The store, and keys for it.
        plain: A local folder for the same files without encryption.
    """

    store: Store
    plain: Path

    def url(self, name: str = "") -> str:
        """The chain URL of a file or folder."""
        return f"{self.store.url}/{name}".rstrip("/")

    def path(self, name: str = "") -> str:
        """Its path, for users of :attr:`fs`."""
        return self.store.path(name).rstrip("/")

    @property
    def options(self) -> dict[str, Any]:
        """The storage options that go with URLs; fresh, since programs change theirs."""
        return {"keys": "local:lake", self.store.protocol: dict(self.store.options)}

    @property
    def fs(self) -> Any:
        """The file system as an object."""
        return envelope.filesystem(self.store.protocol, keys="local:lake", **self.store.options)

    def stored(self) -> dict[str, bytes]:
        """All stored files."""
        raw = self.store.raw
        raw.invalidate_cache()
        return {path: raw.cat_file(path) for path in raw.find(self.store.root)}


@pytest.fixture
def lake(
    request: pytest.FixtureRequest,
    ring: envelope.KeyRing,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Lake]:
    """A lake on a local folder, or on the store that the test names; no canary afterwards."""
    for name in ("work", "plain"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "work")
    for store in make(getattr(request, "param", "local"), request, ring, tmp_path):
        lake = Lake(store, tmp_path / "plain")
        fsspec.config.conf.pop("envelope", None)
        yield lake
        check(lake, tmp_path / "work")


@pytest.fixture
def mounted(lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    """The lake, which is also ``envelope://lake/…`` by the configuration."""
    file = tmp_path / "configuration" / "envelope.toml"
    file.parent.mkdir()
    options = ", ".join(f"{name} = {toml(item)}" for name, item in lake.store.options.items())
    file.write_text(
        f'[mount.lake]\nurl = "{lake.store.protocol}://{lake.store.root}"\n'
        f'options = {{{options}}}\nkeys = "local:lake"\n'
    )
    monkeypatch.setenv("ENVELOPE_CONFIG", str(file))
    return lake


def toml(value: Any) -> str:
    """A value as TOML."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name} = {toml(item)}" for name, item in value.items()) + "}"
    return str(value).lower() if isinstance(value, bool) else repr(value)


def check(lake: Lake, work: Path) -> None:
    """Fail where plaintext lies, or where a URL became a local path."""
    stored = lake.stored()
    assert stored, "the test wrote nothing into the store"
    for path, data in stored.items():
        assert data.startswith(MAGIC), f"{path} is stored as it is"
        assert CANARY.encode() not in data, path
    for folder, folders, files in os.walk(work):
        for name in [*folders, *files]:
            assert not name.startswith("envelope:"), f"{folder}/{name}: a URL became a local path"
        for name in files:
            assert CANARY.encode() not in Path(folder, name).read_bytes(), f"{folder}/{name}"
