"""What ``envelope doctor URL`` looks for in a store. Nothing is changed, and no key is needed."""

from __future__ import annotations

import datetime
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fsspec.asyn import sync

from envelope import message
from envelope.errors import EnvelopeError, NotEncrypted
from envelope.header import FILE_HEADER_SIZE
from envelope.keys import Finding
from envelope.offsets import DEFAULT_SEGMENT_LENGTH, Layout
from envelope_fsspec.stored import Fetched, Lacking

__all__ = ["examined", "is_chain_folder"]

_LEFTOVER = re.compile(r"\..+\.[0-9a-f]{16}\.env1(?:tmp|old)\Z", re.DOTALL)
_NAMES = 5  # that a finding has at most
_BATCH = 500  # files whose beginnings are read side by side
_ROUNDS = 3

_Files = Sequence[Mapping[str, Any]]


def is_chain_folder(name: str) -> bool:
    """Whether a folder has the name of a chain, which some program took for a local path."""
    return name.startswith("envelope:")


def examined(
    store: Any, folder: str, files: _Files, layout: Layout | None, plaintext: str
) -> Iterator[Finding]:
    """What is to be said of the files below a folder.

    Args:
        store: The file system of the stored bytes.
        folder: Its path there.
        files: What the store says of each file below it.
        layout: The geometry that files have to have; ``None``: any, and all the same.
        plaintext: What holds for plain files: ``error``, ``warn`` or ``read``.
    """
    names = [str(info["name"]) for info in files]
    left = [name for name in names if _LEFTOVER.match(name.rpartition("/")[2])]
    yield from _leftovers(left)
    yield from _uploads(store, folder)
    base = folder.strip("/")
    taken = [n for n in names if any(map(is_chain_folder, n.strip("/")[len(base) :].split("/")))]
    if taken:
        yield Finding(
            "fail", "chain folders", f"{_some(taken)}: a program took a chain for a path",
            "These files are plain. Migrate them (envelope migrate), remove them, and let that "
            "program use a mount: envelope://MOUNT/….", 4,
        )  # fmt: skip
    skipped = set(left) | set(taken)
    yield from _kinds(store, [i for i in files if i["name"] not in skipped], layout, plaintext)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMES} more" if len(names) > _NAMES else ""
    return f"{', '.join(names[:_NAMES])}{more}"


def _leftovers(left: Sequence[str]) -> Iterator[Finding]:
    if left:
        text = f"{_some(left)}: not finished, or under way"
        yield Finding("warn", "leftovers", text, "Remove them if no envelope process is running.")
    else:
        yield Finding("ok", "leftovers", "no temporary files")


# --- Uploads that were never published ---------------------------------------------------------


def _uploads(store: Any, folder: str) -> Iterator[Finding]:
    protocols = [store.protocol] if isinstance(store.protocol, str) else store.protocol
    if "s3" in protocols and hasattr(store, "call_s3"):
        look = [_s3_uploads, _s3_versions]
    elif "abfs" in protocols and hasattr(store, "service_client"):
        look = [_azure_blocks]
    else:
        look = []
    for each in look:
        try:
            yield from each(store, folder)
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
            yield Finding("warn", "uploads", f"the store does not tell: {text}")


def _s3_uploads(store: Any, folder: str) -> Iterator[Finding]:
    bucket, _, prefix = folder.strip("/").partition("/")
    answer = store.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=prefix)
    found = answer.get("Uploads", [])
    if not found:
        yield Finding("ok", "uploads", "no multipart upload is unfinished")
        return
    keys = [str(each["Key"]) for each in found]
    times = [each["Initiated"] for each in found if each.get("Initiated")]
    oldest = f", the oldest of {_day(min(times))}" if times else ""
    count = f"{len(found)}{' or more' if answer.get('IsTruncated') else ''}"
    yield Finding(
        "warn", "uploads", f"{count} multipart uploads are unfinished{oldest}: {_some(keys)}",
        "They are under way, or of writers that were killed, and are paid for until they are "
        "aborted: give the bucket a lifecycle rule (AbortIncompleteMultipartUpload).",
    )  # fmt: skip


def _s3_versions(store: Any, folder: str) -> Iterator[Finding]:
    bucket = folder.strip("/").partition("/")[0]
    if store.call_s3("get_bucket_versioning", Bucket=bucket).get("Status") == "Enabled":
        yield Finding(
            "warn", "old versions", f"the bucket {bucket} keeps earlier versions of objects",
            "What was plain before it was encrypted is still there: remove those versions.",
        )  # fmt: skip


def _azure_blocks(store: Any, folder: str) -> Iterator[Finding]:
    container, _, prefix = folder.strip("/").partition("/")

    async def names(include: list[str]) -> set[str]:
        async with store.service_client.get_container_client(container) as client:
            blobs = client.list_blobs(include=include, name_starts_with=prefix or None)
            return {str(blob["name"]) async for blob in blobs}

    def listed(include: list[str]) -> set[str]:
        found: set[str] = sync(store.loop, names, include)
        return found

    found = sorted(listed(["uncommittedblobs"]) - listed([]))
    if found:
        text = f"{len(found)} blobs have blocks that were never committed: {_some(found)}"
        yield Finding("warn", "uploads", text, "Azure removes them a week after the last block.")
    else:
        yield Finding("ok", "uploads", "no blob has blocks that were never committed")


def _day(time: Any) -> str:
    return time.date().isoformat() if isinstance(time, datetime.datetime) else str(time)


# --- What files are ----------------------------------------------------------------------------


@dataclass
class _Kinds:
    encrypted: int = 0
    plain: list[str] = field(default_factory=list)
    broken: list[tuple[str, Exception]] = field(default_factory=list)
    geometries: Counter[tuple[int, int]] = field(default_factory=Counter)
    first: dict[tuple[int, int], list[str]] = field(default_factory=dict)

    def add(self, name: str, found: Layout | Exception) -> None:
        if isinstance(found, NotEncrypted):
            self.plain.append(name)
        elif isinstance(found, Exception):
            self.broken.append((name, found))
        else:
            self.encrypted += 1
            geometry = (found.header_size, found.segment_length)
            self.geometries[geometry] += 1
            self.first.setdefault(geometry, []).append(name)


def _kinds(store: Any, files: _Files, layout: Layout | None, plaintext: str) -> Iterator[Finding]:
    kinds = _Kinds()
    for start in range(0, len(files), _BATCH):
        for name, found in _layouts(store, files[start : start + _BATCH]):
            kinds.add(name, found)
    level = {"error": "fail"}.get(plaintext, "warn") if layout is not None else "warn"
    if kinds.plain:
        yield Finding(
            level, "plain files", f"{len(kinds.plain)} of {len(files)}: {_some(kinds.plain)}",
            "Encrypt them in place: envelope migrate.", 4,
        )  # fmt: skip
    else:
        yield Finding("ok", "plain files", f"none of {len(files)}")
    for name, error in kinds.broken[:_NAMES]:
        code = f" [{error.code}]" if isinstance(error, EnvelopeError) else ""
        exit_ = error.exit if isinstance(error, EnvelopeError) else 7
        yield Finding("fail", "files", f"{name}: {error}{code}", None, exit_)
    if len(kinds.broken) > _NAMES:
        yield Finding("fail", "files", f"and {len(kinds.broken) - _NAMES} more cannot be read")
    yield from _geometry(kinds, layout)


def _geometry(kinds: _Kinds, layout: Layout | None) -> Iterator[Finding]:
    def words(geometry: tuple[int, int]) -> str:
        return f"a header of {geometry[0]} and segments of {geometry[1]} bytes"

    if layout is None:
        several = len(kinds.geometries) > 1
        for geometry, count in kinds.geometries.most_common():
            text = f"{count} of {kinds.encrypted} have {words(geometry)}"
            if several:
                text += f": {_some(kinds.first[geometry])}"
            step = 'A mount of this folder needs sizes = "exact".' if several else None
            yield Finding("warn" if several else "ok", "geometry", text, step)
        return
    mounts = (layout.header_size, layout.segment_length)
    other = [each for each in kinds.geometries if each != mounts]
    for geometry in other:
        count, first = kinds.geometries[geometry], kinds.first[geometry]
        text = f"{count} of {kinds.encrypted} have {words(geometry)}: {_some(first)}"
        yield Finding(
            "fail", "geometry", text,
            'Write them anew (envelope reencrypt --segment-length), or set sizes = "exact".', 4,
        )  # fmt: skip
    if not other:
        yield Finding("ok", "geometry", f"{kinds.encrypted} files have the expected one")


def _layouts(store: Any, files: _Files) -> Iterable[tuple[str, Layout | Exception]]:
    """Each file's geometry, or what is wrong with it."""
    usual = Layout(FILE_HEADER_SIZE, DEFAULT_SEGMENT_LENGTH).body
    sizes = [info.get("size") for info in files]
    filled = [i for i, size in enumerate(sizes) if size != 0]
    ends = [min(usual, sizes[i] or usual) for i in filled]
    names = [str(info["name"]) for info in files]
    paths = [names[i] for i in filled]
    pieces = store.cat_ranges(paths, [0] * len(paths), ends, on_error="return") if paths else []
    starts = dict(zip(filled, pieces, strict=True))
    for index, name in enumerate(names):
        piece = starts.get(index, b"")
        if isinstance(piece, Exception):
            yield name, piece
            continue
        fetched = Fetched(name, sizes[index])
        fetched.add(0, bytes(piece))
        try:
            yield name, _layout(store, name, fetched)
        except Exception as error:
            yield name, error


def _layout(store: Any, path: str, fetched: Fetched) -> Layout:
    for _ in range(_ROUNDS):
        try:
            return message.read_layout(fetched)
        except Lacking as more:
            fetched.add(more.start, bytes(store.cat_file(path, start=more.start, end=more.end)))
    raise NotEncrypted("the file has no header that could be read", path=path)
