"""All mounts of the configuration in one file system: a path's first part names its mount.

Programs that look a file system up by its scheme alone (kedro, PyIceberg,
DuckDB) get this one. It holds no keys: one :class:`EnvelopeFileSystem` for each
mount does the work, made when the mount is first used.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import fsspec
from fsspec.json import FilesystemJSONEncoder

from envelope.errors import ConfigurationError
from envelope_fsspec import mounts
from envelope_fsspec.behind import Behind
from envelope_fsspec.files import Files
from envelope_fsspec.filesystem import EnvelopeFileSystem, on_mount
from envelope_fsspec.steps import Steps, Together, Work
from envelope_fsspec.target import Target

__all__ = ["MountsFileSystem"]

_PIECE = 2**20  # what is copied at a time between two mounts


class MountsFileSystem(EnvelopeFileSystem):
    """See the module.

    Args:
        mounts: All mounts, resolved (:func:`envelope_fsspec.mounts.all_resolved`).
        asynchronous, loop, batch_size: As for every asynchronous file system of fsspec.
    """

    def __init__(self, mounts: Mapping[str, Mapping[str, Any]], **kwargs: Any) -> None:
        if getattr(self, "_cached", False):
            return
        self.mounts = mounts
        asynchronous = bool(kwargs.get("asynchronous"))
        self.async_impl = asynchronous or any(map(_is_asynchronous, mounts.values()))
        self._given: dict[str, Any] = {
            name: kwargs[name] for name in ("asynchronous", "loop") if name in kwargs
        }
        self._served: dict[str, EnvelopeFileSystem] = {}
        self.target: Any = _Targets(self.serving, mounts)
        self._files: Any = _Files(self.serving)
        super(EnvelopeFileSystem, self).__init__(**kwargs)

    def serving(self, path: str) -> EnvelopeFileSystem:
        """The file system of the mount that a path lies in.

        Raises:
            ConfigurationError: There is no such mount, or it is not right.
            IsADirectoryError: The path names no mount: it is the folder of all.
        """
        name = self._strip_protocol(path).strip("/").partition("/")[0]
        if not name:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        if name not in self._served:
            if name not in self.mounts:
                raise mounts.unknown(name, self.mounts)
            found = self.mounts[name]
            if "error" in found:
                raise ConfigurationError(found["error"])
            self._served[name] = EnvelopeFileSystem(**on_mount(name, found, self._given))
        return self._served[name]

    def ukey(self, path: str) -> str:
        return str(self.serving(path).ukey(path))

    def checksum(self, path: str) -> int:
        return int(self.serving(path).checksum(path))

    def created(self, path: str) -> Any:
        return self.serving(path).created(path)

    def modified(self, path: str) -> Any:
        return self.serving(path).modified(path)

    def invalidate_cache(self, path: str | None = None) -> None:
        path = self._strip_protocol(path or "")
        for served in [self.serving(path)] if path else list(self._served.values()):
            served.invalidate_cache(path or None)

    def behind(self, path: str) -> Behind:
        return self.serving(path).behind(path)

    def name_key(self, path: str) -> Behind | None:
        return self.serving(path).name_key(path)

    def applies(self, path: str) -> dict[str, Any]:
        return self.serving(path).applies(path)

    def to_dict(self, *, include_password: bool = True) -> dict[str, Any]:  # noqa: ARG002 - none here
        """As fsspec's, with the keys of each mount as their configuration."""
        described = {
            name: {
                key: value.to_config() if key == "policy" else value for key, value in of.items()
            }
            for name, of in self.mounts.items()
        }
        options = {name: given for name, given in self.storage_options.items() if name != "mounts"}
        return {
            "cls": f"{type(self).__module__}:{type(self).__name__}",
            "protocol": "envelope",
            "args": (),
            **FilesystemJSONEncoder().make_serializable(options),
            "mounts": described,
        }

    def __repr__(self) -> str:
        return f"<EnvelopeFileSystem mounts {', '.join(self.mounts)}>"

    @property
    def fsid(self) -> str:
        return "envelope_mounts"


def _is_asynchronous(found: Mapping[str, Any]) -> bool:
    """By the class, which costs an import; the store itself is made when it is used."""
    if "error" in found:
        return False
    scheme = found["url"].partition("::")[0].partition("://")
    try:
        return bool(fsspec.get_filesystem_class(scheme[0] if scheme[1] else "file").async_impl)
    except (ImportError, ValueError):
        return False  # its mount says so when it is used


class _Targets:
    """What the file system asks a :class:`envelope_fsspec.target.Target`, by mount.

    The file system of a mount is made before an operation begins: some stores cannot be made on
    the event loop.
    """

    def __init__(
        self, serving: Callable[[str], EnvelopeFileSystem], known: Mapping[str, Any]
    ) -> None:
        self._serving = serving
        self._known = known

    def domain(self, path: str) -> Any:
        return self._serving(path).target.domain(path)

    def stored(self, path: str) -> str:
        return str(self._serving(path).target.stored(path))

    def forget(self, path: str) -> None:
        self._serving(path).target.forget(path)

    def info(self, path: str, **kwargs: Any) -> Steps[dict[str, Any]]:
        if path.strip("/"):
            return self._target(path).info(path, **kwargs)
        return _done(_folder(""))

    def ls(self, path: str, **kwargs: Any) -> Steps[list[dict[str, Any]]]:
        if path.strip("/"):
            return self._target(path).ls(path, **kwargs)
        return _done([_folder(name) for name in self._known])

    def find(
        self, path: str, maxdepth: int | None = None, withdirs: bool = False, **kwargs: Any
    ) -> Steps[dict[str, dict[str, Any]]]:
        if path.strip("/"):
            return self._target(path).find(path, maxdepth, withdirs, **kwargs)
        deeper = maxdepth is None or maxdepth > 1
        below = None if maxdepth is None else maxdepth - 1
        folders = {name: _folder(name) for name in self._known} if withdirs else {}
        return _merged(
            folders,
            [self._target(name).find(name, below, withdirs) for name in self._known if deeper],
        )

    def cat_file(
        self, path: str, start: int | None, end: int | None, **kwargs: Any
    ) -> Steps[bytes]:
        return self._target(path).cat_file(path, start, end, **kwargs)

    def cat_ranges(
        self, wanted: Sequence[tuple[str, int | None, int | None]], **kwargs: Any
    ) -> Steps[list[Any]]:
        groups: dict[Target, list[int]] = {}
        for index, (path, _, _) in enumerate(wanted):
            groups.setdefault(self._target(path), []).append(index)
        return _scattered(
            len(wanted),
            list(groups.values()),
            [
                target.cat_ranges([wanted[index] for index in indices], **kwargs)
                for target, indices in groups.items()
            ],
        )

    def _target(self, path: str) -> Target:
        return self._serving(path).target


class _Files:
    """What the file system asks of :class:`envelope_fsspec.files.Files`, by mount."""

    def __init__(self, serving: Callable[[str], EnvelopeFileSystem]) -> None:
        self._serving = serving

    def open_reader(self, path: str) -> Any:
        return self._files(path).open_reader(path)

    def open_writer(
        self, path: str, overwrite: bool, autocommit: bool = True, loop: Any = None, **kwargs: Any
    ) -> Any:
        return self._files(path).open_writer(path, overwrite, autocommit, loop, **kwargs)

    def compressed(self, inner: Any, path: str, mode: str, compression: str) -> Any:
        return self._files(path).compressed(inner, path, mode, compression)

    def pipe_file(self, path: str, *args: Any, **kwargs: Any) -> Steps[None]:
        return self._files(path).pipe_file(path, *args, **kwargs)

    def put_file(self, lpath: Any, rpath: str, **kwargs: Any) -> Steps[None]:
        return self._files(rpath).put_file(lpath, rpath, **kwargs)

    def get_file(self, rpath: str, lpath: Any = None, **kwargs: Any) -> Steps[None]:
        if rpath.strip("/"):
            return self._files(rpath).get_file(rpath, lpath, **kwargs)
        os.makedirs(lpath, exist_ok=True)  # as for each folder of a tree that is fetched
        return _done(None)

    def cp_file(self, first: str, second: str, **kwargs: Any) -> Steps[None]:
        one, other = self._serving(first), self._serving(second)
        if one is other:
            return one._files.cp_file(first, second, **kwargs)
        return _copied(one, first, other, second, kwargs)

    def changed(self, method: str, path: str, **kwargs: Any) -> Steps[None]:
        return self._files(path).changed(method, path, **kwargs)

    def rm(self, path: Any, *args: Any, **kwargs: Any) -> Steps[None]:
        if isinstance(path, str):
            return self._files(path).rm(path, *args, **kwargs)
        groups: dict[Files, list[str]] = {}
        for item in path:
            groups.setdefault(self._files(item), []).append(item)
        return _each([files.rm(paths, *args, **kwargs) for files, paths in groups.items()])

    def _files(self, path: str) -> Files:
        return self._serving(path)._files


def _folder(name: str) -> dict[str, Any]:
    return {"name": name, "size": 0, "type": "directory"}


def _done(answer: Any) -> Steps[Any]:
    yield from ()
    return answer


def _merged(
    found: dict[str, Any], operations: list[Steps[dict[str, Any]]]
) -> Steps[dict[str, Any]]:
    for listed in (yield Together(operations)):
        found.update(listed)
    return dict(sorted(found.items()))


def _scattered(
    count: int, groups: list[list[int]], operations: list[Steps[list[Any]]]
) -> Steps[list[Any]]:
    answers: list[Any] = [None] * count
    for indices, found in zip(groups, (yield Together(operations)), strict=True):
        for index, answer in zip(indices, found, strict=True):
            answers[index] = answer
    return answers


def _each(operations: list[Steps[None]]) -> Steps[None]:
    yield Together(operations)


def _copied(
    one: EnvelopeFileSystem,
    first: str,
    other: EnvelopeFileSystem,
    second: str,
    options: Mapping[str, Any],
) -> Steps[None]:
    """Between two mounts a file is decrypted and encrypted anew."""
    info = yield from one.target.info(first)
    if info["type"] == "directory":
        yield from other._files.changed("makedirs", second, exist_ok=True)
        return
    loops = one._files._current_loop(), other._files._current_loop()
    yield Work(partial(_anew, one, first, other, second, loops, options), True)


def _anew(
    one: EnvelopeFileSystem,
    first: str,
    other: EnvelopeFileSystem,
    second: str,
    loops: Any,
    options: Mapping[str, Any],
) -> None:
    with (
        one._files.open_reader(first, loops[0]) as reader,
        other._files.open_writer(second, True, loop=loops[1], **options) as writer,
    ):
        shutil.copyfileobj(reader, writer, _PIECE)
