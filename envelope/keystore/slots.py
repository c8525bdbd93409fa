"""Argon2id, and the slots in which a passphrase opens the keystore key.

docs/keystore.md, "Protection by passphrase".
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from envelope.errors import ConfigurationError, Malformed
from envelope.jose import b64u_decode, b64u_encode
from envelope.keystore.material import lines, open_gcm, seal_gcm
from envelope.keystore.records import Head, now
from envelope.secret import Secret

__all__ = ["Argon2", "make_slot", "open_slots"]


@dataclass(frozen=True)
class Argon2:
    """Parameters of Argon2id (RFC 9106), bounded both ways.

    Args:
        memory_kib: KiB of memory, from 19456 (19 MiB) to 1048576 (1 GiB).
        iterations: Passes, from 2 to 16.
        lanes: Threads, from 1 to 16.
    """

    memory_kib: int = 65536
    iterations: int = 3
    lanes: int = 4

    def __post_init__(self) -> None:
        for name, low, high in (
            ("memory_kib", 19456, 2**20),
            ("iterations", 2, 16),
            ("lanes", 1, 16),
        ):
            value = getattr(self, name)
            if type(value) is not int or not low <= value <= high:
                raise ConfigurationError(f"argon2: {name} is a number from {low} to {high}")

    @classmethod
    def from_options(cls, given: object) -> Argon2:
        """The option ``argon2``; what it leaves out has its default."""
        if given is None:
            return cls()
        if not isinstance(given, Mapping) or set(given) - {"memory_kib", "iterations", "lanes"}:
            raise ConfigurationError("argon2 has the members memory_kib, iterations and lanes")
        return cls(**given)

    @classmethod
    def from_json(cls, given: Mapping[str, Any], what: str) -> Argon2:
        """Parameters out of a file, where a bad one is the file's fault."""
        if given.get("kdf") != "argon2id":
            raise Malformed(f"{what}: the key derivation is not argon2id")
        try:
            return cls(*(given.get(name, 0) for name in ("memory_kib", "iterations", "lanes")))
        except ConfigurationError as error:
            raise Malformed(f"{what}: {error.message}") from None

    def to_json(self, salt: bytes) -> dict[str, Any]:
        return {
            "kdf": "argon2id",
            "memory_kib": self.memory_kib,
            "iterations": self.iterations,
            "lanes": self.lanes,
            "salt": b64u_encode(salt),
        }

    def bound(self, salt: bytes) -> tuple[str | int, ...]:
        """The parameters as they stand in associated data."""
        return ("argon2id", self.memory_kib, self.iterations, self.lanes, b64u_encode(salt))

    def derive(self, passphrase: Secret, salt: bytes) -> Secret:
        derivation = Argon2id(
            salt=salt,
            length=32,
            iterations=self.iterations,
            lanes=self.lanes,
            memory_cost=self.memory_kib,
        )
        return Secret(derivation.derive(passphrase.reveal()))


def make_slot(head_id: str, keystore_key: Secret, passphrase: Secret, cost: Argon2) -> Any:
    """A slot in which ``passphrase`` opens ``keystore_key``."""
    salt, iv = os.urandom(16), os.urandom(12)
    aad = lines("envelope keystore/1 slot", head_id, *cost.bound(salt))
    sealed = seal_gcm(cost.derive(passphrase, salt), keystore_key, aad, iv)
    return {
        **cost.to_json(salt),
        "iv": b64u_encode(iv),
        "encrypted_key": b64u_encode(sealed),
        "created": now(),
    }


def open_slots(head: Head, passphrase: Secret) -> tuple[int, Secret] | None:
    """The first slot that ``passphrase`` opens, and the keystore key in it."""
    for index, slot in enumerate(head.slots):
        cost = Argon2.from_json(slot, "a passphrase slot")
        salt = b64u_decode(slot.get("salt"), "salt", length=16)
        iv = b64u_decode(slot.get("iv"), "iv", length=12)
        sealed = b64u_decode(slot.get("encrypted_key"), "encrypted_key", length=48)
        aad = lines("envelope keystore/1 slot", head.id, *cost.bound(salt))
        key = open_gcm(cost.derive(passphrase, salt), iv, sealed, aad)
        if key is not None:
            return index, key
    return None
