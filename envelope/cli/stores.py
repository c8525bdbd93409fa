"""Files behind URLs: their file systems, what lies in folders, and what globs stand for."""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

import typer

from envelope.errors import ConfigurationError
from envelope.urls import is_url, options_for, resolved

__all__ = [
    "Own",
    "Place",
    "StorageOptions",
    "Stores",
    "enveloped",
    "modified",
    "start_of",
]

_OWN = "envelope"
_KEYS = ("keys", "encrypt_to", "decrypt_with", "rules")
_FOLDERS = frozenset(
    ["file", "local", "memory", "sftp", "ssh", "ftp", "hdfs", "arrow_hdfs", "webhdfs", "smb", "dir"]
)
"""Stores in which a folder has to be made. Elsewhere that would do nothing, or make a bucket."""


@dataclass(frozen=True)
class StorageOptions:
    """What file systems behind URLs need to be told."""

    storage_options: Annotated[
        str | None,
        typer.Option(
            "--storage-options",
            metavar="JSON",
            help="Options of stores, as fsspec takes them; @FILE reads them from a file, which "
            "other users of the machine cannot see.",
        ),
    ] = None

    def parsed(self) -> dict[str, Any]:
        """As a mapping.

        Raises:
            ConfigurationError: It is no JSON object.
        """
        text = self.storage_options
        if text is None:
            return {}
        if text.startswith("@"):
            with open(text[1:], encoding="utf-8") as file:
                text = file.read()
        try:
            found = json.loads(text)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise ConfigurationError(
                "--storage-options is no JSON object",
                next_step="""For example: --storage-options '{"s3": {"anon": true}}'.""",
            )
        return found


@dataclass(frozen=True)
class Own:
    """What a command's options say about the files of a chain.

    Args:
        named: The options by which somebody said something of it.
        ring: Makes the key ring.
        others: More options of the encrypting file system.
    """

    named: Sequence[str] = ()
    ring: Callable[[], Any] = lambda: None
    others: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Place:
    """A file or folder behind a URL, existing or not.

    Args:
        fs: Its file system.
        path: Its path there.
        url: As people name it. It is not taken apart again: names may have any signs in them.
    """

    fs: Any
    path: str
    url: str

    def below(self, relative: str) -> Place:
        """The place of ``relative`` below this one."""
        if not relative:
            return self
        path = f"{self.path.rstrip('/')}/{relative}" if self.path else relative
        return Place(self.fs, path, _with(self.url, lambda end: f"{end.rstrip('/')}/{relative}"))

    def beside(self, name: str) -> Place:
        """The place of ``name`` in the same folder."""

        def renamed(text: str) -> str:
            folder, slash, _ = text.rpartition("/")
            return f"{folder}{slash}{name}"

        return Place(self.fs, renamed(self.path), _with(self.url, renamed))

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rstrip("/").rpartition("/")[2]

    @property
    def store(self) -> Any:
        """The file system that has the stored bytes."""
        return self.fs.fs if enveloped(self.url) else self.fs

    @property
    def behind(self) -> Any:
        """The stored file of a mount's or a chain's path, see ``EnvelopeFileSystem.behind``."""
        return self.fs.behind(self.path) if enveloped(self.url) else None

    def name_key(self) -> NameKey | None:
        """What the names of a mount or a chain are encrypted with, if they are and there is one."""
        if not enveloped(self.url):
            return None
        found = self.fs.name_key(self.path)
        return None if found is None else NameKey(self.fs, self.path, found.url)

    def info(self) -> dict[str, Any]:
        """What the store says of it now."""
        found: dict[str, Any] = self.fs.info(self.path)
        return found

    def starts_as(self, magic: bytes) -> bool:
        """Whether the stored file starts with ``magic``."""
        found = self.behind
        store, path = (self.fs, self.path) if found is None else (found.store, found.path)
        return start_of(store, path, len(magic)) == magic

    def make_folder(self) -> None:
        """Make the folder that it is in, where the store has folders."""
        store = self.store
        protocols = [store.protocol] if isinstance(store.protocol, str) else store.protocol
        if _FOLDERS.intersection(protocols):
            self.fs.makedirs(self.fs._parent(self.path), exist_ok=True)

    def entries(self) -> Iterator[tuple[Place, dict[str, Any]]]:
        """What is directly in it, in the order of names."""
        for info in sorted(self.fs.ls(self.path, detail=True), key=lambda info: str(info["name"])):
            name = info["name"].rstrip("/").rpartition("/")[2]
            if info["name"].strip("/") != self.path.strip("/"):
                yield replace(self.below(name), path=info["name"]), info

    def listed(self, *, empty: bool = False) -> Iterator[tuple[Place, dict[str, Any]]]:
        """All files below it, in the order of their names.

        Args:
            empty: Whether it may be a folder with nothing in it.

        Raises:
            FileNotFoundError: There is nothing.
            OSError: The store refused a listing. Nothing is left out in silence.
        """
        from fsspec.asyn import AsyncFileSystem

        store = self.store
        if store.async_impl and type(store)._find is not AsyncFileSystem._find:
            # A listing of the whole tree by the store's own means.
            found = dict(self.fs.find(self.path, detail=True))
        else:
            found = {info["name"]: info for info in _walked(self.fs, self.path)}
        if not found and not empty:
            self.info()
        base = self.path.strip("/")
        for name in sorted(found):
            info = found[name]
            relative = name.strip("/")[len(base) :].strip("/")
            if info["type"] == "file" and relative:
                yield replace(self.below(relative), path=name), info


class NameKey(Place):
    """The file with the name key of a place. No plain path leads to it: its URL is the store's."""

    __slots__ = ()

    @property
    def name(self) -> str:
        return self.url.rpartition("/")[2]

    @property
    def store(self) -> Any:
        return self.behind.store

    @property
    def behind(self) -> Any:
        return self.fs.name_key(self.path)

    def info(self) -> dict[str, Any]:
        found = self.behind
        return dict(found.store.info(found.path))


def start_of(store: Any, path: str, length: int) -> bytes:
    """The first bytes of a file, fewer if it has no more."""
    try:
        return bytes(store.cat_file(path, start=0, end=length))[:length]
    except Exception:  # S3 says so of any range of an empty object
        if store.info(path)["size"] == 0:
            return b""
        raise


def _walked(fs: Any, folder: str) -> Iterator[dict[str, Any]]:
    """All files below a folder, folder by folder.

    Not by ``fs.walk``, which leaves out what a store refuses to list; even with
    ``on_error="raise"`` it does below the first level. Symbolic links are left alone.
    """
    waiting = [folder]
    while waiting:
        here = waiting.pop()
        for info in fs.ls(here, detail=True):
            if info["name"].strip("/") == here.strip("/") or info.get("islink"):
                continue
            if info["type"] == "directory":
                waiting.append(info["name"])
            else:
                yield info


def _with(url: str, change: Callable[[str], str]) -> str:
    """``url`` with the path changed of its first link that has one."""
    links = url.split("::")
    for index, link in enumerate(links):
        if link.partition("://")[2]:
            links[index] = change(link)
            return "::".join(links)
    return change(url)


@contextmanager
def _configured(file: str | None) -> Iterator[None]:
    """Have the file system of mounts look into the configuration that an option names."""
    before = os.environ.get("ENVELOPE_CONFIG")
    if file is not None:
        os.environ["ENVELOPE_CONFIG"] = file
    try:
        yield
    finally:
        if file is not None and before is None:
            del os.environ["ENVELOPE_CONFIG"]
        elif file is not None and before is not None:
            os.environ["ENVELOPE_CONFIG"] = before


_TIMES = ("mtime", "LastModified", "last_modified", "updated", "modified", "created")


def modified(info: Mapping[str, Any]) -> int | None:
    """When a store's file was written, in nanoseconds since 1970; ``None`` if it does not say."""
    value = next((info[name] for name in _TIMES if info.get(name) is not None), None)
    if isinstance(value, datetime.datetime):
        value = value if value.tzinfo else value.replace(tzinfo=datetime.UTC)
        value = value.timestamp()
    return int(value * 10**9) if isinstance(value, int | float) else None


def enveloped(url: str) -> bool:
    """Whether a URL is one of the encrypting file system: a mount's, or a chain."""
    return url.startswith((f"{_OWN}::", f"{_OWN}://"))


class Stores:
    """The file systems of one command's URLs.

    Args:
        storage: Options of stores.
        urls: All URLs of the command. Options that stand outside of a protocol's table are for
            its ``envelope::`` chains, if it has any.
        own: What the command's options say to a mount or a chain: ``named`` by somebody, or not.
        config: A configuration file that an option names.
    """

    def __init__(
        self,
        storage: StorageOptions,
        urls: Sequence[str | None],
        own: Own | None = None,
        config: str | None = None,
    ) -> None:
        self._given = storage.parsed()
        self._own = own or Own()
        self._config = config
        self._chains = any(url.startswith(f"{_OWN}::") for url in urls if url)
        self._found: dict[str, Place] = {}
        if self._given and not any(url and is_url(url) for url in urls):
            raise ConfigurationError("--storage-options go with URLs, and there is none here")

    def at(self, url: str) -> Place:
        """The place that a URL names.

        Raises:
            ConfigurationError: A mount is not known, or has what an option says too.
            ValueError, ImportError: fsspec knows no file system for it, or it is not installed.
        """
        if url not in self._found:
            with _configured(self._config):
                fs, path = resolved(url, self.options(url))
            self._found[url] = Place(fs, path, url)
        return self._found[url]

    def options(self, url: str) -> dict[str, Any]:
        """The options of the file system of ``url``."""
        chosen = options_for(url, self._given)
        tables = {name: value for name, value in chosen.items() if isinstance(value, Mapping)}
        if url.startswith(f"{_OWN}://"):
            if self._own.named:
                raise ConfigurationError(
                    f"{url}: a mount has its keys, context and geometry in the configuration",
                    next_step=f"Leave out {self._own.named[0]}.",
                )
            return tables
        if url.startswith(f"{_OWN}::"):
            inside = {**chosen, **chosen.pop(_OWN, {})}
            inside = {name: value for name, value in inside.items() if name != _OWN}
            if not any(name in inside for name in _KEYS):
                inside["keys"] = self._own.ring()
            return {**self._own.others, **inside}
        return tables if self._chains else chosen
