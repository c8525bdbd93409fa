"""Encrypted names: plain paths below a root to stored ones, and back (docs/names.md). Pure.

A part is encrypted by AES-SIV (RFC 5297) with its folder's stored path as
associated data. So a path has one stored path, which needs no request to find,
and equal names in two folders look unrelated.
"""

from __future__ import annotations

import base64
import re
import unicodedata

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from envelope.caches import Cache
from envelope.errors import ConfigurationError, LimitExceeded
from envelope.secret import Secret

__all__ = ["KEY_SIZE", "MAX_PART_BYTES", "Names", "looks_encrypted"]

KEY_SIZE = 64
"""Bytes of a name key: AES-SIV with AES-256."""

MAX_PART_BYTES = 143
"""Bytes of a part in UTF-8 whose stored form has 255 characters, the most that disks take."""

_STORED = re.compile(r"[0-9a-v]{28,255}")  # base32hex of a SIV and at least one byte
_FOLDERS = 4096  # whose paths are remembered: most paths differ in their last part only


class Names:
    """Encrypts and decrypts paths below one root.

    Args:
        key: The root's name key, of :data:`KEY_SIZE` bytes.
    """

    def __init__(self, key: Secret) -> None:
        if len(key) != KEY_SIZE:
            raise ValueError(f"a name key has {KEY_SIZE} bytes, not {len(key)}")
        self._siv = AESSIV(key.reveal())
        self._stored: Cache[str, str] = Cache(_FOLDERS, float("inf"))
        self._plain: Cache[str, str] = Cache(_FOLDERS, float("inf"))

    def stored(self, path: str) -> str:
        """The stored path of a plain one, both relative to the root.

        Raises:
            LimitExceeded: A part has more than :data:`MAX_PART_BYTES` bytes.
            ConfigurationError: A part is empty, ``.`` or ``..``, or has what no name may have.
        """
        folder, slash, part = path.rpartition("/")
        above = self._stored_folder(folder) if slash else ""
        return _joined(above, self._encrypted(above, part, path))

    def plain(self, path: str) -> str | None:
        """The plain path of a stored one; ``None`` if a part of it is foreign."""
        folder, slash, part = path.rpartition("/")
        above = self._plain_folder(folder) if slash else ""
        name = None if above is None else self._decrypted(folder, part)
        return None if name is None else _joined(above or "", name)

    def _stored_folder(self, path: str) -> str:
        found = self._stored.get(path)
        if found is None:
            found = ""
            for part in path.split("/"):
                found = _joined(found, self._encrypted(found, part, path))
            self._stored.put(path, found)
        return found

    def _plain_folder(self, path: str) -> str | None:
        found = self._plain.get(path)
        if found is None:
            above, found = "", ""
            for part in path.split("/"):
                name = self._decrypted(above, part)
                if name is None:
                    return None
                above, found = _joined(above, part), _joined(found, name)
            self._plain.put(path, found)
        return found

    def _encrypted(self, above: str, part: str, path: str) -> str:
        """One stored part, in a folder with the stored path ``above``."""
        sealed = self._siv.encrypt(_checked(part, path), [above.encode("ascii")])
        return _base32hex(sealed)

    def _decrypted(self, above: str, part: str) -> str | None:
        """One plain part, or ``None`` for a foreign name."""
        if not looks_encrypted(part):
            return None
        text = part.upper()
        sealed = base64.b32hexdecode(text + "=" * (-len(text) % 8))
        try:
            name = self._siv.decrypt(sealed, [above.encode("ascii")]).decode()
            return name if _normalised(name, name) == name else None
        except (InvalidTag, UnicodeDecodeError, ConfigurationError, LimitExceeded):
            return None


def looks_encrypted(part: str) -> bool:
    """Whether a stored part has the form of an encrypted one; takes no key."""
    if not _STORED.fullmatch(part) or len(part) % 8 in (1, 3, 6):
        return False
    text = part.upper()
    # Spare bits that are not zero would give one name a second stored form.
    return _base32hex(base64.b32hexdecode(text + "=" * (-len(text) % 8))) == part


def _checked(part: str, path: str) -> bytes:
    return _normalised(part, path).encode()


def _normalised(part: str, path: str) -> str:
    """A part in NFC, if it may be one."""
    try:
        name = unicodedata.normalize("NFC", part)
        length = len(name.encode())
    except UnicodeEncodeError:
        raise ConfigurationError(f"a part of {path!a} is not valid Unicode") from None
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise ConfigurationError(
            f"{path!a} has a part {name!a}, which is no name that could be encrypted"
        )
    if length > MAX_PART_BYTES:
        raise LimitExceeded(
            f"{name!a} has {length} bytes, and an encrypted name has at most {MAX_PART_BYTES}",
            next_step="Shorten it: its stored form would be longer than the 255 characters that "
            "disks take.",
        )
    return name


def _base32hex(data: bytes) -> str:
    return base64.b32hexencode(data).decode("ascii").rstrip("=").lower()


def _joined(above: str, part: str) -> str:
    return f"{above}/{part}" if above else part
