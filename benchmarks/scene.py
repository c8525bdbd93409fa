"""A key ring of its own, in a keystore that is gone afterwards."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from envelope.keystore.driver import LOCAL, LocalKeys
from envelope.ring import KeyRing

__all__ = ["Scene", "ring_of"]

_KEY = "local:bench"


@dataclass(frozen=True)
class Scene:
    """One master key, protected by file permissions, and the ring that uses it."""

    keystore: Path
    ring: KeyRing
    keys: LocalKeys

    @classmethod
    def make(cls, folder: Path, *, impatient: bool = False) -> Scene:
        """A keystore with a key, in ``folder``.

        Args:
            folder: Where the keystore goes.
            impatient: Look for a new version of the key every millisecond, so that a rewrap
                right after a rotation has something to do.
        """
        keystore = folder / "keystore"
        keys = LOCAL.resolver(LOCAL.settings({"keystore": str(keystore)}))
        _without_warnings()
        keys.create(_KEY, protect="permissions")
        return cls(keystore, ring_of(keystore, {"refresh": 0.001} if impatient else {}), keys)

    def rotate(self) -> None:
        """A new version of the master key."""
        self.keys.rotate(_KEY)


def ring_of(keystore: Path, limits: Mapping[str, float] | None = None) -> KeyRing:
    """The ring of a keystore that is there already: for another process."""
    _without_warnings()
    return KeyRing(_KEY, settings={"local": {"keystore": str(keystore)}}, limits=limits)


def _without_warnings() -> None:
    # That a keystore is protected by permissions alone and has no backup is meant here.
    logging.getLogger("envelope.events").setLevel(logging.ERROR)
