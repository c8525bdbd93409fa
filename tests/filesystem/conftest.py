"""Stores to put the file system on: real ones, started here on loopback."""

from __future__ import annotations

import itertools
import os
import socket
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fsspec
import pytest

import envelope
from tests.filesystem import servers

_names = itertools.count(1)
_ended: list[Any] = []  # file systems whose loop is gone: adlfs fails when it cleans up after one

STORES = ("local", "memory", "s3", "azure")
"""Those that every test of the fixture ``store`` runs on; :func:`make` has more."""


@dataclass
class Store:
    """A fresh folder of a store, and the file system ``envelope`` on it.

    Args:
        protocol: The store's, as in ``envelope::PROTOCOL://…``.
        root: The folder, as the store writes it.
        options: What the store needs.
        keys: The key ring of the files.
    """

    protocol: str
    root: str
    options: dict[str, Any]
    keys: Any
    made: dict[str, Any] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """The folder for users of a chain."""
        return f"envelope::{self.protocol}://{self.root}"

    @property
    def storage_options(self) -> dict[str, Any]:
        """What goes with it."""
        return {"keys": self.keys, self.protocol: dict(self.options)}

    def filesystem(self, **given: Any) -> Any:
        """The file system on it; ``given`` beside or instead of the keys."""
        options = {"keys": self.keys, **given}
        if "rules" in given:
            del options["keys"]
        return fsspec.filesystem(
            "envelope", target_protocol=self.protocol, target_options=self.options, **options
        )

    @property
    def fs(self) -> Any:
        """The file system with this store's keys alone."""
        return self.filesystem()

    @property
    def raw(self) -> Any:
        """The store itself."""
        return fsspec.filesystem(self.protocol, **self.options)

    def path(self, name: str) -> str:
        """A path below the folder."""
        return f"{self.root}/{name}"


@pytest.fixture(scope="session")
def keystore(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A keystore that other processes can open too, with the key ``local:lake``."""
    from envelope import resolvers

    folder = str(tmp_path_factory.mktemp("keys") / "keystore")
    settings = resolvers.driver("local").settings({"keystore": folder})
    resolver: Any = resolvers.resolver("local", settings)
    resolver.create("local:lake", protect="permissions")
    for name in ("other", "acme", "beta"):
        resolver.create(f"local:{name}")
    return folder


@pytest.fixture
def ring(keystore: str, monkeypatch: pytest.MonkeyPatch) -> envelope.KeyRing:
    """The key ring of ``local:lake``."""
    monkeypatch.setenv("ENVELOPE_KEYSTORE", keystore)
    return envelope.KeyRing("local:lake", settings={"local": {"keystore": keystore}})


@pytest.fixture(scope="session")
def s3_server() -> Iterator[dict[str, Any]]:
    with servers.s3() as options:
        yield options


@pytest.fixture(scope="session")
def azure_server() -> Iterator[dict[str, Any]]:
    with servers.azurite() as options:
        yield options


@pytest.fixture(scope="session")
def seaweed_server() -> Iterator[dict[str, Any]]:
    with servers.seaweed() as options:
        yield options


@pytest.fixture(scope="session")
def gcs_server() -> Iterator[dict[str, Any]]:
    # Else gcsfs asks first, for a minute and by gRPC, what kind of bucket it is.
    os.environ["GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"] = "false"
    with servers.gcs() as options:
        yield options


@pytest.fixture(scope="session")
def sftp_server() -> Iterator[dict[str, Any]]:
    with servers.sftp() as options:
        yield options


@pytest.fixture(params=STORES)
def store(
    request: pytest.FixtureRequest, ring: envelope.KeyRing, tmp_path: Path
) -> Iterator[Store]:
    yield from make(request.param, request, ring, tmp_path)


def make(
    kind: str, request: pytest.FixtureRequest, ring: envelope.KeyRing, tmp_path: Path
) -> Iterator[Store]:
    """A store of one kind, of STORES, seaweed, gcs, or sftp; gone afterwards."""
    name = f"t{os.getpid()}-{next(_names)}-{uuid.uuid4().hex[:8]}"
    if kind == "local":
        made = Store("file", str(tmp_path / "lake"), {"auto_mkdir": True}, ring)
        os.mkdir(made.root)
    elif kind == "memory":
        made = Store("memory", f"/{name}", {}, ring)
    elif kind in ("s3", "seaweed"):
        made = Store("s3", name, request.getfixturevalue(f"{kind}_server"), ring)
        made.raw.call_s3("create_bucket", Bucket=made.root)
    elif kind == "azure":
        made = Store("abfs", name, request.getfixturevalue("azure_server"), ring)
        made.raw.mkdir(made.root)
    elif kind == "gcs":
        made = Store("gs", name, request.getfixturevalue("gcs_server"), ring)
        made.raw.mkdir(made.root)
    elif kind == "sftp":
        made = Store("sftp", str(tmp_path / "lake"), request.getfixturevalue("sftp_server"), ring)
        os.mkdir(made.root)
        # fsspec's SFTP waits 40 ms for each 32 KiB without it.
        connection = made.raw.client.get_transport().sock
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    else:
        raise ValueError(kind)
    yield made
    _forget_asynchronous(made.protocol)
    if kind == "memory":
        for path in made.raw.find(made.root):
            made.raw.rm_file(path)
    elif kind in ("s3", "seaweed", "gcs", "azure"):
        made.raw.invalidate_cache()
        made.raw.rm(made.root, recursive=True)


def _forget_asynchronous(protocol: str) -> None:
    """Instances for an event loop that has ended since: fsspec would hand them out again."""
    for name in ("envelope", protocol):
        cached = fsspec.get_filesystem_class(name)._cache
        for token in [token for token, fs in cached.items() if getattr(fs, "asynchronous", False)]:
            _ended.append(cached.pop(token))
