"""Stores for the command line: memory, and S3 as moto plays it."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec

_names = itertools.count(1)


@dataclass(frozen=True)
class Far:
    """A fresh folder of a store.

    Args:
        protocol: Of the store.
        root: The folder as the store writes it.
        options: What the store needs, in a file.
    """

    protocol: str
    root: str
    options: Mapping[str, Any]
    file: Path

    @property
    def url(self) -> str:
        return f"{self.protocol}://{self.root}"

    @property
    def given(self) -> tuple[str, str]:
        """The option that the command line needs for it."""
        self.file.write_text(json.dumps({self.protocol: self.options}))
        return ("--storage-options", f"@{self.file}")

    @property
    def fs(self) -> Any:
        return fsspec.filesystem(self.protocol, **self.options)

    def put(self, name: str, data: bytes) -> None:
        self.fs.pipe_file(f"{self.root}/{name}", data)
        self.fs.invalidate_cache()

    def get(self, name: str) -> bytes:
        self.fs.invalidate_cache()
        return bytes(self.fs.cat_file(f"{self.root}/{name}"))

    def names(self) -> list[str]:
        """All files, below the folder."""
        self.fs.invalidate_cache()
        base = self.root.strip("/")
        return sorted(name.strip("/")[len(base) + 1 :] for name in self.fs.find(self.root))

    def mount(self, name: str, **more: Any) -> str:
        """A section of the configuration that mounts it."""
        options = " ".join(f"{n} = {_toml(v)}," for n, v in self.options.items()).rstrip(",")
        lines = [f"[mount.{name}]", f'url = "{self.url}"', f"options = {{{options}}}"]
        lines += [f"{n} = {_toml(v)}" for n, v in more.items()]
        return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{n} = {_toml(v)}" for n, v in value.items()) + "}"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value)


@contextmanager
def far(kind: str, s3: Mapping[str, Any] | None, folder: Path) -> Iterator[Far]:
    """A store of one kind; what is in it is gone afterwards."""
    name = f"cli{os.getpid()}-{next(_names)}"
    if kind == "memory":
        made = Far("memory", f"/{name}", {}, folder / "options.json")
    elif kind == "local":
        root = folder / name
        root.mkdir()
        made = Far("file", str(root), {}, folder / "options.json")
    else:
        assert s3 is not None
        made = Far("s3", name, dict(s3), folder / "options.json")
        made.fs.call_s3("create_bucket", Bucket=name)
    yield made
    if kind != "local":
        for path in made.fs.find(made.root):
            made.fs.rm_file(path)
