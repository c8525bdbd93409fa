"""Names of master keys: parsed, normalised and compared in this one place.

A kid in a file is an attacker's text. It is compared with configured names by
its parsed parts, never by string prefix: ``azurekeyvault://acme/*`` must not
match ``azurekeyvault://acme.evil.example/lake`` nor ``…/acme/../evil``. What
can be written in two ways is either normalised (letter case of hosts, the
default port, one trailing slash) or refused (percent-encoding, user info, a
query, ``..``, anything but printable ASCII).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache

from envelope.errors import ConfigurationError

__all__ = ["MAX_KID_BYTES", "KeyName", "matches", "parse", "scheme_of"]

MAX_KID_BYTES = 512

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(.+)\Z", re.DOTALL)
_LOCAL_NAME = re.compile(r"[a-z0-9-]{1,63}\Z")
_LOCAL_VERSION = re.compile(r"[a-z0-9]{1,64}\Z")
_HOST = re.compile(
    r"(?=.{1,253}\Z)[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*\Z"
)
_VAULT_ITEM = re.compile(r"[A-Za-z0-9-]{1,127}\Z")
_VAULT_VERSION = re.compile(r"[A-Za-z0-9]{1,64}\Z")
_PUBLIC_CLOUD = ".vault.azure.net"

# scheme in the URL -> the kind of vault object that it names
_VAULT_SCHEMES = {
    "azurekeyvault": "keys",
    "azurekeyvault-secret": "secrets",
    "azurekeyvault-certificate": "certificates",
}


@dataclass(frozen=True, slots=True)
class KeyName:
    """A master key's name in parts, normalised, so that equal means the same key.

    Args:
        scheme: Which driver serves it: ``local``, ``public``, ``azurekeyvault``, …
        host: The vault's full host name in lower case, or ``""``.
        name: The key's name in the vault; ``*`` stands for all keys of a vault.
        version: The exact version, or ``None`` where the newest is meant.
    """

    scheme: str
    host: str
    name: str
    version: str | None = None

    @property
    def unversioned(self) -> KeyName:
        """The same key, whichever version."""
        return replace(self, version=None)

    def __str__(self) -> str:
        version = f"/{self.version}" if self.version else ""
        if self.host:
            return f"{self.scheme}://{self.host}/{self.name}{version}"
        return f"{self.scheme}:{self.name}{version}"


def scheme_of(text: str) -> str:
    """The scheme that decides which driver is asked, in lower case.

    Raises:
        ConfigurationError: The text has no scheme.
    """
    match = _SCHEME.match(text)
    if match is None:
        raise ConfigurationError(
            f"{text!r} is not a key name",
            next_step="Write a key as SCHEME:NAME, for example local:lake.",
        )
    scheme = match[1].lower()
    return "azurekeyvault" if scheme == "https" else scheme


@lru_cache(1024)  # the same few names are in the headers of all files of a lake
def parse(text: str) -> KeyName:
    """Parse and normalise a key's name.

    Args:
        text: ``local:NAME[/VERSION]``, ``public:FILE``,
            ``azurekeyvault[-secret|-certificate]://VAULT/NAME[/VERSION]``, the plain
            ``https://VAULT/keys/NAME[/VERSION]``, or a name of another scheme, which is
            taken as it stands and equals only itself.

    Raises:
        ConfigurationError: It is no such name, or one that could be read in two ways.
    """
    if len(text) > MAX_KID_BYTES:
        raise _refused(text[:40] + "…", f"it is longer than {MAX_KID_BYTES} bytes")
    if not text.isascii() or not text.isprintable() or " " in text:
        raise _refused(text, "only printable ASCII without spaces is allowed")
    scheme = scheme_of(text)
    rest = text.split(":", 1)[1]
    if scheme == "local":
        return _parse_local(text, rest)
    if scheme in _VAULT_SCHEMES:
        return _parse_vault(text, scheme, rest)
    return KeyName(scheme, "", rest)


def matches(pattern: KeyName, kid: KeyName) -> bool:
    """Whether a configured ``pattern`` covers ``kid``, a name with its exact version.

    A pattern without a version covers all versions, one with the name ``*``
    all keys of its vault, and nothing else is ever wider than it reads. A kid of
    a file that has no version, or is itself a pattern, is covered by nothing.
    """
    if kid.version is None and (kid.host or kid.scheme == "local"):
        return False
    if (pattern.scheme, pattern.host) != (kid.scheme, kid.host):
        return False
    if pattern.name == "*" and pattern.host:
        return pattern.version is None
    return pattern.name == kid.name and pattern.version in (None, kid.version)


def _parse_local(text: str, rest: str) -> KeyName:
    name, slash, version = rest.partition("/")
    if not _LOCAL_NAME.match(name):
        raise _refused(text, "a local key's name has 1 to 63 of a-z, 0-9 and -")
    if slash and not _LOCAL_VERSION.match(version):
        raise _refused(text, "a version has only a-z and 0-9")
    return KeyName("local", "", name, version or None)


def _parse_vault(text: str, scheme: str, rest: str) -> KeyName:
    if not rest.startswith("//"):
        raise _refused(text, "a vault key is written SCHEME://VAULT/NAME")
    for sign, meaning in (
        ("%", "percent-encoding"),
        ("@", "user info"),
        ("?", "a query"),
        ("#", "a fragment"),
        ("\\", "a backslash"),
    ):
        if sign in rest:
            raise _refused(text, f"{meaning} is not allowed")
    authority, _, path = rest[2:].partition("/")
    parts = path.removesuffix("/").split("/")
    if text[:6].lower() == "https:":
        if parts[0] != "keys":
            raise _refused(text, "the path must be /keys/NAME[/VERSION]")
        parts = parts[1:]
    if len(parts) not in (1, 2):
        raise _refused(text, "the path must be NAME or NAME/VERSION")
    host = _vault_host(text, authority)
    # Key Vault compares names and versions without regard to letter case.
    name, version = parts[0].lower(), (parts[1].lower() if len(parts) == 2 else None)
    if name != "*" and not _VAULT_ITEM.match(name):
        raise _refused(text, "a vault key's name has 1 to 127 of a-z, A-Z, 0-9 and -")
    if version is not None and (name == "*" or not _VAULT_VERSION.match(version)):
        raise _refused(text, "the version is not one that Key Vault writes")
    return KeyName(scheme, host, name, version)


def _vault_host(text: str, authority: str) -> str:
    host, colon, port = authority.lower().partition(":")
    if colon and port != "443":  # other ports are for private names, configured by hand, in full
        host = f"{host}:{port}"
        if not port.isdigit() or not 0 < int(port) < 65536 or port.startswith("0"):
            raise _refused(text, "the port is not a number from 1 to 65535")
    bare = host.partition(":")[0]
    if not _HOST.match(bare):
        raise _refused(text, "the vault is not a host name")
    if "." not in bare and not (colon and port != "443"):
        if text[:6].lower() == "https:":  # which reads as a host of just this name
            raise _refused(text, "an https:// address needs the vault's full host name")
        return bare + _PUBLIC_CLOUD
    return host


def _refused(text: str, why: str) -> ConfigurationError:
    return ConfigurationError(f"{text!r} is not a key name: {why}")
