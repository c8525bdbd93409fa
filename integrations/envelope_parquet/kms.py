"""Our KMS client for pyarrow's key tools, and the properties that are made with it.

One client is for one file: it knows the context that is bound to the file's keys.
pyarrow never frees a client (each is held by its own C++ half), so a client has no
key and no cache; both are the key ring's, where ``revoke`` clears them.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import pyarrow.parquet.encryption as pe

from envelope import runtime
from envelope.errors import ConfigurationError, EnvelopeError
from envelope.secret import Secret
from envelope_parquet import interop, vaultkeys, wrapping
from envelope_parquet.binding import Binding
from envelope_parquet.interop import OURS, Form, Written
from envelope_parquet.keytable import KeyTable, Opened
from envelope_parquet.places import Place
from envelope_parquet.policy import ColumnPolicy

__all__ = ["Client", "configuration", "decryption", "encryption"]


class Client(pe.KmsClient):  # type: ignore[misc]  # pyarrow has no types
    """Wraps and unwraps the keys of one file.

    Args:
        table: What the names of keys in the file stand for.
        context: Bound to the keys that are wrapped.
        binding: What to expect of the keys that are unwrapped.
        keys: By alias, the key to wrap with.
    """

    def __init__(
        self,
        table: KeyTable,
        *,
        context: Mapping[str, str] | None = None,
        binding: Binding | None = None,
        keys: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        self._table = table
        self._context = dict(context or {})
        self._binding = binding or Binding()
        self._keys = keys or {}
        self.opened = 0  # keys; none means that the file was not encrypted
        self.failure: EnvelopeError | None = None

    def wrap_key(self, key_bytes: bytes, master_key_identifier: str) -> str:
        """The key material's ``wrappedDEK`` for a data key; called by pyarrow."""
        secret = Secret(key_bytes)
        del key_bytes  # a local variable is what a traceback prints
        try:
            if len(secret) != wrapping.DATA_KEY_BYTES:
                raise ConfigurationError(
                    f"data keys have 256 bits here, not {8 * len(secret)}",
                    next_step="Leave data_key_length_bits at 256.",
                )
            key = self._keys.get(master_key_identifier, master_key_identifier)
            return wrapping.wrap(self._table.for_writing(key), secret, self._context)
        except EnvelopeError as error:
            self.failure = error
            raise

    def unwrap_key(self, wrapped_key: str, master_key_identifier: str) -> bytes:
        """The data key; called by pyarrow, from any thread and for each column anew."""
        try:
            key = self.open(wrapped_key, master_key_identifier)
        except EnvelopeError as error:
            self.failure = error
            raise
        self.opened += 1
        return key.reveal()

    def open(self, wrapped_key: str, alias: str) -> Secret:
        """The data key of a ``wrappedDEK``; the KEK of a ``wrappedKEK`` of Parquet's key tools.

        Raises:
            UntrustedKey, ContextMismatch, KeyUnusable, KeyNotFound, VaultUnavailable, Tampered,
                Malformed, UnsupportedFormat: See :mod:`envelope_parquet.wrapping`.
        """
        if vaultkeys.is_vault_key(wrapped_key):
            self._binding.check({})
            return vaultkeys.unwrap(self._table, alias, wrapped_key)
        opened = runtime.current().state(Opened).keys
        name = (self._table.identity, alias, wrapped_key)
        found = opened.get(name)
        if found is not None:
            self._binding.check(found[1])
            return found[0]
        wrapped = wrapping.parse(wrapped_key)
        self._binding.check(wrapped.context)
        key = wrapping.unwrap(self._table.for_reading(alias, wrapped.kids), wrapped)
        opened.put(name, (key, wrapped.context))
        return key


def configuration(
    policy: ColumnPolicy, groups: Mapping[str, list[str]], footer: str
) -> pe.EncryptionConfiguration:
    """pyarrow's encryption configuration of an assigned policy."""
    options: dict[str, Any] = {"column_keys": dict(groups)} if groups else {}
    return pe.EncryptionConfiguration(
        footer_key=footer,
        uniform_encryption=not groups,
        plaintext_footer=policy.plaintext_footer,
        encryption_algorithm=policy.algorithm,
        double_wrapping=False,  # the ring's KEKs are the second layer, and have 256 bits
        internal_key_material=True,
        data_key_length_bits=256,
        **options,
    )


def encryption(
    table: KeyTable,
    policy: ColumnPolicy,
    schema: Any,
    context: Mapping[str, str],
    form: Form = OURS,
) -> Written:
    """``FileEncryptionProperties`` for one file, with fresh data keys.

    Args:
        table, policy: Keys, and what is under which.
        schema: Of the file.
        context: Bound to the keys; key material for Spark has none.
        form: For whom the key material is.

    Raises:
        ConfigurationError: See :meth:`ColumnPolicy.assign` and :func:`interop.factory`.
        KeyNotFound, KeyUnusable, VaultUnavailable, LimitExceeded: See :func:`wrapping.wrap`.
    """
    groups = policy.assign(schema, table)
    keys = aliases(policy, table)
    made = configuration(policy, groups, table.alias_of(policy.footer))
    if form.interop is not None:
        return interop.properties(table, made, keys, form)
    client = Client(table, context=context, keys=keys)
    factory = pe.CryptoFactory(lambda _connection: client)
    try:
        return Written(factory.file_encryption_properties(pe.KmsConnectionConfig(), made))
    except Exception:
        if client.failure is not None:
            raise client.failure from None
        raise


def aliases(policy: ColumnPolicy, table: KeyTable) -> dict[str, str]:
    """By alias, the key, for all keys of a policy."""
    keys = [policy.footer, *policy.columns, *policy.tags.values()]
    if policy.others not in (None, "plain"):
        keys.append(policy.others)
    return {table.alias_of(key): key for key in keys}


def decryption(table: KeyTable, binding: Binding) -> tuple[Any, Client]:
    """``FileDecryptionProperties`` for one file, and the client that it will ask."""
    client = Client(table, binding=binding)
    return asking(client), client


def asking(client: Client, place: Place | None = None) -> Any:
    """``FileDecryptionProperties`` that have no key yet: pyarrow keeps KEKs in them.

    Args:
        client: Is asked for keys.
        place: Of the file, beside which pyarrow looks for key material that it has not in itself.
    """
    factory = pe.CryptoFactory(lambda _connection: client)
    beside = {} if place is None else {"parquet_file_path": place.path, "filesystem": place.fs}
    # The vault's address in the file is never used, whoever wrote it.
    return factory.file_decryption_properties(
        pe.KmsConnectionConfig(), pe.DecryptionConfiguration(read_kms_url=False), **beside
    )


def warn_of(algorithm: str, name: str) -> None:
    """Say that pages are not authenticated."""
    if algorithm != "AES_GCM_V1":
        warnings.warn(
            f"{name} is encrypted with {algorithm}: changes of its data go unnoticed",
            UserWarning,
            stacklevel=3,
        )
