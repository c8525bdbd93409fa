"""The file system gives plaintext, writes envelope files, and its sizes are those of plaintext."""

from __future__ import annotations

import asyncio
import os
import pickle
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec import AbstractFileSystem

import envelope
from envelope.errors import GeometryMismatch, NotEncrypted, UntrustedKey
from tests.filesystem.conftest import Store

DATA = os.urandom(3_000_000)
BODY = 4096 + 74
PLAIN = 262144 - 32  # of a segment


def _fail_after_writing(file: Any) -> None:
    file.write(DATA)
    raise ZeroDivisionError


def test_what_is_written_is_an_envelope_file_that_the_core_opens(store: Store) -> None:
    store.fs.pipe_file(store.path("a.bin"), DATA)
    stored = store.raw.cat_file(store.path("a.bin"))
    assert stored[:8] == b"\x89ENV\r\n\x1a\n"
    assert envelope.decrypt(stored, keys=store.keys) == DATA


@pytest.mark.parametrize("size", [0, 1, PLAIN - 1, PLAIN, PLAIN + 1, 2 * PLAIN, 2 * PLAIN + 1])
def test_info_tells_the_size_that_an_open_file_has(store: Store, size: int) -> None:
    fs, path = store.fs, store.path("a.bin")
    fs.pipe_file(path, DATA[:size])
    assert fs.info(path)["size"] == size == fs.size(path)
    assert fs.ls(store.root)[0]["size"] == size
    with fs.open(path) as file:
        assert file.size == size
        assert file.read() == DATA[:size]


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (None, None), (0, 0), (0, 1), (PLAIN - 1, PLAIN + 1), (PLAIN, 2 * PLAIN), (100, None),
        (None, 100), (-100, None), (-300_000, -200_000), (None, -1), (2_999_999, 3_000_000),
        (3_000_000, 3_000_001), (5_000_000, 6_000_000), (2_500_000, 9_000_000), (200, 100),
    ],
)  # fmt: skip
def test_ranges_are_those_of_python_slices(
    store: Store, start: int | None, end: int | None
) -> None:
    fs, path = store.fs, store.path("a.bin")
    fs.pipe_file(path, DATA)
    for _ in range(2):  # the second time the header is known
        assert fs.cat_file(path, start, end) == DATA[start:end]
    assert fs.cat_ranges([path], [start], [end], on_error="raise") == [DATA[start:end]]


def test_many_ranges_of_several_files(store: Store) -> None:
    fs = store.fs
    paths = [store.path(f"{i}.bin") for i in range(3)]
    for i, path in enumerate(paths):
        fs.pipe_file(path, DATA[i * 1000 :])
    starts, ends = [0, 1_000_000, -5], [10, 1_300_000, None]
    assert fs.cat_ranges(paths, starts, ends) == [
        DATA[i * 1000 :][start:end] for i, (start, end) in enumerate(zip(starts, ends, strict=True))
    ]


def test_reading_front_to_end_and_anywhere(store: Store) -> None:
    fs, path = store.fs, store.path("a.bin")
    data = os.urandom(12_000_000)
    fs.pipe_file(path, data)
    with fs.open(path) as file:
        assert b"".join(iter(lambda: file.read(70_001), b"")) == data
        for position in (11_999_990, 0, PLAIN - 3, 6_000_000, 11_000_000):
            file.seek(position)
            assert file.read(300_000) == data[position : position + 300_000]
    with fs.open(path) as file:
        assert file.read() == data


def test_a_writer_publishes_at_the_end_and_only_then(store: Store) -> None:
    fs, path = store.fs, store.path("a.bin")
    with fs.open(path, "wb") as file:
        file.write(DATA)
        assert not fs.exists(path)
    assert fs.cat_file(path) == DATA
    with pytest.raises(ZeroDivisionError), fs.open(store.path("b.bin"), "wb") as file:
        _fail_after_writing(file)
    assert not fs.exists(store.path("b.bin"))


@pytest.mark.parametrize("compression", ["gzip", "bz2", "xz", "infer"])
def test_compression_ends_both_files(store: Store, compression: str) -> None:
    fs, path = store.fs, store.path("a.gz")
    with fs.open(path, "wb", compression=compression) as file:
        file.write(DATA)
    with fs.open(path, "rb", compression=compression) as file:
        assert file.read() == DATA
    with (
        pytest.raises(ZeroDivisionError),
        fs.open(store.path("b.gz"), "wb", compression=compression) as file,
    ):
        _fail_after_writing(file)
    assert not fs.exists(store.path("b.gz"))


def test_text(store: Store) -> None:
    with store.fs.open(store.path("a.txt"), "w") as file:
        file.write("Zürich\n" * 1000)
    assert store.fs.read_text(store.path("a.txt")) == "Zürich\n" * 1000


@pytest.mark.parametrize("size", [5, 9_000_000])
def test_files_go_to_the_store_and_back(store: Store, tmp_path: Path, size: int) -> None:
    fs = store.fs
    (tmp_path / "a.bin").write_bytes(data := os.urandom(size))
    fs.put(str(tmp_path / "a.bin"), store.path("a.bin"))
    fs.get(store.path("a.bin"), str(tmp_path / "b.bin"))
    assert (tmp_path / "b.bin").read_bytes() == data


def test_copy_and_move(store: Store) -> None:
    fs = store.fs
    fs.pipe_file(store.path("a.bin"), DATA)
    fs.cp(store.path("a.bin"), store.path("b.bin"))
    fs.mv(store.path("a.bin"), store.path("c.bin"))
    assert fs.cat_file(store.path("b.bin")) == fs.cat_file(store.path("c.bin")) == DATA
    assert not fs.exists(store.path("a.bin"))


def test_listings_of_folders(store: Store) -> None:
    fs = store.fs
    for name in ("x/a.bin", "x/y/b.bin", "c.bin"):
        fs.pipe_file(store.path(name), b"12345")
    names = {path.rpartition(store.root.strip("/"))[2].strip("/") for path in fs.find(store.root)}
    assert names == {"x/a.bin", "x/y/b.bin", "c.bin"}
    assert fs.du(store.root) == 15
    assert len(fs.glob(store.path("**/*.bin"))) == 3
    assert fs.isdir(store.path("x"))
    fs.rm(store.path("x"), recursive=True)
    assert not fs.exists(store.path("x/y/b.bin"))


def test_a_file_of_another_geometry_is_refused_unless_sizes_are_exact(store: Store) -> None:
    path = store.path("a.bin")
    store.filesystem(segment_length=65536).pipe_file(path, DATA)
    for read in (lambda: store.fs.open(path), lambda: store.fs.cat_file(path)):
        with pytest.raises(GeometryMismatch, match="sizes="):
            read()
    exact = store.filesystem(sizes="exact")
    assert exact.info(path)["size"] == len(DATA)
    assert exact.cat_file(path) == DATA
    assert exact.cat_file(path, 100_000, 900_000) == DATA[100_000:900_000]
    with exact.open(path) as file:
        assert file.read() == DATA


def test_a_plain_file_is_refused_or_read_as_the_policy_says(store: Store) -> None:
    path = store.path("plain.txt")
    store.raw.pipe_file(path, b"plain as day")
    with pytest.raises(NotEncrypted):
        store.fs.open(path)
    with pytest.raises(NotEncrypted):
        store.fs.cat_file(path)
    with pytest.raises(NotEncrypted):
        store.fs.cat_file(path, 0, 5)
    lenient = store.filesystem(on_plaintext="read", plaintext_until="2999-01-01")
    assert lenient.info(path)["size"] == 12
    assert lenient.cat_file(path) == b"plain as day"
    assert lenient.cat_file(path, 0, 5) == b"plain"
    with lenient.open(path) as file:
        assert file.read() == b"plain as day"
    with pytest.raises(NotEncrypted):
        store.filesystem(on_plaintext="read", plaintext_until="2020-01-01").cat_file(path)


RULES = [
    {"match": "{tenant}/**", "keys": ["local:{tenant}"], "context": {"tenant": "{tenant}"}},
]


def test_each_tenant_has_a_key_and_a_swapped_file_is_refused(store: Store) -> None:
    fs = store.filesystem(rules=RULES, root=store.root)
    fs.pipe_file(store.path("acme/a.bin"), b"acme's")
    fs.pipe_file(store.path("beta/b.bin"), b"beta's")
    assert fs.cat_file(store.path("acme/a.bin")) == b"acme's"
    store.raw.cp_file(store.path("beta/b.bin"), store.path("acme/b.bin"))
    with pytest.raises((UntrustedKey, envelope.errors.ContextMismatch)):
        fs.cat_file(store.path("acme/b.bin"))
    with pytest.raises(envelope.errors.ConfigurationError, match="no rule"):
        fs.pipe_file(store.path("c.bin"), b"nobody's")
    fs.cp_file(store.path("beta/b.bin"), store.path("acme/c.bin"))  # encrypts anew
    assert fs.cat_file(store.path("acme/c.bin")) == b"beta's"


def test_a_bound_path_is_part_of_the_file(store: Store) -> None:
    fs = store.filesystem(bind_path=True, root=store.root)
    fs.pipe_file(store.path("a.bin"), b"here")
    store.raw.cp_file(store.path("a.bin"), store.path("b.bin"))
    assert fs.cat_file(store.path("a.bin")) == b"here"
    with pytest.raises(envelope.errors.ContextMismatch):
        fs.cat_file(store.path("b.bin"))
    fs.mv(store.path("a.bin"), store.path("c.bin"))
    assert fs.cat_file(store.path("c.bin")) == b"here"


def test_unknown_options_are_refused_with_the_nearest_known_one(store: Store) -> None:
    with pytest.raises(TypeError, match="'keys'"):
        fsspec.filesystem("envelope", target_protocol="memory", kyes="local:lake")


def test_instances_pickles_and_json_go_by_what_is_configured(store: Store) -> None:
    fs = store.fs
    assert store.filesystem() is fs
    assert pickle.loads(pickle.dumps(fs)) is fs
    assert AbstractFileSystem.from_json(fs.to_json()) == fs
    assert store.filesystem(threads=2) is not fs
    fs.pipe_file(store.path("a.bin"), b"x")
    opened = pickle.loads(pickle.dumps(fsspec.open(f"{store.url}/a.bin", **store.storage_options)))
    with opened as file:
        assert file.read() == b"x"


def test_a_chain_is_one_instance_for_all_its_urls(store: Store) -> None:
    first, _ = fsspec.url_to_fs(f"{store.url}/a", **store.storage_options)
    second, path = fsspec.url_to_fs(f"{store.url}/b/c", **store.storage_options)
    assert first is second
    assert path == store.path("b/c")


def test_without_blocking_an_event_loop(store: Store, tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(data := os.urandom(9_000_000))

    async def use() -> None:
        fs = store.filesystem(asynchronous=True)
        await fs._pipe_file(store.path("a.bin"), DATA)
        assert await fs._cat_file(store.path("a.bin")) == DATA
        await fs._put_file(str(tmp_path / "a.bin"), store.path("b.bin"))
        await fs._get_file(store.path("b.bin"), str(tmp_path / "b.bin"))
        assert await fs._cat_ranges([store.path("b.bin")], [5], [900_000]) == [data[5:900_000]]
        if store.protocol == "s3":
            await fs.fs._s3.close()

    asyncio.run(use())
    assert (tmp_path / "b.bin").read_bytes() == data


def test_as_an_object_with_the_stores_options_beside_the_keys(store: Store) -> None:
    fs = envelope.filesystem(store.protocol, keys=store.keys, **store.options)
    assert fs is store.fs


def test_a_file_is_opened_while_an_event_loop_runs_as_in_a_notebook(store: Store) -> None:
    path = store.path("a.bin")

    async def cell() -> bytes:
        with store.fs.open(path, "wb") as file:
            file.write(DATA)
        with store.fs.open(path) as file:
            return bytes(file.read())

    assert asyncio.run(cell()) == DATA


def test_open_on_the_loop_that_would_do_the_reading_is_refused_and_does_not_hang(
    store: Store,
) -> None:
    if not store.raw.async_impl:
        pytest.skip("this store has no asynchronous interface")

    async def opened(mode: str) -> None:
        store.fs.open(store.path("a.bin"), mode)

    for mode in ("rb", "wb"):
        with pytest.raises(NotImplementedError, match="event loop"):
            fsspec.asyn.sync(store.fs.loop, opened, mode)


def test_many_files_move_between_tenants_at_once(store: Store) -> None:
    """Each is encrypted anew on a thread that waits for others: as many as there are threads."""
    fs = store.filesystem(rules=RULES, root=store.root)
    names = [f"acme/in/{i}.bin" for i in range(24)]
    fs.pipe({store.path(name): name.encode() * 100_000 for name in names})
    fs.cp(store.path("acme/in"), store.path("beta/out"), recursive=True)
    for name in names:
        copied = store.path(name.replace("acme/in", "beta/out"))
        assert fs.cat_file(copied) == name.encode() * 100_000


def test_the_settings_of_rules_are_those_of_when_the_file_system_was_made(
    ring: envelope.KeyRing, keystore: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a worker would look into its own environment, and later rings would be earlier ones."""
    rules = [{"match": "**", "keys": "local:acme"}]
    here = envelope.filesystem("memory", rules=rules)
    monkeypatch.setenv("ENVELOPE_KEYSTORE", str(tmp_path / "elsewhere"))
    there = envelope.filesystem("memory", rules=rules)
    assert there is not here
    here.pipe_file("/rules/a.bin", b"x")
    assert pickle.loads(pickle.dumps(here)).cat_file("/rules/a.bin") == b"x"
    with pytest.raises(envelope.errors.KeyNotFound):
        there.pipe_file("/rules/b.bin", b"x")
