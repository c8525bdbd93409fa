"""A Parquet file that was opened for work in place: its bytes, its end, and its keys."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from envelope.errors import EnvelopeError, Malformed, Truncated
from envelope.secret import Secret
from envelope.sources import Source, open_source
from envelope_parquet import external, footer
from envelope_parquet.binding import binding_for_reading
from envelope_parquet.footer import Footer
from envelope_parquet.keychain import Keychain, KmsClient, RawKeys
from envelope_parquet.keytable import Keys, KeyTable, as_table
from envelope_parquet.places import Location

__all__ = ["Opened", "Reading", "opening"]


@dataclass(frozen=True, slots=True)
class Reading:
    """How the keys of a file are found; the arguments of the functions of this package.

    Args:
        keys: See :func:`envelope_parquet.read_table`.
        storage_options: Passed to fsspec for a URL.
        aad, root, context: See :func:`envelope_parquet.read_table`.
        aad_prefix: The AAD prefix of a file of another program, where it does not tell it.
        kms: Opens key material of another program: an object with pyarrow's ``unwrap_key``.
        raw_keys: Data keys by the path of the leaf column, and under ``""`` the footer's, for files
            without key material: what :func:`envelope_parquet.data_keys` returns.
    """

    keys: Keys = None
    storage_options: Mapping[str, Any] | None = None
    aad: str | None = "path"
    root: str | os.PathLike[str] | None = None
    context: Mapping[str, str] | None = None
    aad_prefix: bytes | None = None
    kms: KmsClient | None = None
    raw_keys: RawKeys | None = field(default=None, repr=False)

    def table(self) -> KeyTable:
        """What the names of keys stand for. Without keys= it takes a configuration."""
        return as_table(self.keys)

    def chain(
        self, location: Location, external: Callable[[], Mapping[str, str]] | None = None
    ) -> Keychain:
        """What opens the keys of one file; files with raw keys need no configuration.

        Args:
            location: Where the file is.
            external: Reads the key material beside it.
        """
        return Keychain(
            cache(self.table),
            binding_for_reading(location, self.aad, self.root, self.context),
            kms=self.kms,
            raw=self.raw_keys,
            external=external,
        )


class Opened:
    """One file. ``footer`` has claims until :meth:`prove`."""

    def __init__(self, source: Source, reading: Reading, location: Location) -> None:
        self.source = source
        self.size = source.size or 0
        self.reading = reading
        self.table = cache(reading.table)
        self.external = external.Store(location, reading.storage_options)
        self.chain = reading.chain(location, self.external.read)
        self.footer: Footer = footer.read(self.size, self.read)
        if self.footer.plaintext:
            self.footer.assume(reading.aad_prefix)
        if self.read(0, 4) != self.footer.magic:
            raise Malformed("the file does not begin as a Parquet file of its kind")

    def read(self, offset: int, count: int) -> bytes:
        """Exactly these bytes.

        Raises:
            Truncated: The file ends before.
        """
        if offset < 0 or count < 0 or offset + count > self.size:
            raise Truncated("the Parquet file ends before a part that its footer names")
        buffer = bytearray(count)
        if self.source.read_into(offset, memoryview(buffer)) != count:
            raise Truncated("the file became shorter while it was read")
        return bytes(buffer)

    def prove(self) -> Secret:
        """Open or verify the footer, once; returns its key.

        Raises:
            EnvelopeError: See :meth:`Keychain.footer` and :meth:`Footer.prove`.
        """
        key = self.chain.footer(self.footer)
        if not self.footer.proven:
            self.footer.prove(key, self.reading.aad_prefix)
        return key


@contextmanager
def opening(location: Location, reading: Reading) -> Iterator[Opened]:
    """Open a file, and let every error tell which it is.

    Args:
        location: A path, a URL, or a binary file object that can seek.
        reading: How its keys are found.

    Raises:
        NotEncrypted: It is a plain Parquet file.
        Malformed, Truncated: It is no Parquet file, or a damaged one.
    """
    with closing(open_source(location, reading.storage_options)) as source:
        if source.size is None:
            raise Malformed("a Parquet file cannot be read from a pipe", path=source.name)
        try:
            yield Opened(source, reading, location)
        except EnvelopeError as error:
            if error.path is None:
                error.path = source.name
            raise
