"""The installed command, and what it says where the extra ``cli`` is missing."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("missing", [["typer"], ["rich"], ["typer", "rich"]])
def test_without_the_extra_one_sentence_says_what_to_install(missing: list[str]) -> None:
    code = f"""
import sys
from importlib.abc import MetaPathFinder
import importlib.util
real = importlib.util.find_spec
importlib.util.find_spec = lambda name: None if name in {missing} else real(name)
from envelope.__main__ import main
before = set(sys.modules)
status = main()
assert not {{'typer', 'rich', 'cryptography', 'fsspec'}} & set(sys.modules)
sys.exit(status)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert f"needs {' and '.join(missing)}, not installed here" in done.stderr
    assert "Traceback" not in done.stderr
    assert 'pip install "envelope-encryption[cli]"' in done.stderr


def test_the_module_runs_as_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "envelope", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("envelope-encryption ")
