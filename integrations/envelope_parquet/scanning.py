"""One Parquet file that is read: what of it opens, and the properties that pyarrow takes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, cast

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from envelope.errors import (
    EnvelopeError,
    KeyMismatch,
    KeyNotFound,
    KeyUnusable,
    NotEncrypted,
    Tampered,
    UnsupportedFormat,
)
from envelope_parquet import external, kms, places, shown
from envelope_parquet.binding import binding_for_reading
from envelope_parquet.opened import Reading
from envelope_parquet.probing import probe

__all__ = ["File", "told", "told_by", "with_path"]

_DENIED = (KeyUnusable, KeyNotFound)


class File:
    """One opened file: what of it opens, and the properties to read it with.

    Args:
        location: Where it is, or a binary file object.
        reading: How its keys are found.
        allow_plaintext: Whether it may be without encryption.
        veiled: Whether pyarrow is shown denied columns as plain ones without pages and statistics,
            for who may look at anything of it. It reads through Python then.

    Raises:
        NotEncrypted: It is, and may not be.
        EnvelopeError: The footer's key cannot be used.
    """

    def __init__(
        self,
        location: places.Place | Any,
        reading: Reading,
        allow_plaintext: bool = False,
        veiled: bool = False,
    ) -> None:
        self.place = location if isinstance(location, places.Place) else None
        if self.place is not None:
            self.name = self.place.name
            self.file: Any = self.place.fs.open_input_file(self.place.path)
        else:
            self.name = f"<{type(location).__name__}>"
            self.file = (
                location
                if isinstance(location, pa.NativeFile)
                else pa.PythonFile(location, mode="r")
            )
        bound_to = location if self.place is None else self.name
        chain = reading.chain(bound_to, external.reader(self.place))
        found = probe(
            self.name,
            self.file.size(),
            lambda offset, count: bytes(self.file.read_at(count, offset)),
            chain,
            reading.aad_prefix,
        )
        self.access = found.access
        self.client: kms.Client | shown.Client | None = None
        self.properties: Any = None
        self._shown: shown.Shown | None = None
        if found.end is None:
            if not allow_plaintext:
                raise NotEncrypted(
                    "the Parquet file is not encrypted, and keys were given to read it",
                    path=self.name,
                    next_step="Find out who put it there; allow_plaintext=True reads it anyway.",
                )
            return
        hidden = self.access.denied if veiled else ()
        if self.access.footer.opens:
            if hidden or chain.foreign or found.end.algorithm.needs_prefix:
                self._shown = shown.Shown(self.file, found.end, chain, hidden)
                self.properties, self.client = self._shown.properties, self._shown.client
            else:
                binding = binding_for_reading(bound_to, reading.aad, reading.root, reading.context)
                self.properties, self.client = kms.decryption(reading.table(), binding)
        elif not self.access.plaintext_footer or self.access.footer.error is None:
            raise with_path(self.access.footer.error, self.name)
        elif hidden:
            self._shown = shown.Shown(self.file, found.end, None, hidden)
        kms.warn_of(found.end.algorithm.name, self.name)

    def parquet(self) -> pq.ParquetFile:
        """The file as pyarrow reads it. Leave columns alone that are denied."""
        file = self.file if self._shown is None else self._shown.opened()
        return pq.ParquetFile(file, decryption_properties=self.properties)

    def schema(self) -> pa.Schema:
        """The whole schema, denied columns included."""
        return self.parquet().schema_arrow

    def denied(self) -> dict[str, EnvelopeError]:
        """By top-level column, why it does not open.

        Raises:
            VaultUnavailable, ContextMismatch, Malformed, …: What is no denial.
        """
        found: dict[str, EnvelopeError] = {}
        names = self.schema().names
        for each in self.access.columns:
            if not each.opens and each.error is not None:
                # A vault that is away, or a forged file, must never read as "has no values".
                if isinstance(each.error, KeyMismatch) or not isinstance(each.error, _DENIED):
                    raise with_path(each.error, self.name)
                for name in names:
                    if each.column == name or each.column.startswith(name + "."):
                        found.setdefault(name, each.error)
        return found

    def fragment(self, expression: Any) -> ds.Fragment:
        """The file as a part of a dataset, with its own properties."""
        properties = self.properties
        if isinstance(self.client, kms.Client):
            # pyarrow keeps KEKs of double wrapping, and a scan has to ask: see check_was_read.
            properties = kms.asking(self.client)
        options = ds.ParquetFragmentScanOptions(decryption_properties=properties)
        parquet = ds.ParquetFileFormat(default_fragment_scan_options=options)
        place = cast(places.Place, self.place)  # file objects are read at once
        fs: pafs.FileSystem = place.fs if self._shown is None else self._shown.fs
        return parquet.make_fragment(place.path, fs, partition_expression=expression)

    def expect_to_be_read(self) -> None:
        """From now on, a scan has to ask for a key."""
        if self.client is not None:
            self.client.opened = 0

    def check_was_read(self, read: Collection[str]) -> None:
        """The file that pyarrow read was encrypted: it asked for a key.

        Args:
            read: The paths that were scanned; others need no key.

        Raises:
            NotEncrypted: It was replaced after its footer was looked at.
        """
        scanned = self.place is not None and self.place.path in read
        if scanned and self.client is not None and not self.client.opened:
            raise NotEncrypted("the file was replaced by one without encryption", path=self.name)


def told_by(error: Exception, files: Sequence[File]) -> Exception:
    """pyarrow's error while it read ``files``, see :func:`told`."""
    for file in files:
        if file.client is not None and file.client.failure is not None:
            return told(error, file.client.failure, file.name)
    return told(error, None, "")


def told(error: Exception, failure: EnvelopeError | None, name: str) -> Exception:
    """pyarrow's error as one of ours: the key's own (``failure``), or what its text says."""
    if failure is not None:
        return with_path(failure, name)
    text = str(error)
    if "ecrypt" in text or "AesDecrypt" in text or "GCM" in text:
        return Tampered(f"a part of the file does not open with its key: {text[:200]}")
    if "ncryption" in text:
        return UnsupportedFormat(text[:200])
    return error


def with_path(error: EnvelopeError | None, name: str) -> EnvelopeError:
    """The error, telling which file it is about."""
    if error is None:
        return UnsupportedFormat("the footer's key is unknown", path=name)
    if error.path is None:
        error.path = name
    return error
