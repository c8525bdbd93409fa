"""The KmsClient by itself: whose tokens it takes, what it refuses, how it bears a busy vault."""

from __future__ import annotations

import base64
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from envelope_testing.keyvault.local import VARIABLES
from tests.azure.conftest import Azure
from tests.spark.conftest import java_options

KEY = base64.b64encode(bytes(range(16))).decode()
Start = Callable[..., "Client"]


class Client:
    """A JVM with the client."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def say(self, *words: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(*words, file=self._process.stdin, flush=True)
        return self._process.stdout.readline().rstrip("\n")

    def configure(self, **properties: str) -> Client:
        """Properties in the place of those before, and a new client."""
        for name, value in properties.items():
            assert self.say("set", "envelope." + name.replace("__", "-").replace("_", "."), value)
        assert self.say("start", "DEFAULT") == "ok"
        return self

    def close(self) -> None:
        self._process.communicate(timeout=60)


@pytest.fixture(scope="session")
def classes(jar: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The class path of a JVM with the client and what drives it."""
    import pyspark

    jars = Path(pyspark.__file__).parent / "jars"
    build = tmp_path_factory.mktemp("driver")
    path = f"{jar}:{jars}/*"
    source = Path(__file__).with_name("Roundtrip.java")
    subprocess.run(["javac", "-cp", path, "-d", str(build), str(source)], check=True)
    return f"{build}:{path}"


@pytest.fixture
def start(azure: Azure, classes: str, tmp_path: Path) -> Iterator[Start]:
    azure.client().create_rsa_key("lake", size=2048)
    options = java_options(azure.local, tmp_path).split()
    clients = []

    def started(**variables: str) -> Client:
        environment = {k: v for k, v in os.environ.items() if k not in VARIABLES}
        command = ["java", *options, "-cp", classes, "Roundtrip"]
        client = Client(command, {**environment, **variables})
        clients.append(client)
        client.say("set", "envelope.keys.lake", f"https://{azure.host}/keys/lake")
        return client

    yield started
    for client in clients:
        client.close()


@pytest.mark.parametrize(
    "credential", ["client-secret", "workload-identity", "managed-identity", "app-service"]
)
def test_it_is_who_the_environment_says(azure: Azure, start: Start, credential: Any) -> None:
    environment = azure.local.environment(credential=credential)
    identity = {
        name: value
        for name, value in environment.items()
        if name.startswith(("AZURE_", "IDENTITY_"))
    }
    client = start(**identity).configure()
    wrapped = client.say("wrap", "lake", KEY)
    version = azure.client().get_key("lake").properties.version
    assert wrapped.startswith(f"RSA-OAEP-256.{version}.")
    assert client.say("unwrap", "lake", wrapped) == KEY


def test_what_is_refused_calls_nobody_or_says_why(azure: Azure, start: Start) -> None:
    environment = azure.local.environment()
    client = start().configure(
        tenant_id=environment["AZURE_TENANT_ID"],
        client_id=environment["AZURE_CLIENT_ID"],
        client_secret=environment["AZURE_CLIENT_SECRET"],
        keys_elsewhere="https://acme.evil.example/keys/lake",
        keys_plain=f"http://{azure.host}/keys/lake",
        keys_port=f"https://{azure.host}:8443/keys/lake",
        keys_user=f"https://user@{azure.host}/keys/lake",
        keys_pinned=f"https://{azure.host}/keys/lake/{'0' * 32}",
        keys_missing=f"https://{azure.host}/keys/missing",
    )
    wrapped = client.say("wrap", "lake", KEY)
    _, version, value = wrapped.split(".")
    before, hosts = len(azure.operations()), len(azure.local.connections)
    for words, said in {
        ("wrap", "elsewhere", KEY): "known cloud",
        ("wrap", "plain", KEY): "not a key's URL",
        ("wrap", "port", KEY): "not a key's URL",
        ("wrap", "user", KEY): "not a key's URL",
        ("wrap", "unknown", KEY): "unknown is not configured",
        ("unwrap", "https://evil.example/x", wrapped): "not an alias",
        ("unwrap", "unknown", wrapped): "unknown is not configured",
        ("unwrap", "pinned", wrapped): f"version {'0' * 32} is configured",
        ("unwrap", "lake", f"RSA1-5.{version}.{value}"): "is used with RSA-OAEP-256",
        ("unwrap", "lake", f"RSA-OAEP-256.{version}/../x.{value}"): "another program",
        ("unwrap", "lake", '{"kek":{}}'): "another program",
        ("unwrap", "lake", f"RSA-OAEP-256.{version}.{'A' * 2000}"): "another program",
    }.items():
        answer = client.say(*words)
        assert answer.startswith("! ")
        assert said in answer
    assert len(azure.operations()) == before
    assert len(azure.local.connections) == hosts
    for words, said in {
        ("wrap", "missing", KEY): "404 KeyNotFound",
        ("unwrap", "lake", f"RSA-OAEP-256.{version}.{'A' * 342}"): "400",
    }.items():
        assert said in client.say(*words)
    secret = environment["AZURE_CLIENT_SECRET"]
    assert secret not in client.say("wrap", "missing", KEY)


def test_it_tries_again_where_the_vault_is_busy_and_gets_a_fresh_token(
    azure: Azure, start: Start
) -> None:
    environment = azure.local.environment()
    names = ("AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET")
    client = start(**{name: environment[name] for name in names}).configure()
    wrapped = client.say("wrap", "lake", KEY)
    faults = azure.local.world.faults
    faults.add(operation="unwrapkey", status=429, retry_after=1, times=1)
    faults.add(operation="unwrapkey", status=503, times=1)
    assert client.say("unwrap", "lake", wrapped) == KEY
    faults.add(operation="unwrapkey", drop=True, times=1)
    assert client.say("unwrap", "lake", wrapped) == KEY
    azure.local.world.tokens.expire_all()
    assert client.say("unwrap", "lake", wrapped) == KEY
    faults.add(operation="unwrapkey", status=503, times=20)
    assert "503" in client.say("unwrap", "lake", wrapped)


def test_keys_of_a_managed_hsm(azure: Azure, start: Start) -> None:
    hsm = azure.local.vault(f"hsm-{azure.vault.name}", suffix="managedhsm.azure.net")
    azure.client(hsm.host).create_oct_key("wrapping", size=256, hardware_protected=True)
    environment = azure.local.environment()
    names = ("AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET")
    client = start(**{name: environment[name] for name in names}).configure(
        keys_hsm=f"https://{hsm.host}/keys/wrapping", algorithm_hsm="A256KW"
    )
    wrapped = client.say("wrap", "hsm", KEY)
    assert wrapped.startswith("A256KW.")
    assert client.say("unwrap", "hsm", wrapped) == KEY
