"""No plaintext in the store or in temporary files, and nothing of the ciphertext in answers."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import fsspec.asyn
import pytest

from tests.filesystem.conftest import Store

CANARY = bytes(range(200, 224))
SIZE = 300_001  # two segments
LARGE = 9_000_001  # more than what waits in memory
MAGIC = b"\x89ENV\r\n\x1a\n"


def _plain(size: int) -> bytes:
    return (CANARY * (size // len(CANARY) + 1))[:size]


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files go."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def _stored_bytes(store: Store) -> Iterator[tuple[str, bytes]]:
    store.raw.invalidate_cache()
    for path in store.raw.find(store.root):
        yield path, store.raw.cat_file(path)


def _check_no_plaintext(store: Store, temporary: Path) -> int:
    """How many files were looked at."""
    seen = 0
    for path, data in _stored_bytes(store):
        seen += 1
        assert CANARY not in data, path
    for found in temporary.rglob("*"):
        if found.is_file():
            seen += 1
            assert CANARY not in found.read_bytes(), found
    return seen


def test_the_check_finds_plaintext(store: Store, temporary: Path) -> None:
    store.raw.pipe_file(store.path("a"), b"xyz" + CANARY)
    with pytest.raises(AssertionError):
        _check_no_plaintext(store, temporary)


def _written_by_open(store: Store, path: str, data: bytes, folder: Path) -> None:
    with store.fs.open(path, "wb") as file:
        for start in range(0, len(data), 100_000):
            file.write(data[start : start + 100_000])
            if start == len(data) // 200_000 * 100_000:
                _check_no_plaintext(store, folder)


def _written_by_put(store: Store, path: str, data: bytes, folder: Path) -> None:
    source = folder.parent / "source"
    source.write_bytes(data)
    store.fs.put(str(source), path)
    source.unlink()


def _written_by_pipe(store: Store, path: str, data: bytes, folder: Path) -> None:
    store.fs.pipe(path, data)


def _written_by_mapper(store: Store, path: str, data: bytes, folder: Path) -> None:
    store.fs.get_mapper(store.root)[path.rpartition("/")[2]] = data


def _written_in_a_transaction(store: Store, path: str, data: bytes, folder: Path) -> None:
    with store.fs.transaction:
        store.fs.pipe_file(path, data)
        _check_no_plaintext(store, folder)


def _written_by_copy(store: Store, path: str, data: bytes, folder: Path) -> None:
    store.fs.pipe_file(path + ".first", data)
    store.fs.mv(path + ".first", path)


def _copied_to_another_key(store: Store, path: str, data: bytes, folder: Path) -> None:
    rules = [{"match": "**/a", "keys": "local:acme"}, {"match": "**", "keys": "local:beta"}]
    fs = store.filesystem(rules=rules)
    fs.pipe_file(path + ".first", data)
    fs.cp_file(path + ".first", store.path("b/a"))
    assert fs.cat_file(store.path("b/a")) == data
    fs.mv(path + ".first", path)


def _written_as_text(store: Store, path: str, data: bytes, folder: Path) -> None:
    store.fs.write_text(path, data.decode("latin-1"), encoding="latin-1", newline="")


WAYS = [
    _written_by_open, _written_by_put, _written_by_pipe, _written_by_mapper,
    _written_in_a_transaction, _written_by_copy, _copied_to_another_key, _written_as_text,
]  # fmt: skip


@pytest.mark.parametrize(
    ("write", "size"),
    [
        *((way, SIZE) for way in WAYS),
        *((way, LARGE) for way in (_written_by_open, _written_by_put, _copied_to_another_key)),
    ],
    ids=lambda value: value.__name__.strip("_") if callable(value) else str(value),
)
def test_no_plaintext_gets_to_the_store_or_into_temporary_files(
    store: Store, temporary: Path, write: Callable[..., None], size: int
) -> None:
    path = store.path("a.bin")
    write(store, path, _plain(size), temporary)
    assert _check_no_plaintext(store, temporary) >= 1
    fs = (
        store.fs
        if write is not _copied_to_another_key
        else store.filesystem(rules=[{"match": "**", "keys": "local:beta"}])
    )
    assert fs.cat_file(path) == _plain(size)
    fs.get(path, str(temporary.parent / "copy"))
    assert (temporary.parent / "copy").read_bytes() == _plain(size)
    with fs.open(path) as file:
        assert file.read() == _plain(size)
    assert not [found for found in temporary.rglob("*") if found.is_file()], "left behind"


# --- The other direction ---


def _flat(answer: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """All that an answer has, with the name it has there."""
    if isinstance(answer, Mapping):
        for name, value in answer.items():
            yield "a key", name
            yield from _flat(value, str(name))
    elif isinstance(answer, (list, tuple, set)):
        for item in answer:
            yield from _flat(item, key)
    else:
        yield key, answer


class _Ciphertext:
    """What of a stored file no answer may have."""

    def __init__(self, store: Store, path: str) -> None:
        self.data = bytes(store.raw.cat_file(path))
        info = store.raw.info(path)
        self.words = [
            str(info[name]).strip('"') for name in ("ETag", "etag", "content_md5") if info.get(name)
        ]
        self.pieces = [MAGIC, *(self.data[i : i + 12] for i in range(4096, len(self.data), 5001))]

    def check(self, answer: Any) -> None:
        for key, value in _flat(answer):
            if isinstance(value, (bytes, bytearray, memoryview)):
                assert not any(piece in bytes(value) for piece in self.pieces)
            elif isinstance(value, int) and not isinstance(value, bool) and key != "stored_size":
                assert value != len(self.data), key
            elif isinstance(value, str):
                assert not any(word in value for word in self.words), key
                assert str(len(self.data)) not in value, key


def _reads(store: Store, path: str, folder: Path) -> Iterator[tuple[str, Any]]:
    fs, root = store.fs, store.root
    local = str(folder / "got")
    yield "info", fs.info(path)
    yield "stat", fs.stat(path)
    yield "ls", fs.ls(root)
    yield "ls without detail", fs.ls(root, detail=False)
    yield "ls of the file", fs.ls(path)
    yield "listdir", fs.listdir(root)
    yield "find", fs.find(root, detail=True)
    yield "find with folders", fs.find(root, detail=True, withdirs=True)
    yield "glob", fs.glob(store.path("*"), detail=True)
    yield "walk", list(fs.walk(root, detail=True))
    yield "du", fs.du(root)
    yield "du of each", fs.du(root, total=False)
    yield "du with folders", fs.du(root, total=False, withdirs=True)
    yield "disk_usage", fs.disk_usage(root)
    yield "size", fs.size(path)
    yield "sizes", fs.sizes([path])
    yield "tree", fs.tree(root, display_size=True)
    yield "cat", fs.cat(path)
    yield "cat of a folder", fs.cat(root, recursive=True, on_error="omit")
    yield "cat_file", fs.cat_file(path, 5, -5)
    yield "cat_ranges", fs.cat_ranges([path] * 3, [0, 262_100, -5], [9, 262_150, None])
    yield "read_bytes", fs.read_bytes(path)
    yield "read_text", fs.read_text(path, encoding="latin-1").encode("latin-1")
    yield "head", fs.head(path, 5000)
    yield "tail", fs.tail(path, 5000)
    yield "read_block", fs.read_block(path, 0, None)
    yield "mapper", dict(fs.get_mapper(root).items())
    yield "expand_path", fs.expand_path(root, recursive=True)
    yield "ukey", fs.ukey(path)
    yield "checksum", fs.checksum(path)
    yield "created", str(fs.created(path)) if store.protocol in ("file", "memory") else ""
    yield "modified", str(fs.modified(path))
    yield "to_json", fs.to_json()
    yield "repr", repr(fs)
    fs.get(path, local)
    yield "get", Path(local).read_bytes()
    fs.get_file(path, outfile := io.BytesIO())
    yield "get_file into a file object", outfile.getvalue()
    with fs.open(path) as file:
        yield "open", [file.size, file.read(), repr(file), file.name, file.mode]
        with pytest.raises(OSError, match="ciphertext"):
            file.fileno()
    if not store.raw.async_impl:
        return
    for name, args in (
        ("_info", (path,)), ("_ls", (root,)), ("_find", (root,)), ("_du", (root,)),
        ("_cat", (path,)), ("_cat_file", (path,)), ("_cat_file", (path, 5, 9)), ("_size", (path,)),
        ("_sizes", ([path],)), ("_cat_ranges", ([path], [0], [9])), ("_glob", (store.path("*"),)),
        ("_get_file", (path, local)),
    ):  # fmt: skip
        yield name, fsspec.asyn.sync(fs.loop, getattr(fs, name), *args)


def test_no_ciphertext_and_no_stored_size_comes_back_from_any_method(
    store: Store, tmp_path: Path
) -> None:
    path = store.path("a.bin")
    store.fs.pipe_file(path, data := os.urandom(SIZE))
    stored = _Ciphertext(store, path)
    with pytest.raises(AssertionError):
        stored.check(store.raw.info(path))
    with pytest.raises(AssertionError):
        stored.check({path: store.raw.cat_file(path)})
    seen = []
    for name, answer in _reads(store, path, tmp_path):
        try:
            stored.check(answer)
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from error
        seen.append(answer)
    assert data in seen


def test_the_descriptions_have_only_what_is_true_of_the_plaintext(store: Store) -> None:
    path = store.path("a.bin")
    store.fs.pipe_file(path, b"x" * SIZE)
    allowed = {
        "name", "size", "type", "stored_size", "encrypted", "islink", "destination", "mode", "uid",
        "gid", "nlink", "ino", "created", "mtime", "ctime", "atime", "last_modified",
        "LastModified", "creation_time", "last_accessed_on", "StorageClass",
    }  # fmt: skip
    assert set(store.fs.info(path)) <= allowed
    for info in store.fs.ls(store.root):
        assert set(info) <= allowed
        assert info["size"] == SIZE
        assert info["stored_size"] == len(store.raw.cat_file(path))
