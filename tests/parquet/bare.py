"""pyarrow without us: a KMS client that denies keys, in children that may hang or die."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

PRELUDE = """
import base64, os, sys
import pyarrow as pa, pyarrow.dataset as ds, pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe

class Kms(pe.KmsClient):
    def __init__(self, denied=()):
        super().__init__()
        self.denied = denied
    def wrap_key(self, key, name):
        return base64.b64encode(key).decode()
    def unwrap_key(self, wrapped, name):
        if name in self.denied:
            raise PermissionError("denied: " + name)
        return base64.b64decode(wrapped)

def writing(**options):
    options = {"column_keys": {"pii": ["name"]}, "double_wrapping": False} | options
    factory = pe.CryptoFactory(lambda _: Kms())
    return factory.file_encryption_properties(
        pe.KmsConnectionConfig(), pe.EncryptionConfiguration(footer_key="lake", **options)
    )

def reading(*denied):
    factory = pe.CryptoFactory(lambda _: Kms(denied))
    return factory.file_decryption_properties(
        pe.KmsConnectionConfig(), pe.DecryptionConfiguration()
    )

def dataset(path, properties):
    options = ds.ParquetFragmentScanOptions(decryption_properties=properties)
    return ds.dataset(path, format=ds.ParquetFileFormat(default_fragment_scan_options=options))

TABLE = pa.table({"id": list(range(100)), "name": [str(i) for i in range(100)]})
"""

# Arrow's threads free Python objects while the interpreter ends, and abort the process now and then
# (docs/upstream.md). That is one hazard; scripts about another one end before.
ABRUPTLY = """
def leave(*error):
    if error:
        sys.__excepthook__(*error)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1 if error else 0)

sys.excepthook = leave
"""

HANGS, DIES = "hangs", "dies"


def run(
    script: str, folder: Path, seconds: float = 60, *arguments: str, to_the_end: bool = False
) -> tuple[str | int, str]:
    """What came of a script: its exit status, ``hangs``, or ``dies`` by SIGABRT; and its output.

    Args:
        script: What it does after PRELUDE.
        folder: Where.
        seconds: Until it counts as hanging.
        arguments: Its own.
        to_the_end: Whether the interpreter ends in order, which is part of what is tested.
    """
    program = PRELUDE + textwrap.dedent(script)
    if not to_the_end:
        program = PRELUDE + ABRUPTLY + textwrap.dedent(script) + "\nleave()\n"
    child = subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        output, _ = child.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        child.kill()
        output, _ = child.communicate()
        return HANGS, output
    return (DIES if child.returncode == -6 else child.returncode), output
