"""An object of S3, rewrapped: its first part is written anew, the rest is copied in the store."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

from envelope.header import Header
from envelope.sources import OnProgress
from envelope_fsspec.calls import Calls
from envelope_fsspec.rewrapping import Lost
from envelope_fsspec.uploads import MultipartUpload

__all__ = ["S3Object"]

_LEAST_PART = 5 * 2**20  # bytes, of every part but the last
_SMALL = 8 * 2**20  # bytes of a body that is written anew with its header, by one request
_COPIED = 512 * 2**20  # bytes that one request copies; S3 takes 5 GiB at most

_KEPT = (
    "CacheControl", "ContentDisposition", "ContentEncoding", "ContentLanguage", "ContentType",
    "Expires", "Metadata", "StorageClass", "WebsiteRedirectLocation", "ServerSideEncryption",
    "SSEKMSKeyId", "BucketKeyEnabled",
)  # fmt: skip
"""What of an object's description goes to the one that replaces it; S3 names both alike."""

_LOST = frozenset({"PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey", "412", "409"})


class S3Object:
    """See :class:`envelope_fsspec.rewrapping.Place`, and the module.

    Every request names the ETag of what was looked at: reads by ``If-Match``, copies by
    ``x-amz-copy-source-if-match``, and what publishes, PutObject or
    CompleteMultipartUpload, by ``If-Match`` again, which AWS knows since November 2024.
    https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
    """

    def __init__(self, calls: Calls, path: str) -> None:
        self._calls = calls
        self._path = path
        bucket, key, _ = calls.store.split_path(path)
        self._at = {"Bucket": bucket, "Key": key}
        self._found: dict[str, Any] = {}

    def look(self) -> int:
        self._found = self._calls.wait(self._ask, "head_object")
        return int(self._found["ContentLength"])

    def read(self, start: int, end: int) -> bytes:
        piece: bytes = self._calls.wait(self._read, start, end)
        return piece

    def replace(self, old: Header, new: Header, on_progress: OnProgress | None) -> None:
        self._calls.wait(self._replace, old, new, on_progress)

    async def _ask(self, method: str, **kwargs: Any) -> Any:
        try:
            return await self._calls.store._call_s3(method, **self._at, **kwargs)
        except Exception as error:
            if _is_lost(error):
                raise Lost from error
            raise

    async def _read(self, start: int, end: int) -> bytes:
        found = await self._ask(
            "get_object", Range=f"bytes={start}-{end - 1}", IfMatch=self._found["ETag"]
        )
        async with found["Body"] as body:
            piece: bytes = await body.read()
        return piece

    async def _replace(self, old: Header, new: Header, on_progress: OnProgress | None) -> None:
        try:
            if self._found["ContentLength"] - old.size <= _SMALL:
                await self._put(old, new)
            else:
                await self._copy(old, new, on_progress)
        except Exception as error:
            if await self._is_there(new):
                return  # only the answer was lost
            if _is_lost(error):
                raise Lost from error
            raise

    async def _put(self, old: Header, new: Header) -> None:
        size, body = self._found["ContentLength"], b""
        if size > old.size:
            body = await self._read(old.size, size)
        data = new.raw + body
        await self._ask(
            "put_object", Body=data, IfMatch=self._found["ETag"], **(await self._described())
        )

    async def _copy(self, old: Header, new: Header, on_progress: OnProgress | None) -> None:
        size, etag = self._found["ContentLength"], self._found["ETag"]
        options = await self._described()
        upload = MultipartUpload(self._calls.store, self._path, overwrite=True, options=options)
        await upload.begin()
        try:
            rest = old.size + _LEAST_PART
            await upload.part(0, new.raw + await self._read(old.size, rest))
            for number, (start, end) in enumerate(_pieces(rest, size), 1):
                await upload.copy_part(number, start, end, etag, self._at)
                if on_progress is not None:
                    on_progress(end, size)
            await upload.complete(IfMatch=etag)
        except BaseException:
            await upload.discard()
            raise

    async def _described(self) -> dict[str, Any]:
        """What the object is said to be, apart from its bytes."""
        kept = {name: self._found[name] for name in _KEPT if self._found.get(name)}
        if self._found.get("TagCount"):
            tags = (await self._ask("get_object_tagging"))["TagSet"]
            kept["Tagging"] = urlencode({tag["Key"]: tag["Value"] for tag in tags})
        return kept

    async def _is_there(self, new: Header) -> bool:
        try:
            found = await self._calls.store._cat_file(self._path, start=0, end=new.size)
        except Exception:
            return False  # the first error says what is wrong
        return bool(found == new.raw)


def _pieces(start: int, end: int) -> Iterator[tuple[int, int]]:
    while start < end:
        yield start, min(start + _COPIED, end)
        start += _COPIED


def _is_lost(error: BaseException | None) -> bool:
    """Whether S3 refused because the object is another one now; s3fs has its answer as a cause."""
    while error is not None:
        response = getattr(error, "response", None)
        if isinstance(error, Lost) or (
            isinstance(response, dict) and response.get("Error", {}).get("Code") in _LOST
        ):
            return True
        error = error.__cause__
    return False
