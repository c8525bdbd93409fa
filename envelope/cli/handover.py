"""What a verb is given for one input: sides behind URLs opened, and the keys that hold there.

A mount's or a chain's path means two things. Where a command wants an encrypted
file, it is the stored file, with the keys and the context of the mount. Where
it wants plaintext, it is the plaintext.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from envelope.cli.stores import Place, enveloped
from envelope.cli.targets import Direction, adding, in_place
from envelope.errors import AlreadyExists, ConfigurationError, FileChanged

if TYPE_CHECKING:
    from envelope.ring import KeyRing

__all__ = ["Handover", "Side", "refuse_same", "sink_of", "source_of", "state_of"]

Side = str | Place
"""A local path, or a place behind a URL."""


@dataclass(frozen=True)
class Handover:
    """Makes verbs' arguments.

    Args:
        ring: The keys of everything but mounts.
        bound: ``context`` and ``bind_path`` of the options, as the verbs take them.
        segment_length: Of new files; ``None`` for the default.
    """

    ring: Callable[[], KeyRing]
    bound: Mapping[str, Any] = field(default_factory=dict)
    segment_length: int | None = None

    def reading(self, sealed: Side) -> dict[str, Any]:
        """``source`` and what is needed to open it, for verbs that only read."""
        return {"source": self.stored(sealed), **self.trust(sealed)}

    def writing(
        self, direction: Direction, source: Side, target: Side | None, *, overwrite: bool
    ) -> dict[str, Any]:
        """All that a verb with two sides needs; a ``target`` of ``None`` is the source itself.

        Raises:
            ConfigurationError: The two are the same file, or cannot be the two sides of this.
        """
        refuse_same(source, target)
        if direction.naming is adding:
            assert target is not None  # noqa: S101 - a new file has a name
            given = {**self.trust(target), **self._geometry(target)}
            to = _sink(target, overwrite, behind=True)
            return {"source": source_of(source), "target": to, **given}
        if direction.naming is in_place:
            if isinstance(target, Place) and enveloped(target.url):
                raise ConfigurationError(
                    "a mount or a chain encrypts by itself what is written to it",
                    path=target.url,
                    next_step="Copy the plaintext there: envelope cp.",
                )
            given = {**self.trust(source), **self._geometry(None)}
            to = None if target is None else _sink(target, overwrite, behind=False)
            if target is None and isinstance(source, Place):
                to = _sink(source, True, behind=True)
                to = None if isinstance(to, str) else to
            return {"source": self.stored(source), "target": to, **given}
        assert target is not None  # noqa: S101 - as above
        to = sink_of(target, overwrite)
        return {"source": self.stored(source), "target": to, **self.trust(source)}

    def trust(self, sealed: Side) -> dict[str, Any]:
        """Keys and context of an encrypted file, for any verb."""
        if not isinstance(sealed, Place):
            return {"keys": self.ring(), **self.bound}
        found = sealed.behind
        if found is not None:
            return {"keys": found.keys, "context": dict(found.context)}
        context, root = self.bound.get("context"), self.bound.get("bind_path")
        if root is not None:
            from envelope.context import expected

            context = expected(context, sealed.url, root)
        return {"keys": self.ring(), "context": context}

    def stored(self, sealed: Side) -> Any:
        """The stored bytes of an encrypted file, as the verbs take them."""
        if not isinstance(sealed, Place):
            return sealed
        found = sealed.behind
        if found is None:
            return _opened(sealed.fs, sealed.path, sealed.url)
        return _opened(found.store, found.path, sealed.url)

    def _geometry(self, target: Side | None) -> dict[str, Any]:
        found = target.behind if isinstance(target, Place) else None
        length = self.segment_length if found is None else found.segment_length
        return {} if length is None else {"segment_length": length}


def source_of(plain: Side) -> Any:
    """Plaintext, as the verbs take a source. A mount's or a chain's file is decrypted."""
    if not isinstance(plain, Place):
        return plain
    return _opened(plain.fs, plain.path, plain.url, pinned=True)


def sink_of(plain: Side, overwrite: bool) -> Any:
    """A place for plaintext, as the verbs take a target. A mount or a chain encrypts it."""
    if isinstance(plain, Place) and enveloped(plain.url):
        return _Encrypting(plain, overwrite)
    return _sink(plain, overwrite, behind=False)


class _Encrypting:
    """A :class:`envelope.sinks.Sink` that encrypts as it is written to: nothing waits in plain."""

    parallel = False

    def __init__(self, place: Place, overwrite: bool) -> None:
        self.name = place.url
        try:
            self._writer = place.fs.open(place.path, "wb" if overwrite else "xb")
        except FileExistsError as error:
            raise AlreadyExists("the target exists", path=place.url) from error

    def write_at(self, _offset: int, data: memoryview) -> None:
        self._writer.write(data)

    def commit(self) -> None:
        try:
            self._writer.commit()
        except FileExistsError as error:
            raise AlreadyExists("the target was made meanwhile", path=self.name) from error

    def abort(self) -> None:
        if not self._writer.closed:
            self._writer.abort()


def _sink(target: Side, overwrite: bool, *, behind: bool) -> Any:
    if not isinstance(target, Place):
        return target
    from fsspec.implementations.local import LocalFileSystem

    from envelope.sinks import FsspecSink

    found = target.behind if behind else None
    fs, path = (target.fs, target.path) if found is None else (found.store, found.path)
    if isinstance(fs, LocalFileSystem):
        return path
    return FsspecSink(fs, path, target.url, overwrite=overwrite)


def _opened(fs: Any, path: str, url: str, *, pinned: bool = False) -> Any:
    from fsspec.implementations.local import LocalFileSystem

    from envelope.sources import FileSource

    if isinstance(fs, LocalFileSystem):
        return path
    if not pinned:
        return FileSource(fs.open(path, "rb"), url, owned=True)

    class Pinned(FileSource):
        """Plaintext: no tag shows that it was changed, so the store is asked at the end."""

        def __init__(self) -> None:
            self._before = state_of(fs, path)
            super().__init__(fs.open(path, "rb"), url, owned=True)

        def check_unchanged(self) -> None:
            if state_of(fs, path) != self._before:
                raise FileChanged("the file was changed while it was read", path=url)

    return Pinned()


_STATE = (
    "size", "stored_size", "ETag", "etag", "mtime", "LastModified", "last_modified", "updated",
    "created", "generation",
)  # fmt: skip


def state_of(fs: Any, path: str) -> tuple[Any, ...]:
    """What changes when a stored file is written to."""
    fs.invalidate_cache(fs._parent(path))
    info = fs.info(path)
    return tuple(info.get(name) for name in _STATE)


def refuse_same(source: Side, target: Side | None) -> None:
    """Refuse two sides that are one stored file.

    Raises:
        ConfigurationError: They are.
    """
    if not isinstance(source, Place) or not isinstance(target, Place):
        return
    if source.store == target.store:
        paths = [(place.behind or place).path.strip("/") for place in (source, target)]
        if paths[0] == paths[1]:
            raise ConfigurationError(
                f"source and target are the same file: {source.url}",
                next_step="Give another target; the original can be removed afterwards.",
            )
