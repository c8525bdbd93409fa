"""Inspecting: what a file says about its keys. Without keys, as far as the format allows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from envelope.errors import EnvelopeError
from envelope.jose import b64u_encode
from envelope_parquet import material, vaultkeys, wrapping
from envelope_parquet.chunks import Chunk
from envelope_parquet.keychain import is_ours
from envelope_parquet.material import Material
from envelope_parquet.opened import Opened, Reading, opening
from envelope_parquet.places import Location

__all__ = ["ColumnKeys", "Inspection", "KeyMetadata", "inspect"]

_SHOWN = 80


@dataclass(frozen=True, slots=True)
class KeyMetadata:
    """What a file says about a data key.

    Args:
        kind: ``envelope`` (wrapped by a key ring), ``pkmt1`` (by another program's KMS client),
            ``pkmt1-double`` (with a KEK of Parquet's key tools between), ``raw`` (none is said),
            ``other`` (bytes of the program that wrote it), or ``unreadable``.
        alias: The master key's name in the file.
        internal: The key material is in the file itself, not beside it.
        recipients: Kid and algorithm of the master keys that open it, as the file says; of key
            material for Spark, the version of the key that ``alias`` stands for.
        kek_id: Of the KEK of a key ring, or of Parquet's key tools.
        context: What the key is bound to.
        said: For ``other``, its first bytes, escaped; for ``unreadable``, what is wrong.
    """

    kind: str
    alias: str | None = None
    internal: bool = True
    recipients: tuple[tuple[str, str], ...] = ()
    kek_id: str | None = None
    context: Mapping[str, str] = field(default_factory=dict)
    said: str | None = None


@dataclass(frozen=True, slots=True)
class ColumnKeys:
    """A leaf column: ``key`` is ``None`` where it is plain, or under the footer's key."""

    column: str
    encrypted: bool
    key: KeyMetadata | None


@dataclass(frozen=True, slots=True)
class Inspection:
    """The keys of a file. Claims, unless ``proven``.

    Args:
        source: The file.
        size: Its bytes.
        algorithm: ``AES_GCM_V1``, or ``AES_GCM_CTR_V1``, whose pages are not authenticated.
        plaintext_footer: Anybody reads the schema and plain columns.
        aad_prefix: ``none``, ``stored``, or ``needed`` from the reader.
        footer: The footer's key.
        columns: The leaf columns; ``None`` where the footer is encrypted and was not opened.
        row_groups: How many; ``None`` as for the columns.
        proven: The footer was opened or its signature verified.
    """

    source: str
    size: int
    algorithm: str
    plaintext_footer: bool
    aad_prefix: str
    footer: KeyMetadata
    columns: tuple[ColumnKeys, ...] | None
    row_groups: int | None
    proven: bool

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)


def inspect(source: Location, *, prove: bool = False, **reading: Any) -> Inspection:
    """Tell how a file is encrypted and which keys it names.

    Without ``prove`` no key is needed and nobody is called: of an encrypted footer only its own
    key is known then, and all of it is what the file claims.

    Args:
        source: A path, a URL, or a binary file object that can seek.
        prove: Open the footer, or verify its signature, with the keys of ``reading``.
        reading: How keys are found, see :class:`Reading`.

    Raises:
        NotEncrypted: It is a plain Parquet file.
        Malformed, Truncated: It is no Parquet file, or a damaged one.
        EnvelopeError: With ``prove``: the footer's key could not be used; see docs/errors.md.
    """
    with opening(source, Reading(**reading)) as file:
        footer = file.footer
        if prove:
            file.prove()
        columns, groups = None, None
        if prove or footer.plaintext:
            columns = tuple(_column(file, chunk) for chunk in footer.columns)
            groups = footer.row_groups
        algorithm = footer.algorithm
        prefix = "needed" if algorithm.needs_prefix else "stored" if algorithm.prefix else "none"
        return Inspection(
            file.source.name,
            file.size,
            algorithm.name,
            footer.plaintext,
            prefix,
            _key(file, footer.key_metadata),
            columns,
            groups,
            footer.proven,
        )


def _column(file: Opened, chunk: Chunk) -> ColumnKeys:
    key = _key(file, chunk.key_metadata) if chunk.own_key else None
    return ColumnKeys(chunk.path, chunk.encrypted, key)


def _key(file: Opened, metadata: bytes | None) -> KeyMetadata:
    if not metadata:
        return KeyMetadata("raw")
    if metadata.lstrip()[:1] != b"{":
        return KeyMetadata("other", said=ascii(metadata[:_SHOWN])[2:-1])
    internal = True
    try:
        internal = isinstance(material.parse(metadata), Material)
        found = file.chain.material(metadata)
        return _material(found, internal)
    except (EnvelopeError, OSError) as error:
        said = error.message if isinstance(error, EnvelopeError) else type(error).__name__
        return KeyMetadata("unreadable", internal=internal, said=said)


def _material(found: Material, internal: bool) -> KeyMetadata:
    alias = found.master_key
    text = found.wrapped_dek if found.wrapped_kek is None else found.wrapped_kek
    if found.double_wrapped or not is_ours(text):
        kind = "pkmt1-double" if found.double_wrapped else "pkmt1"
        recipients: tuple[tuple[str, str], ...] = ()
        if vaultkeys.is_vault_key(text):
            under = vaultkeys.parse(text)
            recipients = ((under.version, under.alg),)
        return KeyMetadata(kind, alias, internal, recipients, found.kek_id)
    wrapped = wrapping.parse(found.wrapped_dek)
    return KeyMetadata(
        "envelope",
        alias,
        internal,
        tuple((each.kid, each.alg) for each in wrapped.section.recipients),
        b64u_encode(wrapped.section.kek_id),
        dict(wrapped.context),
    )
