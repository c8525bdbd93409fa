"""The file system class that fsspec finds under the name ``envelope``.

It decides nothing about keys (:mod:`envelope_fsspec.policy`) or bytes
(:mod:`envelope_fsspec.target`). It is what fsspec and the programs on top of it
expect of a class: docs/filesystem.md has what each method means for plaintext.
"""

from __future__ import annotations

import asyncio
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NoReturn

import fsspec
from fsspec.asyn import AsyncFileSystem, sync
from fsspec.implementations.chained import ChainedFileSystem
from fsspec.json import FilesystemJSONEncoder
from fsspec.spec import AbstractFileSystem

from envelope import KeyRing, schema
from envelope.errors import EnvelopeError
from envelope.keys import Finding
from envelope_fsspec import mounts, transactions
from envelope_fsspec.behind import Behind, described, rings_of
from envelope_fsspec.examination import examined
from envelope_fsspec.files import Files
from envelope_fsspec.places import Paths
from envelope_fsspec.policy import OPTIONS, Policy
from envelope_fsspec.steps import Steps, Work, is_asynchronous, run, run_async
from envelope_fsspec.target import Target

__all__ = ["EnvelopeFileSystem"]

_CHAIN = ("fs", "fo", "target_protocol", "target_options", "mount", "policy", "mounts")
_FSSPEC = (
    "asynchronous", "loop", "batch_size", "skip_instance_cache", "use_listings_cache",
    "listings_expiry_time", "max_paths",
)  # fmt: skip
_OWN = (*OPTIONS, *_FSSPEC)


class _Resolving(type(AbstractFileSystem)):  # type: ignore[misc]  # fsspec is not typed
    """Resolves the options before fsspec makes a token of them.

    The token decides who shares an instance, and with it a credential. So it
    is made of the resolved keys, never of a profile's name or of nothing.
    """

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        if args:
            raise TypeError("the file system takes its options by name")
        resolved = _resolved(cls, kwargs)
        if "mounts" in resolved and cls is EnvelopeFileSystem:
            from envelope_fsspec.mounted import MountsFileSystem

            return MountsFileSystem(**resolved)
        return super().__call__(**resolved)


def _resolved(cls: Any, given: dict[str, Any]) -> dict[str, Any]:
    called = given
    given = dict(fsspec.config.apply_config(cls, called))
    for name in given:
        if name not in (*OPTIONS, *_CHAIN, *_FSSPEC):
            known = (*OPTIONS, *_CHAIN[:5], *_FSSPEC)
            raise TypeError(
                f"the envelope file system has no option {name!r}. "
                f"{schema.suggestion(name, known)} Options of the store go under its own name, "
                'as in {"keys": …, "abfs": {…}}'
            )
    options = {name: given.pop(name) for name in OPTIONS if name in given}
    policy = given.pop("policy", None)
    if isinstance(policy, Mapping):
        policy = Policy.from_config(policy)
    chained = given.get("fs") is not None or given.get("target_protocol") is not None
    mount = given.get("mount")
    if policy is None and chained:
        policy = Policy(options)
    elif policy is None:
        # What fsspec's own configuration adds is for chains: a mount says all of it.
        if any(name in called for name in options):
            raise TypeError(
                f"a mount has all its options in the configuration, and {sorted(options)[0]!r} "
                "was given without a store: envelope::STORE://…"
            )
        if mount is not None:
            return on_mount(mount, mounts.resolved(mount), given)
        described = given.get("mounts")
        given["mounts"] = mounts.all_resolved() if described is None else mounts.again(described)
    elif isinstance(mount, list):  # from JSON
        given["mount"] = tuple(mount)
    given["policy"] = policy
    return {name: value for name, value in given.items() if value is not None}


def on_mount(name: str, found: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The options of the file system on one mount, as :func:`mounts.resolved` found it."""
    store, base = fsspec.url_to_fs(found["url"], **found["options"])
    return {
        **given,
        "target_protocol": _protocol(store),
        "target_options": dict(store.storage_options),
        "mount": (name, base),
        "policy": found["policy"],
    }


def _protocol(store: Any) -> str:
    return store.protocol if isinstance(store.protocol, str) else str(store.protocol[0])


class EnvelopeFileSystem(AsyncFileSystem, ChainedFileSystem, metaclass=_Resolving):  # type: ignore[misc]  # fsspec is not typed
    """Plaintext paths over a store of encrypted files (docs/filesystem.md).

    Args:
        fs: The store, made already; or
        target_protocol, target_options: how to make it.
        fo: The store's path that a chained URL names; not used.
        mount: A mount of the configuration by its name, which is resolved to that and the
            store's path of its root.
        policy: Keys and geometry, resolved; made from the other options.
        asynchronous, loop, batch_size: As for every asynchronous file system of fsspec.

    Raises:
        TypeError: An unknown option, or options of a chain without a store.
        ConfigurationError: See :class:`envelope_fsspec.policy.Policy`.
    """

    protocol: str | tuple[str, ...] = "envelope"
    cachable = True
    async_impl = True
    _strip_tokenize_options = ("fo",)
    transaction_type = transactions.Whole

    def __init__(
        self,
        fs: Any = None,
        fo: str | None = None,  # noqa: ARG002 - a chained URL's path; each URL would be an instance
        target_protocol: str | None = None,
        target_options: Mapping[str, Any] | None = None,
        mount: Sequence[str] | None = None,
        policy: Policy | None = None,
        **kwargs: Any,
    ) -> None:
        if getattr(self, "_cached", False):
            return
        assert policy is not None  # noqa: S101 - the metaclass has made it
        if fs is None:
            options = dict(target_options or {})
            if issubclass(fsspec.get_filesystem_class(target_protocol), AsyncFileSystem):
                options.update(
                    {name: kwargs[name] for name in ("asynchronous", "loop") if name in kwargs}
                )
            fs = fsspec.filesystem(target_protocol, **options)
        # A store without asynchronous methods is asked on threads: zarr asks none for less.
        self.async_impl = is_asynchronous(fs) or bool(kwargs.get("asynchronous"))
        self.fs = fs
        self.policy = policy
        shown, base = ("", "") if mount is None else mount
        self.mount = shown
        self.target = Target(fs, policy, Paths(shown, base, policy.root))
        self._files = Files(self.target, lambda: self.loop)
        super().__init__(**kwargs)
        self._shape(fs)

    def _shape(self, fs: Any) -> None:
        """What programs look at on an instance and fsspec on the class (see style of fsspec)."""
        names = [fs.protocol] if isinstance(fs.protocol, str) else list(fs.protocol)
        chained = tuple(f"envelope::{name}" for name in names)
        self.protocol = ("envelope",) if self.mount else (*chained, "envelope")
        self.root_marker = "" if self.mount else fs.root_marker
        self.sep = fs.sep

        def strip(path: Any) -> Any:
            if isinstance(path, list):
                return [strip(item) for item in path]
            text = fsspec.utils.stringify_path(path)
            for prefix in ("envelope::", "envelope://"):
                if text.startswith(prefix):
                    text = text[len(prefix) :]
                    break
            return text.rstrip("/") if self.mount else fs._strip_protocol(text)

        def parent(path: str) -> str:
            path = strip(path)
            if not self.mount:
                return str(fs._parent(path))
            return path.rpartition("/")[0] if "/" in path else ""

        self._strip_protocol = strip
        self._parent = parent

    @staticmethod
    def _get_kwargs_from_urls(path: str) -> dict[str, str]:
        """``envelope://MOUNT/…`` names its mount; a link of a chain names none."""
        name = path.removeprefix("envelope://").partition("/")[0]
        return {"mount": name} if path.startswith("envelope://") and name else {}

    @classmethod
    def on(
        cls,
        protocol: str | None,
        *,
        target_options: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Any:
        """See :func:`envelope.filesystem`."""
        own = {name: given for name, given in options.items() if name in _OWN}
        if protocol is None:
            return cls(**options)
        store = {name: given for name, given in options.items() if name not in _OWN}
        return cls(
            target_protocol=protocol, target_options={**store, **(target_options or {})}, **own
        )

    # --- Running operations ---------------------------------------------------------------------

    def _run(self, operation: Steps[Any]) -> Any:
        if self.async_impl:
            return sync(self.loop, run_async, operation)
        return run(operation)

    # --- Describing -----------------------------------------------------------------------------

    def info(self, path: str, **kwargs: Any) -> Any:
        return self._run(self.target.info(self._strip_protocol(path), **kwargs))

    async def _info(self, path: str, **kwargs: Any) -> Any:
        return await run_async(self.target.info(self._strip_protocol(path), **kwargs))

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> Any:
        found = self._run(self.target.ls(self._strip_protocol(path), **kwargs))
        return found if detail else sorted(info["name"] for info in found)

    async def _ls(self, path: str, detail: bool = True, **kwargs: Any) -> Any:
        found = await run_async(self.target.ls(self._strip_protocol(path), **kwargs))
        return found if detail else sorted(info["name"] for info in found)

    def exists(self, path: str, **kwargs: Any) -> bool:
        """As fsspec's, but that a key which cannot be used does not pass for a missing file."""
        try:
            self.info(path, **kwargs)
            return True
        except EnvelopeError:
            raise
        except Exception:
            return False

    def find(
        self,
        path: str,
        maxdepth: int | None = None,
        withdirs: bool = False,
        detail: bool = False,
        **kwargs: Any,
    ) -> Any:
        path = self._strip_protocol(path)
        found = self._run(self.target.find(path, maxdepth, withdirs, **kwargs))
        return found if detail else list(found)

    async def _find(
        self,
        path: str,
        maxdepth: int | None = None,
        withdirs: bool = False,
        detail: bool = False,
        **kwargs: Any,
    ) -> Any:
        path = self._strip_protocol(path)
        found = await run_async(self.target.find(path, maxdepth, withdirs, **kwargs))
        return found if detail else list(found)

    def du(
        self,
        path: str,
        total: bool = True,
        maxdepth: int | None = None,
        withdirs: bool = False,
        **kwargs: Any,
    ) -> Any:
        """As fsspec's, by one listing where that asks for each file again."""
        found = self.find(path, maxdepth=maxdepth, withdirs=withdirs, detail=True, **kwargs)
        return _added(found, total)

    async def _du(
        self, path: str, total: bool = True, maxdepth: int | None = None, **kwargs: Any
    ) -> Any:
        return _added(await self._find(path, maxdepth=maxdepth, detail=True, **kwargs), total)

    def ukey(self, path: str) -> str:
        """Changes with the stored file, by whatever the store tells: ETag, times."""
        return str(self.fs.ukey(self._located(path)))

    def checksum(self, path: str) -> int:
        """Changes with the stored file; no checksum of the plaintext."""
        return int(self.fs.checksum(self._located(path)))

    def created(self, path: str) -> Any:
        return self.fs.created(self._located(path))

    def modified(self, path: str) -> Any:
        return self.fs.modified(self._located(path))

    def _located(self, path: str) -> str:
        """The store's path, for a call of the store from here."""
        path = self._strip_protocol(path)
        named = self.target.naming is not None
        return str(self._run(self.target.located(path)) if named else self.target.stored(path))

    def sign(self, path: str, expiration: int = 100, **kwargs: Any) -> NoReturn:
        """Never: the URL would hand out ciphertext."""
        raise NotImplementedError("a signed URL of an encrypted file would give ciphertext")

    def invalidate_cache(self, path: str | None = None) -> None:
        if path is None:
            self.target.forget_all()
        else:
            self.target.forget(self._strip_protocol(path))
        super().invalidate_cache(path)

    # --- Reading --------------------------------------------------------------------------------

    def cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any
    ) -> Any:
        return self._run(self.target.cat_file(self._strip_protocol(path), start, end, **kwargs))

    async def _cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any
    ) -> Any:
        path = self._strip_protocol(path)
        return await run_async(self.target.cat_file(path, start, end, **kwargs))

    def cat_ranges(
        self,
        paths: list[str],
        starts: Any,
        ends: Any,
        max_gap: int | None = None,
        on_error: str = "return",
        **kwargs: Any,
    ) -> Any:
        wanted = self._ranges(paths, starts, ends, max_gap)
        return _settled(self._run(self.target.cat_ranges(wanted, **kwargs)), on_error)

    async def _cat_ranges(
        self,
        paths: list[str],
        starts: Any,
        ends: Any,
        max_gap: int | None = None,
        batch_size: int | None = None,  # noqa: ARG002 - all at once: the store bounds itself
        on_error: str = "return",
        **kwargs: Any,
    ) -> Any:
        wanted = self._ranges(paths, starts, ends, max_gap)
        return _settled(await run_async(self.target.cat_ranges(wanted, **kwargs)), on_error)

    def _ranges(
        self, paths: list[str], starts: Any, ends: Any, max_gap: int | None
    ) -> list[tuple[str, int | None, int | None]]:
        if max_gap is not None:
            raise NotImplementedError
        if not isinstance(paths, list):
            raise TypeError("paths is a list")
        sides = [
            list(side) if isinstance(side, Sequence) else [side] * len(paths)
            for side in (starts, ends)
        ]
        if any(len(side) != len(paths) for side in sides):
            raise ValueError("there are as many starts and ends as paths")
        names = map(self._strip_protocol, paths)
        return list(zip(names, sides[0], sides[1], strict=True))

    def get_file(self, rpath: str, lpath: Any = None, **kwargs: Any) -> Any:
        return self._run(self._files.get_file(self._strip_protocol(rpath), lpath, **kwargs))

    async def _get_file(self, rpath: str, lpath: Any, **kwargs: Any) -> Any:
        rpath = self._strip_protocol(rpath)
        return await run_async(self._files.get_file(rpath, lpath, **kwargs))

    # --- Writing --------------------------------------------------------------------------------

    def pipe_file(self, path: str, value: Any, mode: str = "overwrite", **kwargs: Any) -> Any:
        path = self._strip_protocol(path)
        return self._run(self._piped(path, value, mode, kwargs))

    async def _pipe_file(
        self, path: str, value: Any, mode: str = "overwrite", **kwargs: Any
    ) -> Any:
        path = self._strip_protocol(path)
        return await run_async(self._piped(path, value, mode, kwargs))

    def _piped(self, path: str, value: Any, mode: str, options: dict[str, Any]) -> Steps[None]:
        if self._intrans:
            return self._deferred(io.BytesIO(value), path, mode, **options)
        return self._files.pipe_file(path, value, mode, **options)

    def put_file(self, lpath: Any, rpath: str, **kwargs: Any) -> Any:
        return self._run(self._put_steps(lpath, self._strip_protocol(rpath), kwargs))

    async def _put_file(self, lpath: Any, rpath: str, **kwargs: Any) -> Any:
        rpath = self._strip_protocol(rpath)
        return await run_async(self._put_steps(lpath, rpath, kwargs))

    def _put_steps(self, lpath: Any, rpath: str, options: dict[str, Any]) -> Steps[None]:
        named = isinstance(lpath, (str, os.PathLike))
        if self._intrans and not (named and os.path.isdir(lpath)):
            return self._deferred(lpath, rpath, **options)
        return self._files.put_file(lpath, rpath, **options)

    def _deferred(
        self,
        data: Any,
        path: str,
        mode: str = "overwrite",
        callback: Any = None,  # noqa: ARG002 - put tells how many files are done; that is enough
        **options: Any,
    ) -> Steps[None]:
        """Write a file in a transaction, which publishes it."""
        loop = asyncio.get_running_loop() if self.async_impl else None
        start = partial(self._files.open_writer, path, mode == "overwrite", False, loop, **options)
        yield Work(partial(transactions.defer, self.transaction, start, data))

    def cp_file(self, path1: str, path2: str, **kwargs: Any) -> Any:
        first, second = self._strip_protocol(path1), self._strip_protocol(path2)
        return self._run(self._files.cp_file(first, second, **kwargs))

    async def _cp_file(self, path1: str, path2: str, **kwargs: Any) -> Any:
        first, second = self._strip_protocol(path1), self._strip_protocol(path2)
        return await run_async(self._files.cp_file(first, second, **kwargs))

    def mv(self, path1: Any, path2: Any, **kwargs: Any) -> None:
        """As fsspec's, which loses a file that is moved to itself by another spelling."""
        if self._strip_protocol(path1) != self._strip_protocol(path2):
            super().mv(path1, path2, **kwargs)

    def rm_file(self, path: str) -> Any:
        return self._run(self._files.changed("rm_file", self._strip_protocol(path)))

    async def _rm_file(self, path: str, **kwargs: Any) -> Any:
        path = self._strip_protocol(path)
        return await run_async(self._files.changed("rm_file", path, **kwargs))

    def rm(self, path: Any, recursive: bool = False, maxdepth: int | None = None) -> Any:
        paths = self.expand_path(path, recursive=False) if _has_magic(path) else path
        return self._run(self._files.rm(self._strip_protocol(paths), recursive, maxdepth))

    async def _rm(
        self,
        path: Any,
        recursive: bool = False,
        batch_size: int | None = None,  # noqa: ARG002 - the store bounds itself
        maxdepth: int | None = None,
        **kwargs: Any,
    ) -> Any:
        paths = await self._expand_path(path, recursive=False) if _has_magic(path) else path
        paths = self._strip_protocol(paths)
        return await run_async(self._files.rm(paths, recursive, maxdepth, **kwargs))

    def mkdir(self, path: str, create_parents: bool = True, **kwargs: Any) -> Any:
        path = self._strip_protocol(path)
        given = {"create_parents": create_parents, **kwargs}
        return self._run(self._files.changed("mkdir", path, **given))

    async def _mkdir(self, path: str, create_parents: bool = True, **kwargs: Any) -> Any:
        path = self._strip_protocol(path)
        given = {"create_parents": create_parents, **kwargs}
        return await run_async(self._files.changed("mkdir", path, **given))

    def makedirs(self, path: str, exist_ok: bool = False) -> Any:
        path = self._strip_protocol(path)
        return self._run(self._files.changed("makedirs", path, exist_ok=exist_ok))

    async def _makedirs(self, path: str, exist_ok: bool = False) -> Any:
        path = self._strip_protocol(path)
        return await run_async(self._files.changed("makedirs", path, exist_ok=exist_ok))

    def rmdir(self, path: str) -> Any:
        return self._run(self._files.changed("rmdir", self._strip_protocol(path)))

    async def _rmdir(self, path: str) -> Any:
        return await run_async(self._files.changed("rmdir", self._strip_protocol(path)))

    def touch(self, path: str, truncate: bool = True, **kwargs: Any) -> Any:
        """An empty encrypted file; with ``truncate=False`` only where there is none."""
        if truncate or not self.exists(path):
            self.pipe_file(path, b"", **kwargs)
        else:
            raise NotImplementedError("the time of an encrypted file is not set apart from it")

    # --- Open files -----------------------------------------------------------------------------

    def _open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | None = None,  # noqa: ARG002 - segments are what is read and written
        autocommit: bool = True,
        cache_options: Any = None,  # noqa: ARG002
        **kwargs: Any,
    ) -> Any:
        if mode == "rb":
            return self._files.open_reader(path)  # what else callers pass is for fsspec's caches
        if mode in ("wb", "xb"):
            return self._files.open_writer(path, mode == "wb", autocommit, **kwargs)
        raise NotImplementedError(
            f"mode {mode!r}: an encrypted file is read or written whole, with rb, wb or xb"
        )

    def open(
        self, path: str, mode: str = "rb", compression: str | None = None, **kwargs: Any
    ) -> Any:
        """As fsspec's; closing a compressed file also closes the encrypted one."""
        if compression is None or "b" not in mode:
            return super().open(path, mode, compression=compression, **kwargs)
        inner = super().open(path, mode, **kwargs)
        return self._files.compressed(inner, self._strip_protocol(path), mode, compression)

    def open_many(self, open_files: Any) -> list[Any]:
        """What ``fsspec.open_files`` calls. Without it fsspec asks the caches below: ciphertext."""
        return [file.__enter__() for file in open_files]

    def commit_many(self, open_files: Any) -> None:
        """Nothing: each file publishes itself."""

    # --- What it is -----------------------------------------------------------------------------

    def behind(self, path: str) -> Behind:
        """The stored file of a path, with the keys and the context that hold for it.

        For work on stored files: ``envelope.rewrap(found.url, keys=found.keys,
        context=found.context, storage_options=found.store.storage_options)``.

        Raises:
            ConfigurationError: No rule matches the path.
        """
        self._located(path)
        return Behind.of(self.target, self._strip_protocol(path))

    def name_key(self, path: str) -> Behind | None:  # noqa: ARG002 - mounts have one each
        """The stored file with the name key, as :meth:`behind`; ``None`` where there is none."""
        if self.target.naming is None:
            return None
        self._run(self.target.naming.ready())
        return Behind.of_names(self.target)

    def applies(self, path: str) -> dict[str, Any]:
        """Which rule, keys, context and geometry hold for a path, as JSON; needs no file there.

        Raises:
            ConfigurationError: No rule matches the path.
        """
        if self.target.naming is not None:
            self._run(self.target.naming.ready())
        return described(self.target, self._strip_protocol(path), self.mount)

    def examine(self, path: str, files: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
        """What ``envelope doctor`` says of a folder; ``files`` as the store lists them."""
        policy, folder = self.policy, self._located(path)
        layout = None if policy.exact_sizes else policy.layout
        yield from examined(self.fs, folder, files, layout, policy.plaintext_allowed)
        yield from self.target.foreign([str(info["name"]) for info in files])

    @staticmethod
    def examine_store(
        store: Any, folder: str, files: Sequence[Mapping[str, Any]]
    ) -> Iterator[Finding]:
        """The same of a folder of which nothing is known."""
        return examined(store, folder, files, None, "error")

    def rings(self, paths: Sequence[str]) -> tuple[list[KeyRing], list[str]]:
        """The key rings of some paths, each once, and the paths that no rule matches."""
        return rings_of(self.target, list(map(self._strip_protocol, paths)))

    def to_dict(self, *, include_password: bool = True) -> dict[str, Any]:
        """As fsspec's, with the keys as their configuration."""
        options = {name: given for name, given in self.storage_options.items() if name != "policy"}
        if not include_password:
            options.pop("password", None)
        return {
            "cls": f"{type(self).__module__}:{type(self).__name__}",
            "protocol": self.protocol[0],
            "args": (),
            **FilesystemJSONEncoder().make_serializable(options),
            "policy": self.policy.to_config(),
        }

    def __repr__(self) -> str:
        store = f"mount {self.mount}" if self.mount else self.protocol[0]
        return f"<EnvelopeFileSystem {store}>"

    @property
    def fsid(self) -> str:
        return f"envelope_{self.fs.fsid}"


def _added(found: Mapping[str, Mapping[str, Any]], total: bool) -> Any:
    sizes = {name: info["size"] or 0 for name, info in found.items()}
    return sum(sizes.values()) if total else sizes


def _settled(answers: list[Any], on_error: str) -> list[Any]:
    if on_error == "raise":
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
    return answers


def _has_magic(path: Any) -> bool:
    paths = [path] if isinstance(path, (str, os.PathLike)) else path
    return any(fsspec.core.has_magic(os.fspath(item)) for item in paths)
