"""How a Parquet file was written, so that another one is written alike."""

from __future__ import annotations

from typing import Any

import pyarrow.parquet as pq

__all__ = ["settings_of"]

_ENCODINGS = (
    "DELTA_BINARY_PACKED",
    "DELTA_LENGTH_BYTE_ARRAY",
    "DELTA_BYTE_ARRAY",
    "BYTE_STREAM_SPLIT",
)


def settings_of(metadata: pq.FileMetaData) -> dict[str, Any]:
    """How a file was written, as arguments of :class:`pyarrow.parquet.ParquetWriter`."""
    settings: dict[str, Any] = {"version": _version(metadata.format_version)}
    if not metadata.num_row_groups:
        return settings
    group = metadata.row_group(0)
    chunks = [group.column(i) for i in range(group.num_columns)]
    dictionary = [c.path_in_schema for c in chunks if c.has_dictionary_page]
    encodings = {
        c.path_in_schema: encoding
        for c in chunks
        if not c.has_dictionary_page
        for encoding in c.encodings
        if encoding in _ENCODINGS
    }
    settings |= {
        "compression": {c.path_in_schema: _codec(c.compression) for c in chunks},
        "use_dictionary": dictionary or False,
        "write_statistics": [c.path_in_schema for c in chunks if c.is_stats_set] or False,
        "write_page_index": any(c.has_offset_index for c in chunks),
        "use_deprecated_int96_timestamps": any(c.physical_type == "INT96" for c in chunks),
        "sorting_columns": list(group.sorting_columns) or None,
    }
    if encodings:
        settings["column_encoding"] = encodings
    return settings


def _version(found: str) -> str:
    return found if found in ("1.0", "2.4", "2.6") else "2.6"


def _codec(name: str) -> str:
    return "NONE" if name == "UNCOMPRESSED" else name
