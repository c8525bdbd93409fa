"""Key material that parquet-java's own clients read: properties for new files (docs/spark.md).

Here, pyarrow's key tools make the KEKs, as parquet-java's do: one for each master key and
factory. So that many files share them, and with them a call of the vault, a factory
serves all files of one key table until its KEKs are due. They have 128 bits, since pyarrow makes
no others.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pyarrow.fs as pafs
import pyarrow.parquet.encryption as pe
from fsspec.implementations.memory import MemoryFileSystem

from envelope import jose, keyurl, runtime
from envelope.errors import ConfigurationError, EnvelopeError
from envelope.secret import Secret
from envelope_parquet import vaultkeys
from envelope_parquet.keytable import Keys, KeyTable, Opened, as_table, generated

__all__ = ["OURS", "Form", "Written", "check", "factory", "hadoop_properties", "properties"]

_NAME = "of.parquet"  # of a file whose key material is made in memory


@dataclass(frozen=True, slots=True)
class Form:
    """For whom key material is written, and where.

    Args:
        interop: ``None`` for readers of this library, ``"spark"`` for parquet-java's as well.
        material: ``"internal"``, in the file; ``"external"``, in one beside it.
        context: What the caller wants to be bound, for which the form for Spark has no place.

    Raises:
        ConfigurationError: Something else, external material without ``interop``, or a context
            with it.
    """

    interop: str | None = None
    material: str = "internal"
    context: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        if self.interop not in (None, "spark"):
            raise ConfigurationError("interop is 'spark' or None")
        if self.material not in ("internal", "external"):
            raise ConfigurationError("material is 'internal' or 'external'")
        if self.external and self.interop is None:
            raise ConfigurationError(
                "key material beside the file is for Spark, which can rotate keys in no other way",
                next_step="Say interop='spark', or leave material= out.",
            )
        if self.interop is not None and self.context:
            raise ConfigurationError(
                "key material for Spark has no place for a context",
                next_step="Leave context= out, or interop=.",
            )

    @property
    def external(self) -> bool:
        """Key material goes into a file beside."""
        return self.material == "external"


OURS = Form()


@dataclass(frozen=True, slots=True)
class Written:
    """pyarrow's properties for one file, and the texts for the key material file beside it."""

    properties: Any
    beside: Mapping[str, str] | None = None


class _Client(pe.KmsClient):  # type: ignore[misc]  # pyarrow has no types
    """Wraps the KEKs of many files, on any thread; it knows no key."""

    def __init__(self, table: KeyTable, keys: Mapping[str, str]) -> None:
        super().__init__()
        self._table = table
        self._keys = keys
        self._failed = threading.local()

    def wrap_key(self, key_bytes: bytes, master_key_identifier: str) -> str:
        """The text of ``wrappedKEK``; called by pyarrow."""
        secret = Secret(key_bytes)
        del key_bytes  # a local variable is what a traceback prints
        try:
            key = self._keys[master_key_identifier]
            return vaultkeys.wrap(self._table.for_writing(key), secret)
        except EnvelopeError as error:
            self._failed.error = error
            raise

    def unwrap_key(self, wrapped_key: str, master_key_identifier: str) -> bytes:
        """Never called: what this one wraps is read elsewhere."""
        raise NotImplementedError

    def failure(self) -> EnvelopeError | None:
        """What this thread's last call raised, once."""
        error: EnvelopeError | None = self._failed.__dict__.pop("error", None)
        return error


class _Factory:
    """pyarrow's factory with the KEKs that it made; good for so many files."""

    def __init__(self, table: KeyTable, keys: Mapping[str, str], files: int) -> None:
        self.client = client = _Client(table, keys)
        self.crypto = pe.CryptoFactory(lambda _connection: client)
        self._left = files
        self._lock = threading.Lock()

    def take(self) -> bool:
        """Count one file."""
        with self._lock:
            self._left -= 1
            return self._left >= 0


def factory(table: KeyTable, keys: Mapping[str, str]) -> _Factory:
    """The factory of new files under these keys, whose KEKs are neither old nor used up.

    Args:
        table: Whose limits hold.
        keys: By alias, the key.

    Raises:
        ConfigurationError: A key that clients of Spark could not use.
    """
    check(table, keys)
    limits = table.ring.limits
    state = runtime.current().state(Opened)
    which = (table.identity, repr(sorted(keys.items())))
    with state.making:  # threads that begin together share KEKs
        found = state.factories.get(which, age=_age(table))
        if found is None or not found.take():
            found = _Factory(table, keys, limits.kek_files - 1)
            state.factories.put(which, found)
    return found


def check(table: KeyTable, keys: Mapping[str, str]) -> None:
    """Refuse keys that clients of Spark could not use; nobody is called.

    Args:
        table, keys: See :func:`factory`.

    Raises:
        ConfigurationError: There is one.
    """
    for key in keys.values():
        vaultkeys.check(table.for_writing(key))


def properties(
    table: KeyTable,
    configuration: pe.EncryptionConfiguration,
    keys: Mapping[str, str],
    form: Form,
) -> Written:
    """Properties for one file, with fresh data keys under KEKs that are shared.

    Args:
        table, keys: See :func:`factory`.
        configuration: Of single wrapping; it is changed to double wrapping.
        form: Where the key material goes.

    Raises:
        ConfigurationError: A key that clients of Spark could not use.
        KeyNotFound, KeyUnusable, VaultUnavailable, LimitExceeded: A key could not be used.
    """
    made = factory(table, keys)
    prepare(table, configuration, form)
    connection = pe.KmsConnectionConfig()
    beside: dict[str, Any] = {}
    memory = _Memory() if form.external else None
    if memory is not None:
        beside = {
            "parquet_file_path": f"/{_NAME}",
            "filesystem": pafs.PyFileSystem(pafs.FSSpecHandler(memory)),
        }
    try:
        found = made.crypto.file_encryption_properties(connection, configuration, **beside)
    except Exception:
        failure = made.client.failure()
        if failure is not None:
            raise failure from None
        raise
    return Written(found, None if memory is None else memory.texts())


def prepare(table: KeyTable, configuration: pe.EncryptionConfiguration, form: Form) -> None:
    """Make a configuration that of key tools with double wrapping."""
    configuration.double_wrapping = True
    configuration.internal_key_material = not form.external
    configuration.cache_lifetime = timedelta(seconds=_age(table))


def hadoop_properties(keys: Keys = None) -> dict[str, str]:
    """Hadoop's properties for a Spark that reads and writes under the keys of a key ring.

        for name, value in envelope_parquet.hadoop_properties(ring).items():
            builder = builder.config(f"spark.hadoop.{name}", value)

    There is no secret among them; who Spark is in the vault, its environment says (docs/spark.md).

    Args:
        keys: See :func:`envelope_parquet.read_table`. Keys of other kinds than Key Vault's are left
            out, and so are vaults that are trusted as a whole: Spark is told each key by name.

    Raises:
        ConfigurationError: There is no key that Spark could use.
    """
    table = as_table(keys)
    urls = {f"envelope.keys.{alias}": url for alias, url in _urls(table).items()}
    if not urls:
        raise ConfigurationError(
            "the key ring names no key that Spark could use",
            next_step="Name keys in Azure Key Vault one by one: azurekeyvault://VAULT/KEY.",
        )
    return {
        "parquet.crypto.factory.class": (
            "org.apache.parquet.crypto.keytools.PropertiesDrivenCryptoFactory"
        ),
        "parquet.encryption.kms.client.class": "envelope.spark.KeyVaultKmsClient",
        **urls,
    }


class _Memory(MemoryFileSystem):  # type: ignore[misc]  # fsspec is not typed
    """Takes the key material file that pyarrow writes, which is published with the file."""

    cachable = False

    def __init__(self) -> None:
        super().__init__()
        self.store: dict[str, Any] = {}  # fsspec's own is shared by the whole process
        self.pseudo_dirs = [""]

    def texts(self) -> Mapping[str, str]:
        """By reference, the text of each key's material."""
        (file,) = self.store.values()
        return jose.loads(file.getvalue(), "the key material file")


def _urls(table: KeyTable) -> dict[str, str]:
    """By alias, the URL of a key that stands alone under it."""
    keys = [*table.ring.encrypt_to, *table.ring.decrypt_with]
    named = {generated(key): (key,) for key in keys if keyurl.parse(key).name != "*"}
    found = {}
    for alias, several in {**named, **table.aliases}.items():
        name = keyurl.parse(several[0])
        if len(several) == 1 and name.scheme in vaultkeys.SCHEMES:
            version = f"/{name.version}" if name.version else ""
            found[alias] = f"https://{name.host}/keys/{name.name}{version}"
    return found


def _age(table: KeyTable) -> float:
    """Seconds that KEKs serve new files: when a ring would look for new versions of its keys."""
    limits = table.ring.limits
    return min(limits.kek_age, limits.refresh)
