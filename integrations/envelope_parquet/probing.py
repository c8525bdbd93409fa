"""What of a file this caller may open: one read of its footer, and no data."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from envelope.errors import EnvelopeError, NotEncrypted
from envelope_parquet import footer, kms, material, places, wrapping
from envelope_parquet.binding import Binding, binding_for_reading
from envelope_parquet.footer import Chunk, Footer
from envelope_parquet.keytable import Keys, KeyTable, as_table

__all__ = ["ColumnAccess", "FileAccess", "access", "examined"]


@dataclass(frozen=True, slots=True)
class ColumnAccess:
    """A leaf column, or the footer, and whether this caller can open it.

    Args:
        column: The path; ``""`` for the footer.
        key: The alias of its key in the file; ``None`` where it is plain.
        kids: The master keys that can open it, as the file names them.
        opens: Whether this caller can. Plain columns always open.
        error: Why not.
    """

    column: str
    key: str | None
    kids: tuple[str, ...] = ()
    opens: bool = True
    error: EnvelopeError | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class FileAccess:
    """The keys of a file, and which of them this caller can use.

    Args:
        name: The file.
        algorithm: ``AES_GCM_V1`` or ``AES_GCM_CTR_V1``; ``None`` for a plain file.
        plaintext_footer: Schema and plain columns need no key.
        footer: The footer's key.
        columns: The leaf columns; none where the footer does not open.
    """

    name: str
    algorithm: str | None
    plaintext_footer: bool
    footer: ColumnAccess
    columns: tuple[ColumnAccess, ...]

    @property
    def denied(self) -> tuple[str, ...]:
        """The leaf columns that do not open."""
        return tuple(each.column for each in self.columns if not each.opens)

    def column(self, path: str) -> ColumnAccess:
        """The leaf column of that path."""
        for each in self.columns:
            if each.column == path:
                return each
        raise KeyError(path)

    def __str__(self) -> str:
        lines = [("column", "key", "opens", "why not")]
        for each in (self.footer, *self.columns):
            key = "(plain)" if each.key is None else each.key
            why = "" if each.error is None else f"{each.error.message} [{each.error.code}]"
            lines.append((each.column or "(footer)", key, "yes" if each.opens else "no", why))
        first, second, third = (max(len(line[i]) for line in lines) for i in range(3))
        return "\n".join(
            f"{column:{first}}  {key:{second}}  {opens:{third}}  {why}".rstrip()
            for column, key, opens, why in lines
        )


def access(
    location: places.Location,
    keys: Keys = None,
    *,
    filesystem: Any = None,
    storage_options: Mapping[str, Any] | None = None,
    aad: str | None = "path",
    root: str | os.PathLike[str] | None = None,
    context: Mapping[str, str] | None = None,
) -> FileAccess:
    """Which columns of a file are under which keys, and whether this caller can open each.

    It reads the footer and no data, and asks the vault at most once a key. A key that is
    denied is no error here but a row of the answer.

    Args:
        location: A path, a URL, or a binary file object that can seek.
        keys, filesystem, storage_options: See :func:`envelope_parquet.read_table`.
        aad, root, context: See :func:`envelope_parquet.read_table`.

    Raises:
        Malformed, Truncated: It is no Parquet file.
    """
    binding = binding_for_reading(location, aad, root, context)
    if not isinstance(location, (str, os.PathLike)):
        size = location.seek(0, 2)

        def read_at(offset: int, count: int) -> bytes:
            location.seek(offset)
            return bytes(location.read(count))

        return examined(f"<{type(location).__name__}>", size, read_at, as_table(keys), binding)
    found = places.place(location, filesystem, storage_options)
    with found.fs.open_input_file(found.path) as file:
        return examined(
            found.name,
            file.size(),
            lambda offset, count: bytes(file.read_at(count, offset)),
            as_table(keys),
            binding,
        )


def examined(
    name: str,
    size: int,
    read_at: Callable[[int, int], bytes],
    table: KeyTable,
    binding: Binding,
) -> FileAccess:
    """:func:`access` for an opened file."""
    try:
        return _examined(name, footer.read(size, read_at), table, binding)
    except NotEncrypted:
        return FileAccess(name, None, True, ColumnAccess("", None), ())
    except EnvelopeError as error:
        error.path = name
        raise


def _examined(name: str, end: Footer, table: KeyTable, binding: Binding) -> FileAccess:
    probe = _Probe(kms.Client(table, binding=binding))
    about = probe.column("", end.key_metadata or b"")
    columns: list[Chunk] = []
    if about.opens:
        end.prove(probe.key(end.key_metadata or b""))
        columns = end.columns
    elif end.plaintext:
        end.assume()
        columns = end.columns
    return FileAccess(
        name,
        end.algorithm.name,
        end.plaintext,
        about,
        tuple(_column(probe, end, about, each) for each in columns),
    )


def _column(probe: _Probe, end: Footer, about: ColumnAccess, chunk: Chunk) -> ColumnAccess:
    if not chunk.encrypted:
        return ColumnAccess(chunk.path, None)
    if not chunk.own_key:
        return ColumnAccess(chunk.path, about.key, about.kids, about.opens, about.error)
    found = probe.column(chunk.path, chunk.key_metadata or b"")
    if end.plaintext and found.opens and not about.opens:
        # pyarrow verifies the footer before it reads, and cannot without that key.
        return ColumnAccess(chunk.path, found.key, found.kids, False, about.error)
    return found


class _Probe:
    """Tries keys, each alias of a file once where it fails."""

    def __init__(self, client: kms.Client) -> None:
        self._client = client

    def column(self, path: str, metadata: bytes) -> ColumnAccess:
        alias: str | None = "(unknown)"
        kids: tuple[str, ...] = ()
        try:
            found = material.parse(metadata)
            if isinstance(found, material.Reference):
                raise _external()
            alias = found.master_key
            kids = wrapping.parse(found.wrapped_dek).kids
            self._client.open(found.wrapped_dek, alias)
        except EnvelopeError as error:
            return ColumnAccess(path, alias, kids, False, error)
        return ColumnAccess(path, alias, kids)

    def key(self, metadata: bytes) -> Any:
        found = material.parse(metadata)
        if isinstance(found, material.Reference):
            raise _external()
        return self._client.open(found.wrapped_dek, found.master_key)


def _external() -> EnvelopeError:
    from envelope.errors import UnsupportedFormat

    return UnsupportedFormat(
        "its key material is in a file beside it, which this release does not read",
        next_step="Move the key material into the file with the program that wrote it.",
    )
