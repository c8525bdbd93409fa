"""A block blob of Azure, rewrapped: one block for the new part, and the list of blocks."""

from __future__ import annotations

import errno
import os
import secrets
import string
from typing import Any

from envelope.errors import ConfigurationError
from envelope.replacing import Edit
from envelope.sources import OnProgress
from envelope_fsspec.calls import Calls
from envelope_fsspec.rewrapping import Lost
from envelope_fsspec.uploads import block_id

__all__ = ["Blob"]

_PIECE = 8 * 2**20
_LOST = frozenset({"ConditionNotMet", "InvalidBlockList", "BlobNotFound", "InvalidRange"})
_NAME = 6  # letters that leave enough names
_LETTERS = string.ascii_lowercase + string.digits


class Blob:
    """See :class:`envelope_fsspec.rewrapping.Place`, and the module.

    Blocks that the new part does not touch stay: Put Block and Put Block List with If-Match
    put it among them. What else its old blocks had is read and staged anew, all of a blob that was
    put whole; the new part is a block of its own, so that the next time no other byte moves.
    https://learn.microsoft.com/rest/api/storageservices/put-block-list
    """

    def __init__(self, calls: Calls, path: str, name: str) -> None:
        container, blob, _ = calls.store.split_path(path)
        self._calls = calls
        self._name = name
        self._path = path
        self._client = calls.store.service_client.get_blob_client(container=container, blob=blob)
        self._found: Any = None

    def look(self) -> int:
        self._found = self._calls.wait(self._properties)
        if self._found.blob_type != "BlockBlob":
            raise ConfigurationError(
                f"an {self._found.blob_type} cannot be rewrapped in place",
                path=self._name,
                next_step="Say where the result goes: target= (--out).",
            )
        return int(self._found.size)

    def read(self, start: int, end: int) -> bytes:
        piece: bytes = self._calls.wait(self._read, start, end)
        return piece

    def replace(self, edit: Edit, on_progress: OnProgress | None) -> None:
        self._calls.wait(self._replace, edit, on_progress)

    async def _properties(self) -> Any:
        from azure.core.exceptions import ResourceNotFoundError

        try:
            return await self._client.get_blob_properties()
        except ResourceNotFoundError:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self._name) from None

    def _unchanged(self) -> dict[str, Any]:
        from azure.core import MatchConditions

        return {"etag": self._found.etag, "match_condition": MatchConditions.IfNotModified}

    async def _read(self, start: int, end: int) -> bytes:
        try:
            stream = await self._client.download_blob(
                offset=start, length=end - start, **self._unchanged()
            )
            piece: bytes = await stream.readall()
        except Exception as error:
            if _is_lost(error):
                raise Lost from error
            raise
        return piece

    async def _replace(self, edit: Edit, on_progress: OnProgress | None) -> None:
        try:
            blocks = await self._staged(edit, on_progress)
            await self._client.commit_block_list(
                blocks, **(await self._described()), **self._unchanged()
            )
        except Exception as error:
            if await self._is_there(edit):
                return  # only the answer was lost
            if _is_lost(error):
                raise Lost from error
            raise

    @property
    def _size(self) -> int:
        return int(self._found.size)

    async def _staged(self, edit: Edit, on_progress: OnProgress | None) -> list[Any]:
        """The new list of blocks: what the new part does not touch stays where it is."""
        from azure.storage.blob import BlobBlock

        old = await self._blocks()
        before: list[str] = []
        behind: list[str] = []
        first, last = 0, self._size  # of what is staged
        for block in old:
            if first + block.size > edit.start:
                break
            before.append(block.id)
            first += block.size
        for block in reversed(old[len(before) :]):
            if last - block.size < edit.stop:
                break
            behind.append(block.id)
            last -= block.size
        names = _Names([block.id for block in old])
        made = [
            *await self._pieces(names, first, edit.start, on_progress),
            await self._stage(names, edit.new),
            *await self._pieces(names, edit.stop, last, on_progress),
        ]
        return [BlobBlock(name) for name in (*before, *made, *reversed(behind))]

    async def _blocks(self) -> list[Any]:
        """The blocks that there are; none if they are not to be had one by one."""
        try:
            blocks, _ = await self._client.get_block_list("committed")
        except UnicodeDecodeError:
            return []  # names of blocks that this client cannot say again
        known = sum(block.size for block in blocks) == self._size
        return list(blocks) if known and all(len(block.id) >= _NAME for block in blocks) else []

    async def _pieces(
        self, names: _Names, first: int, last: int, on_progress: OnProgress | None
    ) -> list[str]:
        made = []
        for start in range(first, last, _PIECE):
            end = min(start + _PIECE, last)
            made.append(await self._stage(names, await self._read(start, end)))
            if on_progress is not None:
                on_progress(end, self._size)
        return made

    async def _stage(self, names: _Names, data: bytes) -> str:
        name = names.next()
        await self._client.stage_block(name, data, length=len(data))
        return name

    async def _described(self) -> dict[str, Any]:
        """What the blob is said to be, apart from its bytes and their checksum."""
        found = self._found
        settings = found.content_settings
        settings.content_md5 = None
        kept: dict[str, Any] = {"content_settings": settings, "metadata": found.metadata}
        if found.blob_tier and not found.blob_tier_inferred:
            kept["standard_blob_tier"] = found.blob_tier
        if found.tag_count:
            kept["tags"] = await self._client.get_blob_tags()
        if found.encryption_scope:
            kept["encryption_scope"] = found.encryption_scope
        return kept

    async def _is_there(self, edit: Edit) -> bool:
        try:
            stream = await self._client.download_blob(offset=edit.start, length=len(edit.new))
            return bool(await stream.readall() == edit.new)
        except Exception:
            return False  # the first error says what is wrong


class _Names:
    """Names for new blocks: of one length with those that there are, as Azure wants it."""

    def __init__(self, old: list[str]) -> None:
        self._old = set(old)
        self._token = secrets.token_hex(8)
        self._count = 0

    def next(self) -> str:
        """A name that no other block has."""
        if not self._old:
            self._count += 1
            return block_id(self._token, self._count - 1)
        length = len(next(iter(self._old)))
        while True:
            name = "".join(secrets.choice(_LETTERS) for _ in range(length))
            if name not in self._old:
                self._old.add(name)
                return name


def _is_lost(error: BaseException) -> bool:
    return isinstance(error, Lost) or getattr(error, "error_code", None) in _LOST
