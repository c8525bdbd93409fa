"""Which columns are encrypted under which keys; all of it checked before a byte is written."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from fnmatch import fnmatchcase
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from envelope import config
from envelope.errors import ConfigurationError
from envelope_parquet.keytable import KeyTable

__all__ = ["TAG", "ColumnPolicy", "from_config", "leaves"]

TAG = b"envelope.key"
ALGORITHMS = ("AES_GCM_V1", "AES_GCM_CTR_V1")


@dataclass(frozen=True)
class ColumnPolicy:
    """Keys for the footer and the columns of Parquet files.

    Args:
        footer: The key of the footer: a key URL or an alias. Encrypts schema and statistics, or
            signs them with ``plaintext_footer``.
        columns: By key, the columns under it: a name, a nested path (``address.street``), a
            parent (``address`` is all below it), or a glob (``pii_*``, ``address.*``).
        tags: By the value of the field metadata ``envelope.key``, the key of fields that have it;
            on a schema, that of all fields that have none. A tag that is not here is an error.
        others: The key of the columns that nothing names. ``None``: the footer's key, or none
            with ``plaintext_footer``; ``"plain"``: they stay readable for whoever has the file.
        require: Names or globs of columns that must be under a key of ``columns`` or ``tags``.
        plaintext_footer: Leave schema, row counts and the plain columns readable without a key.
        algorithm: ``AES_GCM_V1``. ``AES_GCM_CTR_V1`` is refused unless ``unauthenticated`` is true:
            with it, a changed byte in a page reads as other data.
        unauthenticated: See ``algorithm``.

    Raises:
        ConfigurationError: What could never work.
    """

    footer: str
    columns: Mapping[str, str | Sequence[str]] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    others: str | None = None
    require: Sequence[str] = ()
    plaintext_footer: bool = False
    algorithm: str = "AES_GCM_V1"
    unauthenticated: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.footer, str) or not self.footer:
            raise ConfigurationError("a column policy needs a footer key")
        if self.algorithm not in ALGORITHMS:
            raise ConfigurationError(f"the algorithm is one of {', '.join(ALGORITHMS)}")
        if self.algorithm != "AES_GCM_V1" and not self.unauthenticated:
            raise ConfigurationError(
                "AES_GCM_CTR_V1 does not authenticate pages: a changed byte reads as other data",
                next_step="Use AES_GCM_V1, or say unauthenticated=True.",
            )
        if isinstance(self.require, str):
            raise ConfigurationError("require is a list of columns")

    @classmethod
    def load(
        cls, name: str, path: str | os.PathLike[str] | None = None, profile: str | None = None
    ) -> ColumnPolicy:
        """The policy ``[parquet.policies.NAME]`` of the configuration (docs/configuration.md).

        Args:
            name: Which one.
            path: A configuration file that is looked into before the usual places.
            profile: The part of it to use.

        Raises:
            ConfigurationError: There is none of that name, or it has a mistake.
        """
        return from_config(config.explain(path, profile).parquet, name)

    @property
    def uniform(self) -> bool:
        """Whether all of a file is under one key."""
        return (
            not self.columns
            and not self.tags
            and not self.plaintext_footer
            and self.others in (None, self.footer)
        )

    def assign(self, schema: pa.Schema, table: KeyTable) -> dict[str, list[str]]:
        """By alias, the leaf columns under it, as pyarrow names them.

        Empty for a file that is under the footer's key as a whole.

        Raises:
            ConfigurationError: A pattern that matches nothing, a column under two keys, a required
                column or a tag that nothing covers, a name that pyarrow cannot express.
        """
        paths = leaves(schema)
        named = self._tagged(schema, paths, table)
        for key, given in self.columns.items():
            alias = table.alias_of(key)
            for pattern in [given] if isinstance(given, str) else given:
                found = [path for path in paths if _matches(path, pattern)]
                if not found:
                    raise ConfigurationError(
                        f"the column policy names {pattern!r}, and there is no such column",
                        next_step=f"The columns are: {_some(paths)}.",
                    )
                for path in found:
                    if named.get(path, alias) != alias:
                        raise ConfigurationError(
                            f"column {path} is under two keys: {named[path]} and {alias}"
                        )
                    named[path] = alias
        self._check_required(paths, named)
        return self._grouped(paths, named, table)

    def _tagged(self, schema: pa.Schema, paths: Sequence[str], table: KeyTable) -> dict[str, str]:
        """By path, the alias that metadata asks for."""
        named: dict[str, str] = {}
        whole = (schema.metadata or {}).get(TAG)
        for column in schema:
            for prefix, tag in _tags(column, column.name, whole):
                key = self.tags.get(tag.decode(errors="replace"))
                below = [path for path in paths if _matches(path, prefix)]
                if key is None:
                    if all(self._named(path) for path in below):
                        continue
                    raise ConfigurationError(
                        f"column {prefix} is tagged envelope.key={tag.decode(errors='replace')!r}, "
                        "and the column policy has no key for that tag",
                        next_step="Add it to tags={TAG: KEY}, or name the column in columns.",
                    )
                named |= dict.fromkeys(below, table.alias_of(key))
        return named

    def _named(self, path: str) -> bool:
        given = self.columns.values()
        texts = [text for each in given for text in ([each] if isinstance(each, str) else each)]
        return any(_matches(path, pattern) for pattern in texts)

    def _check_required(self, paths: Sequence[str], named: Mapping[str, str]) -> None:
        for pattern in self.require:
            found = [path for path in paths if _matches(path, pattern)]
            if not found:
                raise ConfigurationError(
                    f"the column policy requires {pattern!r}, and there is no such column",
                    next_step=f"The columns are: {_some(paths)}.",
                )
            bare = [path for path in found if path not in named]
            if bare:
                raise ConfigurationError(
                    f"column {bare[0]} is required to have a key, and nothing gives it one",
                    next_step="Name it in columns={KEY: [COLUMN]}.",
                )

    def _grouped(
        self, paths: Sequence[str], named: dict[str, str], table: KeyTable
    ) -> dict[str, list[str]]:
        if self.uniform:
            return {}
        rest = self.others
        if rest is None:
            rest = "plain" if self.plaintext_footer else self.footer
        if rest != "plain":
            other = table.alias_of(rest)
            named = {path: named.get(path, other) for path in paths}
        groups: dict[str, list[str]] = {}
        for path in paths:
            if path in named:
                # pyarrow joins names to one text and splits it again at these signs.
                if any(sign in path for sign in ",;:") or path != path.strip():
                    raise ConfigurationError(
                        f"column {path!r} cannot have a key of its own: pyarrow cannot express a "
                        "name with one of , ; : or with blanks around it",
                        next_step="Rename the column, or encrypt the file under the footer's key "
                        "alone.",
                    )
                groups.setdefault(named[path], []).append(path)
        if not groups:
            raise ConfigurationError(
                "this column policy encrypts nothing but the footer"
                if not self.plaintext_footer
                else "this column policy encrypts nothing",
                next_step="Name the columns to encrypt: columns={KEY: [COLUMN]}.",
            )
        return groups


def from_config(section: Mapping[str, Any], name: str) -> ColumnPolicy:
    """A policy out of the section ``[parquet]`` of the configuration.

    Args:
        section: With ``policies`` by name.
        name: Which one.

    Raises:
        ConfigurationError: There is none of that name, or it has a mistake.
    """
    policies = section.get("policies", {})
    if name not in policies:
        raise ConfigurationError(
            f"the configuration has no column policy {name!r}",
            next_step=f"There are: {', '.join(sorted(policies)) or 'none'}; "
            f"see [parquet.policies.NAME] in docs/configuration.md.",
        )
    known = {each.name for each in fields(ColumnPolicy)}
    given = policies[name]
    for option in given:
        if option not in known:
            raise ConfigurationError(
                f"column policy {name!r} has an unknown name {option!r}",
                next_step=f"Known: {', '.join(sorted(known))}.",
            )
    try:
        return ColumnPolicy(**given)
    except (TypeError, AttributeError):
        raise ConfigurationError(f"column policy {name!r} has no footer") from None


def leaves(schema: pa.Schema) -> list[str]:
    """The paths of a schema's leaf columns, as Parquet and pyarrow name them."""
    written = io.BytesIO()
    pq.write_table(schema.empty_table(), written)
    parquet = pq.ParquetFile(pa.BufferReader(written.getvalue())).schema
    return [parquet.column(i).path for i in range(len(parquet.names))]


def _matches(path: str, pattern: str) -> bool:
    """The column itself, what is below it, or a glob over the whole path."""
    return path == pattern or path.startswith(pattern + ".") or _globbed(path, pattern)


def _globbed(path: str, pattern: str) -> bool:
    if not any(sign in pattern for sign in "*?["):
        return False
    parts = path.split(".")
    return any(fnmatchcase(".".join(parts[:n]), pattern) for n in range(1, len(parts) + 1))


def _tags(column: pa.Field, path: str, inherited: bytes | None) -> list[tuple[str, bytes]]:
    """Paths and the tags on them; the inner one holds."""
    tag = (column.metadata or {}).get(TAG, inherited)
    found = [] if tag is None else [(path, tag)]
    if pa.types.is_struct(column.type):
        for child in column.type:
            own = (child.metadata or {}).get(TAG)
            if own is not None or pa.types.is_struct(child.type):
                found += [
                    each for each in _tags(child, f"{path}.{child.name}", None) if each not in found
                ]
    return found


def _some(paths: Sequence[str]) -> str:
    more = f" and {len(paths) - 20} more" if len(paths) > 20 else ""
    return ", ".join(paths[:20]) + more
