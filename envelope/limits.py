"""Every number that bounds what a key ring does, with the reason for its default."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from envelope.errors import ConfigurationError

__all__ = ["Limits"]


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of a key ring. docs/keys.md argues the defaults.

    Args:
        kek_age: Seconds after which a writing process makes a fresh KEK.
        kek_files: Files under one KEK. One KEK opens all its files, so this bounds
            what a leaked KEK exposes; A256KW itself would bear far more.
        kek_bytes: Plaintext bytes under one KEK, for the same reason.
        refresh: Seconds until a writing process looks for a new version of its keys.
        kek_cache_age: Seconds that an opened KEK stays usable without asking the
            vault again: the lag of a revocation.
        kek_cache_size: Opened KEKs that are kept at most.
        negative_age: Seconds for which "denied" and "not found" are believed.
        deadline: Seconds for one call of a vault, retries and waiting included.
        unwrap_rate: Unwraps a second that metered vaults are asked for (bucket of ten seconds).
        failed_unwrap_rate: The same for unwraps that fail: what forged files may cost.
        header_size: Bytes of the envelope header of files; a power-of-two multiple is usual.
    """

    kek_age: float = 24 * 3600
    kek_files: int = 2**20
    kek_bytes: int = 2**50
    refresh: float = 15 * 60
    kek_cache_age: float = 3600
    kek_cache_size: int = 1024
    negative_age: float = 30
    deadline: float = 30
    unwrap_rate: float = 20
    failed_unwrap_rate: float = 1
    header_size: int = 4096

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
                raise ConfigurationError(f"limits: {field.name} must be a number above zero")
            if not math.isfinite(value):  # JSON, and so a key ring's repr, has no infinity
                raise ConfigurationError(f"limits: {field.name} must be finite")
            if field.type == "int" and not isinstance(value, int):
                raise ConfigurationError(f"limits: {field.name} must be a whole number")
        if self.header_size % 4096 or self.header_size > 65536:
            raise ConfigurationError("limits: header_size is a multiple of 4096, up to 65536")

    @classmethod
    def from_config(cls, given: Mapping[str, Any]) -> Limits:
        """Limits by name; an unknown name is a ConfigurationError."""
        known = {field.name for field in fields(cls)}
        for name in given:
            if name not in known:
                raise ConfigurationError(
                    f"unknown limit {name!r}", next_step=f"Known: {', '.join(sorted(known))}."
                )
        return cls(**given)

    def to_config(self) -> dict[str, float]:
        """Only what differs from the defaults, so that a repr stays readable."""
        defaults = asdict(Limits())
        return {name: value for name, value in asdict(self).items() if value != defaults[name]}
