"""Run by the interpreter of a bare install: nothing but the command line needs an extra."""

import importlib
import importlib.metadata
import importlib.util
import pkgutil
import subprocess
import sys
from pathlib import Path

import envelope

EXTRAS = ("typer", "rich", "click", "pytest", "numpy", "pandas", "pyarrow")
NEED_AN_EXTRA = ("envelope.cli", "envelope.testing")

there = [name for name in EXTRAS if importlib.util.find_spec(name)]
assert not there, f"not a bare install: {there}"
assert "site-packages" in Path(envelope.__file__).parts, envelope.__file__


def modules(package: str, path: list[str]) -> list[str]:
    found = []
    for module in pkgutil.iter_modules(path):
        name = f"{package}.{module.name}"
        if name in NEED_AN_EXTRA:
            continue
        found.append(name)
        if module.ispkg:
            found += modules(name, importlib.import_module(name).__path__)
    return found


names = modules("envelope", envelope.__path__)
for name in names:
    importlib.import_module(name)
for name in envelope.__all__:
    getattr(envelope, name)
print(f"{len(names)} modules and {len(envelope.__all__)} public names import with no extra")

for entry_point in importlib.metadata.entry_points(group="envelope.resolvers"):
    if entry_point.value.startswith("envelope."):
        print(f"driver {entry_point.name}: {entry_point.load().__class__.__name__}")
said = ""
try:
    envelope.KeyRing("azurekeyvault://acme/lake")
except envelope.errors.ConfigurationError as error:
    said = str(error)
print(said)
assert 'pip install "envelope-encryption[azure]"' in said, said


command = Path(sys.executable).with_name("envelope")
done = subprocess.run([command, "version"], capture_output=True, text=True, check=False)
print(f"$ envelope version\n{done.stderr.strip()}")
assert done.returncode == 2, done
assert "envelope-encryption[cli]" in done.stderr, done
assert "Traceback" not in done.stderr, done
