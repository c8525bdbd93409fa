"""Objects that are uploaded in parts: what S3 and Azure Blob Storage each call for.

Nothing of an upload can be seen before :meth:`Upload.complete`. All methods run
on the store's event loop.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from typing import Any, Protocol

from envelope import header
from envelope.errors import FileChanged

__all__ = ["BlockUpload", "MultipartUpload", "Upload", "block_id", "content_settings", "upload_to"]

_PART = 8 * 2**20  # bytes; S3 takes 5 MiB at least
_PARTS_OF_ONE_SIZE = 1000  # then they double: S3 takes 10,000, and objects of 5 TiB
_BLOCKS_OF_ONE_SIZE = 10_000  # Azure takes 50,000
_PATIENCE = 10.0  # seconds for parts that are under way when the upload is given up


class Upload(Protocol):
    """One upload. Parts are numbered from 0, and may be under way side by side."""

    def part_length(self, number: int, held: bytearray) -> int:
        """How many bytes the next part has; ``held`` begins with it."""
        ...

    async def begin(self) -> None: ...

    async def part(self, number: int, data: bytes) -> None: ...

    async def complete(self) -> None:
        """Publish. An error leaves open whether it was published, since an answer can be lost."""
        ...

    async def discard(self) -> None:
        """Leave nothing that is seen, or that costs."""
        ...


def upload_to(
    store: Any, path: str, name: str, *, overwrite: bool, options: Mapping[str, Any]
) -> Upload | None:
    """An upload for a store that has such; else ``None``."""
    protocols = (store.protocol,) if isinstance(store.protocol, str) else store.protocol
    if "s3" in protocols and hasattr(store, "_call_s3"):
        return MultipartUpload(store, path, overwrite=overwrite, options=options)
    if "abfs" in protocols and hasattr(store, "service_client"):
        return BlockUpload(store, path, name, overwrite=overwrite, options=options)
    return None


class _Tracked:
    """Knows which parts are under way."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    async def part(self, number: int, data: bytes) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine that runs has one
        self._tasks.add(task)
        try:
            await self._part(number, data)
        finally:
            self._tasks.discard(task)

    async def _part(self, number: int, data: bytes) -> None:
        raise NotImplementedError

    async def _settle(self, patience: float) -> None:
        if self._tasks and patience:
            await asyncio.wait(set(self._tasks), timeout=patience)
        late = list(self._tasks)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)


class MultipartUpload(_Tracked):
    """A multipart upload of S3, through the client of s3fs.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html
    """

    def __init__(
        self, store: Any, path: str, *, overwrite: bool, options: Mapping[str, Any]
    ) -> None:
        super().__init__()
        bucket, key, _ = store.split_path(path)
        self._store = store
        self._place = {"Bucket": bucket, "Key": key}
        self._options = options
        self._condition = {} if overwrite else {"IfNoneMatch": "*"}
        self._id = ""
        self._parts: dict[int, dict[str, Any]] = {}

    def part_length(self, number: int, held: bytearray) -> int:  # noqa: ARG002 - by number alone
        if getattr(self._store, "fixed_upload_size", False):
            return max(_PART, int(self._store.default_block_size))
        return _PART << number // _PARTS_OF_ONE_SIZE

    async def begin(self) -> None:
        made = await self._call("create_multipart_upload", **self._options)
        self._id = made["UploadId"]

    async def _part(self, number: int, data: bytes) -> None:
        done = await self._call("upload_part", UploadId=self._id, PartNumber=number + 1, Body=data)
        self._parts[number] = _named(done, number)

    async def copy_part(
        self, number: int, start: int, end: int, etag: str, source: Mapping[str, str]
    ) -> None:
        """Make a part of bytes that are in the store, if their object is still of this ETag."""
        done = await self._call(
            "upload_part_copy",
            UploadId=self._id,
            PartNumber=number + 1,
            CopySource=dict(source),
            CopySourceRange=f"bytes={start}-{end - 1}",
            CopySourceIfMatch=etag,
        )
        self._parts[number] = _named(done["CopyPartResult"], number)

    async def complete(self, **condition: str) -> None:
        await self._call(
            "complete_multipart_upload",
            UploadId=self._id,
            MultipartUpload={"Parts": [self._parts[number] for number in sorted(self._parts)]},
            **self._condition,
            **condition,
        )

    async def discard(self) -> None:
        # A part that arrives after the upload was aborted would stay, and be paid for.
        await self._settle(_PATIENCE)
        if self._id:
            try:
                await self._call("abort_multipart_upload", UploadId=self._id)
            except FileNotFoundError:
                pass  # NoSuchUpload: it has been completed, or aborted
            self._id = ""

    async def _call(self, method: str, **kwargs: Any) -> Any:
        return await self._store._call_s3(method, **self._place, **kwargs)


def _named(answer: Mapping[str, Any], number: int) -> dict[str, Any]:
    """What a part is called by when the upload is completed."""
    sums = {name: answer[name] for name in answer if name.startswith("Checksum") and answer[name]}
    sums.pop("ChecksumType", None)
    return {"PartNumber": number + 1, "ETag": answer["ETag"], **sums}


class BlockUpload(_Tracked):
    """Blocks of an Azure block blob, through the client of adlfs.

    The header is a block of its own, so that a rewrap replaces that block alone.
    What was staged and never committed is invisible; the service drops it after a
    week, or when somebody else commits this blob.
    https://learn.microsoft.com/rest/api/storageservices/put-block-list
    """

    def __init__(
        self,
        store: Any,
        path: str,
        name: str,
        *,
        overwrite: bool,
        options: Mapping[str, Any],
    ) -> None:
        super().__init__()
        container, blob, _ = store.split_path(path)
        self._client = store.service_client.get_blob_client(container=container, blob=blob)
        self._name = name
        self._options = dict(options)
        self._condition = {} if overwrite else if_missing()
        self._token = secrets.token_hex(8)
        self._ids: dict[int, str] = {}

    def part_length(self, number: int, held: bytearray) -> int:
        if number == 0:
            return header.size_of(bytes(held[: header.FIXED_SIZE]))
        return _PART << number // _BLOCKS_OF_ONE_SIZE

    async def begin(self) -> None:
        """Nothing: a blob takes blocks at any time."""

    async def _part(self, number: int, data: bytes) -> None:
        name = block_id(self._token, number)
        await self._client.stage_block(name, data, length=len(data))
        self._ids[number] = name

    async def complete(self) -> None:
        from azure.core.exceptions import HttpResponseError
        from azure.storage.blob import BlobBlock

        options = dict(self._options)
        options["metadata"] = {**(options.get("metadata") or {}), "is_directory": "false"}
        options["content_settings"] = content_settings(options.get("content_settings"))
        blocks = [BlobBlock(self._ids[number]) for number in sorted(self._ids)]
        try:
            await self._client.commit_block_list(blocks, **options, **self._condition)
        except HttpResponseError as error:
            if getattr(error, "error_code", None) != "InvalidBlockList":
                raise
            raise FileChanged(
                "somebody else published this blob while it was being written, and Azure then "
                "drops the blocks of all others",
                path=self._name,
                next_step="Write it again.",
            ) from None
        finally:
            await self._client.close()

    async def discard(self) -> None:
        await self._settle(0)
        await self._client.close()


def block_id(token: str, number: int) -> str:
    """The name of a block: all of one blob have to be of one length."""
    return f"{token}-{number:07d}"


def if_missing() -> dict[str, Any]:
    """Arguments of Azure's client: only if there is no such blob."""
    from azure.core import MatchConditions

    return {"match_condition": MatchConditions.IfMissing}


def content_settings(given: Any) -> Any:
    """As adlfs takes them: a mapping, or the client's own class."""
    from azure.storage.blob import ContentSettings

    return ContentSettings(**given) if isinstance(given, Mapping) else given
