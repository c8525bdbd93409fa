"""A block blob of Azure, rewrapped: one block for the header, and the list of blocks."""

from __future__ import annotations

import errno
import os
import secrets
import string
from typing import Any

from envelope.errors import ConfigurationError
from envelope.header import Header
from envelope.sources import OnProgress
from envelope_fsspec.calls import Calls
from envelope_fsspec.rewrapping import Lost
from envelope_fsspec.uploads import block_id

__all__ = ["Blob"]

_PIECE = 8 * 2**20
_LOST = frozenset({"ConditionNotMet", "InvalidBlockList", "BlobNotFound", "InvalidRange"})
_LETTERS = string.ascii_lowercase + string.digits


class Blob:
    """See :class:`envelope_fsspec.rewrapping.Place`, and the module.

    Where the first block is the header, Put Block and Put Block List with If-Match replace
    it, and no byte of the body moves. A blob that was put whole, or by another program, is
    read and staged anew, with its header as a block for the next time.
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

    def replace(self, old: Header, new: Header, on_progress: OnProgress | None) -> None:
        self._calls.wait(self._replace, old, new, on_progress)

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

    async def _replace(self, old: Header, new: Header, on_progress: OnProgress | None) -> None:
        try:
            blocks = await self._header_staged(old, new)
            if blocks is None:
                blocks = await self._all_staged(old, new, on_progress)
            await self._client.commit_block_list(
                blocks, **(await self._described()), **self._unchanged()
            )
        except Exception as error:
            if await self._is_there(new):
                return  # only the answer was lost
            if _is_lost(error):
                raise Lost from error
            raise

    async def _header_staged(self, old: Header, new: Header) -> list[Any] | None:
        """The new list of blocks; ``None`` if the header is no block of its own."""
        from azure.storage.blob import BlobBlock

        try:
            blocks, _ = await self._client.get_block_list("committed")
        except UnicodeDecodeError:
            return None  # names of blocks that this client cannot say again
        if not blocks or blocks[0].size != old.size or sum(b.size for b in blocks) != self._size:
            return None
        # The names of all blocks have to be of one length.
        name = "".join(secrets.choice(_LETTERS) for _ in blocks[0].id)
        await self._client.stage_block(name, new.raw, length=new.size)
        return [BlobBlock(name), *(BlobBlock(block.id) for block in blocks[1:])]

    @property
    def _size(self) -> int:
        return int(self._found.size)

    async def _all_staged(
        self, old: Header, new: Header, on_progress: OnProgress | None
    ) -> list[Any]:
        from azure.storage.blob import BlobBlock

        token = secrets.token_hex(8)
        names = [block_id(token, 0)]
        await self._client.stage_block(names[0], new.raw, length=new.size)
        for start in range(old.size, self._size, _PIECE):
            end = min(start + _PIECE, self._size)
            piece = await self._read(start, end)
            names.append(block_id(token, len(names)))
            await self._client.stage_block(names[-1], piece, length=len(piece))
            if on_progress is not None:
                on_progress(end, self._size)
        return [BlobBlock(name) for name in names]

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

    async def _is_there(self, new: Header) -> bool:
        try:
            stream = await self._client.download_blob(offset=0, length=new.size)
            return bool(await stream.readall() == new.raw)
        except Exception:
            return False  # the first error says what is wrong


def _is_lost(error: BaseException) -> bool:
    return isinstance(error, Lost) or getattr(error, "error_code", None) in _LOST
