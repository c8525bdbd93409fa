"""Files on any store: paths, URLs of fsspec, file systems of fsspec and pyarrow, file objects."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow.fs as pafs

from envelope import sinks
from envelope.errors import ConfigurationError
from envelope.urls import is_url, resolved

__all__ = ["Location", "Place", "place", "sink"]

Location = Any
"""A path, a URL, or a binary file object."""


@dataclass(frozen=True)
class Place:
    """Where something is that has a path: pyarrow's file system, the path in it, and its name."""

    fs: pafs.FileSystem
    path: str
    name: str

    def inside(self, path: str) -> str:
        """The name of something below, given its path in the file system."""
        relative = path[len(self.path.rstrip("/")) :].lstrip("/")
        return f"{self.name.rstrip('/')}/{relative}"


def place(
    location: Location, filesystem: Any = None, storage_options: Mapping[str, Any] | None = None
) -> Place:
    """The place of a path or URL.

    Raises:
        ConfigurationError: Options without a URL, or something that has no path.
    """
    if not isinstance(location, (str, os.PathLike)):
        raise ConfigurationError("expected a path or a URL")
    text = os.fspath(location)
    if filesystem is not None:
        return Place(_arrow(filesystem), text, text)
    if is_url(text):
        fs, path = resolved(text, storage_options)
        if fs.protocol == ("file", "local"):
            return Place(pafs.LocalFileSystem(), path, path)
        return Place(_arrow(fs), path, text)
    if storage_options:
        raise ConfigurationError("storage_options go with a URL, and this is not one")
    return Place(pafs.LocalFileSystem(), os.path.abspath(text), text)


def sink(
    location: Location,
    filesystem: Any,
    storage_options: Mapping[str, Any] | None,
    *,
    overwrite: bool,
    durable: bool,
) -> sinks.Sink:
    """Where a file is written: nothing is there before it is whole."""
    if filesystem is not None and not isinstance(filesystem, pafs.LocalFileSystem):
        if isinstance(filesystem, pafs.FileSystem):
            from fsspec.implementations.arrow import ArrowFSWrapper

            filesystem = ArrowFSWrapper(filesystem)
        return sinks.FsspecSink(filesystem, os.fspath(location), str(location), overwrite=overwrite)
    return sinks.open_sink(location, overwrite, durable, storage_options=storage_options)


class Front(io.RawIOBase):
    """A sink as a file for pyarrow, written from front to end. Closing it publishes nothing."""

    def __init__(self, sink: sinks.Sink) -> None:
        self._sink = sink
        self._offset = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._offset

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        self._sink.write_at(self._offset, view)
        self._offset += len(view)
        return len(view)


def _arrow(filesystem: Any) -> pafs.FileSystem:
    if isinstance(filesystem, pafs.FileSystem):
        return filesystem
    return pafs.PyFileSystem(pafs.FSSpecHandler(filesystem))
