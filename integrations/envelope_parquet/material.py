"""Key material of Parquet, type PKMT1: JSON text to values and back. Pure.

What stands in a file is a claim: which master key a data key is wrapped with,
and where a vault is. Nothing here acts on it. The members are those of
"Parquet key tools" (parquet-java, ``KeyMaterial``; Arrow, ``key_material.h``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from envelope import jose
from envelope.errors import Malformed, UnsupportedFormat

__all__ = ["TYPE", "Material", "Reference", "parse"]

TYPE = "PKMT1"
_KNOWN = frozenset(
    {
        "keyMaterialType",
        "internalStorage",
        "keyReference",
        "isFooterKey",
        "kmsInstanceID",
        "kmsInstanceURL",
        "masterKeyID",
        "wrappedDEK",
        "doubleWrapping",
        "keyEncryptionKeyID",
        "wrappedKEK",
    }
)


@dataclass(frozen=True, slots=True)
class Reference:
    """Stands in a footer whose key material is in a file beside it."""

    name: str

    def to_text(self) -> str:
        """The JSON text that stands in the footer."""
        value = {"keyMaterialType": TYPE, "internalStorage": False, "keyReference": self.name}
        return jose.dumps(value).decode()


@dataclass(frozen=True, slots=True)
class Material:
    """One data key as Parquet's key tools write it.

    Args:
        master_key: The master key's name in the file: an alias, never an address.
        wrapped_dek: The data key, wrapped; with double wrapping, base64 under the KEK.
        footer: It is the footer's key; such material names the vault, too.
        internal: It stands in the footer itself, not in a file beside it.
        kms_instance_id, kms_instance_url: What the file says about a vault. Never used.
        kek_id, wrapped_kek: With double wrapping, the KEK's id (base64) and the KEK, wrapped.
        other: Members that this release does not know, which a rewrap keeps.
    """

    master_key: str
    wrapped_dek: str
    footer: bool = False
    internal: bool = True
    kms_instance_id: str | None = None
    kms_instance_url: str | None = None
    kek_id: str | None = None
    wrapped_kek: str | None = None
    other: dict[str, Any] = field(default_factory=dict)

    @property
    def double_wrapped(self) -> bool:
        """The data key is under a KEK of Parquet's key tools."""
        return self.wrapped_kek is not None

    def to_text(self) -> str:
        """The JSON text."""
        value: dict[str, Any] = {
            "keyMaterialType": TYPE,
            "internalStorage": self.internal,
            "isFooterKey": self.footer,
        }
        if self.footer:
            # Readers of other programs want both to be there, whatever they are.
            value["kmsInstanceID"] = self.kms_instance_id or "DEFAULT"
            value["kmsInstanceURL"] = self.kms_instance_url or "DEFAULT"
        value |= {"masterKeyID": self.master_key, "wrappedDEK": self.wrapped_dek}
        value["doubleWrapping"] = self.double_wrapped
        if self.double_wrapped:
            value |= {"keyEncryptionKeyID": self.kek_id, "wrappedKEK": self.wrapped_kek}
        return jose.dumps(value | self.other).decode()


def is_material(metadata: bytes | None) -> bool:
    """Whether key metadata is key material, and not the name of a raw key, or nothing."""
    return metadata is not None and metadata.lstrip()[:1] == b"{"


def parse(data: bytes) -> Material | Reference:
    """Key material out of a footer, or out of a file beside it.

    Args:
        data: The bytes of ``key_metadata``, or of one entry of a key material file.

    Raises:
        UnsupportedFormat: No PKMT1 key material; the file was written with raw keys, or with
            key tools of another kind.
        Malformed: A member is missing or of the wrong type.
    """
    if not is_material(data):
        raise UnsupportedFormat(
            "the file has no key material of the type PKMT1: it was written with raw keys",
            next_step="Read it with raw_keys={NAME: KEY}, or adopt it under a key of yours.",
        )
    value = jose.loads(data, "key material")
    if value.get("keyMaterialType") != TYPE:
        raise UnsupportedFormat("the key material is not of the type PKMT1")
    internal = value.get("internalStorage", True)
    if not isinstance(internal, bool):
        raise Malformed("internalStorage of key material is not true or false")
    if "keyReference" in value and "wrappedDEK" not in value:
        return Reference(_text(value, "keyReference"))
    double = value.get("doubleWrapping")
    footer = value.get("isFooterKey")
    if not isinstance(double, bool) or not isinstance(footer, bool):
        raise Malformed("doubleWrapping or isFooterKey of key material is not true or false")
    return Material(
        master_key=_text(value, "masterKeyID"),
        wrapped_dek=_text(value, "wrappedDEK"),
        footer=footer,
        internal=internal,
        kms_instance_id=_text(value, "kmsInstanceID") if "kmsInstanceID" in value else None,
        kms_instance_url=_text(value, "kmsInstanceURL") if "kmsInstanceURL" in value else None,
        kek_id=_text(value, "keyEncryptionKeyID") if double else None,
        wrapped_kek=_text(value, "wrappedKEK") if double else None,
        other={name: each for name, each in value.items() if name not in _KNOWN},
    )


def _text(value: jose.JsonObject, name: str) -> str:
    text = value.get(name)
    if not isinstance(text, str) or not text:
        raise Malformed(f"key material has no text {name}")
    return text
