"""The same operations on ``envelope::memory`` and on plain memory give the same answers."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from typing import Any

import fsspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

import envelope

LENGTH = 4096
DATA = os.urandom(3 * LENGTH)

NAMES = st.lists(st.sampled_from(["a", "b", "c.bin", "ä"]), min_size=1, max_size=3).map("/".join)
SIZES = st.sampled_from([0, 1, 5, LENGTH - 32, LENGTH - 31, 3 * LENGTH])
EDGES = st.none() | st.integers(-9000, 13_000)


class SameAsPlain(RuleBasedStateMachine):
    """Runs each step on both, and compares what they answer or how they fail."""

    ring: envelope.KeyRing

    def __init__(self) -> None:
        super().__init__()
        self.ours = envelope.filesystem("memory", keys=self.ring, segment_length=LENGTH)
        self.plain = fsspec.filesystem("memory")
        name = uuid.uuid4().hex
        self.roots = {id(self.ours): f"/ours-{name}", id(self.plain): f"/like-{name}"}
        self.both(lambda fs, root: fs.mkdir(root))

    def teardown(self) -> None:
        store = self.plain
        for root in self.roots.values():
            for path in [path for path in store.store if path.startswith(root)]:
                del store.store[path]
            store.pseudo_dirs[:] = [path for path in store.pseudo_dirs if not path.startswith(root)]

    def both(self, do: Callable[[Any, str], Any]) -> None:
        answers = []
        for fs in (self.plain, self.ours):
            root = self.roots[id(fs)]
            try:
                answers.append(self.below(do(fs, root), root))
            except Exception as error:
                answers.append(error)
        plain, ours = answers
        if isinstance(plain, Exception):
            # Plain memory says of a folder that is opened that it is not there.
            alike = (type(plain), IsADirectoryError)
            assert isinstance(ours, alike[: 2 if type(plain) is FileNotFoundError else 1]), (
                f"plain: {plain!r}, ours: {ours!r}"
            )
        else:
            assert ours == plain

    def below(self, answer: Any, root: str) -> Any:
        """The answer with paths relative to the root, and of descriptions what both have."""
        if isinstance(answer, str):
            return answer.removeprefix(root)
        if isinstance(answer, dict) and "type" in answer:
            return {name: self.below(answer[name], root) for name in ("name", "size", "type")}
        if isinstance(answer, dict):
            return {self.below(key, root): self.below(answer[key], root) for key in answer}
        if isinstance(answer, (list, tuple)):
            return [self.below(item, root) for item in answer]
        return answer

    def folder(self, name: str) -> bool:
        """Whether it is one: memory lets a name be file and folder, and contradicts itself."""
        return bool(self.plain.isdir(f"{self.roots[id(self.plain)]}/{name}"))

    def in_a_file(self, name: str) -> bool:
        """Whether the name, or a folder that it names on the way, is a file."""
        parts = name.split("/")
        root = self.roots[id(self.plain)]
        ways = ("/".join(parts[:count]) for count in range(1, len(parts) + 1))
        return any(self.plain.isfile(f"{root}/{way}") for way in ways)

    def contradicts_itself(self) -> bool:
        """Whether a name is a file and a folder all the same."""
        names = [*self.plain.store, *self.plain.pseudo_dirs]
        return any(
            path in self.plain.pseudo_dirs or any(name.startswith(path + "/") for name in names)
            for path in self.plain.store
        )

    # --- Writing ---

    @rule(name=NAMES, size=SIZES)
    def pipe(self, name: str, size: int) -> None:
        if self.folder(name):
            return
        self.both(lambda fs, root: fs.pipe_file(f"{root}/{name}", DATA[:size]))

    @rule(name=NAMES, size=SIZES)
    def create(self, name: str, size: int) -> None:
        if self.folder(name):
            return
        self.both(lambda fs, root: fs.pipe_file(f"{root}/{name}", DATA[:size], mode="create"))

    @rule(name=NAMES, size=SIZES, mode=st.sampled_from(["wb", "xb"]))
    def open_to_write(self, name: str, size: int, mode: str) -> None:
        if self.folder(name):
            return

        def write(fs: Any, root: str) -> None:
            with fs.open(f"{root}/{name}", mode) as file:
                file.write(DATA[:size])

        self.both(write)

    @rule(names=st.lists(st.sampled_from(["t", "u", "v"]), min_size=1, unique=True), size=SIZES)
    def transaction(self, names: list[str], size: int) -> None:
        def write(fs: Any, root: str) -> None:
            with fs.transaction:
                for name in names:
                    with fs.open(f"{root}/{name}", "wb") as file:
                        file.write(DATA[:size])

        self.both(write)

    @rule(name=NAMES)
    def touch(self, name: str) -> None:
        if self.folder(name):
            return
        self.both(lambda fs, root: fs.touch(f"{root}/{name}"))

    @rule(first=NAMES, second=NAMES)
    def copy(self, first: str, second: str) -> None:
        if self.folder(second) or self.folder(first):
            return
        self.both(lambda fs, root: fs.cp_file(f"{root}/{first}", f"{root}/{second}"))

    @rule(first=NAMES, second=NAMES, recursive=st.booleans())
    def move(self, first: str, second: str, recursive: bool) -> None:
        if not (second + "/").startswith(first + "/") and not (first + "/").startswith(
            second + "/"
        ):
            self.both(
                lambda fs, root: fs.mv(f"{root}/{first}", f"{root}/{second}", recursive=recursive)
            )

    @rule(name=NAMES, recursive=st.booleans())
    def rm(self, name: str, recursive: bool) -> None:
        self.both(lambda fs, root: fs.rm(f"{root}/{name}", recursive=recursive))

    @rule(name=NAMES)
    def rm_file(self, name: str) -> None:
        self.both(lambda fs, root: fs.rm_file(f"{root}/{name}"))

    @rule(name=NAMES, parents=st.booleans())
    def mkdir(self, name: str, parents: bool) -> None:
        if self.in_a_file(name):
            return
        self.both(lambda fs, root: fs.mkdir(f"{root}/{name}", create_parents=parents))

    @rule(name=NAMES, exist_ok=st.booleans())
    def makedirs(self, name: str, exist_ok: bool) -> None:
        if self.in_a_file(name):
            return
        self.both(lambda fs, root: fs.makedirs(f"{root}/{name}", exist_ok=exist_ok))

    @rule(name=NAMES)
    def rmdir(self, name: str) -> None:
        self.both(lambda fs, root: fs.rmdir(f"{root}/{name}"))

    # --- Reading ---

    @rule(name=NAMES)
    def cat(self, name: str) -> None:
        self.both(lambda fs, root: fs.cat_file(f"{root}/{name}"))

    @rule(name=NAMES, start=EDGES, end=EDGES)
    def ranges(self, name: str, start: int | None, end: int | None) -> None:
        def read(fs: Any, root: str) -> Any:
            if fs.isdir(f"{root}/{name}"):
                return None  # plain memory says it is missing
            if fs is self.plain:
                return fs.cat_file(f"{root}/{name}")[start:end]
            return fs.cat_file(f"{root}/{name}", start, end)

        self.both(read)

    @rule(name=NAMES)
    def open_to_read(self, name: str) -> None:
        if "/" in name and self.in_a_file(name.rpartition("/")[0]):
            return  # plain memory says that the folder exists

        def read(fs: Any, root: str) -> Any:
            with fs.open(f"{root}/{name}") as file:
                return [
                    file.size,
                    file.read(7),
                    file.seek(-3, 2) if file.size > 3 else 0,
                    file.read(),
                ]

        self.both(read)

    @rule(name=NAMES)
    def describe(self, name: str) -> None:
        if self.contradicts_itself():
            return
        self.both(lambda fs, root: fs.info(f"{root}/{name}"))
        self.both(lambda fs, root: fs.size(f"{root}/{name}"))
        for method in ("exists", "isfile", "isdir", "lexists"):
            self.both(lambda fs, root: getattr(fs, method)(f"{root}/{name}"))  # noqa: B023 - used now

    @rule(name=NAMES, detail=st.booleans())
    def ls(self, name: str, detail: bool) -> None:
        def listed(fs: Any, root: str) -> Any:
            found = fs.ls(f"{root}/{name}", detail=detail)
            return sorted(found, key=lambda info: info["name"]) if detail else sorted(found)

        self.both(listed)

    @rule(name=NAMES | st.just(""), maxdepth=st.none() | st.integers(1, 3), withdirs=st.booleans())
    def find(self, name: str, maxdepth: int | None, withdirs: bool) -> None:
        where = f"/{name}".rstrip("/")
        given = {"maxdepth": maxdepth, "withdirs": withdirs}
        self.both(lambda fs, root: fs.find(root + where, **given))
        if not self.contradicts_itself():
            self.both(lambda fs, root: fs.du(root + where, total=False, maxdepth=maxdepth))

    @rule(pattern=st.sampled_from(["*", "a/*", "**", "*/*", "**/c.bin", "?", "[ab]", "a/**", "*/"]))
    def glob(self, pattern: str) -> None:
        self.both(lambda fs, root: fs.glob(f"{root}/{pattern}"))
        self.both(lambda fs, root: fs.glob(f"{root}/{pattern}", detail=True))
        self.both(lambda fs, root: sorted(fs.expand_path(f"{root}/{pattern}", recursive=True)))

    # --- Always ---

    @invariant()
    def all_of_it_is_the_same(self) -> None:
        self.both(lambda fs, root: {name: fs.cat_file(name) for name in fs.find(root)})
        self.both(lambda fs, root: fs.find(root, withdirs=True, detail=True))
        self.both(
            lambda fs, root: sorted(
                (where, sorted(dirs), sorted(files)) for where, dirs, files in fs.walk(root)
            )
        )


@pytest.mark.slow
def test_any_operations_do_what_they_do_on_plain_files(ring: envelope.KeyRing) -> None:
    class OnThisRing(SameAsPlain):
        pass

    OnThisRing.ring = ring
    run_state_machine_as_test(
        OnThisRing, settings=settings(max_examples=40, stateful_step_count=20)
    )
