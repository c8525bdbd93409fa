"""Every public method of fsspec was decided on: ours, made of ours, or refused with a reason.

A method that nobody looked at could pass ciphertext, plaintext or a wrong size
through. So a release of fsspec that adds one fails here until it is in a table.
"""

from __future__ import annotations

import asyncio
import inspect
from types import CodeType
from typing import Any

import pytest
from fsspec.asyn import AsyncFileSystem
from fsspec.mapping import FSMap
from fsspec.spec import AbstractFileSystem

from envelope.errors import NotEncrypted
from envelope_fsspec.filesystem import EnvelopeFileSystem
from tests.filesystem.conftest import Store

OURS = {
    "_cat_file", "_cat_ranges", "_cp_file", "_du", "_find", "_get_file", "_get_kwargs_from_urls",
    "_info", "_ls", "_makedirs", "_mkdir", "_open", "_pipe_file", "_put_file", "_rm", "_rm_file",
    "_strip_tokenize_options", "async_impl", "cachable", "cat_file", "cat_ranges", "checksum",
    "cp_file", "created", "du", "exists", "find", "fsid", "get_file", "info", "invalidate_cache",
    "ls", "makedirs", "mkdir", "modified", "mv", "open", "pipe_file", "protocol", "put_file", "rm",
    "rm_file", "rmdir", "sign", "to_dict", "touch", "transaction_type", "ukey",
}  # fmt: skip
"""Defined in our class."""

ON_INSTANCES = {"_parent", "_strip_protocol", "root_marker", "sep"}
"""Set on each instance, as its store has them; the class's own are for chained URLs."""

COMPOSED: dict[str, tuple[str, ...]] = {
    "_cat": ("_expand_path", "_cat_file"),
    "_copy": ("_expand_path", "_isdir", "_cp_file"),
    "_exists": ("_info",),
    "_expand_path": ("_glob", "_find", "_exists"),
    "_get": ("_expand_path", "_isdir", "_get_file"),
    "_glob": ("_find", "_info", "_exists"),
    "_isdir": ("_info",),
    "_isfile": ("_info",),
    "_mv_file": ("_cp_file", "_rm_file"),
    "_pipe": ("_pipe_file",),
    "_put": ("_put_file", "_makedirs", "_isdir"),
    "_size": ("_info",),
    "_sizes": ("_size",),
    "_walk": ("_ls",),
    "cat": ("expand_path", "cat_file"),
    "copy": ("expand_path", "isdir", "cp_file"),
    "cp": ("copy",),
    "delete": ("rm",),
    "disk_usage": ("du",),
    "download": ("get",),
    "expand_path": ("glob", "find", "exists"),
    "from_dict": (),
    "from_json": (),
    "get": ("expand_path", "isdir", "get_file"),
    "get_mapper": (),
    "glob": ("find", "info", "exists"),
    "head": ("open",),
    "isdir": ("info",),
    "isfile": ("info",),
    "lexists": ("exists",),
    "listdir": ("ls",),
    "makedir": ("mkdir",),
    "mkdirs": ("makedirs",),
    "move": ("mv",),
    "pipe": ("pipe_file",),
    "put": ("put_file", "isdir"),
    "read_block": ("open",),
    "read_bytes": ("cat_file",),
    "read_text": ("open",),
    "rename": ("mv",),
    "size": ("info",),
    "sizes": ("size",),
    "stat": ("info",),
    "tail": ("open",),
    "to_json": (),
    "tree": ("ls",),
    "unstrip_protocol": (),
    "upload": ("put",),
    "walk": ("ls",),
    "write_bytes": ("pipe_file",),
    "write_text": ("open",),
}
"""fsspec's, each made of those methods, so that it is right when they are."""

REFUSED = {
    "open_async": "an asynchronous file object is offered by no store but HTTP",
    "sign": "the URL would give ciphertext to whoever follows it",
}
"""Raise NotImplementedError."""

NO_FILES = {
    "_cache": "the instances", "_cached": "whether one is made",
    "_extra_tokenize_attributes": "none: the token has the resolved options",
    "_fs_token": "of the resolved options", "_get_pyarrow_filesystem": "itself",
    "_instantiation_lock": "of the instances", "_isfilestore": "fsspec.generic asks nothing more",
    "_latest": "instance", "_ls_from_cache": "of dircache, which stays empty",
    "_pid": "of the instances", "_process_limits": "only file systems over HTTP call it",
    "blocksize": "a hint", "clear_instance_cache": "the instances", "current": "instance",
    "disable_throttling": "a hint", "end_transaction": "commits writers, which are ours",
    "loop": "of asynchronous stores", "mirror_sync_methods": "a flag",
    "start_transaction": "writers are ours", "transaction": "writers are ours",
}  # fmt: skip
"""Touch no file's bytes, names or sizes."""


PER_CLASS = {"_cache", "_instantiation_lock", "_latest", "_pid"}
"""Which fsspec sets on each class."""


def _names(cls: type) -> set[str]:
    return {name for name in dir(cls) if not name.startswith("__")}


def _called(code: CodeType) -> set[str]:
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= _called(constant)
    return names


def test_every_method_of_fsspec_was_decided_on_once() -> None:
    tables = [OURS, ON_INSTANCES, set(COMPOSED), set(REFUSED) - OURS, set(NO_FILES)]
    decided = set().union(*tables)
    found = _names(AbstractFileSystem) | _names(AsyncFileSystem)
    assert found - decided == set(), "decide on these"
    assert sum(map(len, tables)) == len(decided), "a method stands in two tables"
    assert decided - found == set(), "fsspec has these no longer"


def test_what_is_ours_is_defined_in_our_class_and_what_is_composed_is_not() -> None:
    defined = set(vars(EnvelopeFileSystem))
    assert OURS - defined == set()
    assert (set(COMPOSED) | set(NO_FILES)) & defined - PER_CLASS == set()


def test_what_the_instance_sets_is_the_stores(store: Store) -> None:
    assert vars(store.fs).keys() >= ON_INSTANCES
    assert store.fs._parent(store.path("a/b")) == store.raw._parent(store.path("a/b"))
    assert store.fs._strip_protocol(f"{store.url}/a") == store.path("a")


@pytest.mark.parametrize("name", sorted(name for name, made_of in COMPOSED.items() if made_of))
def test_a_composed_method_still_calls_what_it_is_made_of(name: str) -> None:
    function = inspect.unwrap(inspect.getattr_static(EnvelopeFileSystem, name))
    called = _called(function.__code__)
    assert set(COMPOSED[name]) <= called
    beside = called & (set(REFUSED) | {"fs", "dircache", "_ls_from_cache", "_open"})
    assert beside == set()


def test_what_is_refused_raises(store: Store) -> None:
    store.fs.pipe_file(store.path("a"), b"x")
    with pytest.raises(NotImplementedError, match="ciphertext"):
        store.fs.sign(store.path("a"))
    with pytest.raises(NotImplementedError):
        asyncio.run(store.fs.open_async(store.path("a")))
    for mode in ("ab", "r+b", "w+b", "a", "r+"):
        with pytest.raises((NotImplementedError, ValueError)):
            store.fs.open(store.path("a"), mode)
    with pytest.raises(NotImplementedError):
        store.fs.touch(store.path("a"), truncate=False)
    with pytest.raises(NotImplementedError):
        store.fs.cat_ranges([store.path("a")], [0], [1], max_gap=5)


def test_methods_that_only_stores_have_are_not_passed_through(store: Store) -> None:
    public = {name for name in dir(store.raw) if not name.startswith("_")}
    ours = {name for name in dir(store.fs) if not name.startswith("_")}
    known = _names(AsyncFileSystem) | {"asynchronous", "batch_size", "dircache", "storage_args"}
    passed = public & ours - known - {"storage_options"}
    assert passed == set(), "decide on these"


def test_the_listing_cache_of_our_own_stays_empty(store: Store) -> None:
    store.fs.pipe_file(store.path("a"), b"x")
    store.fs.ls(store.root)
    store.fs.find(store.root)
    assert not store.fs.dircache


def test_every_method_answers_for_plaintext(store: Store, tmp_path: Any) -> None:
    """Each method is called, and the answer is that of plain files of the same contents."""
    fs = store.fs
    one, two = store.path("a/one.txt"), store.path("a/b/two.txt")
    text = "first\nsecond\nthird\n"
    data = text.encode()
    fs.pipe({one: data, two: data[:6]})
    assert fs.cat([one, two]) == {one: data, two: data[:6]}
    assert fs.cat(store.path("a"), recursive=True, on_error="omit") == {one: data, two: data[:6]}
    assert fs.cat_file(one) == fs.read_bytes(one) == data
    assert fs.head(one, 5) == b"first"
    assert fs.tail(one, 6) == b"third\n"
    assert fs.read_block(one, 2, 8, delimiter=b"\n") == b"second\n"
    assert fs.read_text(one) == text
    assert fs.size(one) == fs.stat(one)["size"] == fs.info(one)["size"] == len(data)
    assert fs.sizes([one, two]) == [len(data), 6]
    assert fs.du(store.root) == fs.disk_usage(store.root) == len(data) + 6
    assert fs.du(store.root, total=False) == {one: len(data), two: 6}
    assert fs.find(store.root) == fs.glob(store.path("**/*.txt")) == [two, one]
    assert fs.find(store.root, maxdepth=2) == [one]
    walked = {root: (set(dirs), set(files)) for root, dirs, files in fs.walk(store.path("a"))}
    assert walked == {
        store.path("a"): ({"b"}, {"one.txt"}),
        store.path("a/b"): (set(), {"two.txt"}),
    }
    assert set(fs.expand_path(store.path("a/*.txt"))) == {one}
    assert set(fs.listdir(store.path("a"), detail=False)) == {one, store.path("a/b")}
    tree = fs.tree(store.path("a"), display_size=True)
    assert "one.txt (19B)" in tree
    assert "two.txt (6B)" in tree
    assert fs.exists(one)
    assert fs.lexists(one)
    assert fs.isfile(one)
    assert fs.isdir(store.path("a"))
    assert not fs.exists(store.path("none"))
    fs.download(two, str(tmp_path / "two"))
    assert (tmp_path / "two").read_bytes() == data[:6]
    fs.upload(str(tmp_path / "two"), store.path("up"))
    fs.write_text(store.path("text"), text)
    fs.write_bytes(store.path("bytes"), b"bytes")
    fs.touch(store.path("empty"))
    fs.copy(one, store.path("copied"))
    fs.rename(two, store.path("moved"))
    found = fs.cat(store.root, recursive=True, on_error="omit")
    assert found == {
        one: data,
        store.path("up"): data[:6],
        store.path("text"): data,
        store.path("bytes"): b"bytes",
        store.path("empty"): b"",
        store.path("copied"): data,
        store.path("moved"): data[:6],
    }
    before = fs.ukey(one), fs.checksum(one)
    assert (fs.ukey(one), fs.checksum(one)) == before
    fs.pipe_file(one, data)
    assert fs.ukey(one) != before[0], "another message has the same plaintext"
    assert fs.modified(one).year > 2000
    fs.delete(store.path("a"), recursive=True)
    assert not fs.exists(one)


def test_errors_of_several_files_are_told_as_asked(store: Store) -> None:
    fs, good, bad, none = store.fs, store.path("good"), store.path("bad"), store.path("none")
    fs.pipe_file(good, b"good")
    store.raw.pipe_file(bad, b"plain")
    paths = [good, bad, none]
    told = fs.cat(paths, on_error="return")
    assert told[good] == b"good"
    assert type(told[bad]).__name__ == "NotEncrypted"
    assert isinstance(told[none], FileNotFoundError)
    assert fs.cat(paths, on_error="omit") == {good: b"good"}
    with pytest.raises((NotEncrypted, FileNotFoundError)):
        fs.cat(paths)
    ranges = fs.cat_ranges(paths, 0, 2)
    assert ranges[0] == b"go"
    assert [type(item).__name__ for item in ranges[1:]] == ["NotEncrypted", "FileNotFoundError"]


def test_a_mapper_tells_missing_keys_from_refused_ones(store: Store) -> None:
    mapper = store.fs.get_mapper(store.root)
    assert isinstance(mapper, FSMap)
    mapper["a/b"] = b"value"
    mapper.setitems({"c": b"1", "d": b"2"})
    assert sorted(mapper) == ["a/b", "c", "d"]
    assert mapper["a/b"] == b"value"
    assert mapper.getitems(["c", "d"]) == {"c": b"1", "d": b"2"}
    store.raw.pipe_file(store.path("plain"), b"plain")
    with pytest.raises(KeyError):
        mapper["none"]
    with pytest.raises(NotEncrypted):
        mapper["plain"]
    told = mapper.getitems(["none", "plain"], on_error="return")
    assert isinstance(told["none"], KeyError)
    assert type(told["plain"]).__name__ == "NotEncrypted"
    del mapper["c"]
    assert "c" not in mapper


def test_a_file_moved_to_itself_stays(store: Store) -> None:
    path = store.path("a/b")
    store.fs.pipe_file(path, b"x")
    for first, second in ((path, path), (f"{store.url}/a/b", path)):
        store.fs.mv(first, second)
        assert store.fs.cat_file(path) == b"x"
