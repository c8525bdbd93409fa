"""URLs of fsspec: which text is one, and whose options are whose."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["is_url", "options_for", "resolved"]


def is_url(location: str) -> bool:
    """Whether text names something for fsspec, and not a local path."""
    return "://" in location or "::" in location


def resolved(url: str, storage_options: Mapping[str, Any] | None = None) -> tuple[Any, str]:
    """The file system of a URL, and the path in it.

    Args:
        url: Of fsspec, chains included.
        storage_options: See :func:`options_for`.

    Raises:
        ValueError, ImportError: fsspec knows no file system for it, or it is not installed.
    """
    import fsspec

    found: tuple[Any, str] = fsspec.url_to_fs(url, **options_for(url, storage_options or {}))
    return found


def options_for(url: str, storage_options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that concern ``url``, of those for several.

    A table under a protocol's name is for that protocol. Tables for protocols that ``url`` has
    not are left out: another URL of the same call has them, and a store would take them for an
    option of its own. ``az`` and ``abfs``, which fsspec serves by one class, are one here.

    Args:
        url: Of fsspec.
        storage_options: As fsspec takes them: tables by protocol, and options for the first one.
    """
    import fsspec
    from fsspec.core import split_protocol
    from fsspec.registry import known_implementations

    def served_by(protocol: str) -> str:
        return str(known_implementations.get(protocol, {}).get("class", protocol))

    links = [split_protocol(link)[0] or link for link in url.split("::")]
    protocols = {served_by(link): link for link in links}
    known = set(fsspec.available_protocols())
    chosen: dict[str, Any] = {}
    for name, value in storage_options.items():
        if not (isinstance(value, Mapping) and name in known):
            chosen[name] = value
        elif served_by(name) in protocols:
            link = name if name in links else protocols[served_by(name)]
            before = chosen.get(link, {})
            chosen[link] = {**before, **value} if name == link else {**value, **before}
    return chosen
