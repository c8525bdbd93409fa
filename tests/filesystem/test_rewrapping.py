"""Objects are rewrapped in place: little is sent, readers read on, nobody's bytes are lost."""

from __future__ import annotations

import io
import itertools
import json
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import pytest

import envelope
from envelope import resolvers
from envelope.errors import FileChanged, KeyMismatch, Tampered, UntrustedKey
from envelope_fsspec import blobs, rewrapping, s3objects, uploads
from tests.filesystem import faults
from tests.filesystem.conftest import Store, make

pytestmark = pytest.mark.slow

LARGE = os.urandom(1_000_000) * 30
SMALL = LARGE[:100_000]
KINDS = ("memory", "s3", "seaweed", "azure", "sftp")
_numbers = itertools.count(10_000)


class Keys:
    """A keystore of one test, and rings on it without each other's caches."""

    def __init__(self, folder: Path) -> None:
        self.settings = {"local": {"keystore": str(folder)}}
        settings = resolvers.driver("local").settings({"keystore": str(folder)})
        self.resolver: Any = resolvers.resolver("local", settings)
        self.resolver.create("local:lake", protect="permissions")
        self.resolver.create("local:new")

    def ring(self, *keys: str, **given: Any) -> envelope.KeyRing:
        if not keys and not given:
            keys = ("local:lake",)
        limits = {"kek_age": next(_numbers)}
        return envelope.KeyRing(*keys, **given, settings=self.settings, limits=limits)

    def rotate(self) -> None:
        self.resolver.rotate("local:lake")


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path / "keystore")


def _made(
    kind: str, request: pytest.FixtureRequest, ring: envelope.KeyRing, tmp_path: Path, keys: Keys
) -> Iterator[Store]:
    for store in make(kind, request, ring, tmp_path):
        yield replace(store, keys=keys.ring())


@pytest.fixture(params=KINDS)
def store(
    request: pytest.FixtureRequest, ring: envelope.KeyRing, tmp_path: Path, keys: Keys
) -> Iterator[Store]:
    yield from _made(request.param, request, ring, tmp_path, keys)


@pytest.fixture(params=["s3", "azure"])
def conditional(
    request: pytest.FixtureRequest, ring: envelope.KeyRing, tmp_path: Path, keys: Keys
) -> Iterator[Store]:
    yield from _made(request.param, request, ring, tmp_path, keys)


def written(store: Store, data: bytes, name: str = "a.bin", **given: Any) -> str:
    path = store.path(name)
    with store.filesystem(**given).open(path, "wb") as file:
        file.write(data)
    return path


def url(store: Store, path: str) -> str:
    return f"{store.protocol}://{path}"


def stored(store: Store, path: str) -> bytes:
    store.raw.invalidate_cache()
    return store.raw.cat_file(path)


def kids(store: Store, path: str) -> list[str]:
    return [kid for kid, _ in envelope.inspect(_opened(stored(store, path))).recipients]


def _opened(data: bytes) -> Any:
    return io.BytesIO(data)


@pytest.mark.parametrize("data", [b"", SMALL, LARGE], ids=["empty", "small", "large"])
def test_an_object_is_rewrapped_in_place_and_its_body_stays(
    store: Store, keys: Keys, data: bytes
) -> None:
    path = written(store, data)
    before = stored(store, path)
    (old,) = kids(store, path)
    keys.rotate()
    result = envelope.rewrap(url(store, path), keys=keys.ring(), storage_options=store.options)
    after = stored(store, path)
    assert result.changed
    assert result.proven
    assert result.source == result.target == url(store, path)
    assert kids(store, path) == list(result.refreshed) != [old]
    assert after[4096:] == before[4096:]
    assert envelope.decrypt(after, keys=keys.ring()) == data
    again = envelope.rewrap(url(store, path), keys=keys.ring(), storage_options=store.options)
    assert not again.changed
    assert stored(store, path) == after
    names = {Path(name).name for name in store.raw.find(store.root)}
    assert names == {"a.bin"}
    if store.protocol == "s3":
        found = store.raw.call_s3("list_multipart_uploads", Bucket=store.root)
        assert not found.get("Uploads")


def test_recipients_are_replaced_too(store: Store, keys: Keys) -> None:
    path = written(store, LARGE)
    both = keys.ring(encrypt_to=["local:new"], decrypt_with=["local:lake", "local:new"])
    result = envelope.rewrap(
        url(store, path), keys=both, recipients="replace", storage_options=store.options
    )
    assert [kid.partition("/")[0] for kid in kids(store, path)] == ["local:new"]
    assert len(result.added) == len(result.dropped) == 1
    assert envelope.decrypt(stored(store, path), keys=keys.ring("local:new")) == LARGE
    with pytest.raises(UntrustedKey):
        envelope.decrypt(stored(store, path), keys=keys.ring())


def test_a_chains_keys_and_context_count_for_its_files(store: Store, keys: Keys) -> None:
    fs = fsspec.filesystem(
        "envelope",
        target_protocol=store.protocol,
        target_options=store.options,
        keys=store.keys,
        context={"table": "a"},
    )
    path = store.path("a.bin")
    fs.pipe_file(path, SMALL)
    keys.rotate()
    options = {"keys": keys.ring(), "context": {"table": "a"}, store.protocol: store.options}
    result = envelope.rewrap(f"envelope::{url(store, path)}", storage_options=options)
    assert result.refreshed
    other = {**options, "context": {"table": "b"}}
    with pytest.raises(envelope.errors.ContextMismatch):
        envelope.rewrap(f"envelope::{url(store, path)}", storage_options=other)
    with store.filesystem(context={"table": "a"}).open(path) as file:
        assert file.read() == SMALL


def test_what_is_not_authentic_is_left_as_it_is(store: Store, keys: Keys) -> None:
    path = written(store, SMALL)
    bad = bytearray(stored(store, path))
    bad[-1] ^= 1
    store.raw.pipe_file(path, bytes(bad))
    keys.rotate()
    with pytest.raises(Tampered):
        envelope.rewrap(url(store, path), keys=keys.ring(), storage_options=store.options)
    assert stored(store, path) == bad
    with pytest.raises((UntrustedKey, KeyMismatch)):
        envelope.rewrap(
            url(store, path), keys=keys.ring("local:new"), storage_options=store.options
        )
    assert stored(store, path) == bad


def test_what_is_not_there_is_not_found(store: Store, keys: Keys) -> None:
    with pytest.raises(FileNotFoundError):
        envelope.rewrap(
            url(store, store.path("none")), keys=keys.ring(), storage_options=store.options
        )


def test_a_rewrap_of_blocks_is_two_writes_without_a_byte_of_the_body(
    request: pytest.FixtureRequest, ring: envelope.KeyRing, tmp_path: Path, keys: Keys
) -> None:
    for store in _made("azure", request, ring, tmp_path, keys):
        path = written(store, LARGE)
        keys.rotate()
        with faults.between(store.protocol, store.options) as (proxy, options):
            envelope.rewrap(url(store, path), keys=keys.ring(), storage_options=options)
        writes = [request for request in proxy.log if request.method == "PUT"]
        assert len(writes) == 2
        assert writes[0].sent == 4096
        assert writes[1].sent < 2000  # the list of blocks
        reads = [request for request in proxy.log if request.method == "GET"]
        # The header and the last segment, both proven, and the list of blocks.
        assert len(reads) <= 4
        assert sum(request.got for request in reads) < 4096 + 74 + 262144 + 5000
        assert envelope.decrypt(stored(store, path), keys=keys.ring()) == LARGE


def test_a_rewrap_on_s3_sends_the_first_part_alone(
    request: pytest.FixtureRequest, ring: envelope.KeyRing, tmp_path: Path, keys: Keys
) -> None:
    for store in _made("s3", request, ring, tmp_path, keys):
        path = written(store, LARGE)
        keys.rotate()
        with faults.between(store.protocol, store.options) as (proxy, options):
            envelope.rewrap(url(store, path), keys=keys.ring(), storage_options=options)
        assert sum(request.sent for request in proxy.log) < 4096 + 5 * 2**20 + 5000
        assert sum(request.got for request in proxy.log) < 5 * 2**20 + 300_000
        assert envelope.decrypt(stored(store, path), keys=keys.ring()) == LARGE


def test_a_blob_that_was_put_whole_is_staged_anew_and_then_has_its_header_apart(
    request: pytest.FixtureRequest, ring: envelope.KeyRing, tmp_path: Path, keys: Keys
) -> None:
    for store in _made("azure", request, ring, tmp_path, keys):
        path = store.path("a.bin")
        store.raw.pipe_file(path, envelope_file(LARGE, store.keys, tmp_path))
        for _ in range(2):
            keys.rotate()
            with faults.between(store.protocol, store.options) as (proxy, options):
                envelope.rewrap(url(store, path), keys=keys.ring(), storage_options=options)
        assert sum(request.sent for request in proxy.log) < 10_000
        assert envelope.decrypt(stored(store, path), keys=keys.ring()) == LARGE


def envelope_file(data: bytes, ring: Any, folder: Path) -> bytes:
    (folder / "plain").write_bytes(data)
    envelope.encrypt_file(folder / "plain", folder / "e", keys=ring)
    return (folder / "e").read_bytes()


def test_what_an_object_is_said_to_be_stays(conditional: Store, keys: Keys) -> None:
    store, path = conditional, conditional.path("a.bin")
    if store.protocol == "s3":
        given: dict[str, Any] = {
            "ContentType": "application/x-orders",
            "Metadata": {"origin": "crawler"},
            "Tagging": "class=secret",
        }
    else:
        given = {
            "content_settings": {"content_type": "application/x-orders"},
            "metadata": {"origin": "crawler"},
            "tags": {"class": "secret"},
        }
    with store.fs.open(path, "wb", **given) as file:
        file.write(LARGE)
    before = described(store, path)
    assert before["type"] == "application/x-orders"
    assert before["metadata"]["origin"] == "crawler"
    assert before["tags"] == {"class": "secret"}
    keys.rotate()
    envelope.rewrap(url(store, path), keys=keys.ring(), storage_options=store.options)
    assert described(store, path) == before


def described(store: Store, path: str) -> dict[str, Any]:
    if store.protocol == "s3":
        bucket, key, _ = store.raw.split_path(path)
        head = store.raw.call_s3("head_object", Bucket=bucket, Key=key)
        tags = store.raw.call_s3("get_object_tagging", Bucket=bucket, Key=key)["TagSet"]
        return {
            "type": head["ContentType"],
            "metadata": head["Metadata"],
            "tags": {tag["Key"]: tag["Value"] for tag in tags},
        }

    async def found() -> dict[str, Any]:
        container, blob, _ = store.raw.split_path(path)
        async with store.raw.service_client.get_blob_client(container, blob) as client:
            properties = await client.get_blob_properties()
            return {
                "type": properties.content_settings.content_type,
                "metadata": dict(properties.metadata),
                "tags": await client.get_blob_tags(),
            }

    return fsspec.asyn.sync(store.raw.loop, found)


def _interfering(
    monkeypatch: pytest.MonkeyPatch, store: Store, act: Callable[[], None], times: int = 1
) -> None:
    """Do something to the object right before it would be replaced, ``times`` times."""
    kind: Any = {"s3": s3objects.S3Object, "abfs": blobs.Blob}.get(
        store.protocol, rewrapping.Copied
    )
    original = kind.replace
    left = [times]

    def interfered(self: Any, *args: Any) -> None:
        if left[0]:
            left[0] -= 1
            act()
        original(self, *args)

    monkeypatch.setattr(kind, "replace", interfered)


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
def test_what_somebody_else_wrote_meanwhile_is_rewrapped_and_not_overwritten(
    store: Store, keys: Keys, monkeypatch: pytest.MonkeyPatch, data: bytes
) -> None:
    path = written(store, data)
    other = data[::-1]
    keys.rotate()
    # By a writer that still uses the old version, as its ring knows no other.
    _interfering(monkeypatch, store, lambda: store.fs.pipe_file(path, other))
    result = envelope.rewrap(url(store, path), keys=keys.ring(), storage_options=store.options)
    assert envelope.decrypt(stored(store, path), keys=keys.ring()) == other
    assert result.refreshed
    assert kids(store, path) == list(result.refreshed)


@pytest.mark.parametrize("kind", ["seaweed", "azure"])  # moto takes no If-Match there
@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
def test_what_was_written_right_before_the_publishing_is_not_overwritten(
    request: pytest.FixtureRequest,
    ring: envelope.KeyRing,
    tmp_path: Path,
    keys: Keys,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    data: bytes,
) -> None:
    (store,) = once(_made(kind, request, ring, tmp_path, keys), request)
    path = written(store, data)
    keys.rotate()
    other = data[::-1]
    place: Any = s3objects.S3Object if kind == "seaweed" else blobs.Blob
    describe, publish = place._described, uploads.MultipartUpload.complete
    left = [envelope_file(other, store.keys, tmp_path)]

    async def interfere() -> None:
        if left:
            await store.raw._pipe_file(path, left.pop())

    async def described(self: Any) -> Any:
        if kind == "azure" or data is SMALL:  # the last before the request that publishes
            await interfere()
        return await describe(self)

    async def complete(self: Any, **condition: str) -> None:
        await interfere()
        await publish(self, **condition)

    monkeypatch.setattr(place, "_described", described)
    monkeypatch.setattr(uploads.MultipartUpload, "complete", complete)
    envelope.rewrap(url(store, path), keys=keys.ring(), storage_options=store.options)
    assert not left
    assert envelope.decrypt(stored(store, path), keys=keys.ring()) == other
    assert kids(store, path) == [keys.resolver.resolve("local:lake").kid]


def once(stores: Iterator[Store], request: pytest.FixtureRequest) -> list[Store]:
    """The store of a generator, cleaned up with the test."""
    made = next(stores)
    request.addfinalizer(lambda: next(stores, None))
    return [made]


def test_who_loses_every_race_says_so(
    store: Store, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(store, SMALL)
    keys.rotate()
    rounds = itertools.count()
    last: list[bytes] = []

    def write() -> None:
        last[:] = [SMALL + b"%d" % next(rounds)]
        store.fs.pipe_file(path, last[0])

    _interfering(monkeypatch, store, write, times=1000)
    with pytest.raises(FileChanged):
        envelope.rewrap(url(store, path), keys=keys.ring(), storage_options=store.options)
    assert envelope.decrypt(stored(store, path), keys=keys.ring()) == last[0]


def test_a_reader_that_loops_meanwhile_sees_no_error(conditional: Store, keys: Keys) -> None:
    store = conditional
    path = written(store, LARGE)
    done = threading.Event()
    failures: list[BaseException] = []
    rounds = [0, 0]

    def read_on(number: int) -> None:
        fs = store.filesystem(threads=number + 1)
        while not done.is_set():
            try:
                with fs.open(path) as file:
                    for start in (0, 29_999_000, 12_000_000):
                        file.seek(start)
                        assert file.read(1000) == LARGE[start : start + 1000]
                assert fs.cat_file(path, 9_000_000, 9_000_100) == LARGE[9_000_000:9_000_100]
            except BaseException as error:
                failures.append(error)
                return
            rounds[number] += 1

    threads = [threading.Thread(target=read_on, args=[number]) for number in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(8):
        keys.rotate()
        ring = keys.ring()
        assert envelope.rewrap(url(store, path), keys=ring, storage_options=store.options).changed
    done.set()
    for thread in threads:
        thread.join()
    assert not failures, failures[0]
    assert all(rounds)


def test_two_rewraps_at_once_end_with_a_file_that_opens(conditional: Store, keys: Keys) -> None:
    store = conditional
    path = written(store, LARGE)
    keys.rotate()
    failures: list[BaseException] = []

    def work() -> None:
        try:
            envelope.rewrap(url(store, path), keys=keys.ring(), storage_options=store.options)
        except FileChanged:
            pass  # said, and nothing was overwritten
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures[0]
    assert envelope.decrypt(stored(store, path), keys=keys.ring()) == LARGE
    assert not envelope.rewrap(
        url(store, path), keys=keys.ring(), storage_options=store.options
    ).changed


@pytest.mark.parametrize("chain", ["", "envelope::"])
def test_from_the_command_line(
    conditional: Store, keys: Keys, monkeypatch: pytest.MonkeyPatch, capfd: Any, chain: str
) -> None:
    from envelope.cli.app import run

    store = conditional
    path = written(store, SMALL)
    keys.rotate()
    monkeypatch.setenv("ENVELOPE_KEYSTORE", keys.settings["local"]["keystore"])
    options: dict[str, Any] = {store.protocol: store.options}
    arguments = ["--json", "rewrap", f"{chain}{url(store, path)}"]
    if chain:
        options["keys"] = keys.ring().to_config()
    else:
        arguments += ["--key", "local:lake"]
    assert run([*arguments, "--storage-options", json.dumps(options)]) == 0, capfd.readouterr()
    assert envelope.decrypt(stored(store, path), keys=keys.ring()) == SMALL
    (kid,) = kids(store, path)
    assert kid == keys.resolver.resolve("local:lake").kid
