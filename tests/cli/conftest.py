"""A command line with a home of its own: called in this process, or run as a program."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from envelope.cli.app import run
from tests.cli.lakes import Far, far
from tests.filesystem import servers

SCHEMAS = Path(__file__).parents[2] / "docs" / "schema"


@dataclass(frozen=True)
class Said:
    status: int
    out: str
    err: str


class Cli:
    """Runs commands in a folder, with a keystore and a configuration folder beside it."""

    def __init__(self, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._capfd = capfd

    def __call__(self, *arguments: str | Path, status: int = 0) -> Said:
        """Call a command in this process; it has to end with ``status``."""
        self._capfd.readouterr()
        ended = run([str(argument) for argument in arguments])
        out, err = self._capfd.readouterr()
        assert ended == status, f"{arguments} ended with {ended}\n{out}\n{err}"
        return Said(ended, out, err)

    def objects(
        self, *arguments: str | Path, schema: str | None, status: int = 0
    ) -> list[dict[str, Any]]:
        """The objects that a command prints under --json; results and events fit their schemas."""
        said = self(*arguments, "--json", status=status)
        for line in said.err.splitlines():
            if line.startswith("{"):
                check(json.loads(line), "event")
        found = [json.loads(line) for line in said.out.splitlines()]
        for each in found:
            check(each, "error" if "error" in each else schema)
        return found

    def program(
        self, *arguments: str | Path, data: bytes | None = None, **options: Any
    ) -> subprocess.CompletedProcess[bytes]:
        """Run the command as a program of its own."""
        return subprocess.run(
            [sys.executable, "-m", "envelope", *map(str, arguments)],
            input=data,
            stdin=subprocess.DEVNULL if data is None else None,
            capture_output=True,
            timeout=120,
            check=False,
            **options,
        )

    def shell(self, text: str) -> subprocess.CompletedProcess[bytes]:
        """Run a line of bash in which ``envelope`` is the command."""
        script = f'set -o pipefail; envelope() {{ "{sys.executable}" -m envelope "$@"; }}; {text}'
        return subprocess.run(
            ["bash", "-c", script],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=120,
            check=False,
        )


def check(document: Any, schema: str | None) -> None:
    """``document`` fits a schema of docs/schema."""
    assert schema is not None, f"no object was expected: {document}"
    validator(schema).validate(document)


def validator(name: str) -> Draft202012Validator:
    return Draft202012Validator(json.loads((SCHEMAS / f"{name}.json").read_text()))


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Cli:
    """A command line without keys."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("ENVELOPE_KEYSTORE", str(tmp_path / "keystore"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_CONFIG_DIRS", str(tmp_path / "none"))
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    return Cli(folder, capfd)


@pytest.fixture
def lake(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """A command line whose key is local:lake."""
    cli("keys", "create", "local:lake", "--protect", "permissions")
    monkeypatch.setenv("ENVELOPE_KEYS", "local:lake")
    return cli


def protected(path: Path, text: str) -> Path:
    """A passphrase file that only its owner can read."""
    path.write_text(text)
    path.chmod(0o600)
    return path


@pytest.fixture(scope="session")
def s3() -> Iterator[dict[str, Any]]:
    """S3 on loopback: the options of s3fs."""
    with servers.s3() as options:
        yield options


@pytest.fixture(params=["memory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Far]:
    """A fresh folder of a store that is behind URLs."""
    given = request.getfixturevalue("s3") if request.param == "s3" else None
    with far(request.param, given, tmp_path) as made:
        yield made


@pytest.fixture
def mounts(tmp_path: Path) -> Callable[..., None]:
    """Writes sections into the user's configuration."""

    def write(*sections: str) -> None:
        file = tmp_path / "config" / "envelope" / "envelope.toml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join(sections))

    return write
