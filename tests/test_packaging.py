"""The wheel holds the package and its integrations under their import names, and no more."""

from __future__ import annotations

import configparser
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import envelope

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def build(project: Path, kind: str) -> zipfile.ZipFile:
    """The wheel of a project folder as pip would ask the build backend for it."""
    out = project / "out"
    subprocess.run(
        [sys.executable, "-c", f"import hatchling.build as b; b.build_{kind}({str(out)!r})"],
        cwd=project,
        check=True,
        capture_output=True,
    )
    (wheel,) = out.glob("*.whl")
    return zipfile.ZipFile(wheel)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of what a wheel is built from, with one more integration added by the book."""
    for name in ("README.md", "LICENSE", ".gitignore"):
        shutil.copy(ROOT / name, tmp_path / name)
    for name in ("envelope", "integrations"):
        shutil.copytree(ROOT / name, tmp_path / name)
    probe = tmp_path / "integrations" / "envelope_probe"
    probe.mkdir()
    (probe / "__init__.py").write_text("import envelope\n")
    (probe / "py.typed").touch()
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    head, table, rest = text.partition("[tool.hatch.build.targets.wheel]\n")
    assert rest.partition("[tool.")[0].count('  "envelope",\n') == 1
    added = '  "integrations/envelope_probe",\n  "envelope",\n'
    text = head + table + rest.replace('  "envelope",\n', added, 1)
    (tmp_path / "pyproject.toml").write_text(text, encoding="utf-8")
    return tmp_path


def test_a_wheel_has_each_package_under_its_import_name(project: Path) -> None:
    with build(project, "wheel") as wheel:
        names = wheel.namelist()
    folders = {name.partition("/")[0] for name in names if ".dist-info/" not in name}
    assert folders == {"envelope", "envelope_probe", *integrations()}
    assert {"envelope/__init__.py", "envelope/py.typed", "envelope_probe/__init__.py"} <= set(names)
    assert any(name.endswith("/licenses/LICENSE") for name in names)


def test_a_wheel_names_its_version_dependencies_and_entry_points(project: Path) -> None:
    with build(project, "wheel") as wheel:
        info = f"envelope_encryption-{envelope.__version__}.dist-info"
        metadata = wheel.read(f"{info}/METADATA").decode()
        entry_points = wheel.read(f"{info}/entry_points.txt").decode()
    assert "\nRequires-Python: >=3.11\n" in metadata
    assert "\nLicense-Expression: Apache-2.0\n" in metadata
    needed = {line for line in metadata.splitlines() if line.startswith("Requires-Dist:")}
    assert {line for line in needed if "extra ==" not in line} == {
        "Requires-Dist: cryptography>=50",
        "Requires-Dist: fsspec",
        "Requires-Dist: platformdirs",
    }
    assert "[console_scripts]\nenvelope = envelope.__main__:main" in entry_points
    assert "\nlocal = envelope.keystore.driver:LOCAL\n" in entry_points
    assert "\nazurekeyvault = envelope_azure.driver:AZURE\n" in entry_points


def test_an_editable_install_is_a_plain_path_file(project: Path) -> None:
    with build(project, "editable") as wheel:
        (path_file,) = (name for name in wheel.namelist() if ".dist-info/" not in name)
        lines = wheel.read(path_file).decode().split()
    assert path_file.endswith(".pth")
    assert [Path(line) for line in lines] == [project, project / "integrations"]


def integrations() -> set[str]:
    return {path.parent.name for path in (ROOT / "integrations").glob("*/__init__.py")}


def test_every_integration_is_packaged_typed_and_kept_apart() -> None:
    packaged = set(PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"])
    assert packaged == {"envelope", *(f"integrations/{name}" for name in integrations())}
    assert set(PYPROJECT["tool"]["mypy"]["packages"]) == {"envelope", *integrations()}
    linter = configparser.ConfigParser()
    linter.read(ROOT / ".importlinter")
    roots = linter["importlinter"]["root_packages"].split()
    assert set(roots) == {"envelope", *integrations()}
    if integrations():
        apart = linter["importlinter:contract:integrations-apart"]
        assert apart["type"] == "independence"
        assert set(apart["modules"].split()) == integrations()


@pytest.mark.parametrize("extra", PYPROJECT["project"]["optional-dependencies"])
def test_an_extra_names_only_packages_and_never_where_to_get_them(extra: str) -> None:
    for requirement in PYPROJECT["project"]["optional-dependencies"][extra]:
        assert "://" not in requirement
        assert "@" not in requirement
