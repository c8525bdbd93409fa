"""``envelope.filesystem``: the encrypting file system as an object, found by fsspec's registry."""

from __future__ import annotations

from typing import Any

__all__ = ["filesystem"]


def filesystem(protocol: str | None = None, **options: Any) -> Any:
    """The file system ``envelope`` on a store, for programs that take an fsspec object.

        fs = envelope.filesystem("abfs", keys="azurekeyvault://acme/lake", account_name="acmelake")
        duckdb.register_filesystem(fs)

    Args:
        protocol: The store's name in fsspec: ``s3``, ``abfs``, ``file``, …; ``None`` with
            ``mount=`` for a mount of the configuration.
        options: Those of docs/filesystem.md (``keys``, ``rules``, ``context``, …), and those of
            the store beside them. Where both have one of the same name, give the store's as
            ``target_options={…}``.

    Raises:
        TypeError, ConfigurationError: An option has no sense; see docs/filesystem.md.
    """
    import fsspec

    return fsspec.get_filesystem_class("envelope").on(protocol, **options)
