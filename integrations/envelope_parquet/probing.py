"""What of a file this caller may open: one read of its footer, and no data."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from envelope.errors import EnvelopeError, NotEncrypted
from envelope.secret import Secret
from envelope_parquet import external, footer, material, places, wrapping
from envelope_parquet.chunks import Chunk
from envelope_parquet.footer import Footer
from envelope_parquet.keychain import Keychain, KmsClient, RawKeys, is_ours
from envelope_parquet.keytable import Keys
from envelope_parquet.opened import Reading

__all__ = ["RAW", "ColumnAccess", "FileAccess", "Probed", "access", "probe"]

RAW = "(raw key)"
"""Shown where a key's alias would be. No alias has parentheses."""


@dataclass(frozen=True, slots=True)
class ColumnAccess:
    """A leaf column, or the footer, and whether this caller can open it.

    Args:
        column: The path; ``""`` for the footer.
        key: The alias of its key in the file; ``(raw key)`` for one without key material,
            ``None`` where it is plain.
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
    aad_prefix: bytes | None = None,
    kms: KmsClient | None = None,
    raw_keys: RawKeys | None = None,
) -> FileAccess:
    """Which columns of a file are under which keys, and whether this caller can open each.

    It reads the footer and no data, and asks the vault at most once a key. A key that is
    denied is no error here but a row of the answer.

    Args:
        location: A path, a URL, or a binary file object that can seek.
        keys, filesystem, storage_options: See :func:`envelope_parquet.read_table`.
        aad, root, context: See :func:`envelope_parquet.read_table`.
        aad_prefix, kms, raw_keys: For files of other programs, see :class:`Reading`.

    Raises:
        Malformed, Truncated: It is no Parquet file.
    """
    reading = Reading(
        keys, storage_options, aad, root, context, aad_prefix=aad_prefix, kms=kms, raw_keys=raw_keys
    )
    if not isinstance(location, (str, os.PathLike)):
        size = location.seek(0, 2)

        def read_at(offset: int, count: int) -> bytes:
            location.seek(offset)
            return bytes(location.read(count))

        name = f"<{type(location).__name__}>"
        return probe(name, size, read_at, reading.chain(location), aad_prefix).access
    found = places.place(location, filesystem, storage_options)
    chain = reading.chain(location, external.reader(found))
    with found.fs.open_input_file(found.path) as file:
        return probe(
            found.name,
            file.size(),
            lambda offset, count: bytes(file.read_at(count, offset)),
            chain,
            aad_prefix,
        ).access


@dataclass(frozen=True, slots=True)
class Probed:
    """What :func:`probe` found out: the footer is there for files with keys."""

    access: FileAccess
    end: Footer | None = None


def probe(
    name: str,
    size: int,
    read_at: Callable[[int, int], bytes],
    chain: Keychain,
    prefix: bytes | None = None,
) -> Probed:
    """:func:`access` for an opened file, whose keys ``chain`` opens."""
    try:
        end = footer.read(size, read_at)
        return Probed(_examined(name, end, chain, prefix), end)
    except NotEncrypted:
        return Probed(FileAccess(name, None, True, ColumnAccess("", None), ()))
    except EnvelopeError as error:
        error.path = name
        raise


def _examined(name: str, end: Footer, chain: Keychain, prefix: bytes | None) -> FileAccess:
    about, key = _tried("", end.key_metadata, chain, lambda: chain.footer(end))
    columns: list[Chunk] = []
    if key is not None:
        end.prove(key, prefix)
        columns = end.columns
    elif end.plaintext:
        end.assume(prefix)
        columns = end.columns
    return FileAccess(
        name,
        end.algorithm.name,
        end.plaintext,
        about,
        tuple(_column(chain, end, about, each) for each in columns),
    )


def _column(chain: Keychain, end: Footer, about: ColumnAccess, chunk: Chunk) -> ColumnAccess:
    if not chunk.encrypted:
        return ColumnAccess(chunk.path, None)
    if not chunk.own_key:
        return ColumnAccess(chunk.path, about.key, about.kids, about.opens, about.error)
    found, _ = _tried(
        chunk.path,
        chunk.key_metadata,
        chain,
        lambda: chain.column(chunk, lambda: chain.footer(end)),
    )
    if end.plaintext and found.opens and not about.opens:
        # pyarrow verifies the footer before it reads, and cannot without that key.
        return ColumnAccess(chunk.path, found.key, found.kids, False, about.error)
    return found


def _tried(
    path: str, metadata: bytes | None, chain: Keychain, opening: Callable[[], Secret | None]
) -> tuple[ColumnAccess, Secret | None]:
    """What is said of a key, and the key where it opens."""
    alias: str | None = RAW
    kids: tuple[str, ...] = ()
    try:
        if material.is_material(metadata):
            alias = "(unknown)"
            found = chain.material(metadata or b"")
            alias = found.master_key
            if is_ours(found.wrapped_dek):
                kids = wrapping.parse(found.wrapped_dek).kids
        key = opening()
    except EnvelopeError as error:
        return ColumnAccess(path, alias, kids, False, error), None
    return ColumnAccess(path, alias, kids), key
