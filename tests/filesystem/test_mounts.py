"""A mount of the configuration says all of it, store, keys, rules; and nothing else counts."""

from __future__ import annotations

import asyncio
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec import AbstractFileSystem

import envelope
from envelope.errors import ConfigurationError, KeyMismatch, NotEncrypted, UntrustedKey
from envelope_fsspec.filesystem import EnvelopeFileSystem
from tests.filesystem.conftest import Store

DATA = os.urandom(700_000)
Configure = Callable[[str], None]


@pytest.fixture
def configure(tmp_path: Path, keystore: str, monkeypatch: pytest.MonkeyPatch) -> Configure:
    """Writes the configuration; the working directory is an empty folder."""
    file = tmp_path / "configuration" / "envelope.toml"
    file.parent.mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("ENVELOPE_CONFIG", str(file))
    monkeypatch.setenv("ENVELOPE_KEYSTORE", keystore)

    def write(text: str) -> None:
        file.write_text(text, encoding="utf-8")

    return write


def toml(value: Any) -> str:
    """A value as TOML."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name} = {toml(item)}" for name, item in value.items()) + "}"
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value)


def section(name: str, store: Store, more: str = 'keys = ["local:lake"]') -> str:
    """``[mount.NAME]`` on a store's folder."""
    url = f"{store.protocol}://{store.root}"
    return f"[mount.{name}]\nurl = {url!r}\noptions = {toml(store.options)}\n{more}\n"


def test_a_mount_is_a_folder_of_a_store_with_its_keys(store: Store, configure: Configure) -> None:
    configure(section("lake", store))
    with fsspec.open("envelope://lake/x/a.bin", "wb") as file:
        file.write(DATA)
    assert envelope.decrypt(store.raw.cat_file(store.path("x/a.bin")), keys=store.keys) == DATA
    fs, path = fsspec.url_to_fs("envelope://lake/x/a.bin")
    assert path == "lake/x/a.bin"
    assert fs.info(path)["size"] == len(DATA)
    assert fs.find("lake") == ["lake/x/a.bin"] == fs.glob("envelope://lake/*/*.bin")
    assert fs.ls("lake/x", detail=False) == ["lake/x/a.bin"]
    assert fs.cat_file(path, 5, 400_000) == DATA[5:400_000]
    assert fs.unstrip_protocol(path) == "envelope://lake/x/a.bin"
    assert os.listdir() == []


def test_the_options_of_a_mount_are_those_of_the_file_system(
    store: Store, configure: Configure
) -> None:
    more = 'keys = "local:lake"\nsegment_length = 65536\nbind_path = true\ncontext = {team = "red"}'
    configure(section("lake", store, more))
    fs, _ = fsspec.url_to_fs("envelope://lake")
    fs.pipe_file("lake/x/a.bin", DATA)
    stored = store.raw.cat_file(store.path("x/a.bin"))
    (store.raw.pipe_file)(store.path("moved.bin"), stored)
    assert fs.policy.layout.segment_length == 65536
    assert envelope.decrypt(
        stored, keys=store.keys, context={"team": "red", "path": "x/a.bin"}
    ) == fs.cat_file("lake/x/a.bin")
    with pytest.raises(envelope.errors.ContextMismatch):
        fs.cat_file("lake/moved.bin")


def test_a_mount_may_have_the_keys_of_a_profile(store: Store, configure: Configure) -> None:
    configure(
        section("lake", store, 'profile = "red"')
        + '[profile.red]\nkeys = ["local:other"]\n[profile.blue]\nkeys = ["local:lake"]\n'
    )
    with fsspec.open("envelope://lake/a.bin", "wb") as file:
        file.write(DATA)
    other = envelope.KeyRing("local:other", settings=store.keys.to_config()["settings"])
    assert envelope.decrypt(store.raw.cat_file(store.path("a.bin")), keys=other) == DATA
    configure(section("lake", store, 'profile = "red"\nkeys = "local:lake"') + "[profile.red]\n")
    with pytest.raises(ConfigurationError, match="either keys, or rules, or a profile"):
        fsspec.open("envelope://lake/a.bin")


def test_without_keys_of_its_own_a_mount_has_those_of_the_configuration(
    store: Store, configure: Configure
) -> None:
    configure('keys = ["local:other"]\n' + section("lake", store, ""))
    fs, _ = fsspec.url_to_fs("envelope://lake")
    fs.pipe_file("lake/a.bin", DATA)
    with pytest.raises((UntrustedKey, KeyMismatch)):
        envelope.decrypt(store.raw.cat_file(store.path("a.bin")), keys=store.keys)
    configure(section("lake", store, ""))
    with pytest.raises(ConfigurationError):
        fsspec.url_to_fs("envelope://lake")


RULES = """
[[mount.tenants.rules]]
match = "{tenant}/**"
keys = ["local:{tenant}"]
context = {tenant = "{tenant}"}
"""


def test_rules_of_a_mount_are_relative_to_it(store: Store, configure: Configure) -> None:
    configure(section("tenants", store, "") + RULES)
    fs, _ = fsspec.url_to_fs("envelope://tenants")
    fs.pipe_file("tenants/acme/a.bin", DATA)
    acme = envelope.KeyRing("local:acme", settings=store.keys.to_config()["settings"])
    stored = store.raw.cat_file(store.path("acme/a.bin"))
    assert envelope.decrypt(stored, keys=acme, context={"tenant": "acme"}) == DATA
    store.raw.cp_file(store.path("acme/a.bin"), store.path("beta/a.bin")) if store.protocol == (
        "s3"
    ) else store.raw.pipe_file(store.path("beta/a.bin"), stored)
    with pytest.raises((UntrustedKey, envelope.errors.ContextMismatch)):
        fs.cat_file("tenants/beta/a.bin")
    with pytest.raises(ConfigurationError, match="no rule"):
        fs.pipe_file("tenants/a.bin", DATA)


def test_plain_files_below_a_mount_are_read_where_it_says_so_and_until_when(
    store: Store, configure: Configure
) -> None:
    store.raw.pipe_file(store.path("plain.txt"), b"plain as day")

    def read(more: str) -> Any:
        configure(section("lake", store, f'keys = "local:lake"\n{more}'))
        return fsspec.url_to_fs("envelope://lake")[0].cat_file("lake/plain.txt")

    with pytest.raises(NotEncrypted):
        read("")
    assert read('on_plaintext = "read"') == b"plain as day"
    assert read('on_plaintext = "warn"\nplaintext_until = 2999-01-31') == b"plain as day"
    with pytest.raises(NotEncrypted):
        read('on_plaintext = "read"\nplaintext_until = "2020-01-31"')
    with pytest.raises(ConfigurationError, match="plaintext_until"):
        read('on_plaintext = "read"\nplaintext_until = "soon"')


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ('kyes = "local:lake"', "'keys'"),
        ('keys = "local:lake"\nsegment_lenght = 65536', "'segment_length'"),
        ('keys = "local:lake"\nroot = "x"', "root"),
        ('keys = "local:lake"\noptions = 5', "options"),
    ],
)
def test_a_mount_with_a_wrong_option_is_refused(
    configure: Configure, wrong: str, said: str
) -> None:
    configure(f'[mount.lake]\nurl = "memory://nowhere"\n{wrong}\n')
    with pytest.raises(ConfigurationError, match=said):
        fsspec.open("envelope://lake/a.bin")


def test_a_mount_takes_no_options_beside_those_of_the_configuration(configure: Configure) -> None:
    configure('[mount.lake]\nurl = "memory://nowhere"\nkeys = "local:lake"\n')
    with pytest.raises(TypeError, match="all its options in the configuration"):
        fsspec.open("envelope://lake/a.bin", keys="local:other")
    with pytest.raises(TypeError, match="all its options in the configuration"):
        fsspec.filesystem("envelope", keys="local:other")


def test_keys_of_fsspecs_own_configuration_are_for_chains_and_not_for_mounts(
    configure: Configure, ring: envelope.KeyRing, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure('[mount.lake]\nurl = "memory://fsspec-conf"\nkeys = "local:lake"\n')
    monkeypatch.setitem(fsspec.config.conf, "envelope", {"keys": "local:other"})
    with fsspec.open("envelope://lake/a.bin", "wb") as file:
        file.write(DATA)
    stored = fsspec.filesystem("memory").cat_file("/fsspec-conf/a.bin")
    assert envelope.decrypt(stored, keys=ring) == DATA


@pytest.mark.parametrize("url", ["envelope://lak/a.bin", "envelope://elsewhere/a.bin"])
def test_an_unknown_mount_is_an_error_with_the_known_names_and_never_a_local_path(
    configure: Configure, url: str
) -> None:
    configure('[mount.lake]\nurl = "memory://nowhere"\nkeys = "local:lake"\n')
    for write in (
        lambda: fsspec.open(url, "wb").open(),
        lambda: fsspec.filesystem("envelope").open(url, "wb"),
        lambda: fsspec.filesystem("envelope").pipe_file(url, b"x"),
        lambda: fsspec.filesystem("envelope").makedirs(url),
    ):
        with pytest.raises(ConfigurationError, match="lake"):
            write()
    assert os.listdir() == []


def test_a_workers_pickle_carries_the_resolved_mount(store: Store, configure: Configure) -> None:
    if store.protocol == "memory":
        pytest.skip("another process has a memory of its own")
    configure(section("lake", store))
    fs, _ = fsspec.url_to_fs("envelope://lake")
    fs.pipe_file("lake/a.bin", DATA)
    opened = fsspec.open("envelope://lake/a.bin")
    assert pickle.loads(pickle.dumps(fs)) is fs
    assert AbstractFileSystem.from_json(fs.to_json()) == fs
    script = (
        "import pickle, sys\n"
        "fs, opened, all = pickle.load(sys.stdin.buffer)\n"
        "with opened as file: a = file.read()\n"
        "assert a == fs.cat_file('lake/a.bin') == all.cat_file('lake/a.bin')\n"
        "sys.stdout.buffer.write(a)"
    )
    bare = {n: v for n, v in os.environ.items() if not n.startswith("ENVELOPE_")}
    worker = subprocess.run(
        [sys.executable, "-c", script],
        input=pickle.dumps((fs, opened, fsspec.filesystem("envelope"))),
        env={**bare, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        check=False,
    )
    assert worker.stdout == DATA, worker.stderr.decode()


# --- All mounts in one file system ---------------------------------------------------------------


@pytest.fixture
def all_mounts(store: Store, configure: Configure, tmp_path: Path) -> Any:
    """Mounts on the store and on a local folder, with other keys; and one that is not right."""
    (tmp_path / "second").mkdir()
    configure(
        section("lake", store)
        + f'[mount.local]\nurl = "{tmp_path}/second"\nkeys = "local:other"\n'
        + '[mount.wrong]\nurl = "memory://x"\nkyes = "local:lake"\n'
    )
    return fsspec.filesystem("envelope")


def test_without_options_it_serves_all_mounts_by_the_first_part_of_a_path(
    all_mounts: Any, store: Store, tmp_path: Path
) -> None:
    fs = all_mounts
    assert isinstance(fs, EnvelopeFileSystem)
    assert fs is fsspec.filesystem("envelope")
    for path in ("lake/x/a.bin", "envelope://local/b.bin"):
        with fs.open(path, "wb") as file:
            file.write(DATA)
        with fs.open(path) as file:
            assert file.read() == DATA
        assert fs.cat_file(path, -5) == DATA[-5:]
        assert fs.size(path) == len(DATA)
        assert fs.modified(path) is not None
        assert fs.ukey(path)
    assert store.raw.cat_file(store.path("x/a.bin"))[:4] == b"\x89ENV"
    assert (tmp_path / "second" / "b.bin").read_bytes()[:4] == b"\x89ENV"
    fs.pipe({"lake/1": b"one", "local/2": b"two"})
    assert fs.cat(["lake/1", "local/2"]) == {"lake/1": b"one", "local/2": b"two"}
    assert fs.cat_ranges(["local/2", "lake/1", "local/2"], [0, 1, 1], [1, 2, 3]) == [
        b"t", b"n", b"wo",
    ]  # fmt: skip
    fs.rm(["lake/1", "local/2"])
    assert not fs.exists("lake/1")
    assert os.listdir() == []


def test_its_listing_has_the_mounts_and_all_below_them(all_mounts: Any) -> None:
    fs = all_mounts
    fs.pipe({"lake/x/a.bin": b"12345", "local/b.bin": b"12"})
    assert fs.ls("", detail=False) == ["lake", "local", "wrong"]
    assert all(info["type"] == "directory" for info in fs.ls("envelope://"))
    assert fs.isdir("")
    assert fs.info("lake")["type"] == "directory"
    assert fs.glob("local/*.bin") == ["local/b.bin"]
    assert fs.du("lake") + fs.du("local") == 7
    with pytest.raises(ConfigurationError, match=r"kyes"):  # never a listing that lacks some
        fs.find("")


def test_a_walk_over_all_mounts(store: Store, configure: Configure, tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    configure(
        section("lake", store) + f'[mount.local]\nurl = "{tmp_path}/second"\nkeys = "local:other"\n'
    )
    fs = fsspec.filesystem("envelope")
    fs.pipe({"lake/x/a.bin": b"12345", "local/b.bin": b"12"})
    assert fs.find("") == ["lake/x/a.bin", "local/b.bin"]
    assert fs.find("", maxdepth=2) == ["local/b.bin"]
    assert fs.find("", maxdepth=1) == []
    assert fs.find("", maxdepth=1, withdirs=True) == ["lake", "local"]
    assert fs.glob("**/*.bin") == ["lake/x/a.bin", "local/b.bin"]
    assert {folder for folder, _, _ in fs.walk("")} == {"", "lake", "lake/x", "local"}
    fs.get("", str(tmp_path / "copy"), recursive=True)
    assert (tmp_path / "copy" / "lake" / "x" / "a.bin").read_bytes() == b"12345"


def test_from_one_mount_to_another_a_file_is_encrypted_anew(
    all_mounts: Any, store: Store, tmp_path: Path
) -> None:
    fs = all_mounts
    fs.pipe_file("lake/x/a.bin", DATA)
    fs.cp("lake/x", "local/y", recursive=True)
    fs.mv("lake/x/a.bin", "local/b.bin")
    assert not fs.exists("lake/x/a.bin")
    assert fs.cat_file("local/b.bin") == fs.cat_file("local/y/a.bin") == DATA
    other = envelope.KeyRing("local:other", settings=store.keys.to_config()["settings"])
    assert envelope.decrypt((tmp_path / "second" / "b.bin").read_bytes(), keys=other) == DATA
    fs.mv("local/b.bin", "lake/c.bin")
    assert envelope.decrypt(store.raw.cat_file(store.path("c.bin")), keys=store.keys) == DATA


def test_a_mount_that_is_not_right_leaves_the_others_alone(all_mounts: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"mount\.wrong.*kyes"):
        all_mounts.pipe_file("wrong/a.bin", b"x")
    for path in ("", "envelope://"):
        with pytest.raises(IsADirectoryError):
            all_mounts.open(path, "wb")


def test_it_pickles_and_turns_into_json_with_its_mounts(
    all_mounts: Any, configure: Configure
) -> None:
    all_mounts.pipe_file("lake/a.bin", DATA)
    again = pickle.dumps(all_mounts), all_mounts.to_json()
    configure("")
    for fs in (pickle.loads(again[0]), AbstractFileSystem.from_json(again[1])):
        assert fs == all_mounts
        assert fs.cat_file("lake/a.bin") == DATA
    with pytest.raises(ConfigurationError, match="no mounts"):
        fsspec.filesystem("envelope")


def test_another_configuration_is_another_file_system(store: Store, configure: Configure) -> None:
    configure(section("lake", store))
    first = fsspec.filesystem("envelope")
    configure(section("lake", store, 'keys = "local:other"'))
    second = fsspec.filesystem("envelope")
    first.pipe_file("lake/a.bin", DATA)
    with pytest.raises((UntrustedKey, KeyMismatch)):
        second.cat_file("lake/a.bin")


def test_stores_with_and_without_asynchronous_interface_go_together(
    all_mounts: Any, store: Store
) -> None:
    assert all_mounts.async_impl == store.raw.async_impl

    async def use() -> None:
        fs = fsspec.filesystem("envelope", asynchronous=True)
        await asyncio.gather(*(fs._pipe_file(f"{m}/a.bin", DATA) for m in ("lake", "local")))
        await fs._cp_file("lake/a.bin", "local/b.bin")
        await fs._cp_file("local/b.bin", "lake/c.bin")
        paths = ["lake/a.bin", "local/a.bin", "local/b.bin", "lake/c.bin"]
        assert await fs._cat_ranges(paths, [0] * 4, [300_000] * 4) == [DATA[:300_000]] * 4
        assert sorted(await fs._find("local")) == ["local/a.bin", "local/b.bin"]
        if store.protocol == "s3":
            await fs.serving("lake").fs._s3.close()

    asyncio.run(use())
    if store.protocol == "abfs":  # its clients keep the loop, and the next test has another one
        type(store.raw).clear_instance_cache()
        EnvelopeFileSystem.clear_instance_cache()


def test_a_forked_child_goes_on_with_mounts_on_local_folders(
    configure: Configure, tmp_path: Path
) -> None:
    (tmp_path / "lake").mkdir()
    configure(f'[mount.lake]\nurl = "{tmp_path}/lake"\nkeys = "local:lake"\n')
    fs = fsspec.filesystem("envelope")
    fs.pipe_file("lake/a.bin", DATA)
    if not (child := os.fork()):
        os._exit(not (fs.cat_file("lake/a.bin") == DATA and fs.glob("*/*") == ["lake/a.bin"]))
    assert os.waitpid(child, 0)[1] == 0
