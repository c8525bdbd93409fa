"""Chains with caches, archives and folders over and under ``envelope::``, and what they leave."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import fsspec
import pytest

from envelope.errors import EnvelopeError
from tests.filesystem.conftest import Store


def _over(store: Store, **given: Any) -> dict[str, Any]:
    """Options of a chain that begins with something else: the keys stand under ``envelope``."""
    return {"envelope": {"keys": store.keys}, store.protocol: dict(store.options), **given}


MAGIC = b"\x89ENV\r\n\x1a\n"
DATA = b"canary-0123456789" * 40_000


def _options(store: Store, **given: Any) -> dict[str, Any]:
    return {**store.storage_options, **given}


def _kept(folder: Path) -> list[bytes]:
    """What a cache folder has, but for its own lists."""
    return [
        path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "cache"
    ]


CACHES = ("simplecache", "filecache")  # blockcache takes only files of fsspec's own class


@pytest.mark.parametrize("cache", CACHES)
def test_a_cache_over_it_keeps_plaintext_and_reads_right(
    store: Store, tmp_path: Path, cache: str
) -> None:
    """As the page says: whoever wants no plaintext on the disk puts the cache below."""
    store.fs.pipe_file(store.path("a.bin"), DATA)
    options = _over(store, **{cache: {"cache_storage": str(tmp_path / "kept")}})
    url = f"{cache}::{store.url}/a.bin"
    for _ in range(2):
        with fsspec.open(url, "rb", **options) as file:
            assert file.read() == DATA
    kept = _kept(tmp_path / "kept")
    assert any(b"canary" in found for found in kept)
    assert not any(MAGIC in found for found in kept)


@pytest.mark.parametrize("cache", CACHES)
def test_a_cache_below_keeps_ciphertext_only(store: Store, tmp_path: Path, cache: str) -> None:
    store.fs.pipe_file(store.path("a.bin"), DATA)
    options = _options(store, **{cache: {"cache_storage": str(tmp_path / "kept")}})
    url = f"envelope::{cache}::{store.protocol}://{store.path('a.bin')}"
    for _ in range(2):
        with fsspec.open(url, "rb", **options) as file:
            assert file.read() == DATA
        fs, path = fsspec.url_to_fs(url, **options)
        assert fs.cat_file(path) == DATA
        assert fs.cat_file(path, 300_000, 300_009) == DATA[300_000:300_009]
        assert fs.info(path)["size"] == len(DATA)
    kept = _kept(tmp_path / "kept")
    assert kept
    for found in kept:
        assert found.startswith(MAGIC)
        assert b"canary" not in found


def test_writing_over_a_cache_below_gives_ciphertext_to_the_store(
    store: Store, tmp_path: Path
) -> None:
    options = _options(store, simplecache={"cache_storage": str(tmp_path / "kept")})
    url = f"envelope::simplecache::{store.protocol}://{store.path('a.bin')}"
    fs, path = fsspec.url_to_fs(url, **options)
    with fs.open(path, "wb") as file:
        file.write(DATA)
    fs.pipe_file(path + "2", DATA)
    store.raw.invalidate_cache()
    for name in ("a.bin", "a.bin2"):
        stored = store.raw.cat_file(store.path(name))
        assert stored.startswith(MAGIC)
        assert b"canary" not in stored
        assert store.fs.cat_file(store.path(name)) == DATA
    assert not any(b"canary" in found for found in _kept(tmp_path))


def test_a_cache_of_whole_files_writes_through_it(store: Store, tmp_path: Path) -> None:
    options = _over(store, simplecache={"cache_storage": str(tmp_path / "kept")})
    with fsspec.open(f"simplecache::{store.url}/a.bin", "wb", **options) as file:
        file.write(DATA)
    assert store.raw.cat_file(store.path("a.bin")).startswith(MAGIC)
    assert store.fs.cat_file(store.path("a.bin")) == DATA


def test_members_of_encrypted_archives(store: Store) -> None:
    zipped, tarred = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("in/a.bin", DATA)
    with tarfile.open(fileobj=tarred, mode="w") as tar:
        member = tarfile.TarInfo("in/a.bin")
        member.size = len(DATA)
        tar.addfile(member, io.BytesIO(DATA))
    store.fs.pipe_file(store.path("a.zip"), zipped.getvalue())
    store.fs.pipe_file(store.path("a.tar"), tarred.getvalue())
    for kind in ("zip", "tar"):
        url = f"{kind}://in/a.bin::{store.url}/a.{kind}"
        with fsspec.open(url, "rb", **_over(store)) as file:
            assert file.read() == DATA


def test_encrypted_members_of_a_plain_archive(store: Store, tmp_path: Path) -> None:
    store.fs.pipe_file(store.path("a.bin"), DATA)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("in/a.bin", store.raw.cat_file(store.path("a.bin")))
    url = f"envelope::zip://in/a.bin::file://{tmp_path}/a.zip"
    with fsspec.open(url, "rb", keys=store.keys) as file:
        assert file.read() == DATA


def test_a_folder_over_it(store: Store) -> None:
    fs = fsspec.filesystem("dir", path=store.root, fs=store.fs)
    fs.pipe_file("x/a.bin", DATA)
    assert fs.cat_file("x/a.bin") == DATA
    assert fs.info("x/a.bin")["size"] == len(DATA)
    assert fs.find("") == ["x/a.bin"]
    with fs.open("x/b.bin", "wb") as file:
        file.write(DATA)
    assert store.raw.cat_file(store.path("x/b.bin")).startswith(MAGIC)


def test_a_folder_below(store: Store) -> None:
    below = fsspec.filesystem("dir", path=store.root, fs=store.raw)
    fs = fsspec.filesystem("envelope", fs=below, keys=store.keys)
    fs.pipe_file("x/a.bin", DATA)
    with fs.open("x/b.bin", "wb") as file:
        file.write(DATA)
    for name in ("x/a.bin", "x/b.bin"):
        assert store.raw.cat_file(store.path(name)).startswith(MAGIC)
        assert fs.cat_file(name) == store.fs.cat_file(store.path(name)) == DATA
        assert fs.cat_file(name, 5, 9) == DATA[5:9]
    assert fs.find("") == ["x/a.bin", "x/b.bin"]
    assert fs.info("x/a.bin")["size"] == len(DATA)
    fs.cp_file("x/a.bin", "x/c.bin")
    fs.rm_file("x/a.bin")
    assert sorted(fs.ls("x", detail=False)) == ["x/b.bin", "x/c.bin"]


def test_a_changed_file_is_refused_through_each_chain(store: Store, tmp_path: Path) -> None:
    store.fs.pipe_file(store.path("a.bin"), DATA)
    stored = bytearray(store.raw.cat_file(store.path("a.bin")))
    stored[300_000] ^= 1
    store.raw.pipe_file(store.path("a.bin"), bytes(stored))
    for i, url in enumerate(
        (
            f"{store.url}/a.bin",
            f"simplecache::{store.url}/a.bin",
            f"filecache::{store.url}/a.bin",
            f"envelope::simplecache::{store.protocol}://{store.path('a.bin')}",
        )
    ):
        kept = {"cache_storage": str(tmp_path / f"kept-{i}")}
        options = _options(
            store, **{name: kept for name in ("simplecache", "filecache") if name in url}
        )
        with pytest.raises(EnvelopeError), fsspec.open(url, "rb", **options) as file:
            file.read()
        assert not any(b"canary" in found for found in _kept(tmp_path / f"kept-{i}"))


def test_two_layers_of_encryption_are_refused_or_right(store: Store) -> None:
    """One options mapping a protocol: fsspec cannot tell two ``envelope`` apart in one URL."""
    inner = store.filesystem()
    outer = fsspec.filesystem("envelope", fs=inner, keys="local:other")
    outer.pipe_file(store.path("a.bin"), DATA)
    assert outer.cat_file(store.path("a.bin")) == DATA
    assert outer.info(store.path("a.bin"))["size"] == len(DATA)
    assert inner.cat_file(store.path("a.bin")).startswith(MAGIC)


def test_a_url_that_no_file_system_takes_writes_no_plaintext(store: Store, tmp_path: Path) -> None:
    """A misspelt store must not become a local path."""
    before = set(os.listdir("."))
    with (
        pytest.raises(ValueError, match="Protocol not known"),
        fsspec.open("envelope::nowhere://a/b.bin", "wb", keys=store.keys) as file,
    ):
        file.write(DATA)
    assert set(os.listdir(".")) == before
