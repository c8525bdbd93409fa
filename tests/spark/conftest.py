"""A real Spark with our KmsClient, before a local Key Vault that both sides call over HTTPS."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

import envelope_parquet
from envelope.ring import KeyRing
from envelope_parquet import KeyTable
from envelope_testing.keyvault import LocalKeyVault
from tests.azure.conftest import Azure, azure, local_key_vault

__all__ = ["azure", "local_key_vault"]

CLIENT = Path(__file__).parents[2] / "integrations" / "spark-keyvault"
_TOOLS = ("java", "javac", "jar", "keytool", "make")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests of this folder are slow, and need what is not installed for each run."""
    missing = [] if find_spec("pyspark") else ["pyspark (extra programs)"]
    missing += [tool for tool in _TOOLS if shutil.which(tool) is None]
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slow)
            # pyspark calls what pandas, asyncio and others deprecate.
            item.add_marker(pytest.mark.filterwarnings("ignore"))
            if missing:
                item.add_marker(pytest.mark.skip(reason=f"Spark needs {', '.join(missing)}"))


@pytest.fixture(scope="session")
def jar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The client, built as docs/spark.md says."""
    build = tmp_path_factory.mktemp("client")
    arguments = [f"BUILD={build}", f"PYTHON={sys.executable}"]
    subprocess.run(["make", "-C", str(CLIENT), *arguments], check=True, stdout=subprocess.DEVNULL)
    return build / "envelope-spark-keyvault.jar"


@pytest.fixture(scope="session")
def session(
    jar: Path, local_key_vault: LocalKeyVault, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    """Spark in a JVM that has the developer's environment and trusts the vault's authority."""
    from pyspark import SparkContext
    from pyspark.sql import SparkSession

    folder = tmp_path_factory.mktemp("spark")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in local_key_vault.environment().items():
            patch.setenv(name, value)
        spark = (
            SparkSession.builder.master("local[2]")
            .config("spark.ui.enabled", "false")
            .config("spark.driver.host", "127.0.0.1")
            .config("spark.driver.bindAddress", "127.0.0.1")
            .config("spark.driver.memory", "1g")
            .config("spark.sql.warehouse.dir", str(folder / "warehouse"))
            .config("spark.driver.extraClassPath", str(jar))
            .config("spark.driver.extraJavaOptions", java_options(local_key_vault, folder))
            .getOrCreate()
        )
    spark.sparkContext.setLogLevel("OFF")
    yield spark
    gateway = SparkContext._gateway
    spark.stop()
    gateway.shutdown()
    gateway.proc.stdin.close()  # ends the JVM
    gateway.proc.wait(60)
    SparkContext._gateway = SparkContext._jvm = None


def java_options(local: LocalKeyVault, folder: Path) -> str:
    """A JVM's way to the local Key Vault: its proxy, and a trust store with its authority."""
    store, proxy = folder / "authority.p12", urlsplit(local.proxy_url)
    command = ["keytool", "-importcert", "-noprompt", "-alias", "local", "-storepass", "changeit"]
    command += ["-file", str(local.ca_file), "-keystore", str(store)]
    subprocess.run(command, check=True, capture_output=True)
    options = {
        "javax.net.ssl.trustStore": store,
        "javax.net.ssl.trustStorePassword": "changeit",
        "https.proxyHost": proxy.hostname,
        "https.proxyPort": proxy.port,
        "http.proxyHost": proxy.hostname,
        "http.proxyPort": proxy.port,
    }
    return " ".join(f"-D{name}={value}" for name, value in options.items())


@dataclass
class Spark:
    """Spark and this library before one vault, with the keys ``lake`` and ``pii``."""

    spark: Any
    azure: Azure
    folder: Path

    @property
    def ring(self) -> KeyRing:
        return KeyRing([self.azure.key(), self.azure.key("pii")])

    def alias(self, key: str) -> str:
        return f"azurekeyvault-{self.azure.vault.name}-{key}"

    def configure(self, keys: KeyTable | KeyRing) -> None:
        """Tell Spark the keys, as its session's configuration would."""
        hadoop = self.spark.sparkContext._jsc.hadoopConfiguration()
        for name, value in envelope_parquet.hadoop_properties(keys).items():
            hadoop.set(name, value)

    @property
    def toolkit(self) -> Any:
        """parquet-java's ``KeyToolkit``."""
        return self.spark._jvm.org.apache.parquet.crypto.keytools.KeyToolkit

    def forget(self) -> None:
        """Both sides ask the vault again."""
        self.toolkit.removeCacheEntriesForAllTokens()
        self.azure.restart()

    def write(self, name: str, rows: list[tuple[int, str]], **options: str) -> Path:
        """One file that Spark wrote."""
        target = self.folder / name
        frame = self.spark.createDataFrame(rows, "id long, name string").coalesce(1)
        writer = frame.write
        for option, value in options.items():
            writer = writer.option("parquet.encryption." + option.replace("_", "."), value)
        writer.parquet(str(target))
        (path,) = target.glob("part-*.parquet")
        return Path(path)

    def read(self, path: Path, *columns: str, token: str | None = None) -> list[tuple[Any, ...]]:
        """What Spark reads of a file or folder."""
        reader = self.spark.read
        if token is not None:
            reader = reader.option("parquet.encryption.key.access.token", token)
        frame = reader.parquet(str(path))
        return sorted(tuple(row) for row in frame.select(*(columns or frame.columns)).collect())


@pytest.fixture
def spark(session: Any, azure: Azure, tmp_path: Path) -> Iterator[Spark]:
    for name in ("lake", "pii"):
        azure.client().create_rsa_key(name, size=2048)
    made = Spark(session, azure, tmp_path)
    made.configure(made.ring)
    made.forget()
    yield made
    made.forget()
