"""Instances in other processes, and who shares one: forks, spawned workers, pickles, Dask."""

from __future__ import annotations

import gc
import multiprocessing
import os
import pickle
import threading
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import fsspec
import pytest

import envelope
from envelope import errors
from tests.filesystem.conftest import Store
from tests.forking import holds_in_child

DATA = os.urandom(1_200_000)

CLASSES = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, errors.EnvelopeError)
]


@pytest.fixture(autouse=True)
def _no_instances_of_others() -> None:
    """None that tests before have left: in a forked child, fsspec drops them, and s3fs then asks
    its loop, whose thread is not in the child, to close their connections."""
    for name in ("s3", "abfs", "envelope"):
        fsspec.get_filesystem_class(name).clear_instance_cache()
    gc.collect()


def _roundtrip(fs: Any, path: str) -> bytes:
    fs.pipe_file(path, DATA)
    with fs.open(path) as file:
        return bytes(file.read())


def test_an_instance_inherited_through_a_fork_goes_on_working(store: Store) -> None:
    if store.raw.async_impl:
        pytest.skip("fsspec refuses: its event loop does not survive a fork")
    fs, path = store.fs, store.path("a.bin")
    fs.pipe_file(path, DATA)
    with fs.open(path) as file:
        assert file.read(5) == DATA[:5]

        def child() -> bool:
            read = file.read() == DATA[5:]
            whole = fs.cat_file(path) == DATA
            written = _roundtrip(fs, store.path("child.bin")) == DATA
            return read and whole and written and fs.info(path)["size"] == len(DATA)

        assert holds_in_child(child)
        assert file.read() == DATA[5:]
    assert fs.cat_file(path) == DATA


def test_a_fork_while_threads_read_does_not_hang(store: Store) -> None:
    if store.raw.async_impl:
        pytest.skip("fsspec refuses: its event loop does not survive a fork")
    fs, path = store.fs, store.path("a.bin")
    fs.pipe_file(path, DATA)
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            assert fs.cat_file(path) == DATA

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(5):
            assert holds_in_child(lambda: fs.cat_file(path) == DATA)
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_a_forked_child_of_an_asynchronous_store_is_told_to_make_another(store: Store) -> None:
    if not store.raw.async_impl:
        pytest.skip("these go on working")
    fs = store.fs
    fs.pipe_file(store.path("a.bin"), DATA)

    def child() -> bool:
        with pytest.raises(RuntimeError, match="fork"):
            fs.cat_file(store.path("a.bin"))
        return bool(store.fs.cat_file(store.path("a.bin")) == DATA)  # another one

    assert holds_in_child(child)


def _in_worker(pickled: bytes, path: str) -> tuple[bytes, int, str]:
    fs = pickle.loads(pickled)
    return fs.cat_file(path), fs.info(path)["size"], repr(fs)


def _failing(pickled: bytes, path: str) -> bytes:
    return bytes(pickle.loads(pickled).cat_file(path))


@pytest.mark.slow
def test_a_pickled_instance_works_in_spawned_processes(store: Store) -> None:
    if store.protocol == "memory":
        pytest.skip("each process has its own memory")
    path = store.path("a.bin")
    store.fs.pipe_file(path, DATA)
    changed = bytearray(store.raw.cat_file(path))
    changed[-1] ^= 1
    store.raw.pipe_file(store.path("bad.bin"), bytes(changed))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        pickled = pickle.dumps(store.fs)
        found = pool.submit(_in_worker, pickled, path).result()
        assert found == (DATA, len(DATA), repr(store.fs))
        with pytest.raises(errors.IntegrityError, match="ENV-"):
            pool.submit(_failing, pickled, store.path("bad.bin")).result()
        with pytest.raises(FileNotFoundError):
            pool.submit(_failing, pickled, store.path("none.bin")).result()


def test_pickles_have_no_secret_and_are_the_same_instance_again(store: Store) -> None:
    pickled = pickle.dumps(store.fs)
    assert pickle.loads(pickled) is store.fs
    rules = [{"match": "**", "keys": "local:acme"}]
    other = store.filesystem(rules=rules)
    assert pickle.loads(pickle.dumps(other)) is other
    opened = fsspec.open(f"{store.url}/a.bin", "wb", **store.storage_options)
    assert pickle.loads(pickle.dumps(opened)).fs is opened.fs
    mapper = store.fs.get_mapper(store.root)
    assert pickle.loads(pickle.dumps(mapper)).fs is store.fs


VARIANTS: dict[str, dict[str, Any]] = {
    "another key": {"keys": "local:other"},
    "more recipients": {"keys": None, "encrypt_to": ["local:lake", "local:other"],
                        "decrypt_with": ["local:lake"]},
    "other trusted keys": {"keys": None, "encrypt_to": ["local:lake"],
                           "decrypt_with": ["local:lake", "local:other"]},
    "a context": {"context": {"a": "b"}},
    "another context": {"context": {"a": "c"}},
    "bound paths": {"bind_path": True},
    "another root": {"bind_path": True, "root": "x"},
    "another geometry": {"segment_length": 4096},
    "another header": {"header_size": 8192},
    "exact sizes": {"sizes": "exact"},
    "lenient": {"on_plaintext": "read"},
    "lenient until": {"on_plaintext": "read", "plaintext_until": "2999-01-01"},
    "rules": {"rules": [{"match": "**", "keys": "local:lake"}]},
    "other rules": {"rules": [{"match": "**", "keys": "local:other"}]},
    "threads": {"threads": 2},
    "a timeout": {"timeout": 5},
}  # fmt: skip


def test_instances_that_differ_in_anything_are_never_shared(store: Store) -> None:
    made = {"the first": store.fs}
    for name, given in VARIANTS.items():
        made[name] = store.filesystem(**{k: v for k, v in given.items() if k != "keys" or v})
        if given.get("keys", "") is None:
            options = {key: value for key, value in given.items() if key != "keys"}
            made[name] = envelope.filesystem(store.protocol, **options, **store.options)
    assert len({id(fs) for fs in made.values()}) == len(made)
    assert len({fs._fs_token for fs in made.values()}) == len(made)
    assert len(set(map(hash, made.values()))) == len(made)
    for name, fs in made.items():
        assert pickle.loads(pickle.dumps(fs)) is fs, name


def test_rings_of_other_keystores_never_share_an_instance(
    store: Store, keystore: str, tmp_path: Any
) -> None:
    """Equal key names in two places that hold keys: other credentials, in short."""
    from envelope import resolvers

    folder = str(tmp_path / "another")
    settings = resolvers.driver("local").settings({"keystore": folder})
    made: Any = resolvers.resolver("local", settings)
    made.create("local:lake", protect="permissions")
    rings = [
        envelope.KeyRing("local:lake", settings={"local": {"keystore": where}})
        for where in (keystore, folder)
    ]
    first, second = (store.filesystem(keys=ring) for ring in rings)
    assert first is not second
    first.pipe_file(store.path("a.bin"), DATA)
    with pytest.raises(errors.EnvelopeError):
        second.cat_file(store.path("a.bin"))
    assert store.filesystem(keys=rings[0]) is first
    assert first.cat_file(store.path("a.bin")) == DATA


def test_a_ring_of_equal_configuration_is_the_same_instance(store: Store, keystore: str) -> None:
    again = envelope.KeyRing("local:lake", settings={"local": {"keystore": keystore}})
    assert again is not store.keys
    assert store.filesystem(keys=again) is store.fs
    assert store.filesystem(keys=again.to_config()) is store.fs


def test_tokens_of_dask_follow_the_configuration(store: Store) -> None:
    tokenize = pytest.importorskip("dask.base").tokenize
    assert tokenize(store.fs) == tokenize(pickle.loads(pickle.dumps(store.fs)))
    assert tokenize(store.fs) != tokenize(store.filesystem(context={"a": "b"}))
    assert tokenize(store.fs) != tokenize(store.filesystem(keys="local:other"))


# --- Errors between processes ---


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_errors_pickle_and_are_made_from_one_string(kind: type[errors.EnvelopeError]) -> None:
    error = kind("what is wrong", path="lake/a.bin", kid="local:lake/1")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert str(again) == str(error)
    assert (again.path, again.kid) == ("lake/a.bin", "local:lake/1")
    assert str(kind(str(error))) == str(error)
    assert not issubclass(kind, (OSError, KeyError))


def test_an_existing_file_is_both_errors_in_pickles_too() -> None:
    from envelope_fsspec.writing import FileExists

    again = pickle.loads(pickle.dumps(FileExists("the target exists", path="lake/a.bin")))
    assert isinstance(again, errors.AlreadyExists)
    assert isinstance(again, FileExistsError)
    assert again.path == "lake/a.bin"
    assert "ENV-EXISTS" in str(again)
    assert "lake/a.bin" in str(again)


def _denied(store: Store) -> Any:
    """A file system whose keys open nothing that the store's keys wrote."""
    return store.filesystem(keys="local:other")


def test_a_chunk_whose_key_is_denied_never_becomes_a_fill_value(store: Store) -> None:
    zarr = pytest.importorskip("zarr")
    from zarr.storage import FsspecStore

    if not store.raw.async_impl:
        pytest.skip("zarr wraps these in threads; the asynchronous ones are what it calls directly")
    good = store.filesystem(asynchronous=True, skip_instance_cache=True)
    array = zarr.create_array(
        FsspecStore(good, path=store.path("a.zarr")), shape=(40,), chunks=(10,), dtype="i4",
        fill_value=7,
    )  # fmt: skip
    array[:] = 1
    chunk = store.path("a.zarr/c/1")
    store.raw.invalidate_cache()
    _denied(store).pipe_file(chunk, b"x" * 40)
    fresh = store.filesystem(asynchronous=True, skip_instance_cache=True, threads=3)
    with pytest.raises(errors.UntrustedKey):
        zarr.open_array(FsspecStore(fresh, path=store.path("a.zarr")), mode="r")[:]


@pytest.mark.slow
def test_errors_come_through_programs_with_their_code(store: Store) -> None:
    pd, pq = pytest.importorskip("pandas"), pytest.importorskip("pyarrow.parquet")
    duckdb, joblib = pytest.importorskip("duckdb"), pytest.importorskip("joblib")
    import pyarrow

    path = store.path("a.parquet")
    with store.fs.open(path, "wb") as file:
        pq.write_table(pyarrow.table({"a": list(range(1000))}), file)
    denied = _denied(store)
    with pytest.raises(errors.UntrustedKey):
        pd.read_parquet(path, filesystem=denied)
    with pytest.raises(errors.UntrustedKey):
        pq.read_table(path, filesystem=denied)
    with duckdb.connect() as connection:
        connection.register_filesystem(denied)
        with pytest.raises(Exception, match="ENV-UNTRUSTED"):
            connection.sql(f"select * from '{denied.unstrip_protocol(path)}'").fetchall()
    with pytest.raises(errors.UntrustedKey):
        joblib.Parallel(n_jobs=2, backend="threading")(
            joblib.delayed(denied.cat_file)(path) for _ in range(2)
        )
    if store.protocol == "file":
        with pytest.raises(errors.UntrustedKey):
            joblib.Parallel(n_jobs=2)(joblib.delayed(denied.cat_file)(path) for _ in range(2))


@pytest.mark.slow
def test_errors_come_out_of_processes_of_dask_as_they_are(store: Store) -> None:
    dask = pytest.importorskip("dask")
    if store.protocol == "memory":
        pytest.skip("each process has its own memory")
    path = store.path("a.bin")
    store.fs.pipe_file(path, DATA)
    with dask.config.set(scheduler="processes", num_workers=1):
        assert dask.delayed(store.fs.cat_file)(path).compute() == DATA
        with pytest.raises(errors.UntrustedKey, match="ENV-UNTRUSTED"):
            dask.delayed(_denied(store).cat_file)(path).compute()
