"""Peers that are Python packages, imported only when they are measured."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

import envelope
from benchmarks.plan import KIB, MIB
from benchmarks.scene import Scene

__all__ = ["LIBRARIES"]

_FRAME = 256 * KIB


class _InProcess:
    """Nothing to leave behind."""

    def close(self) -> None:
        """Keys were in memory, or in the folder that was given."""


class Envelope(_InProcess):
    """This library as it is."""

    name: ClassVar[str] = "envelope"
    remark: ClassVar[str] = "encrypt_file and decrypt_file, default threads"
    threads: ClassVar[int] = 4

    def __init__(self, folder: Path) -> None:
        self._ring = Scene.make(folder).ring

    def encrypt(self, source: Path, target: Path) -> None:
        envelope.encrypt_file(source, target, keys=self._ring, threads=self.threads, durable=False)

    def decrypt(self, source: Path, target: Path) -> None:
        envelope.decrypt_file(source, target, keys=self._ring, threads=self.threads, durable=False)


class EnvelopeOneThread(Envelope):
    """The same on one thread, as most peers run."""

    name = "envelope, one thread"
    remark = "encrypt_file and decrypt_file, threads=1"
    threads = 1


class RawCryptography(_InProcess):
    """AES-GCM in pieces: what one thread of Python can reach, and no format."""

    name: ClassVar[str] = "cryptography, raw AES-GCM"
    remark: ClassVar[str] = "256 KiB at a time on one thread; no header, no order, no key wrapping"

    def __init__(self, folder: Path) -> None:  # noqa: ARG002 - a peer's signature
        self._cipher = AESGCM(os.urandom(32))

    def encrypt(self, source: Path, target: Path) -> None:
        plain = memoryview(bytearray(_FRAME))
        sealed = memoryview(bytearray(_FRAME + 28))
        with open(source, "rb", buffering=0) as file, open(target, "wb", buffering=0) as out:
            while count := file.readinto(plain):
                sealed[:12] = nonce = os.urandom(12)
                self._cipher.encrypt_into(nonce, plain[:count], None, sealed[12 : count + 28])
                out.write(sealed[: count + 28])

    def decrypt(self, source: Path, target: Path) -> None:
        sealed = memoryview(bytearray(_FRAME + 28))
        plain = memoryview(bytearray(_FRAME))
        with open(source, "rb", buffering=0) as file, open(target, "wb", buffering=0) as out:
            while count := file.readinto(sealed):
                opened = plain[: count - 28]
                self._cipher.decrypt_into(sealed[:12], sealed[12:count], None, opened)
                out.write(opened)


class Tink(_InProcess):
    """Google's streaming AEAD."""

    name: ClassVar[str] = "tink"
    remark: ClassVar[str] = "streaming AEAD AES256_GCM_HKDF_1MB, a key in memory"

    def __init__(self, folder: Path) -> None:  # noqa: ARG002 - a peer's signature
        tink: Any = importlib.import_module("tink")
        streaming: Any = importlib.import_module("tink.streaming_aead")
        streaming.register()
        template = streaming.streaming_aead_key_templates.AES256_GCM_HKDF_1MB
        self._primitive = tink.new_keyset_handle(template).primitive(streaming.StreamingAead)

    def encrypt(self, source: Path, target: Path) -> None:
        with (
            open(source, "rb", buffering=0) as file,
            open(target, "wb") as out,
            self._primitive.new_encrypting_stream(out, b"") as stream,
        ):
            _copy(file.read, stream.write)

    def decrypt(self, source: Path, target: Path) -> None:
        with (
            open(source, "rb") as file,
            open(target, "wb", buffering=0) as out,
            self._primitive.new_decrypting_stream(file, b"") as stream,
        ):
            _copy(stream.read, out.write)


class AwsEncryptionSdk(_InProcess):
    """AWS's client-side library, under a key in memory."""

    name: ClassVar[str] = "aws-encryption-sdk"
    remark: ClassVar[str] = "raw AES keyring, frames of 256 KiB, default suite (signed, committing)"

    def __init__(self, folder: Path) -> None:  # noqa: ARG002 - a peer's signature
        sdk: Any = importlib.import_module("aws_encryption_sdk")
        root = "aws_cryptographic_material_providers.mpl"
        mpl: Any = importlib.import_module(root)
        config: Any = importlib.import_module(f"{root}.config")
        models: Any = importlib.import_module(f"{root}.models")
        providers = mpl.AwsCryptographicMaterialProviders(config=config.MaterialProvidersConfig())
        self._keyring = providers.create_raw_aes_keyring(
            input=models.CreateRawAesKeyringInput(
                key_namespace="bench",
                key_name="bench",
                wrapping_key=os.urandom(32),
                wrapping_alg=models.AesWrappingAlg.ALG_AES256_GCM_IV12_TAG16,
            )
        )
        self._client = sdk.EncryptionSDKClient()

    def encrypt(self, source: Path, target: Path) -> None:
        with open(source, "rb") as file, open(target, "wb", buffering=0) as out:
            options = {"source": file, "keyring": self._keyring, "frame_length": _FRAME}
            with self._client.stream(mode="e", **options) as stream:
                _copy(stream.read, out.write)

    def decrypt(self, source: Path, target: Path) -> None:
        with (
            open(source, "rb") as file,
            open(target, "wb", buffering=0) as out,
            self._client.stream(mode="d", source=file, keyring=self._keyring) as stream,
        ):
            _copy(stream.read, out.write)


class Pyrage(_InProcess):
    """age in Rust, with Python bindings."""

    name: ClassVar[str] = "pyrage"
    remark: ClassVar[str] = "age, X25519, ChaCha20-Poly1305 in chunks of 64 KiB"

    def __init__(self, folder: Path) -> None:  # noqa: ARG002 - a peer's signature
        self._module: Any = importlib.import_module("pyrage")
        self._identity = self._module.x25519.Identity.generate()

    def encrypt(self, source: Path, target: Path) -> None:
        self._module.encrypt_file(str(source), str(target), [self._identity.to_public()])

    def decrypt(self, source: Path, target: Path) -> None:
        self._module.decrypt_file(str(source), str(target), [self._identity])


class Crypt4gh(_InProcess):
    """The genomics community's format."""

    name: ClassVar[str] = "crypt4gh"
    remark: ClassVar[str] = "X25519, ChaCha20-Poly1305 in chunks of 64 KiB"

    def __init__(self, folder: Path) -> None:  # noqa: ARG002 - a peer's signature
        self._module: Any = importlib.import_module("crypt4gh.lib")
        from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

        key = X25519PrivateKey.generate()
        self._private = key.private_bytes_raw()
        self._public = key.public_key().public_bytes_raw()

    def encrypt(self, source: Path, target: Path) -> None:
        with open(source, "rb") as file, open(target, "wb") as out:
            self._module.encrypt([(0, self._private, self._public)], file, out)

    def decrypt(self, source: Path, target: Path) -> None:
        with open(source, "rb") as file, open(target, "wb") as out:
            self._module.decrypt([(0, self._private, None)], file, out)


def _copy(read: Callable[[int], bytes], write: Callable[[bytes], object]) -> None:
    while data := read(MIB):
        write(data)


LIBRARIES = (
    Envelope,
    EnvelopeOneThread,
    RawCryptography,
    Tink,
    AwsEncryptionSdk,
    Pyrage,
    Crypt4gh,
)
