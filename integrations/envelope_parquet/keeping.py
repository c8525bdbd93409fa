"""The column policy that a file was written under, for who writes it anew and names none."""

from __future__ import annotations

from envelope.errors import ConfigurationError
from envelope_parquet.keytable import KeyTable
from envelope_parquet.policy import ColumnPolicy
from envelope_parquet.probing import RAW, ColumnAccess, FileAccess

__all__ = ["policy_of"]


def policy_of(access: FileAccess, table: KeyTable) -> ColumnPolicy:
    """A policy that puts the footer and each column under the key that it is under.

    Args:
        access: What the file says of its keys; the footer was proven.
        table: What the names of keys in it stand for.

    Raises:
        UntrustedKey: A name stands for no key of the table, as those of other programs.
        ConfigurationError: It was written with raw keys.
    """
    footer = _key(access.footer, table)
    columns: dict[str, list[str]] = {}
    plain = False
    for each in access.columns:
        if each.key is None:
            plain = True
        else:
            columns.setdefault(_key(each, table), []).append(each.column)
    if list(columns) == [footer] and not plain and not access.plaintext_footer:
        columns = {}
    return ColumnPolicy(
        footer,
        columns,
        others="plain" if plain else None,
        plaintext_footer=access.plaintext_footer,
    )


def _key(found: ColumnAccess, table: KeyTable) -> str:
    if found.key is None or found.key == RAW:
        raise ConfigurationError(
            "the file was written with raw keys, which tell of no key to write it anew under",
            next_step="Name a policy: policy= (--footer, --column).",
        )
    return table.key_of(found.key, found.kids)
