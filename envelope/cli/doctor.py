"""``doctor``: is everything well on this machine, and if not, what to do."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from envelope._version import __version__
from envelope.cli.options import KeyOptions, driver_settings
from envelope.cli.output import Output
from envelope.cli.probing import Check, failed, finish, probe_keys
from envelope.cli.signatures import examples
from envelope.cli.storecheck import checks_of, file_check
from envelope.cli.stores import StorageOptions
from envelope.cli.trees import is_remote, leftover

if TYPE_CHECKING:
    from envelope.ring import KeyRing

__all__ = ["doctor"]

_SLOW = 400  # MB/s of AES-GCM below which the processor has no instructions for it
_LEVELS = {"ok": "ok", "warning": "warn", "error": "fail"}
_MOST_LEFTOVERS = 20


@examples(
    "envelope doctor",
    "envelope doctor report.csv.env1 --key local:lake",
    "envelope doctor sealed --json",
    "envelope doctor envelope://lake",
)
def doctor(
    out: Output,
    keys: KeyOptions,
    storage: StorageOptions,
    path: Annotated[
        str | None,
        typer.Argument(
            metavar="[PATH_OR_URL]", help="A file that should open, or a folder to look through."
        ),
    ] = None,
) -> int:
    """Check versions, cryptography, configuration, keystore, keys, and a file or folder.

    With a URL, also what lies there: leftovers, plain files, files of another geometry, and for
    a mount or a chain its keys. Nothing is changed. The exit status is 0 if nothing failed.
    """
    return finish(out, _checks(out, keys, storage, path))


def _checks(
    out: Output, keys: KeyOptions, storage: StorageOptions, path: str | None
) -> Iterator[Check]:
    yield Check("ok", "versions", f"envelope-encryption {__version__}, {_system()}")
    yield from _cryptography()
    yield from _configuration(out)
    ring: KeyRing | None = None
    mounted = path is not None and path.startswith("envelope://")  # it brings its own keys
    try:
        ring = None if mounted else keys.ring(out)
    except Exception as error:
        yield failed("keys", "key ring", error)
    yield from _keystore(out, keys, ring)
    if ring is not None:
        yield from probe_keys(ring)
    if path is None or (not is_remote(path) and os.path.isdir(path)):
        yield from _leftovers(path or ".", recursive=path is not None)
    elif is_remote(path):
        yield from checks_of(out, path, keys, storage, ring)
    else:
        yield file_check(path, path, ring)


def _system() -> str:
    return f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"


def _cryptography() -> Iterator[Check]:
    import cryptography
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.backends.openssl import backend
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

    version = f"cryptography {cryptography.__version__}, {backend.openssl_version_text()}"
    if not hasattr(AESGCM, "encrypt_into"):
        yield Check("fail", "cryptography", version, "Install cryptography 50 or later.")
        return
    yield Check("ok", "cryptography", version)
    cipher, data = AESGCM(AESGCM.generate_key(256)), bytearray(2**22)
    sealed = bytearray(len(data) + 16)
    cipher.encrypt_into(bytes(12), data, None, sealed)  # the first touch of the memory
    started = time.perf_counter()
    cipher.encrypt_into(bytes(11) + b"\1", data, None, sealed)
    rate = len(data) / (time.perf_counter() - started) / 1e6
    if rate < _SLOW:
        text = f"AES-256-GCM at {rate:.0f} MB/s on one thread, which is slow"
        yield Check("warn", "AES", text, "A processor with AES instructions is ten times as fast.")
    else:
        yield Check("ok", "AES", f"AES-256-GCM at {rate / 1000:.1f} GB/s on one thread")
    try:
        Argon2id(salt=bytes(16), length=32, iterations=2, lanes=1, memory_cost=19456)
    except UnsupportedAlgorithm:
        step = "Passphrases of keystores need OpenSSL 3.2 or later."
        yield Check("warn", "Argon2id", "this OpenSSL does not have it", step)


def _configuration(out: Output) -> Iterator[Check]:
    try:
        found = out.configuration()
    except Exception as error:
        yield failed("configuration", "it cannot be used", error)
        return
    for source in found.sources:
        place = f"{source.origin} {source.path}" if source.path else source.origin
        if source.state == "refused":
            yield Check("warn", "configuration", f"{place}: refused, {source.reason}")
        elif source.state != "absent":
            why = f", {source.reason}" if source.reason else ""
            yield Check("ok", "configuration", f"{place}: {source.state}{why}")
    if all(source.state == "absent" for source in found.sources):
        yield Check("ok", "configuration", "there is none; keys have to be given with --key")


def _keystore(out: Output, keys: KeyOptions, ring: KeyRing | None) -> Iterator[Check]:
    """The embedded keystore's own report, where its keys are in use or it exists."""
    from envelope.keystore import upkeep

    try:
        settings = driver_settings("local", keys, out)
        used = ring is not None and "local" in ring.to_config()["settings"]
        if not used and not os.path.isdir(settings["keystore"]):
            return
        for finding in upkeep.examine(settings):
            text = f"{finding.path}: {finding.text}"
            yield Check(_LEVELS[finding.level], "keystore", text, finding.next_step)
    except Exception as error:
        yield failed("keystore", "it cannot be looked into", error)


def _leftovers(folder: str, *, recursive: bool) -> Iterator[Check]:
    count = 0
    try:
        for place, folders, names in os.walk(folder):
            for name in folders:
                if name.startswith("envelope:"):
                    yield _chain_folder(os.path.join(place, name))
            for name in filter(leftover, names):
                count += 1
                if count <= _MOST_LEFTOVERS:
                    yield _leftover(os.path.join(place, name))
            if not recursive:
                folders.clear()
    except OSError as error:
        yield failed("leftovers", folder, error)
        return
    if not count:
        where = "in" if recursive else "directly in"
        yield Check("ok", "leftovers", f"none {where} {os.path.abspath(folder)}")
    elif count > _MOST_LEFTOVERS:
        yield Check("warn", "leftovers", f"and {count - _MOST_LEFTOVERS} more")


def _chain_folder(path: str) -> Check:
    text = f"{path}: a program took a chain, envelope::…, for a path; what is in it is plain"
    step = "Encrypt and remove it, and let that program use a mount: envelope://MOUNT/…."
    return Check("fail", "chain folders", text, step, 4)


def _leftover(path: str) -> Check:
    if path.endswith(".env1old"):
        text = f"{path}: a source that was being removed"
        return Check(
            "warn", "leftovers", text, "Compare it with its encrypted copy, then remove it."
        )
    text = f"{path}: a write that was not finished, or is under way"
    return Check("warn", "leftovers", text, "Remove it if no envelope process is running.")
