"""Re-keying a file in place: other key material in its footer, its pages untouched.

This is rotation, as a rewrap of any file is. Who kept the old footer and the old master
key opens the pages for ever; :func:`envelope_parquet.reencrypt` revokes.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from envelope import caller, events
from envelope.errors import ConfigurationError
from envelope.jose import b64u_encode
from envelope.rekeying import Rekeyed
from envelope.sources import OnProgress
from envelope_parquet import external, material, vaultkeys, wrapping
from envelope_parquet.beside import drop_checksum
from envelope_parquet.binding import context_for_writing
from envelope_parquet.chunks import Chunk
from envelope_parquet.keychain import is_ours
from envelope_parquet.material import Material
from envelope_parquet.opened import Opened, Reading, opening
from envelope_parquet.places import Location
from envelope_parquet.placing import changed_in_store, merged_in_store, placed

__all__ = ["KeyChange", "RewrapResult", "rewrap"]

FOOTER = "(footer)"
"""How the footer's key is named beside the columns'."""


@dataclass(frozen=True, slots=True)
class KeyChange:
    """What a rewrap did to one key of a file. Master keys are kids with exact versions.

    Args:
        parts: The columns that are under it, and ``(footer)``.
        alias: Its name in the file now.
        was: Its name before.
        refreshed, added, kept, dropped: Its recipients.
        proven: The new wrap was opened, with a key that this caller may decrypt with.
    """

    parts: tuple[str, ...]
    alias: str
    was: str
    refreshed: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    proven: bool = False

    @property
    def changed(self) -> bool:
        """There is anything to write."""
        return bool(self.alias != self.was or self.refreshed or self.added or self.dropped)


@dataclass(frozen=True, slots=True)
class RewrapResult:
    """What became of a file's keys."""

    source: str
    target: str
    changed: bool
    keys: tuple[KeyChange, ...]
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)


def rewrap(
    source: Location,
    changes: Mapping[str, str] | None = None,
    target: Location | None = None,
    *,
    footer: str | None = None,
    columns: Mapping[str, str] | None = None,
    unmatched: Literal["error", "ignore"] = "error",
    overwrite: bool = True,
    durable: bool = True,
    timeout: float | None = None,
    on_progress: OnProgress | None = None,
    **reading: Any,
) -> RewrapResult:
    """Wrap the data keys of a file anew: to newest versions, other master keys, or other names.

    The pages stay byte for byte, and so do their places: the footer is the last part of a file,
    and only it is written anew, sealed or signed by its old key. A local file is replaced
    by a copy of itself (a clone where the file system can), so that at every instant the
    old or the new one is there. In an object behind a URL the store puts the new footer behind the
    pages where it can: on S3 it copies them by itself, on Azure they stay as blocks. What was
    read and what is replaced are one version; who writes to it meanwhile wins, and what he wrote
    is rewrapped.

    Without any change given, all keys move to the newest versions of their master keys. Key
    material of other programs, double wrapped or not, is left alone unless a change names it; that
    for Spark (docs/spark.md) is rewrapped and stays what it is, as long as its key is in a vault.

    Args:
        source: A path or a URL; or a binary file object, which needs ``target``.
        changes: By the name that a key has in the file, or the URL of a key: the key or
            alias that is to open it from now on.
        target: Where the result goes; ``None`` for in place.
        footer: A key or alias for the footer alone.
        columns: By column path (``address`` stands for all columns in it), a key or alias. Only
            for columns that have keys of their own.
        unmatched: What a change is that fits nothing in the file.
        overwrite: Whether ``target`` may be replaced.
        durable: Whether the new file is synced to its disk before it replaces the old one.
        timeout: Seconds for calls of a vault; ``None`` for the ring's limit.
        on_progress: Called with the bytes copied, and those in all.
        reading: How the keys are found that the file has, see :class:`Reading`.

    Raises:
        ConfigurationError: A change fits nothing, or the column has no key of its own.
        Tampered: The footer does not hold, or a data key does not open its column's metadata.
        FileChanged: Somebody else wrote to the file, or to the object time and again; it was
            left as it is.
        EnvelopeError: A key could not be used; see docs/errors.md. The file was left as it is.
    """
    started = time.perf_counter()
    given = Reading(**reading)
    done: list[_Rewrap] = []  # the last is what was written; before it are those that lost a race

    def work(file: Opened) -> bytes | None:
        with caller.deadline(timeout):
            one = _Rewrap(file, source, changes or {}, footer, columns or {})
            one.run(unmatched)
        done.append(one)
        return file.footer.end(file.prove()) if one.changed or target is not None else None

    if changed_in_store(source, target, given, work, on_progress):
        name = done[-1].file.source.name
        _write_beside(done[-1], target)
    else:
        with opening(source, given) as file, placed(file, source, target) as place:
            name, end = file.source.name, work(file)
            if end is not None:
                name = place.write(
                    end, overwrite=overwrite, durable=durable, on_progress=on_progress
                )
                _write_beside(done[-1], target)
    result = done[-1]
    file = result.file
    seconds = time.perf_counter() - started
    if result.changed:
        event = events.FileFinished(
            "rewrap", file.source.name, file.size, file.size, seconds, result.kek_id, name
        )
        events.emit(event)
    return RewrapResult(file.source.name, name, result.changed, result.keys, seconds)


def _write_beside(done: _Rewrap, target: Location | None) -> None:
    """The key material of a file that has it beside itself."""
    file = done.file
    if file.chain.used_external and (done.changed or target is not None):
        options = file.reading.storage_options
        if target is None and merged_in_store(file.external, done.texts, options):
            return
        beside = file.external if target is None else external.Store(target, options)
        beside.write({**file.external.read(), **done.texts})
        drop_checksum(beside.location)


class _Rewrap:
    def __init__(
        self,
        file: Opened,
        location: Location,
        changes: Mapping[str, str],
        footer: str | None,
        columns: Mapping[str, str],
    ) -> None:
        self.file = file
        self.location = location
        self.footer_key = footer
        self.columns = columns
        self.everything = not changes and footer is None and not columns
        self.changes: dict[str, str] = {}
        for old, new in changes.items():
            # A name that other programs gave is no alias of ours, and none of theirs has a colon.
            self.changes[file.table().alias_of(old) if ":" in old else old] = new
        self.used: set[str] = set()
        self.texts: dict[str, str] = {}
        self.kek_id = ""
        self.keys: tuple[KeyChange, ...] = ()
        self._made: dict[tuple[bytes, str | None], tuple[bytes, KeyChange]] = {}
        self._parts: dict[tuple[bytes, str | None], dict[str, None]] = {}
        self._proven: set[tuple[str, bytes]] = set()

    @property
    def changed(self) -> bool:
        """There is anything to write."""
        return any(key.changed for key in self.keys)

    def run(self, unmatched: str) -> None:
        file = self.file
        file.prove()
        metadata = file.footer.key_metadata
        if metadata is not None:
            file.footer.put_key_metadata(self._metadata(FOOTER, metadata, self.footer_key))
        elif self.footer_key is not None:
            raise _raw("the footer")
        file.footer.change(self._column)
        missing = [name for name in (*self.changes, *self.columns) if name not in self.used]
        if missing and unmatched == "error":
            raise ConfigurationError(
                f"nothing in the file is under {missing[0]!r}",
                next_step=f"Its keys are: {', '.join(sorted(set(self._names()))) or 'none'}.",
            )
        self.keys = tuple(
            dataclasses.replace(change, parts=tuple(self._parts[each]))
            for each, (_, change) in self._made.items()
        )

    def _names(self) -> Iterator[str]:
        for _, change in self._made.values():
            yield change.was

    def _column(self, chunk: Chunk) -> bytes | None:
        given = [
            (name, key)
            for name, key in self.columns.items()
            if chunk.path == name or chunk.path.startswith(name + ".")
        ]
        self.used.update(name for name, _ in given)
        if not chunk.own_key:
            if given:
                raise ConfigurationError(
                    f"column {chunk.path!r} has no key of its own, so that none can be changed",
                    next_step="Change the footer's key, or encrypt the file anew under another "
                    "policy.",
                )
            return None
        if chunk.key_metadata is None:
            if given:
                raise _raw(f"column {chunk.path!r}")
            return None
        made = self._metadata(chunk.path, chunk.key_metadata, given[-1][1] if given else None)
        if made != chunk.key_metadata or given:
            self._check(chunk, chunk.key_metadata)
        return made

    def _check(self, chunk: Chunk, metadata: bytes) -> None:
        """The data key that is carried on is the one that its column is sealed with."""
        if (chunk.path, metadata) not in self._proven:
            chunk.metadata(self.file.chain.column(chunk, self.file.prove))
            self._proven.add((chunk.path, metadata))

    def _metadata(self, part: str, metadata: bytes, given: str | None) -> bytes:
        """What takes the place of key metadata, made once for all row groups."""
        found = self.file.chain.material(metadata)
        new = given
        if found.master_key in self.changes:
            self.used.add(found.master_key)
            new = given or self.changes[found.master_key]
        which = (metadata, new)
        self._parts.setdefault(which, {})[part] = None
        if which not in self._made:
            if new is None and not self.everything:
                made, change = found, KeyChange((), found.master_key, found.master_key)
            else:
                made, change = self._rewrapped(found, new)
            self._made[which] = (self._stored(metadata, made, change), change)
        return self._made[which][0]

    def _stored(self, metadata: bytes, made: Material, change: KeyChange) -> bytes:
        if not change.changed:
            return metadata
        if is_ours(made.wrapped_dek):
            self.kek_id = b64u_encode(wrapping.parse(made.wrapped_dek).section.kek_id)
        reference = material.parse(metadata)
        if isinstance(reference, material.Reference):
            self.texts[reference.name] = made.to_text()
            return metadata
        return made.to_text().encode()

    def _rewrapped(self, found: Material, new: str | None) -> tuple[Material, KeyChange]:
        if self.file.reading.kms is None and vaultkeys.is_vault_key(_under_master(found)):
            new_ring = None if new is None else self.file.table().for_writing(new)
            if new_ring is None or vaultkeys.possible(new_ring):
                return self._rewrapped_for_spark(found, new)
        table, alias = self.file.table(), found.master_key
        ours = is_ours(found.wrapped_dek) and not found.double_wrapped
        if new is None and not ours:
            return found, KeyChange((), alias, alias)
        secret = self.file.chain.open(found)  # compares its context with the file's place, too
        name = alias if new is None else table.alias_of(new)
        if not ours:
            assert new is not None  # noqa: S101 - the other case has returned
            reading = self.file.reading
            pairs = context_for_writing(self.location, reading.aad, reading.root, reading.context)
            text = wrapping.wrap(table.for_writing(new), secret, pairs)
            change = KeyChange((), name, alias, added=wrapping.parse(text).kids)
        else:
            opens = table.for_reading(alias, wrapping.parse(found.wrapped_dek).kids)
            to = None if new is None else table.for_writing(new)
            text, rekeyed = wrapping.rewrap(
                opens, found.wrapped_dek, to=to, replace=new is not None
            )
            change = _change(alias, name, rekeyed)
        return (
            dataclasses.replace(
                found, master_key=name, wrapped_dek=text, kek_id=None, wrapped_kek=None
            ),
            change,
        )

    def _rewrapped_for_spark(self, found: Material, new: str | None) -> tuple[Material, KeyChange]:
        """The same KEK or data key under another key of a vault, in the form that it has."""
        table, alias = self.file.table(), found.master_key
        text, rekeyed = vaultkeys.rewrap(table, alias, _under_master(found), new)
        name = alias if new is None else table.alias_of(new)
        if found.double_wrapped:
            made = dataclasses.replace(found, master_key=name, wrapped_kek=text)
        else:
            made = dataclasses.replace(found, master_key=name, wrapped_dek=text)
        return made, _change(alias, name, rekeyed)


def _under_master(found: Material) -> str:
    """The text of key material that a master key opens."""
    return found.wrapped_dek if found.wrapped_kek is None else found.wrapped_kek


def _change(alias: str, name: str, rekeyed: Rekeyed) -> KeyChange:
    return KeyChange(
        (),
        name,
        alias,
        rekeyed.refreshed,
        rekeyed.added,
        rekeyed.kept,
        rekeyed.dropped,
        rekeyed.proven,
    )


def _raw(what: str) -> ConfigurationError:
    return ConfigurationError(
        f"{what} is under a raw key and has no key material to rewrap",
        next_step="Adopt the file first: envelope_parquet.adopt, envelope parquet adopt.",
    )
