"""A store that is far away: objects in memory, a request takes 30 ms and then 100 MB/s, all logged.

What a file system adds to an object store is mostly requests, and the time of
those says nothing on a server beside the client. Here each request costs what
one across a region costs, and requests side by side cost it once.
"""

from __future__ import annotations

import asyncio
import datetime
from collections import Counter
from typing import Any

from fsspec.asyn import AsyncFileSystem
from fsspec.spec import AbstractBufferedFile

__all__ = ["FarFile", "FarStore", "reset"]

LATENCY = 0.030  # seconds
RATE = 100_000_000  # bytes a second of one request

_objects: dict[str, bytes] = {}
_versions: Counter[str] = Counter()
_requests: Counter[str] = Counter()


class FarStore(AsyncFileSystem):  # type: ignore[misc]  # fsspec is not typed
    """See the module. Its protocol is ``far``; the objects are the process's."""

    protocol = "far"
    cachable = True

    def __init__(self, latency: float = LATENCY, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.latency = latency

    @property
    def requests(self) -> Counter[str]:
        """The requests so far, by kind."""
        return _requests

    async def _request(self, kind: str, size: int = 0) -> None:
        _requests[kind] += 1
        await asyncio.sleep(self.latency + size / RATE if self.latency else 0)

    async def _info(self, path: str, **_: Any) -> dict[str, Any]:
        path = self._strip_protocol(path)
        await self._request("HEAD")
        if path in _objects:
            return self._described(path)
        if any(name.startswith(path + "/") for name in _objects):
            return {"name": path, "size": 0, "type": "directory"}
        raise FileNotFoundError(path)

    def _described(self, path: str) -> dict[str, Any]:
        size, version = len(_objects[path]), _versions[path]
        return {"name": path, "size": size, "type": "file", "ETag": f"{path}-{version}"}

    def modified(self, path: str) -> datetime.datetime:
        """All objects are of one moment; DuckDB wants to know one."""
        return datetime.datetime.fromtimestamp(_versions[self._strip_protocol(path)], datetime.UTC)

    async def _ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        path = self._strip_protocol(path)
        below = [name for name in _objects if name.startswith(path + "/")]
        for _page in range(0, max(1, len(below)), 1000):
            await self._request("LIST")
        found: dict[str, dict[str, Any]] = {}
        for name in below:
            head, _, rest = name[len(path) + 1 :].partition("/")
            child = f"{path}/{head}"
            if rest:
                found[child] = {"name": child, "size": 0, "type": "directory"}
            else:
                found[child] = self._described(child)
        if not found and path in _objects:
            found[path] = self._described(path)
        if not found:
            raise FileNotFoundError(path)
        return list(found.values()) if detail else sorted(found)

    async def _find(
        self,
        path: str,
        maxdepth: int | None = None,
        withdirs: bool = False,
        detail: bool = False,
        **kwargs: Any,
    ) -> Any:
        if maxdepth is not None or withdirs:
            return await super()._find(path, maxdepth, withdirs, detail=detail, **kwargs)
        path = self._strip_protocol(path)
        below = [name for name in _objects if name.startswith(path + "/") or name == path]
        for _page in range(0, max(1, len(below)), 1000):
            await self._request("LIST")
        found = {name: self._described(name) for name in sorted(below)}
        return found if detail else list(found)

    async def _cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **_: Any
    ) -> bytes:
        path = self._strip_protocol(path)
        if path not in _objects:
            await self._request("GET")
            raise FileNotFoundError(path)
        found = _objects[path][slice(start, end)]
        await self._request("GET", len(found))
        return found

    async def _pipe_file(self, path: str, value: Any, mode: str = "overwrite", **_: Any) -> None:
        path = self._strip_protocol(path)
        await self._request("PUT", len(value))
        if mode == "create" and path in _objects:
            raise FileExistsError(path)
        _objects[path] = bytes(value)
        _versions[path] += 1

    async def _put_file(self, lpath: Any, rpath: str, **_: Any) -> None:
        with open(lpath, "rb") as file:
            await self._pipe_file(rpath, file.read())

    async def _get_file(self, rpath: str, lpath: Any, **_: Any) -> None:
        with open(lpath, "wb") as file:
            file.write(await self._cat_file(rpath))

    async def _cp_file(self, path1: str, path2: str, **_: Any) -> None:
        await self._request("COPY")
        _objects[self._strip_protocol(path2)] = _objects[self._strip_protocol(path1)]
        _versions[self._strip_protocol(path2)] += 1

    async def _rm_file(self, path: str, **_: Any) -> None:
        await self._request("DELETE")
        _objects.pop(self._strip_protocol(path), None)

    def _open(self, path: str, mode: str = "rb", **kwargs: Any) -> FarFile:
        return FarFile(self, path, mode, **kwargs)


class FarFile(AbstractBufferedFile):  # type: ignore[misc]  # fsspec is not typed
    """A file of the far store, with the caches that fsspec gives to all of its files."""

    def _fetch_range(self, start: int, end: int) -> bytes:
        return bytes(self.fs.cat_file(self.path, start, end))

    def _initiate_upload(self) -> None:
        self._parts: list[bytes] = []

    def _upload_chunk(self, final: bool = False) -> bool:
        self.buffer.seek(0)
        self._parts.append(self.buffer.read())
        if final:
            self.fs.pipe_file(self.path, b"".join(self._parts))
        return True


def reset() -> None:
    """Forget all objects and requests."""
    _objects.clear()
    _versions.clear()
    _requests.clear()
