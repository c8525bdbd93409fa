"""With names="encrypt" users see plain names only, and the store sees none."""

from __future__ import annotations

import asyncio
import pickle
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec import AbstractFileSystem
from fsspec.tests.abstract import AbstractCopyTests, AbstractGetTests, AbstractPutTests

import envelope
from envelope import errors, events, runtime
from envelope.events import Notice
from envelope_fsspec import naming
from envelope_fsspec.names import Names
from envelope_fsspec.naming import CONTEXT, NAME, Naming
from envelope_fsspec.steps import run
from tests.filesystem.conftest import Store
from tests.filesystem.test_abstract_suites import _Fixtures
from tests.filesystem.test_mounts import configure, section

pytestmark = pytest.mark.slow

__all__ = ["configure"]  # a fixture

FILES = {
    "canary-readme.txt": b"canary-content 1",
    "canary=zurich/2026.csv": b"canary-content 2",
    "canary=zurich/2025.csv": b"canary-content 3",
    "canary=bern/2026.csv": b"canary-content 4",
    "canary=bern/deep/er/canary-z": b"canary-content 5",
}


@dataclass
class Lake:
    """A folder of a store, below which names are encrypted."""

    store: Store
    root: str

    def filesystem(self, **given: Any) -> Any:
        options: dict[str, Any] = {"names": "encrypt", "root": self.root, **given}
        return self.store.filesystem(**options)

    @property
    def fs(self) -> Any:
        return self.filesystem()

    @property
    def raw(self) -> Any:
        self.store.raw.invalidate_cache()
        return self.store.raw

    @property
    def key(self) -> str:
        return self.path(NAME)

    def path(self, name: str) -> str:
        return f"{self.root}/{name}"

    def names(self, paths: Any) -> list[str]:
        """Paths below the root, as they came."""
        return [path.strip("/").removeprefix(self.root.strip("/")).strip("/") for path in paths]

    def stored(self) -> list[str]:
        """What the store has, but for the name key."""
        found = self.names(self.raw.find(self.root))
        return [name for name in found if name != NAME]

    def stored_of(self, name: str) -> str:
        """Where the store has a file."""
        return str(self.fs.behind(self.path(name)).path)

    def fill(self, fs: Any = None) -> Any:
        fs = fs or self.fs
        for name, data in FILES.items():
            fs.pipe_file(self.path(name), data)
        return fs


@pytest.fixture
def lake(store: Store) -> Lake:
    return Lake(store, store.path("lake"))


@pytest.fixture
def local(tmp_path: Path, ring: envelope.KeyRing) -> Lake:
    return Lake(Store("file", str(tmp_path), {"auto_mkdir": True}, ring), str(tmp_path / "lake"))


@pytest.fixture
def anew(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Makes this process remember nothing, as another one."""

    def forget() -> None:
        monkeypatch.setattr(runtime, "_current", runtime.current().for_child())

    return forget


@pytest.fixture
def notices() -> Iterator[list[str]]:
    found: list[str] = []

    def keep(event: events.Event) -> None:
        if isinstance(event, Notice) and "do not decrypt" in event.text:
            found.append(event.text)

    unsubscribe = events.subscribe(keep)
    yield found
    unsubscribe()


# --- What users see -----------------------------------------------------------------------------


def test_listings_globs_and_walks_are_those_of_plain_names(lake: Lake) -> None:
    fs = lake.fill()
    everything = sorted(FILES)
    assert lake.names(fs.find(lake.root)) == everything
    assert lake.names(fs.find(lake.root, maxdepth=1)) == ["canary-readme.txt"]
    assert lake.names(info["name"] for info in fs.ls(lake.root)) == [
        "canary-readme.txt", "canary=bern", "canary=zurich",
    ]  # fmt: skip
    assert lake.names(fs.ls(lake.path("canary=zurich"), detail=False)) == [
        "canary=zurich/2025.csv", "canary=zurich/2026.csv",
    ]  # fmt: skip
    for pattern, found in {
        "*": ["canary-readme.txt", "canary=bern", "canary=zurich"],
        "canary=z*/2026*": ["canary=zurich/2026.csv"],
        "canary=zurich/202*": ["canary=zurich/2025.csv", "canary=zurich/2026.csv"],
        "**/canary-z": ["canary=bern/deep/er/canary-z"],
        "c*-r*": ["canary-readme.txt"],
        "canary=zurich/2026.csv": ["canary=zurich/2026.csv"],
        "none/*": [],
    }.items():
        assert lake.names(fs.glob(lake.path(pattern))) == found
    walked = [(lake.names([at])[0], dirs, files) for at, dirs, files in fs.walk(lake.root)]
    assert walked[0] == ("", ["canary=bern", "canary=zurich"], ["canary-readme.txt"])
    assert ("canary=bern/deep/er", [], ["canary-z"]) in walked
    assert fs.du(lake.root) == 16 * 5
    assert lake.names(fs.expand_path(lake.path("canary=bern"), recursive=True))[-1].endswith("y-z")


def test_single_paths_are_looked_up(lake: Lake) -> None:
    fs = lake.fill()
    path = lake.path("canary=zurich/2026.csv")
    assert fs.exists(path)
    assert fs.isfile(path)
    assert fs.isdir(lake.path("canary=zurich"))
    assert not fs.exists(lake.path("canary=zurich/2027.csv"))
    assert not fs.exists(lake.path("2026.csv"))
    assert (fs.info(path)["name"], fs.info(path)["size"]) == (path, 16)
    assert fs.cat_file(path) == b"canary-content 2"
    assert fs.cat_file(path, 7, 14) == b"content"
    assert fs.cat([path, path]) == {path: b"canary-content 2"}
    assert fs.cat_ranges([path], [0], [6]) == [b"canary"]
    assert fs.ukey(path)
    assert fs.modified(path)
    with fs.open(path) as file:
        assert file.read() == b"canary-content 2"
    with pytest.raises(FileNotFoundError):
        fs.open(lake.path("canary=zurich/2027.csv"))


def test_an_empty_root_is_empty_and_reading_makes_no_name_key(lake: Lake) -> None:
    fs = lake.fs
    lake.raw.pipe_file(lake.store.path("beside"), b"")
    lake.raw.makedirs(lake.root, exist_ok=True)
    assert fs.find(lake.root) == fs.glob(lake.path("*")) == fs.find(lake.path("x")) == []
    assert not fs.exists(lake.path("x"))
    for read in (fs.info, fs.cat_file, fs.open, fs.rm_file, fs.ls, fs.ukey):
        with pytest.raises(FileNotFoundError):
            read(lake.path("x"))
    fs.invalidate_cache(lake.path("x"))
    assert not lake.raw.exists(lake.key)


def test_nothing_of_a_name_is_anywhere_in_the_store(lake: Lake) -> None:
    fs = lake.fill(lake.filesystem(bind_path=True))
    fs.makedirs(lake.path("canary-folder/below"), exist_ok=True)
    with fs.open(lake.path("canary-streamed.gz"), "wb", compression="infer") as file:
        file.write(b"canary")
    fs.cp_file(lake.path("canary-readme.txt"), lake.path("canary-copy"))
    found = lake.raw.find(lake.root, withdirs=True)
    assert len(found) > len(FILES)
    for path in found:
        assert "canary" not in path
        if not lake.raw.isdir(path):
            assert b"canary" not in lake.raw.cat_file(path)


def test_copies_moves_and_removals(lake: Lake) -> None:
    fs = lake.fill()
    fs.cp(lake.path("canary=zurich"), lake.path("new"), recursive=True)
    assert lake.names(fs.find(lake.path("new"))) == ["new/2025.csv", "new/2026.csv"]
    fs.mv(lake.path("canary=bern/deep/er/canary-z"), lake.path("moved/z"))
    assert fs.cat_file(lake.path("moved/z")) == b"canary-content 5"
    assert not fs.exists(lake.path("canary=bern/deep/er/canary-z"))
    fs.rm(lake.path("canary=bern"), recursive=True)
    fs.rm(lake.path("new/2025.csv"))
    fs.rm(lake.path("canary=z*"), recursive=True)
    assert lake.names(fs.find(lake.root)) == [
        "canary-readme.txt", "moved/z", "new/2026.csv",
    ]  # fmt: skip
    assert len(lake.stored()) == 3


def test_removing_the_root_empties_it_and_leaves_the_name_key(
    lake: Lake, anew: Callable[[], None]
) -> None:
    fs = lake.fill()
    before = lake.raw.cat_file(lake.key)
    fs.rm(lake.root, recursive=True)
    assert fs.find(lake.root) == lake.stored() == []
    fs.pipe_file(lake.path("a"), b"again")
    assert lake.raw.cat_file(lake.key) == before
    anew()
    assert fs.cat_file(lake.path("a")) == b"again"
    fs.pipe_file(lake.path(NAME), b"a name as any other")
    fs.rm(lake.path(NAME))
    assert lake.raw.cat_file(lake.key) == before


def test_files_go_there_and_back_with_their_folders(lake: Lake, tmp_path: Path) -> None:
    for name, data in FILES.items():
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(data)
    fs = lake.fs
    fs.put(f"{tmp_path}/in/", lake.path("up"), recursive=True)
    fs.get(lake.path("up"), f"{tmp_path}/out", recursive=True)
    for name, data in FILES.items():
        assert (tmp_path / "out" / name).read_bytes() == data


def test_a_name_is_one_file_however_its_accents_are_written(lake: Lake) -> None:
    fs = lake.fs
    fs.pipe_file(lake.path("cafe\u0301"), b"1")
    fs.pipe_file(lake.path("caf\u00e9"), b"2")
    assert lake.names(fs.find(lake.root)) == ["caf\u00e9"]
    assert fs.cat_file(lake.path("cafe\u0301")) == b"2"


def test_a_part_that_is_too_long_is_refused_before_the_store_is_asked(lake: Lake) -> None:
    fs = lake.fs
    fs.pipe_file(lake.path("x" * 143), b"fits")
    assert fs.cat_file(lake.path("x" * 143)) == b"fits"
    before = lake.stored()
    for write in (
        lambda path: fs.pipe_file(path, b""),
        lambda path: fs.open(path, "wb"),
        lambda path: fs.cp_file(lake.path("x" * 143), path),
        lambda path: fs.makedirs(f"{path}/y"),
    ):
        with pytest.raises(errors.LimitExceeded, match="143"):
            write(lake.path("x" * 144))
    for bad in ("a//b", "a/../b", "a/./b", "a\0"):
        with pytest.raises(errors.ConfigurationError):
            fs.pipe_file(lake.path(bad), b"")
    assert lake.stored() == before


# --- Keys, rules, places ------------------------------------------------------------------------


def test_a_bound_path_is_the_stored_one(lake: Lake) -> None:
    fs = lake.fill(lake.filesystem(bind_path=True))
    first, second = (
        fs.behind(lake.path(f"canary=zurich/{name}.csv")).path for name in ("2025", "2026")
    )
    assert fs.cat_file(lake.path("canary=zurich/2026.csv")) == b"canary-content 2"
    assert fs.behind(lake.path("canary=zurich/2026.csv")).context["path"] == lake.names([second])[0]
    data = lake.raw.cat_file(first)
    with pytest.raises(errors.ContextMismatch):
        envelope.decrypt(data, keys=lake.store.keys, context={"path": "canary=zurich/2025.csv"})
    envelope.decrypt(data, keys=lake.store.keys, context={"path": lake.names([first])[0]})
    lake.raw.pipe_file(second, data)
    fs.invalidate_cache()
    with pytest.raises(errors.ContextMismatch):
        fs.open(lake.path("canary=zurich/2026.csv")).close()
    fs.mv(lake.path("canary=bern/2026.csv"), lake.path("there"))
    assert fs.cat_file(lake.path("there")) == b"canary-content 4"


RULES = [{"match": "{tenant}/**", "keys": ["local:{tenant}"], "context": {"tenant": "{tenant}"}}]


def test_rules_match_plain_paths_and_one_ring_has_the_name_key(
    lake: Lake, keystore: str, anew: Callable[[], None]
) -> None:
    with pytest.raises(errors.ConfigurationError, match="names_keys"):
        lake.filesystem(rules=RULES)
    with pytest.raises(errors.ConfigurationError, match="names_keys"):
        lake.store.filesystem(names_keys="local:lake")
    fs = lake.filesystem(rules=RULES, names_keys="local:lake")
    fs.pipe_file(lake.path("acme/a"), b"acme's")
    fs.pipe_file(lake.path("beta/a"), b"beta's")
    settings = {"local": {"keystore": keystore}}
    acme = envelope.KeyRing("local:acme", settings=settings)
    assert envelope.decrypt(lake.raw.cat_file(fs.behind(lake.path("acme/a")).path), keys=acme)
    with pytest.raises(errors.UntrustedKey):
        envelope.decrypt(lake.raw.cat_file(lake.key), keys=acme)
    again = pickle.loads(pickle.dumps(fs))
    assert again is fs
    assert AbstractFileSystem.from_json(fs.to_json()) == fs
    anew()
    assert lake.names(fs.find(lake.root)) == ["acme/a", "beta/a"]
    other = lake.filesystem(rules=RULES, names_keys="local:other")
    assert other is not fs
    with pytest.raises(errors.UntrustedKey, match=NAME):
        other.ls(lake.root)
    with pytest.raises(errors.ConfigurationError, match="no rule"):
        fs.pipe_file(lake.path("top"), b"nobody's")


def test_a_chain_needs_a_root_and_has_nothing_outside_of_it(lake: Lake) -> None:
    with pytest.raises(errors.ConfigurationError, match="root"):
        lake.store.filesystem(names="encrypt")
    for use in (lake.fs.ls, lake.fs.exists, lambda path: lake.fs.pipe_file(path, b"")):
        with pytest.raises(errors.ConfigurationError, match="root"):
            use(lake.store.path("elsewhere"))


def test_a_chained_url_and_another_process_find_the_same(lake: Lake) -> None:
    options = {**lake.store.storage_options, "names": "encrypt", "root": lake.root}
    url = f"envelope::{lake.store.protocol}://{lake.root}/a b/c.txt"
    with fsspec.open(url, "w", **options) as file:
        file.write("text")
    opened = pickle.loads(pickle.dumps(fsspec.open(url, "r", **options)))
    with opened as file:
        assert file.read() == "text"
    assert lake.names(lake.fs.find(lake.root)) == ["a b/c.txt"]
    assert len(fsspec.open_files(url.replace("c.txt", "*.t?t"), **options)) == 1


def test_a_mount_encrypts_names_below_its_folder(
    lake: Lake, configure: Callable[[str], None]
) -> None:
    more = 'keys = ["local:lake"]\nnames = "encrypt"'
    configure(section("lake", lake.store, more) + section("plain", lake.store))
    fs, path = fsspec.url_to_fs("envelope://lake/x/a.bin")
    fs.pipe_file(path, b"12345")
    assert fs.find("lake") == ["lake/x/a.bin"] == fs.glob("lake/*/a*")
    assert fs.ls("lake", detail=False) == ["lake/x"]
    everything = fsspec.filesystem("envelope")
    assert everything.cat_file("lake/x/a.bin") == b"12345"
    assert "lake/x/a.bin" in everything.find("")
    everything.cp_file("lake/x/a.bin", "plain/sub/a.bin")
    everything.cp_file("plain/sub/a.bin", "lake/y")
    assert everything.find("lake") == ["lake/x/a.bin", "lake/y"]
    assert everything.modified("lake/y")
    assert everything.behind("lake/y").path.endswith(lake.names([fs.behind("lake/y").path])[0])


def test_where_a_path_is_kept_is_told_without_a_name_key(lake: Lake) -> None:
    assert lake.fs.applies(lake.path("x"))["url"] is None
    lake.fs.pipe_file(lake.path("x"), b"")
    told = lake.fs.applies(lake.path("x"))
    assert told["names"] == "encrypt"
    assert told["url"].endswith(lake.stored()[0])


# --- The name key -------------------------------------------------------------------------------


def test_the_name_key_is_a_file_for_this_purpose_alone(
    lake: Lake, anew: Callable[[], None]
) -> None:
    lake.fill()
    key = envelope.decrypt(lake.raw.cat_file(lake.key), keys=lake.store.keys, context=CONTEXT)
    assert len(key) == 64
    plain = lake.store.filesystem()
    anew()
    plain.pipe_file(lake.key, key)  # without the purpose
    with pytest.raises(errors.ContextMismatch, match=NAME):
        lake.fs.ls(lake.root)


def test_names_required_in_every_context_are_in_the_name_key(local: Lake, keystore: str) -> None:
    settings = {"local": {"keystore": keystore}}
    ring = envelope.KeyRing("local:lake", settings=settings, required_context=["table", "path"])
    for table in ("orders", "customers"):
        fs = local.filesystem(keys=ring, context={"table": table}, bind_path=True)
        fs.pipe_file(local.path(table), b"1")
        assert fs.cat_file(local.path(table)) == b"1"
    with pytest.raises(errors.ContextMismatch):
        fs.cat_file(local.path("orders"))
    context = envelope.inspect(local.key).context
    assert context == {"table": "*", "path": "*", **CONTEXT}


@pytest.mark.parametrize("damage", ["other ring", "garbage", "short"])
def test_a_name_key_that_does_not_open_is_an_error_and_stays(
    lake: Lake, damage: str, keystore: str, anew: Callable[[], None]
) -> None:
    fs = lake.fill()
    if damage == "other ring":
        ring = envelope.KeyRing("local:other", settings={"local": {"keystore": keystore}})
        data = envelope.encrypt(bytes(64), keys=ring, context=CONTEXT)
    elif damage == "garbage":
        data = b"garbage"
    else:
        data = envelope.encrypt(bytes(32), keys=lake.store.keys, context=CONTEXT)
    lake.raw.pipe_file(lake.key, data)
    anew()
    for use in (
        lambda: fs.ls(lake.root),
        lambda: fs.exists(lake.path("a")),
        lambda: fs.pipe_file(lake.path("a"), b""),
        lambda: fs.open(lake.path("a"), "wb"),
        lambda: fs.makedirs(lake.path("a")),
    ):
        with pytest.raises(errors.EnvelopeError, match=NAME):
            use()
    assert lake.raw.cat_file(lake.key) == data


def test_a_name_key_that_is_gone_is_an_error_for_all_and_not_made_again(
    lake: Lake, anew: Callable[[], None]
) -> None:
    fs = lake.fill()
    key = lake.raw.cat_file(lake.key)
    lake.raw.rm_file(lake.key)
    anew()
    for use in (
        lambda: fs.pipe_file(lake.path("a"), b""),
        lambda: fs.open(lake.path("a"), "wb"),
        lambda: fs.makedirs(lake.path("a")),
        lambda: fs.find(lake.root),
        lambda: fs.exists(lake.path("a")),
        lambda: fs.cat_file(lake.path("a")),
    ):
        with pytest.raises(errors.KeyNotFound, match="backup"):
            use()
    assert not lake.raw.exists(lake.key)
    lake.raw.pipe_file(lake.key, key)
    assert lake.names(fs.find(lake.root)) == sorted(FILES)


def test_of_two_first_writers_the_later_one_uses_what_the_earlier_one_made(lake: Lake) -> None:
    policy = lake.fs.policy
    one, other = (Naming(lake.store.raw, policy, lake.root, name) for name in ("one", "other"))
    create = one._create

    def late(sealed: bytes) -> Any:
        run(other.made())
        yield from create(sealed)

    one._create = late  # type: ignore[method-assign]
    run(one.made())
    assert one.names is not None
    assert other.names is not None
    assert one.names is not other.names
    assert one.names.stored("a/b") == other.names.stored("a/b")


def test_many_first_writers_in_threads_agree(lake: Lake, anew: Callable[[], None]) -> None:
    fs = lake.fs
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: fs.pipe_file(lake.path(f"{i}"), b"x"), range(16)))
    anew()
    assert lake.names(fs.find(lake.root)) == sorted(map(str, range(16)))


def test_the_name_key_is_opened_once_for_many_files(
    lake: Lake, anew: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    fs = lake.fs
    paths = [lake.path(f"{i}") for i in range(40)]
    for path in paths:
        fs.pipe_file(path, b"x")
    anew()
    opened: list[int] = []
    honest = Naming._open

    def counted(self: Naming, stored: bytes) -> Names:
        opened.append(1)
        return honest(self, stored)

    monkeypatch.setattr(Naming, "_open", counted)
    assert len(fs.cat(paths)) == 40
    fs.find(lake.root)
    assert len(opened) == 1


def test_who_waits_for_a_name_key_opens_it_where_the_first_one_gives_up(local: Lake) -> None:
    local.fill()
    one, other = (Naming(local.raw, local.fs.policy, local.root, "same") for _ in range(2))
    first = one.ready()
    next(first)  # it is being fetched
    waiting = threading.Thread(target=lambda: run(other.ready()))
    waiting.start()
    first.close()
    waiting.join(30)
    assert not waiting.is_alive()
    assert other.names is not None


def test_names_survive_the_rotation_of_the_master_key(
    local: Lake, keystore: str, anew: Callable[[], None]
) -> None:
    from envelope import resolvers

    settings = {"local": {"keystore": keystore}}
    admin: Any = resolvers.resolver("local", resolvers.driver("local").settings(settings["local"]))
    admin.create("local:turning")
    ring = envelope.KeyRing("local:turning", settings=settings)
    fs = local.fill(local.filesystem(keys=ring))
    before = local.stored()
    first = envelope.inspect(local.key).recipients[0][0]
    admin.rotate("local:turning")
    for path in local.raw.find(local.root):
        envelope.rewrap(path, keys=ring)
    assert envelope.inspect(local.key).recipients[0][0] != first
    admin.set_enabled(first, False)
    anew()
    assert local.names(fs.find(local.root)) == sorted(FILES)
    assert local.stored() == before
    assert fs.cat_file(local.path("canary-readme.txt")) == b"canary-content 1"


# --- What others put there ----------------------------------------------------------------------


def test_foreign_names_are_left_out_with_one_warning_that_counts_them(
    lake: Lake, notices: list[str]
) -> None:
    fs = lake.fill()
    for name in ("_SUCCESS", "plain.csv", "0" * 32, ".x.0123456789abcdef.env1tmp"):
        lake.raw.pipe_file(lake.path(name), b"x")
    fs.invalidate_cache()
    for _ in range(2):
        assert lake.names(fs.find(lake.root)) == sorted(FILES)
        assert len(fs.ls(lake.root)) == 3
    assert len(notices) == 1
    assert "3 stored names" in notices[0]
    assert lake.root.strip("/") in notices[0]


def test_plain_names_of_before_are_told_where_there_is_no_name_key(
    lake: Lake, notices: list[str]
) -> None:
    lake.store.fs.pipe_file(lake.path("a"), b"of before")
    assert lake.fs.find(lake.root) == []
    assert len(notices) == 1


def test_a_file_or_folder_that_was_moved_in_the_store_does_not_show_up(
    lake: Lake, notices: list[str]
) -> None:
    fs = lake.fill()
    stored = lake.stored_of("canary=zurich/2026.csv")
    folder = lake.stored_of("canary=bern")
    lake.raw.cp_file(stored, f"{folder}/{stored.rpartition('/')[2]}")
    lake.raw.cp_file(stored, lake.path(stored.rpartition("/")[2]))
    fs.invalidate_cache()
    assert lake.names(fs.find(lake.root)) == sorted(FILES)
    assert len(notices) == 1
    assert "2 stored names" in notices[0]


def test_doctor_names_the_foreign_ones_and_finds_nothing_odd_in_the_name_key(lake: Lake) -> None:
    fs = lake.fill(lake.filesystem(segment_length=65536))
    files = list(lake.raw.find(lake.root, detail=True).values())
    found = {finding.check: finding for finding in fs.examine(lake.root, files)}
    assert found["names"].level == found["geometry"].level == "ok"
    lake.raw.pipe_file(lake.path("plain.csv"), b"x")
    files = list(lake.raw.find(lake.root, detail=True).values())
    found = {finding.check: finding for finding in fs.examine(lake.root, files)}
    assert found["names"].level == "warn"
    assert "plain.csv" in found["names"].text


# --- Beside event loops, and fsspec's own suites ------------------------------------------------


def test_on_an_event_loop(lake: Lake, anew: Callable[[], None]) -> None:
    if not lake.raw.async_impl:
        pytest.skip("this store has no asynchronous interface")

    async def use() -> None:
        fs = lake.filesystem(asynchronous=True)
        threads = set()
        honest = naming.Naming._open

        def noting(self: Naming, stored: bytes) -> Names:
            threads.add(threading.current_thread())
            return honest(self, stored)

        naming.Naming._open = noting  # type: ignore[method-assign]
        try:
            await fs._pipe_file(lake.path("x/a"), b"1")
            assert await fs._cat_file(lake.path("x/a")) == b"1"
            assert lake.names(await fs._find(lake.root)) == ["x/a"]
            assert lake.names(await fs._glob(lake.path("*/a*"))) == ["x/a"]
            assert await fs._exists(lake.path("x"))
        finally:
            naming.Naming._open = honest  # type: ignore[method-assign]
        assert threads
        assert threading.current_thread() not in threads
        if lake.store.protocol == "s3":
            await fs.fs._s3.close()

    asyncio.run(use())


class _Encrypted(_Fixtures):
    @pytest.fixture(params=["memory", "s3"])
    def store(self, request: pytest.FixtureRequest, ring: Any, tmp_path: Path) -> Iterator[Store]:
        from tests.filesystem.conftest import make

        yield from make(request.param, request, ring, tmp_path)

    @pytest.fixture
    def fs(self, store: Store) -> Any:
        store.raw.invalidate_cache()
        return store.filesystem(names="encrypt", root=store.root)


class TestCopyOfEncryptedNames(_Encrypted, AbstractCopyTests):  # type: ignore[misc]
    pass


class TestGetOfEncryptedNames(_Encrypted, AbstractGetTests):  # type: ignore[misc]
    pass


class TestPutOfEncryptedNames(_Encrypted, AbstractPutTests):  # type: ignore[misc]
    pass
