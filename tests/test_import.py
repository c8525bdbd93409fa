"""`import envelope` is cheap, complete, and imports what is being tested."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import envelope

HEAVY = ("cryptography", "fsspec", "platformdirs", "typer", "rich", "click", "argon2", "tomllib")


def imported_by(statement: str) -> set[str]:
    """Top-level packages that a fresh interpreter has loaded after ``statement``."""
    return {name.partition(".")[0] for name in modules_after(statement)}


def modules_after(statement: str) -> set[str]:
    """All modules that a fresh interpreter has loaded after ``statement``."""
    code = f"{statement}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    return set(done.stdout.split())


def test_importing_the_package_loads_none_of_its_dependencies() -> None:
    loaded = imported_by("import envelope")
    assert "envelope" in loaded
    assert not loaded & set(HEAVY)


def test_the_error_tree_loads_none_of_the_dependencies() -> None:
    assert not imported_by("from envelope import errors; errors.Tampered") & set(HEAVY)


def test_a_verb_loads_the_cryptography_but_no_command_line() -> None:
    loaded = imported_by("import envelope; envelope.encrypt")
    assert "cryptography" in loaded
    assert not loaded & {"typer", "rich", "click"}


def test_a_verb_loads_nothing_of_an_installed_vendors_sdk() -> None:
    # So the extra [azure] costs who does not use it nothing, and a key ring names a scheme first.
    loaded = imported_by("import envelope; envelope.encrypt; envelope.open; envelope.KeyRing")
    assert not loaded & {"azure", "envelope_azure", "msal", "requests", "jwt"}


USED = """
import envelope
from envelope import resolvers
from tests.memory_driver import MemoryDriver
resolvers.register("local", MemoryDriver())
ring = envelope.KeyRing("local:lake"{options})
with open({path!r}, "wb") as file:
    file.write(envelope.encrypt(b"data", keys=ring))
with envelope.open({path!r}, keys=ring) as file:
    assert file.read() == b"data"
"""
SIGNATURES = {"envelope.signers", "envelope.jws"}


def test_files_are_written_and_opened_without_what_signatures_take(tmp_path: Path) -> None:
    # Some per cent of a cold start, of a function in the cloud for instance.
    loaded = modules_after(USED.format(path=str(tmp_path / "f"), options=""))
    assert "envelope.keks" in loaded
    assert not loaded & SIGNATURES


def test_a_ring_with_signers_loads_what_they_take() -> None:
    # Else the test above could not fail by another name of these modules.
    made = 'import envelope; envelope.KeyRing("local:a", require_signed=["local:b"])._keks'
    assert modules_after(made) >= SIGNATURES


@pytest.mark.parametrize("name", envelope.__all__)
def test_a_public_name_is_reachable_and_documented(name: str) -> None:
    value = getattr(envelope, name)
    assert name == "__version__" or value.__doc__
    assert name in dir(envelope)


def test_a_star_import_brings_every_public_name() -> None:
    namespace: dict[str, object] = {}
    exec("from envelope import *", namespace)
    assert set(envelope.__all__) <= set(namespace)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        envelope.nonsense  # noqa: B018 - the attribute access is what is tested


def test_the_package_under_test_is_the_one_that_is_meant() -> None:
    # CI sets the variable to the site-packages folder when it tests the built wheel.
    meant = os.environ.get("ENVELOPE_UNDER_TEST") or Path(__file__).parents[1]
    assert Path(envelope.__file__).parents[1] == Path(meant).resolve()
