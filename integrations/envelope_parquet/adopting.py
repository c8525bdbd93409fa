"""Adopting files that were written with raw keys: they get key material, and stay as they are.

Polars, pyarrow's low-level properties and others write Parquet's encryption with keys that
the program holds. Spliced into the footer, wrapped key material makes such a file one that
a key ring opens, rotates and denies. The raw keys still open it: whoever had them keeps it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from envelope import caller, events
from envelope.errors import ConfigurationError, Tampered, UnsupportedFormat
from envelope.jose import b64u_encode
from envelope.secret import Secret
from envelope.sources import OnProgress
from envelope_parquet import modules, wrapping
from envelope_parquet.binding import context_for_writing
from envelope_parquet.chunks import Chunk
from envelope_parquet.keychain import RawKeys
from envelope_parquet.material import Material
from envelope_parquet.opened import Opened, Reading, opening
from envelope_parquet.places import Location
from envelope_parquet.placing import changed_in_store, placed

__all__ = ["AdoptResult", "adopt"]


@dataclass(frozen=True, slots=True)
class AdoptResult:
    """By part of a file (a column's path; ``(footer)``), the alias of its key."""

    source: str
    target: str
    keys: Mapping[str, str]
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)


def adopt(
    source: Location,
    raw_keys: RawKeys,
    target: Location | None = None,
    *,
    footer: str,
    columns: Mapping[str, str] | None = None,
    replace: bool = False,
    overwrite: bool = True,
    durable: bool = True,
    timeout: float | None = None,
    on_progress: OnProgress | None = None,
    **reading: Any,
) -> AdoptResult:
    """Put a file that was written with raw keys under keys of a key ring.

    The data keys stay, so the pages do too, byte for byte. Each raw key is proven on the
    footer or on the metadata of its column in all row groups before anything is written.

    Args:
        source: A path or a URL; or a binary file object, which needs ``target``.
        raw_keys: The keys that the file was written with.
        target: Where the result goes; ``None`` for in place.
        footer: The key or alias for the footer, and for columns that ``columns`` does not name.
        columns: By column path (``address`` stands for all columns in it), a key or alias. Only
            for columns that were written with keys of their own.
        replace: Whether key metadata that the file has may be replaced: key names of the
            program that wrote it.
        overwrite, durable, timeout, on_progress: See :func:`rewrap`.
        reading: How keys are found, see :class:`Reading`; ``aad``, ``root`` and ``context``
            say what the new key material is bound to.

    Raises:
        ConfigurationError: A raw key is missing, a column has no key of its own, or there is
            key material already.
        Tampered: A raw key does not open what it is given for.
        UnsupportedFormat: The file is sealed without AADs, as DuckDB does, or with an AAD prefix
            that it does not tell: no reader with key material opens such files.
        EnvelopeError: A key could not be used; see docs/errors.md.
    """
    started = time.perf_counter()
    given = Reading(**{**reading, "raw_keys": raw_keys})
    done: list[_Adoption] = []  # the last is what was written

    def work(file: Opened) -> bytes:
        with caller.deadline(timeout):
            one = _Adoption(file, source if target is None else target, footer, columns or {})
            one.run(replace)
        done.append(one)
        return file.footer.end(file.prove())

    if changed_in_store(source, target, given, work, on_progress):
        name = done[-1].file.source.name
    else:
        with opening(source, given) as file, placed(file, source, target) as place:
            end = work(file)
            name = place.write(end, overwrite=overwrite, durable=durable, on_progress=on_progress)
    result = done[-1]
    file = result.file
    seconds = time.perf_counter() - started
    events.emit(
        events.FileFinished(
            "rewrap", file.source.name, file.size, file.size, seconds, result.kek_id, name
        )
    )
    return AdoptResult(file.source.name, name, result.names, seconds)


class _Adoption:
    def __init__(
        self, file: Opened, target: Location, footer: str, columns: Mapping[str, str]
    ) -> None:
        self.file = file
        self.footer_key = footer
        self.columns = columns
        self.names: dict[str, str] = {}
        self.kek_id = ""
        self.replace = False
        self._used: set[str] = set()
        self._made: dict[str, bytes] = {}
        reading = file.reading
        self._pairs = context_for_writing(target, reading.aad, reading.root, reading.context)

    def run(self, replace: bool) -> None:
        file, self.replace = self.file, replace
        if file.footer.algorithm.needs_prefix:
            raise UnsupportedFormat(
                "the file was written with an AAD prefix that it does not tell, and readers with "
                "key material cannot be given one",
                next_step="Write it again with its prefix stored, or convert it.",
            )
        try:
            key = file.prove()
        except Tampered:
            self._refuse_without_aad()
            raise
        self._check_free(file.footer.key_metadata, "the footer")
        file.footer.put_key_metadata(self._material("(footer)", self.footer_key, key, footer=True))
        file.footer.change(self._column)
        missing = [name for name in self.columns if name not in self._used]
        if missing:
            raise ConfigurationError(f"the file has no column {missing[0]!r}")

    def _column(self, chunk: Chunk) -> bytes | None:
        given = [n for n in self.columns if chunk.path == n or chunk.path.startswith(n + ".")]
        self._used.update(given)
        if not chunk.own_key:
            if given:
                raise ConfigurationError(
                    f"column {chunk.path!r} was written without a key of its own",
                    next_step="It goes with the footer, or is plain; leave it out of columns.",
                )
            return None
        secret = self.file.chain.raw(chunk.path)
        chunk.metadata(secret)  # in each row group, since what is bound must open
        if chunk.path not in self._made:
            self._check_free(chunk.key_metadata, f"column {chunk.path!r}")
            key = self.columns[given[-1]] if given else self.footer_key
            self._made[chunk.path] = self._material(chunk.path, key, secret, footer=False)
        return self._made[chunk.path]

    def _material(self, part: str, key: str, secret: Secret, *, footer: bool) -> bytes:
        table = self.file.table()
        alias = self.names[part] = table.alias_of(key)
        text = wrapping.wrap(table.for_writing(key), secret, self._pairs)
        self.kek_id = b64u_encode(wrapping.parse(text).section.kek_id)
        return Material(alias, text, footer=footer).to_text().encode()

    def _check_free(self, metadata: bytes | None, what: str) -> None:
        if metadata is not None and metadata.lstrip()[:1] == b"{":
            raise ConfigurationError(
                f"{what} has key material already", next_step="Rewrap the file instead."
            )
        if metadata and not self.replace:
            raise ConfigurationError(
                f"{what} has key metadata of the program that wrote it: {metadata[:40]!a}",
                next_step="Allow it to be replaced: replace=True (--replace).",
            )

    def _refuse_without_aad(self) -> None:
        """Say so where a footer is sealed with the key that was given, and with nothing else."""
        file = self.file
        if file.footer.algorithm.unique or file.footer.plaintext:
            return
        try:
            modules.opened(file.chain.footer(file.footer), file.footer.sealed, b"", "")
        except Tampered:
            return
        raise UnsupportedFormat(
            "the file's parts are sealed without AADs, as DuckDB does: they could be exchanged, "
            "and no other program reads it",
            next_step="Read it where it was written, and write it through envelope_parquet.",
        )
