"""The driver of `local:NAME`: settings, and the keys of the embedded keystore at work."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from envelope import keyurl
from envelope.errors import ConfigurationError, KeyDisabled, KeyMismatch
from envelope.keys import Driver, KeyAdmin, PublicHalf, SignerResolver, WrappedKey
from envelope.keystore import material, signing, upkeep
from envelope.keystore.admin import Admin
from envelope.keystore.contents import Contents
from envelope.keystore.records import Version, now
from envelope.keystore.signing import LocalSigner
from envelope.keystore.slots import Argon2
from envelope.keystore.usable import check_dates, exact, usable
from envelope.secret import Secret

__all__ = ["LOCAL", "LocalKey", "LocalKeys"]

_OPTIONS = ("keystore", "passphrase_file", "passphrase_command", "protect", "argon2")


class LocalKey:
    """One version of a key in the keystore.

    It holds no key bytes: each use looks the version up again, which costs one
    ``stat`` while the file is unchanged, so that what another process disables
    is refused at once.
    """

    def __init__(self, contents: Contents, version: Version) -> None:
        self._contents = contents
        self._name = version.name
        self._version = version.version
        self.kid = version.kid
        self.alg = version.alg

    def __repr__(self) -> str:
        return f"LocalKey({self.kid!r})"

    def wrap(self, key: Secret, *, aad: bytes) -> WrappedKey:  # noqa: ARG002 - neither algorithm has AAD
        """See :class:`envelope.keys.MasterKey`.

        Raises:
            KeyDisabled, KeyExpired, KeyNotYetValid, KeyNotFound, KeyOperationForbidden: As it says.
        """
        version = self._usable("wrapKey", "wrap")
        check_dates(version, "wrap")
        return WrappedKey(self.kid, self.alg, material.wrap(version, key))

    def unwrap(self, wrapped: WrappedKey, *, aad: bytes) -> Secret:  # noqa: ARG002 - as in wrap
        """See :class:`envelope.keys.MasterKey`.

        Raises:
            KeyMismatch: It does not unwrap, or says that it was wrapped otherwise.
            KeyDisabled, KeyNotFound, KeyOperationForbidden: As it says.
        """
        version = self._usable("unwrapKey", "unwrap")
        if wrapped.alg != self.alg or wrapped.params:
            raise KeyMismatch(
                f"{self.kid} unwraps {self.alg} alone", kid=self.kid, operation="unwrap"
            )
        return material.unwrap(version, wrapped.encrypted_key)

    def _usable(self, key_op: str, operation: str) -> Version:
        return usable(self._contents, self._name, self._version, key_op, operation)


class LocalKeys(Admin):
    """The keystore's resolver, which manages its keys as well (:class:`envelope.keys.KeyAdmin`)."""

    metered = False

    def __repr__(self) -> str:
        return f"LocalKeys({self.contents.folder.path!r})"

    def resolve(self, kid: str) -> LocalKey:
        """The exact version, whatever its state, or the newest enabled one. Never makes a key.

        Raises:
            KeyNotFound: There is no such key or version in this keystore.
            KeyDisabled: No version of it is enabled.
        """
        name = keyurl.parse(kid)
        if name.scheme != "local":
            raise ConfigurationError(f"{kid} is not a key of the embedded keystore")
        if name.version is not None:
            return LocalKey(self.contents, exact(self.contents, name.name, name.version, "resolve"))
        key = self.contents.require(name.name)
        newest = key.newest(now())
        if newest is None:
            raise KeyDisabled(
                f"no version of {name} is enabled", kid=str(name), operation="resolve"
            )
        return LocalKey(self.contents, newest)

    def signer(self, kid: str) -> LocalSigner:
        """See :func:`envelope.keystore.signing.signer`."""
        return signing.signer(self.contents, kid)

    def public_half(self, kid: str) -> PublicHalf:
        """See :func:`envelope.keystore.signing.public_half`."""
        return signing.public_half(self.contents, kid)

    # What only this keystore has. The command line finds these by name, since nothing imports it.

    def check_passphrase(self, passphrase: Secret | None = None) -> int:
        """See :func:`envelope.keystore.upkeep.unlock`."""
        return upkeep.unlock(self.contents.settings, passphrase)

    def add_passphrase(self, new: Secret, current: Secret | None = None) -> None:
        """See :func:`envelope.keystore.upkeep.add_passphrase`."""
        upkeep.add_passphrase(self.contents.settings, new, current)

    def change_passphrase(self, new: Secret, current: Secret | None = None) -> None:
        """See :func:`envelope.keystore.upkeep.change_passphrase`."""
        upkeep.change_passphrase(self.contents.settings, new, current)

    def remove_passphrase(self, passphrase: Secret) -> None:
        """See :func:`envelope.keystore.upkeep.remove_passphrase`."""
        upkeep.remove_passphrase(self.contents.settings, passphrase)

    def examine(self) -> list[upkeep.Finding]:
        """See :func:`envelope.keystore.upkeep.examine`."""
        return upkeep.examine(self.contents.settings)


class LocalDriver:
    """The entry point of the scheme ``local``."""

    def settings(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """The keystore's folder, and where its passphrase comes from; no secrets.

        Args:
            options: ``keystore`` (a folder), ``passphrase_file``, ``passphrase_command`` (text
                or a list of words), ``protect`` (what is demanded), ``argon2`` (for new slots).
        """
        for option in options:
            if option not in _OPTIONS:
                raise ConfigurationError(
                    f"unknown option {option!r} of local:",
                    next_step=f"Known: {', '.join(_OPTIONS)}.",
                )
        settings = {name: value for name, value in options.items() if value is not None}
        if settings.get("protect") not in (None, "passphrase", "permissions"):
            raise ConfigurationError("local: protect is passphrase or permissions")
        if "argon2" in settings:
            Argon2.from_options(settings["argon2"])
            settings["argon2"] = dict(settings["argon2"])
        chosen = (
            settings.get("keystore") or os.environ.get("ENVELOPE_KEYSTORE") or _default_folder()
        )
        settings["keystore"] = _absolute(chosen, "keystore")
        file = settings.get("passphrase_file") or os.environ.get("ENVELOPE_PASSPHRASE_FILE")
        if file:
            settings["passphrase_file"] = _absolute(file, "passphrase_file")
        return settings

    def resolver(self, settings: Mapping[str, Any]) -> LocalKeys:
        """A resolver by settings that :meth:`settings` returned. Opens nothing yet."""
        return LocalKeys(Contents(settings))


LOCAL = LocalDriver()

if TYPE_CHECKING:  # the protocols hold, arguments' names included
    _driver: Driver = LOCAL
    _admin: KeyAdmin = LOCAL.resolver({})
    _signers: SignerResolver = LOCAL.resolver({})


def _absolute(path: object, option: str) -> str:
    if not isinstance(path, (str, os.PathLike)):
        raise ConfigurationError(f"local: {option} is a path")
    return os.path.abspath(os.path.expanduser(os.fsdecode(path)))


def _default_folder() -> str:
    import platformdirs  # here: most processes name their keystore, or use another vault

    return os.path.join(platformdirs.user_data_dir("envelope", appauthor=False), "keystore")
