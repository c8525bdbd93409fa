"""Key bytes that never print, pickle, or compare in variable time."""

from __future__ import annotations

import os
from typing import NoReturn

from cryptography.hazmat.primitives.constant_time import bytes_eq

__all__ = ["Secret"]


class Secret:
    """Holds key bytes so that a repr, a log or a traceback with locals shows nothing.

    Call :meth:`reveal` only inside the expression that uses the bytes, and
    never give its result a name: a local variable is what a traceback prints.
    Python cannot wipe memory, so this protects against disclosure by accident,
    not against somebody who reads the process (docs/threat-model.md).

    Args:
        value: The key bytes.
    """

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        if not isinstance(value, bytes):
            raise TypeError("a Secret is made from bytes")
        self._value = value

    @classmethod
    def random(cls, length: int = 32) -> Secret:
        """A fresh secret of ``length`` bytes from the operating system's generator."""
        return cls(os.urandom(length))

    def reveal(self) -> bytes:
        """The bytes themselves, for the one call that needs them."""
        return self._value

    def __len__(self) -> int:
        return len(self._value)

    def __eq__(self, other: object) -> bool:  # and so, on purpose, no __hash__
        return isinstance(other, Secret) and bytes_eq(self._value, other._value)

    def __repr__(self) -> str:
        return f"Secret(<{len(self._value)} bytes>)"

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret cannot be pickled or copied: send the wrapped key instead")
