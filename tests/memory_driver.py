"""A master-key driver in memory: what the core's tests stand on, with no keystore."""

from __future__ import annotations

import hashlib
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import keywrap
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from envelope import keyurl, resolvers
from envelope.errors import KeyDisabled, KeyMismatch, KeyNotFound
from envelope.jose import b64u_decode, b64u_encode
from envelope.keys import WrappedKey
from envelope.secret import Secret


@dataclass
class MemoryDriver:
    """Keys of any scheme, made when first named. Versions are ``v1``, ``v2``, …

    Key bytes follow from ``seed``, so that a driver of the same seed in another
    process has the same keys. ``newest`` and ``disabled`` stand for what an
    operator does, ``fail`` and ``slow`` for what a vault does, ``calls`` counts.
    """

    seed: str = field(default_factory=lambda: os.urandom(8).hex())
    metered: bool = False
    alg: str = "A256KW"
    newest: dict[str, int] = field(default_factory=dict)
    disabled: set[str] = field(default_factory=set)
    missing: set[str] = field(default_factory=set)
    fail: Callable[[str, str], BaseException | None] = lambda operation, kid: None
    slow: float = 0.0
    calls: Counter[str] = field(default_factory=Counter)
    called: list[tuple[str, str]] = field(default_factory=list)

    def settings(self, options: Mapping[str, Any]) -> dict[str, Any]:
        return {"seed": self.seed, **options}

    def resolver(self, settings: Mapping[str, Any]) -> MemoryDriver:
        return self

    def resolve(self, kid: str) -> MemoryKey:
        name = keyurl.parse(kid)
        self.note("resolve", kid)
        newest = self.newest.setdefault(str(name.unversioned), 1)
        exact = kid if name.version else f"{kid}/v{newest}"
        return MemoryKey(self, exact, self.alg)

    def rotate(self, key: str) -> None:
        self.newest[key] = self.newest.get(key, 1) + 1

    def note(self, operation: str, kid: str) -> None:
        """Count a call, and let it be slow or fail."""
        self.calls[operation] += 1
        self.called.append((operation, kid))
        time.sleep(self.slow)
        error = self.fail(operation, kid)
        if error is not None:
            raise error


@dataclass(frozen=True)
class MemoryKey:
    driver: MemoryDriver = field(repr=False)
    kid: str
    alg: str

    def wrap(self, key: Secret, *, aad: bytes) -> WrappedKey:
        self._note("wrap")
        if self.alg == "A256GCM":
            iv = os.urandom(12)
            sealed = AESGCM(self._own()).encrypt(iv, key.reveal(), aad)
            params = {"iv": b64u_encode(iv), "tag": b64u_encode(sealed[-16:])}
            return WrappedKey(self.kid, self.alg, sealed[:-16], params)
        return WrappedKey(self.kid, self.alg, keywrap.aes_key_wrap(self._own(), key.reveal()))

    def unwrap(self, wrapped: WrappedKey, *, aad: bytes) -> Secret:
        self._note("unwrap")
        try:
            if self.alg == "A256GCM":
                iv, tag = (b64u_decode(wrapped.params[name], name) for name in ("iv", "tag"))
                return Secret(AESGCM(self._own()).decrypt(iv, wrapped.encrypted_key + tag, aad))
            return Secret(keywrap.aes_key_unwrap(self._own(), wrapped.encrypted_key))
        except (keywrap.InvalidUnwrap, InvalidTag, KeyError, ValueError):
            raise KeyMismatch("the ciphertext is not one of this key", kid=self.kid) from None

    def _own(self) -> bytes:
        name = keyurl.parse(self.kid)  # not its vault: a key that moves stays the same key
        return hashlib.sha256(f"{self.driver.seed} {name.name} {name.version}".encode()).digest()

    def _note(self, operation: str) -> None:
        self.driver.note(operation, self.kid)
        if self.kid in self.driver.disabled:
            raise KeyDisabled("this version is disabled", kid=self.kid)
        if self.kid in self.driver.missing:
            raise KeyNotFound("there is no such version", kid=self.kid)


@contextmanager
def installed(driver: MemoryDriver | None = None, *schemes: str) -> Iterator[MemoryDriver]:
    """A driver that serves ``schemes`` (``local``, if none is given) inside the block."""
    driver = driver or MemoryDriver()
    undo = [resolvers.register(scheme, driver) for scheme in schemes or ("local",)]
    try:
        yield driver
    finally:
        for put_back in reversed(undo):
            put_back()
