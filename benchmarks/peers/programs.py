"""Peers that are programs, run as a shell would run them: their start is part of their time."""

from __future__ import annotations

import secrets
import shutil
import subprocess
from pathlib import Path
from typing import ClassVar

from benchmarks.copies import copy_fresh
from benchmarks.peers.peer import Absent

__all__ = ["PROGRAMS"]


class _Program:
    """Found on the path, or absent."""

    program: ClassVar[str]

    def __init__(self, folder: Path) -> None:
        if shutil.which(self.program) is None:
            raise Absent(f"no program `{self.program}` on this machine")
        self._folder = folder
        self._prepare()

    def _prepare(self) -> None:
        """Make keys."""

    def close(self) -> None:
        """Keys are in the folder that was given."""


class OpenSsl(_Program):
    """The limit for a program, without authentication: `openssl enc` offers no AEAD."""

    name: ClassVar[str] = "openssl enc"
    remark: ClassVar[str] = "AES-256-CTR: not authenticated, whoever can write can change the data"
    program = "openssl"

    def _prepare(self) -> None:
        key = ["-K", secrets.token_hex(32), "-iv", secrets.token_hex(16)]
        self._command = ["openssl", "enc", "-aes-256-ctr", *key]

    def encrypt(self, source: Path, target: Path) -> None:
        _run(*self._command, "-e", "-in", source, "-out", target)

    def decrypt(self, source: Path, target: Path) -> None:
        _run(*self._command, "-d", "-in", source, "-out", target)


class Age(_Program):
    """The reference program."""

    name: ClassVar[str] = "age"
    remark: ClassVar[str] = "X25519, ChaCha20-Poly1305 in chunks of 64 KiB"
    program = "age"

    def _prepare(self) -> None:
        self._identity = self._folder / "age.key"
        _run("age-keygen", "-o", self._identity)
        self._recipient = _run("age-keygen", "-y", self._identity).strip()

    def encrypt(self, source: Path, target: Path) -> None:
        _run("age", "-r", self._recipient, "-o", target, source)

    def decrypt(self, source: Path, target: Path) -> None:
        _run("age", "-d", "-i", self._identity, "-o", target, source)


class Rclone(_Program):
    """rclone's crypt remote over a local folder."""

    name: ClassVar[str] = "rclone crypt"
    remark: ClassVar[str] = "copyto, XSalsa20-Poly1305 in chunks of 64 KiB, names in the clear"
    program = "rclone"

    def _prepare(self) -> None:
        self._config = self._folder / "rclone.conf"
        self._config.touch(mode=0o600)
        password = _run("rclone", "obscure", secrets.token_hex(16)).strip()
        self._config.write_text(
            f"[sealed]\ntype = crypt\nremote = {self._folder}\nfilename_encryption = off\n"
            f"directory_name_encryption = false\npassword = {password}\n"
        )

    def encrypt(self, source: Path, target: Path) -> None:
        self._copy(source, f"sealed:{target.name}")
        (self._folder / f"{target.name}.bin").replace(target)

    def decrypt(self, source: Path, target: Path) -> None:
        inside = self._folder / f"{source.name}.bin"
        source.replace(inside)  # where the remote looks for it
        try:
            self._copy(f"sealed:{source.name}", target)
        finally:
            inside.replace(source)

    def _copy(self, source: Path | str, target: Path | str) -> None:
        # The same file as last time would be skipped.
        _run("rclone", "--config", self._config, "--ignore-times", "copyto", source, target)


class Gocryptfs(_Program):
    """A folder behind FUSE; files are copied in and out by the copy loop."""

    name: ClassVar[str] = "gocryptfs"
    remark: ClassVar[str] = "copy loop into and out of its mount, AES-256-GCM in blocks of 4 KiB"
    program = "gocryptfs"

    def _prepare(self) -> None:
        self._mount = self._folder / "mount"
        inside = self._folder / "inside"
        passphrase = self._folder / "passphrase"
        passphrase.write_text(secrets.token_hex(16))
        self._mount.mkdir()
        inside.mkdir()
        options = ("-q", "-passfile", str(passphrase))
        try:
            _run("gocryptfs", *options, "-init", "-scryptn", "10", inside)
            _run("gocryptfs", *options, inside, self._mount)
        except subprocess.CalledProcessError as error:
            raise Absent(f"it cannot mount here: {error.stderr.strip()[:200]}") from None

    def encrypt(self, source: Path, target: Path) -> None:  # noqa: ARG002 - it stays in the mount
        copy_fresh(source, self._mount / "file")

    def decrypt(self, source: Path, target: Path) -> None:  # noqa: ARG002 - it is in the mount
        copy_fresh(self._mount / "file", target)

    def close(self) -> None:
        fusermount = shutil.which("fusermount3") or shutil.which("fusermount") or "umount"
        _run(fusermount, *([] if fusermount == "umount" else ["-u"]), self._mount)


def _run(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout


PROGRAMS = (OpenSsl, Age, Rclone, Gocryptfs)
