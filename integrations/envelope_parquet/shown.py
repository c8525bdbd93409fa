"""A file of another program as pyarrow can read it: its own pages, and an end in memory.

pyarrow's key tools open files with key material alone, and without an AAD prefix that the
reader gives; its low-level properties take one key for all of a file (docs/upstream.md). So it
is shown the pages as they are, and behind them the footer with other key metadata, which names
keys that were opened here, and with the AAD prefix told. Nothing is written.
"""

from __future__ import annotations

import atexit
import io
import time
import weakref
from collections.abc import Collection
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet.encryption as pe
from fsspec.spec import AbstractFileSystem

from envelope.errors import EnvelopeError, KeyNotFound
from envelope.secret import Secret
from envelope_parquet.chunks import Chunk
from envelope_parquet.footer import Footer
from envelope_parquet.keychain import Keychain
from envelope_parquet.material import Material

__all__ = ["Client", "Shown"]

_NAME = "opened"  # of all keys in the footer that is shown; the text beside it tells which


class _Keys(dict[str, Secret]):
    """The data keys of one file, by the text that stands for each in its footer."""


class Client(pe.KmsClient):  # type: ignore[misc]  # pyarrow has no types
    """Gives pyarrow the keys of one shown file.

    pyarrow never frees a client, so that it only knows where the keys are: they go with the
    last reader of the file.
    """

    def __init__(self, keys: _Keys) -> None:
        super().__init__()
        self._keys = weakref.ref(keys)
        self.opened = 0
        self.failure: EnvelopeError | None = None

    def wrap_key(self, key_bytes: bytes, master_key_identifier: str) -> str:
        """Never called: what is shown is only read."""
        raise NotImplementedError

    def unwrap_key(self, wrapped_key: str, master_key_identifier: str) -> bytes:
        """The data key that a text of the shown footer stands for; called by pyarrow."""
        keys = self._keys() if master_key_identifier == _NAME else None
        found = None if keys is None else keys.get(wrapped_key)
        if found is None:
            self.failure = KeyNotFound("the key of a column was not opened")
            raise self.failure
        self.opened += 1
        return found.reveal()


class Shown:
    """How pyarrow reads one file: :attr:`fs` has it under its path, :attr:`properties` open it.

    Args:
        file: Opened by pyarrow.
        end: Its footer, proven; it is changed.
        chain: Opens its keys; ``None`` for a plaintext footer without any.
        veiled: Leaf columns that are denied and shown as plain ones without pages and statistics:
            pyarrow ends the process where it looks for a key that is denied. Others that do not
            open are left as they are.
    """

    def __init__(
        self,
        file: pa.NativeFile,
        end: Footer,
        chain: Keychain | None,
        veiled: Collection[str] = (),
    ) -> None:
        keys = _Keys()
        if chain is None:
            end.veil(veiled)
            shown = end.unsigned()
        else:
            shown = _changed(end, chain, keys, veiled)
        self._content = _Content(file, end.start, shown, keys)
        self.fs = pafs.PyFileSystem(pafs.FSSpecHandler(_One(self._content)))
        self.client = client = Client(keys)
        self.properties: Any = None
        if chain is None:
            return
        # The factory lives on in C++ and must not hold this object, which has the keys.
        factory = pe.CryptoFactory(lambda _connection: client)
        self.properties = factory.file_decryption_properties(
            pe.KmsConnectionConfig(), pe.DecryptionConfiguration(read_kms_url=False)
        )

    def opened(self) -> pa.NativeFile:
        """The file as pyarrow takes it."""
        return pa.PythonFile(_Reader(self._content), mode="r")


class _Content:
    """The bytes that are shown. They hold the keys, for as long as somebody can read."""

    def __init__(self, file: pa.NativeFile, start: int, end: bytes, keys: _Keys) -> None:
        self._file = file
        self._start = start
        self._end = end
        self._keys = keys
        self.size = start + len(end)

    def read(self, offset: int, count: int) -> bytes:
        """What is there: pages of the file, or its new end."""
        wanted = max(0, min(count, self._start - offset))
        pages = bytes(self._file.read_at(wanted, offset)) if wanted else b""
        if wanted == count or len(pages) < wanted:
            return pages  # in the latter case the file became shorter: pyarrow says so
        begin = max(0, offset - self._start)
        return pages + self._end[begin : begin + count - wanted]


class _Reader(io.RawIOBase):
    def __init__(self, content: _Content) -> None:
        self._content = content
        self._position = 0
        _READERS.add(self)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = (0, self._position, self._content.size)[whence]
        self._position = max(0, base + offset)
        return self._position

    def tell(self) -> int:
        return self._position

    def read(self, size: int = -1) -> bytes:
        """Without the two copies of the base class, which cost as much as decrypting."""
        found = self._content.read(
            self._position, self._content.size - self._position if size < 0 else size
        )
        self._position += len(found)
        return found

    def readinto(self, buffer: Any) -> int:
        found = self._content.read(self._position, len(buffer))
        buffer[: len(found)] = found
        self._position += len(found)
        return len(found)


_READERS: weakref.WeakSet[_Reader] = weakref.WeakSet()
_PATIENCE = 2.0  # seconds for threads of Arrow to let go of files, while the process ends


def _let_go() -> None:
    """Wait until Arrow's threads hold no reader any more.

    They free a file shortly after a scan, for which they need the interpreter. Where that is
    ending already, Python ends the thread and C++ the process, with SIGABRT (docs/upstream.md).
    """
    until = time.monotonic() + _PATIENCE
    while len(_READERS) and time.monotonic() < until:
        time.sleep(0.001)


atexit.register(_let_go)


class _One(AbstractFileSystem):  # type: ignore[misc]  # fsspec is not typed
    """A file system that has one file, under any path."""

    protocol = "shown"
    cachable = False  # fsspec would keep it, and with it the keys

    def __init__(self, content: _Content) -> None:
        super().__init__()
        self._content = content

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        return {"name": path, "size": self._content.size, "type": "file"}

    def _open(self, *_: Any, **__: Any) -> io.RawIOBase:
        return _Reader(self._content)


def _changed(end: Footer, chain: Keychain, keys: _Keys, veiled: Collection[str]) -> bytes:
    """The footer with key material that stands for ``keys``, sealed or signed by its own key."""

    def named(text: str, key: Secret, *, footer: bool = False) -> bytes:
        keys[text] = key
        return Material(_NAME, text, footer=footer).to_text().encode()

    def column(chunk: Chunk) -> bytes | None:
        try:
            key = chain.column(chunk, lambda: footer) if chunk.own_key else None
        except EnvelopeError:
            return None  # whoever reads was told that it is denied
        return None if key is None else named(f"column {chunk.path}", key)

    footer = chain.footer(end)
    end.put_key_metadata(named("footer", footer, footer=True))
    end.tell_prefix()
    end.change(column)
    if veiled:
        end.veil(veiled)
    return end.end(footer)
