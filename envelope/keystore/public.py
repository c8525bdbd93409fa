"""The driver of `public:FILE.pem`: a public key in a file, which wraps or verifies, and no more.

docs/keystore.md, "Public halves".
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from envelope import keyurl
from envelope.errors import ConfigurationError, KeyNotFound, KeyOperationForbidden
from envelope.jose import b64u_decode, b64u_encode
from envelope.keys import Driver, PublicHalf, WrappedKey
from envelope.keystore import material
from envelope.secret import Secret

__all__ = ["PUBLIC", "PublicKey", "PublicKeys"]

_LARGEST = 65536
_KID = re.compile(rb"^kid:[ \t]*(\S+)[ \t]*\r?$", re.MULTILINE)
_ALG = re.compile(rb"^alg:[ \t]*(\S+)[ \t]*\r?$", re.MULTILINE)
_BEGIN = b"-----BEGIN "
_WRAPPING = ("RSA-OAEP-256",)
_SIGNING = ("ES256", "PS256")


class PublicKey:
    """The public half of one version of an RSA key."""

    alg = "RSA-OAEP-256"

    def __init__(self, kid: str, key: rsa.RSAPublicKey) -> None:
        self.kid = kid
        self._key = key

    def __repr__(self) -> str:
        return f"PublicKey({self.kid!r})"

    def wrap(self, key: Secret, *, aad: bytes) -> WrappedKey:  # noqa: ARG002 - RSA-OAEP-256 here has no label
        """See :class:`envelope.keys.MasterKey`."""
        return WrappedKey(self.kid, self.alg, material.rsa_wrap(self._key, key, self.kid))

    def unwrap(self, wrapped: WrappedKey, *, aad: bytes) -> NoReturn:  # noqa: ARG002 - it refuses
        """Always KeyOperationForbidden."""
        raise KeyOperationForbidden(
            f"a public key cannot unwrap; the private half of {self.kid} can",
            kid=self.kid,
            operation="unwrap",
            next_step=f"Read with the key itself, {self.kid}, where its keystore or vault is.",
        )


class PublicKeys:
    """Resolves ``public:FILE`` to what the settings pinned, else to the file as it is now."""

    metered = False

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._settings = settings
        self._pinned = settings.get("files") or {}

    def __repr__(self) -> str:
        return f"PublicKeys({sorted(self._pinned)})"

    def resolve(self, kid: str) -> PublicKey:
        """The public key of that file.

        Raises:
            KeyNotFound: There is no such file.
            ConfigurationError: It has no kid, or is no RSA public key.
        """
        file = _file(kid)
        pin = self._pinned.get(file) or _pin(file, self._settings.get("kid"), _WRAPPING)
        key = serialization.load_der_public_key(b64u_decode(pin["spki"], "spki"))
        if not isinstance(key, rsa.RSAPublicKey):
            raise ConfigurationError(f"public: the pinned key of {file} is no RSA key")
        return PublicKey(pin["kid"], key)

    def signer(self, kid: str) -> NoReturn:
        """Always KeyOperationForbidden."""
        raise KeyOperationForbidden(
            "a public key cannot sign; it can only prove what its private half signed",
            kid=kid,
            operation="sign",
            next_step="Sign with the key itself, where its keystore or vault is.",
        )

    def public_half(self, kid: str) -> PublicHalf:
        """The file's key, for what its private half has signed.

        Raises:
            KeyNotFound: There is no such file.
            ConfigurationError: It has no kid, or a key that signs no KEKs.
        """
        file = _file(kid)
        pin = self._pinned.get(file) or _pin(file, self._settings.get("kid"), _SIGNING)
        return PublicHalf(pin["kid"], b64u_decode(pin["spki"], "spki"))


class PublicDriver:
    """The entry point of the scheme ``public``."""

    def settings(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Options as they are, checked.

        Args:
            options: ``kid`` (for files without one), ``files`` (what :meth:`pinned` returned).
        """
        if unknown := set(options) - {"kid", "files"}:
            raise ConfigurationError(
                f"unknown option {min(unknown)!r} of public:", next_step="Known: kid, files."
            )
        settings = {name: value for name, value in options.items() if value is not None}
        if "kid" in settings:
            settings["kid"] = _checked_kid(settings["kid"], "the option kid of public:")
        files = settings.get("files", {})
        if not isinstance(files, Mapping) or not all(
            isinstance(pin, Mapping) and set(pin) == {"kid", "sha256", "spki"}
            for pin in files.values()
        ):
            raise ConfigurationError("public: files maps each file to its kid, sha256 and spki")
        for file, pin in files.items():
            _checked_kid(pin["kid"], f"the kid of {file}")
            _checked_key(b64u_decode(pin["spki"], "spki"), file, ec_too=True)
        if files:
            settings["files"] = {file: dict(pin) for file, pin in files.items()}
        return settings

    def pinned(
        self, settings: Mapping[str, Any], names: Iterable[str], signers: Iterable[str] = ()
    ) -> dict[str, Any]:
        """``settings`` with the keys of ``names`` taken in, so that no path is needed any more.

        A key ring calls this when it is made. Its repr then tells two contents
        of one path apart, and its pickle works where the file is not.

        Args:
            settings: What :meth:`settings` returned.
            names: The ``public:FILE`` that the ring encrypts to.
            signers: Those whose signatures it believes.
        """
        files = dict(settings.get("files") or {})
        for keys, uses in ((names, _WRAPPING), (signers, _SIGNING)):
            for name in keys:
                file = _file(name)
                if file not in files:
                    files[file] = _pin(file, settings.get("kid"), uses)
                spki = b64u_decode(files[file]["spki"], "spki")
                _checked_key(spki, file, ec_too=uses is _SIGNING)
        return {**settings, "files": files} if files else dict(settings)

    def resolver(self, settings: Mapping[str, Any]) -> PublicKeys:
        """A resolver by settings that :meth:`settings` or :meth:`pinned` returned."""
        return PublicKeys(settings)


PUBLIC = PublicDriver()

if TYPE_CHECKING:  # the protocol holds
    _driver: Driver = PUBLIC


def _file(name: str) -> str:
    parsed = keyurl.parse(name)
    if parsed.scheme != "public":
        raise ConfigurationError(f"{name} is not a public key's file")
    return parsed.name


def _pin(file: str, kid: str | None, uses: tuple[str, ...]) -> dict[str, str]:
    """The kid, digest and key of a file that is for one of ``uses``, if it says for what."""
    data = _read(file)
    before, begin, block = data.partition(_BEGIN)
    if not begin or _BEGIN in block or block[:10] != b"PUBLIC KEY":
        raise ConfigurationError(f"{file} does not hold exactly one PEM PUBLIC KEY")
    lines = _KID.findall(before)
    if len(lines) > 1:
        raise ConfigurationError(f"{file} has more than one kid line")
    found = lines[0].decode("ascii", "replace") if lines else kid
    if not found:
        raise ConfigurationError(
            f"{file} does not say whose public key it is",
            next_step="Put a line 'kid: …', exact version included, before BEGIN, or give --kid.",
        )
    said = [alg.decode("ascii", "replace") for alg in _ALG.findall(before)]
    if any(alg not in uses for alg in said):
        raise ConfigurationError(
            f"{file} is for {', '.join(said)}, and what is needed here is {' or '.join(uses)}",
            next_step="A key has one use: export the public half of a key for this one.",
        )
    key = _checked_key(begin + block, file, ec_too=uses is _SIGNING)
    spki = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return {
        "kid": _checked_kid(found, file),
        "sha256": hashlib.sha256(data).hexdigest(),
        "spki": b64u_encode(spki),
    }


def _read(file: str) -> bytes:
    try:
        # Without blocking: a FIFO of that name must not hang whoever makes a key ring.
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise KeyNotFound(
            f"there is no file {file}",
            kid=f"public:{file}",
            operation="resolve",
            next_step="Ask for the public key: envelope keys public local:NAME > FILE.pem.",
        ) from None
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be read: {error.strerror}") from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ConfigurationError(f"{file} is not a file")
        with open(descriptor, "rb", closefd=False) as opened:
            data = opened.read(_LARGEST + 1)
    finally:
        os.close(descriptor)
    if len(data) > _LARGEST:
        raise ConfigurationError(f"{file} is larger than {_LARGEST} bytes; a public key is not")
    return data


def _checked_kid(kid: object, where: str) -> str:
    if not isinstance(kid, str):
        raise ConfigurationError(f"{where} is no text")
    name = keyurl.parse(kid)
    if name.scheme == "public" or (name.scheme in ("local", "azurekeyvault") and not name.version):
        raise ConfigurationError(
            f"{where} does not name the exact version of a key: {kid}",
            next_step="Export the public half again with `envelope keys public`.",
        )
    return kid


def _checked_key(
    data: bytes, file: str, *, ec_too: bool
) -> rsa.RSAPublicKey | ec.EllipticCurvePublicKey:
    load = (
        serialization.load_pem_public_key
        if data.startswith(_BEGIN)
        else serialization.load_der_public_key
    )
    try:
        key = load(data)
    except Exception:  # cryptography raises several kinds for what is no key
        key = None
    if ec_too and isinstance(key, ec.EllipticCurvePublicKey):
        if isinstance(key.curve, ec.SECP256R1):
            return key
    elif isinstance(key, rsa.RSAPublicKey) and 2048 <= key.key_size <= 4096:
        return key
    or_ec = ", or an EC public key on P-256" if ec_too else ""
    raise ConfigurationError(f"{file} does not hold an RSA public key of 2048 to 4096 bits{or_ec}")
