"""Envelope encryption for data platforms. See https://c2sp.org/FLOE for the body's format.

Names are loaded when first used (PEP 562), so that ``import envelope`` costs
little in programs that may never encrypt anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from envelope._version import __version__

if TYPE_CHECKING:
    from envelope import errors, events
    from envelope.files import decrypt_file, encrypt_file, reencrypt
    from envelope.filesystems import filesystem
    from envelope.inspection import inspect, verify
    from envelope.limits import Limits
    from envelope.rewrapping import rewrap
    from envelope.ring import KeyRing
    from envelope.streams import open  # noqa: A004  envelope.open is meant to read like open
    from envelope.values import decrypt, encrypt

_HOMES = {
    "KeyRing": "ring",
    "Limits": "limits",
    "decrypt": "values",
    "decrypt_file": "files",
    "encrypt": "values",
    "encrypt_file": "files",
    "filesystem": "filesystems",
    "inspect": "inspection",
    "open": "streams",
    "reencrypt": "files",
    "rewrap": "rewrapping",
    "verify": "inspection",
}

__all__ = [
    "KeyRing",
    "Limits",
    "__version__",
    "decrypt",
    "decrypt_file",
    "encrypt",
    "encrypt_file",
    "errors",
    "events",
    "filesystem",
    "inspect",
    "open",
    "reencrypt",
    "rewrap",
    "verify",
]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name in ("errors", "events"):
        return import_module(f"envelope.{name}")
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'envelope' has no attribute {name!r}")
    value = getattr(import_module(f"envelope.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
