"""Key material in a file beside the Parquet file, as Parquet's key tools keep it.

``people.parquet`` has ``_KEY_MATERIAL_FOR_people.parquet.json``: one JSON object that
has the text of each key's material by the reference that stands in the footer
(parquet-java, ``HadoopFSKeyMaterialStore``; Arrow, ``file_system_key_material_store``).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Any

from envelope import jose
from envelope.errors import LimitExceeded, Malformed
from envelope.sinks import open_sink, publishing
from envelope.sources import open_source
from envelope_parquet.places import Location, Place

__all__ = ["Store", "parsed", "reader"]

_PREFIX, _SUFFIX = "_KEY_MATERIAL_FOR_", ".json"
_MAX_BYTES = 64 * 2**20
_PLACELESS = "the key material is in a file beside, and this one has no place"
_LONG = "the key material file is absurdly long"


class Store:
    """The key material file of a Parquet file, read when it is first needed.

    Args:
        location: Of the Parquet file. A file object has nothing beside it.
        storage_options: Passed to fsspec for a URL.
    """

    def __init__(self, location: Location, storage_options: Mapping[str, Any] | None) -> None:
        self.location: str | None = None
        if isinstance(location, (str, os.PathLike)):
            self.location = _beside(os.fspath(location))
        self._options = storage_options
        self._texts: Mapping[str, str] | None = None

    def read(self) -> Mapping[str, str]:
        """The texts of key material, by reference.

        Raises:
            Malformed: It is not such a file.
            FileNotFoundError: There is none.
        """
        if self._texts is None:
            if self.location is None:
                raise Malformed(_PLACELESS)
            options = self._options if "://" in self.location else None
            with closing(open_source(self.location, options)) as source:
                if source.size is None or source.size > _MAX_BYTES:
                    raise LimitExceeded(_LONG, path=source.name)
                buffer = bytearray(source.size)
                source.read_into(0, memoryview(buffer))
            self._texts = parsed(bytes(buffer))
        return self._texts

    def write(self, texts: Mapping[str, str]) -> None:
        """Replace the file by another one, whole or not at all."""
        if self.location is None:
            raise Malformed(_PLACELESS)
        data = jose.dumps(dict(texts))
        options = self._options if "://" in self.location else None
        with publishing(open_sink(self.location, True, True, None, options)) as sink:
            sink.write_at(0, memoryview(data))
        self._texts = dict(texts)


def reader(place: Place | None) -> Callable[[], Mapping[str, str]]:
    """What reads the key material file of a Parquet file when it is first needed.

    Args:
        place: Of the Parquet file; ``None`` where it has none.
    """
    store: list[Mapping[str, str]] = []

    def read() -> Mapping[str, str]:
        if not store:
            if place is None:
                raise Malformed(_PLACELESS)
            with place.fs.open_input_file(_beside(place.path)) as file:
                if file.size() > _MAX_BYTES:
                    raise LimitExceeded(_LONG, path=_beside(place.name))
                store.append(parsed(file.read()))
        return store[0]

    return read


def _beside(location: str) -> str:
    folder, slash, name = location.rpartition("/")
    return f"{folder}{slash}{_PREFIX}{name}{_SUFFIX}"


def parsed(data: bytes) -> Mapping[str, str]:
    """The texts of a key material file by reference.

    Raises:
        Malformed: It is no such file.
    """
    value = jose.loads(data, "the key material file")
    if not all(isinstance(text, str) for text in value.values()):
        raise Malformed("the key material file has something that is no text")
    return value
