"""``ls`` and ``du``: what is in a mount or a chain, as plaintext."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import typer

from envelope.cli.batch import each
from envelope.cli.filing import stores_of
from envelope.cli.globs import expanded, has_magic
from envelope.cli.options import ContextOptions, KeyOptions
from envelope.cli.output import Output, amount, columns
from envelope.cli.progress import progress_bar
from envelope.cli.signatures import examples
from envelope.cli.stores import Place, StorageOptions, Stores, enveloped, modified
from envelope.cli.trees import Input
from envelope.errors import ConfigurationError
from envelope.sources import OnProgress

__all__ = ["check_enveloped", "du", "ls"]

Urls = Annotated[
    list[str],
    typer.Argument(metavar="URL...", help="Of mounts or chains; quoted, they may be globs."),
]
SomeUrls = Annotated[
    list[str] | None,
    typer.Argument(metavar="[URL...]", help="Of mounts or chains; without any, the mounts."),
]


def check_enveloped(urls: list[str]) -> None:
    """Refuse what is neither of a mount nor a chain.

    Raises:
        ConfigurationError: One is not.
    """
    for url in urls:
        if not enveloped(url):
            step = f"Name it envelope::{url}." if "://" in url else "Give envelope://MOUNT/…."
            raise ConfigurationError(f"{url!a} is no URL of a mount or a chain", next_step=step)


@examples(
    "envelope ls",
    "envelope ls -l envelope://lake/2026",
    "envelope ls -r 'envelope://lake/**/*.parquet' --json",
)
def ls(
    out: Output,
    keys: KeyOptions,
    context: ContextOptions,
    storage: StorageOptions,
    urls: SomeUrls = None,
    long: Annotated[
        bool, typer.Option("--long", "-l", help="With sizes, stored sizes and times.")
    ] = False,
    recursive: Annotated[
        bool, typer.Option("--recursive", "-r", help="All that is below folders.")
    ] = False,
) -> int:
    """List files of mounts and chains, with the sizes of their plaintext.

    No file is opened: sizes are computed, and are proven when a file is read. Without a URL, the
    mounts are listed.
    """
    if not urls:
        for name, mount in sorted(out.configuration().mounts.items()):
            url = f"envelope://{name}/"
            out.answer(_entry(url, {"type": "directory"}), f"{url}  {mount.get('url')}")
        return 0
    check_enveloped(urls)
    stores = stores_of(out, storage, list(urls), keys, context)
    many = len(urls) > 1

    def show(found: Input, _on_progress: OnProgress) -> Callable[[], None]:
        listed = list(_listed(stores, found.path, recursive))
        return partial(_print, out, found.path if many else None, listed, long=long)

    with progress_bar(out, False, lambda: None) as bar:
        found = [Input(url, url) for url in urls]
        return each(out, found, show, bar=bar, several=many)


@examples("envelope du envelope://lake/2026", "envelope du 'envelope://lake/*' --json")
def du(
    out: Output, keys: KeyOptions, context: ContextOptions, storage: StorageOptions, urls: Urls
) -> int:
    """Tell how much plaintext is in folders of mounts and chains, and how much is stored."""
    check_enveloped(urls)
    stores = stores_of(out, storage, list(urls), keys, context)

    def show(found: Input, _on_progress: OnProgress) -> Callable[[], None]:
        uses = []
        if has_magic(found.path):
            for place, info in _listed(stores, found.path, recursive=False):
                uses.append(_used(place, info))
        else:
            place = stores.at(found.path)
            uses.append(_used(place, place.info()))
        return partial(_print_use, out, uses)

    with progress_bar(out, False, lambda: None) as bar:
        return each(out, [Input(url, url) for url in urls], show, bar=bar, several=len(urls) > 1)


def _listed(stores: Stores, url: str, recursive: bool) -> Iterator[tuple[Place, dict[str, Any]]]:
    """What a URL names: the entries of a folder, a file, or what a glob stands for."""
    if has_magic(url):
        for place, _relative, info in expanded(stores, url, recursive=recursive, folders=True):
            yield place, info
        return
    place = stores.at(url)
    info = place.info()
    if info["type"] != "directory":
        yield place, info
    elif recursive:
        yield from place.listed()
    else:
        yield from place.entries()


def _entry(path: str, info: dict[str, Any]) -> dict[str, Any]:
    """docs/schema/listing.json"""
    folder = info["type"] == "directory"
    time = modified(info)
    return {
        "path": path,
        "type": "folder" if folder else "file",
        "size": None if folder else info.get("size"),
        "stored_size": None if folder else info.get("stored_size"),
        "encrypted": None if folder else bool(info.get("encrypted")),
        "modified": None if time is None or folder else _iso(time),
    }


def _iso(nanoseconds: int) -> str:
    time = datetime.datetime.fromtimestamp(nanoseconds // 10**9, datetime.UTC)
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


def _print(
    out: Output, header: str | None, listed: list[tuple[Place, dict[str, Any]]], *, long: bool
) -> None:
    entries = [_entry(place.url, info) for place, info in listed]
    if out.options.json:
        for entry in entries:
            out.answer(entry)
        return
    lines = [] if header is None else [f"{header}:"]
    names = [each["path"] + ("/" if each["type"] == "folder" else "") for each in entries]
    if long and entries:
        rows = [
            (_shown(entry["size"]), _shown(entry["stored_size"]), entry["modified"] or "-", name)
            for entry, name in zip(entries, names, strict=True)
        ]
        lines += columns([("SIZE", "STORED", "MODIFIED", "NAME"), *rows])
    else:
        lines += names
    out.answer({}, *lines)


def _shown(size: int | None) -> str:
    return "-" if size is None else amount(size)


@dataclass(frozen=True)
class _Use:
    """What is below a path. ``unknown`` files have no size that a listing could tell."""

    path: str
    files: int
    size: int
    stored_size: int
    unknown: int


def _used(place: Place, info: dict[str, Any]) -> _Use:
    found = [info]
    if info["type"] == "directory":
        found = [each for _place, each in place.listed(empty=True)]
    sizes = [each.get("size") for each in found]
    known = [size for size in sizes if size is not None]
    stored = sum(each.get("stored_size") or 0 for each in found)
    return _Use(place.url, len(found), sum(known), stored, len(sizes) - len(known))


def _print_use(out: Output, uses: list[_Use]) -> None:
    for use in uses:
        files = "1 file" if use.files == 1 else f"{use.files} files"
        text = f"{amount(use.size)}  {use.path}  ({files}, {amount(use.stored_size)} stored)"
        if use.unknown:
            text += f"; {use.unknown} of another form, see envelope doctor"
        out.answer(use.__dict__, text)
