"""The data keys of one file, each opened once: of our key material, of other programs', or raw."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from envelope.errors import (
    ConfigurationError,
    EnvelopeError,
    KeyMismatch,
    KeyNotFound,
    Malformed,
    UnsupportedFormat,
)
from envelope.secret import Secret
from envelope_parquet import kms as kms_clients
from envelope_parquet import material, modules
from envelope_parquet.binding import Binding
from envelope_parquet.chunks import Chunk
from envelope_parquet.footer import Footer
from envelope_parquet.keytable import KeyTable
from envelope_parquet.material import Material

__all__ = ["Keychain", "KmsClient", "RawKeys", "is_ours", "raw_secret"]


class KmsClient(Protocol):
    """Another program's side of key material: pyarrow's ``KmsClient`` has this method."""

    def unwrap_key(self, wrapped_key: str, master_key_identifier: str) -> bytes:
        """The key of a wrapped text under the master key of that name."""
        ...


RawKeys = Mapping[str, "bytes | Secret"]
"""Data keys themselves: by the path of a leaf column, and under ``""`` the footer's. Those under
the footer's key need none."""


def raw_secret(key: bytes | Secret | None, what: str) -> Secret:
    """A raw key of the right length.

    Raises:
        ConfigurationError: There is none, or it is no key.
    """
    if key is None:
        raise ConfigurationError(
            f"the key of {what} is not given, and the file does not tell how to find it",
            next_step="Give it in raw_keys=.",
        )
    if not isinstance(key, (bytes, Secret)) or len(key) not in modules.KEY_SIZES:
        raise ConfigurationError(f"the raw key of {what} is not 16, 24 or 32 bytes")
    return key if isinstance(key, Secret) else Secret(key)


def is_ours(text: str) -> bool:
    """Whether a wrapped text looks like one of :mod:`envelope_parquet.wrapping`."""
    return text.startswith("{")


class Keychain:
    """Opens the keys of one file.

    Args:
        table: Gives what the names of keys stand for. Files with raw keys never ask for it.
        binding: What the context of the keys has to be.
        kms: Opens what another program wrapped.
        raw: Keys that the file does not tell how to find.
        external: The texts of a key material file, by reference.
    """

    def __init__(
        self,
        table: Callable[[], KeyTable],
        binding: Binding,
        *,
        kms: KmsClient | None = None,
        raw: RawKeys | None = None,
        external: Callable[[], Mapping[str, str]] | None = None,
    ) -> None:
        self._table = table
        self._binding = binding
        self._client: kms_clients.Client | None = None
        self._kms = kms
        self._raw = {
            path: raw_secret(key, f"column {path!r}" if path else "the footer")
            for path, key in (raw or {}).items()
        }
        self._external = external
        self._known: dict[bytes, Secret] = {}
        self.used_external = False
        """Some key material stands in a file beside."""

    def material(self, metadata: bytes) -> Material:
        """The key material that key metadata is or refers to.

        Raises:
            Malformed, UnsupportedFormat: See :func:`material.parse`.
        """
        found = material.parse(metadata)
        if isinstance(found, Material):
            return found
        if self._external is None:
            raise UnsupportedFormat(
                "the key material is in a file beside it that was not looked for"
            )
        self.used_external = True
        text = self._external().get(found.name)
        if text is None:
            raise Malformed(f"the key material file has no entry {found.name[:80]!a}")
        inner = material.parse(text.encode())
        if not isinstance(inner, Material):
            raise Malformed("the key material file refers to another one")
        return inner

    def footer(self, footer: Footer) -> Secret:
        """The footer's key.

        Raises:
            ConfigurationError: It was written with a raw key that was not given.
            EnvelopeError: See :meth:`Client.open`.
        """
        return self._key(footer.key_metadata, self._raw.get(""), "the footer")

    @property
    def foreign(self) -> bool:
        """pyarrow cannot find the keys by our KMS client alone."""
        return bool(self._raw) or self._kms is not None or self.used_external

    def raw(self, path: str) -> Secret:
        """A raw key that was given for a leaf column.

        Raises:
            ConfigurationError: There was none.
        """
        return raw_secret(self._raw.get(path), f"column {path!r}")

    def column(self, chunk: Chunk, footer: Callable[[], Secret]) -> Secret | None:
        """The key of a column; ``None`` where it is plain. ``footer`` gives the footer's key.

        Raises:
            KeyNotFound: Raw keys were given, and this column's is not among them: it is denied.
            EnvelopeError: See :meth:`Client.open`.
        """
        if not chunk.encrypted:
            return None
        if not chunk.own_key:
            return footer()
        raw, what = self._raw.get(chunk.path), f"column {chunk.path!r}"
        if self._raw and raw is None and not material.is_material(chunk.key_metadata):
            raise KeyNotFound(
                f"of the raw keys, that of {what} was not given", next_step="Give it in raw_keys=."
            )
        return self._key(chunk.key_metadata, raw, what)

    def _key(self, metadata: bytes | None, raw: Secret | None, what: str) -> Secret:
        if raw is not None or metadata is None:
            return raw_secret(raw, what)
        known = self._known.get(metadata)
        if known is None:
            known = self._known[metadata] = self.open(self.material(metadata))
        return known

    def open(self, found: Material) -> Secret:
        """The data key of key material, whoever wrapped it.

        Raises:
            UnsupportedFormat: Another program wrapped it, and no ``kms`` was given.
            KeyMismatch: The KEK of double wrapping does not open it.
            EnvelopeError: See :meth:`Client.open`.
        """
        if found.wrapped_kek is None or found.kek_id is None:
            return self._unwrapped(found.wrapped_dek, found.master_key)
        kek = self._unwrapped(found.wrapped_kek, found.master_key)
        sealed = _base64(found.wrapped_dek, "wrappedDEK")
        try:
            # Nonce, ciphertext and tag; the AAD is the KEK's id (Arrow, key_toolkit_internal).
            opened = AESGCM(kek.reveal()).decrypt(
                sealed[:12], sealed[12:], _base64(found.kek_id, "keyEncryptionKeyID")
            )
        except (InvalidTag, ValueError):
            raise KeyMismatch(
                "a data key does not open under the KEK of its key material",
                kid=found.master_key,
                operation="unwrap",
            ) from None
        return _checked(opened, found.master_key)

    def _unwrapped(self, text: str, alias: str) -> Secret:
        if is_ours(text) or self._kms is None:
            if self._client is None:
                self._client = kms_clients.Client(self._table(), binding=self._binding)
            return self._client.open(text, alias)
        try:
            key = self._kms.unwrap_key(text, alias)
        except EnvelopeError:
            raise
        except Exception as error:  # whatever a client of somebody else raises
            raise KeyMismatch(
                f"the KMS client did not unwrap the key: {type(error).__name__}",
                kid=alias,
                operation="unwrap",
            ) from error
        return _checked(key, alias)


def _checked(key: Any, alias: str) -> Secret:
    if not isinstance(key, bytes) or len(key) not in modules.KEY_SIZES:
        raise KeyMismatch("what was unwrapped is no key of Parquet", kid=alias, operation="unwrap")
    return Secret(key)


def _base64(text: str, what: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Malformed(f"{what} of key material is not base64") from None
