"""An object of S3, rewrapped: one part of it is written anew, the rest is copied in the store."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from envelope.replacing import Edit
from envelope.sources import OnProgress
from envelope_fsspec.calls import Calls
from envelope_fsspec.rewrapping import Lost
from envelope_fsspec.uploads import MultipartUpload

__all__ = ["S3Object"]

_LEAST_PART = 5 * 2**20  # bytes, of every part but the last
_SMALL = 8 * 2**20  # bytes beside the new part, to be written anew with it by one request
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

    def replace(self, edit: Edit, on_progress: OnProgress | None) -> None:
        self._calls.wait(self._replace, edit, on_progress)

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

    async def _replace(self, edit: Edit, on_progress: OnProgress | None) -> None:
        try:
            if self._found["ContentLength"] - len(edit.old) <= _SMALL:
                await self._put(edit)
            else:
                await self._copy(edit, on_progress)
        except Exception as error:
            if await self._is_there(edit):
                return  # only the answer was lost
            if _is_lost(error) or await self._is_another():
                raise Lost from error
            raise

    async def _put(self, edit: Edit) -> None:
        before = await self._some(0, edit.start)
        data = before + edit.new + await self._some(edit.stop, self._found["ContentLength"])
        await self._ask(
            "put_object", Body=data, IfMatch=self._found["ETag"], **(await self._described())
        )

    async def _some(self, start: int, end: int) -> bytes:
        """A range that may be empty, for which S3 has no words."""
        return await self._read(start, end) if end > start else b""

    async def _copy(self, edit: Edit, on_progress: OnProgress | None) -> None:
        size, etag = self._found["ContentLength"], self._found["ETag"]
        options = await self._described()
        upload = MultipartUpload(self._calls.store, self._path, overwrite=True, options=options)
        await upload.begin()
        try:
            for number, part in enumerate(_parts(edit, size)):
                if isinstance(part, _Copied):
                    await upload.copy_part(number, part.start, part.end, etag, self._at)
                    if on_progress is not None:
                        on_progress(part.end, size)
                else:
                    before = await self._some(*part[0])
                    await upload.part(number, before + edit.new + await self._some(*part[1]))
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

    async def _is_another(self) -> bool:
        """Whether something else is there now: then parts of it may have been of no use."""
        try:
            found = await self._ask("head_object")
        except Lost:
            return True
        except Exception:
            return False  # as above
        return bool(found["ETag"] != self._found["ETag"])

    async def _is_there(self, edit: Edit) -> bool:
        end = edit.start + len(edit.new)
        try:
            found = await self._calls.store._cat_file(self._path, start=edit.start, end=end)
        except Exception:
            return False  # the first error says what is wrong
        return bool(found == edit.new)


@dataclass(frozen=True, slots=True)
class _Copied:
    """A part that the store copies by itself."""

    start: int
    end: int


_Around = tuple[tuple[int, int], tuple[int, int]]
"""Ranges that are read and sent before and behind the new part, in one part with it."""


def _parts(edit: Edit, size: int) -> Iterator[_Copied | _Around]:
    """The parts of the new object, each of them of 5 MiB at least but for the last.

    What is before the new part is copied, unless it is too short; and so is what is behind it, but
    for the bytes that the new part needs to be long enough.
    """
    before = 0 if edit.start < _LEAST_PART else edit.start
    yield from _pieces(0, before)
    lacking = _LEAST_PART - (edit.start - before) - len(edit.new)
    behind = min(size, edit.stop + max(0, lacking))
    yield (before, edit.start), (edit.stop, behind)
    yield from _pieces(behind, size)


def _pieces(start: int, end: int) -> Iterator[_Copied]:
    """A range in equal pieces, so that none of them is too short for a part."""
    count = -(-(end - start) // _COPIED)
    for number in range(count):
        length = end - start
        yield _Copied(start + length * number // count, start + length * (number + 1) // count)


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
