"""What a key ring was told: checked as a whole when it is made, and written in one way.

It calls no key. Drivers are asked what their settings mean, so that the same
configuration means the same in another process.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from envelope import header, keks, keyurl, resolvers
from envelope.errors import ConfigurationError
from envelope.keys import WrappedKey
from envelope.keyurl import KeyName
from envelope.limits import Limits
from envelope.trust import Trust

__all__ = ["Policy", "texts"]


class Policy:
    """The parsed arguments of a :class:`envelope.ring.KeyRing`, which explains them.

    Raises:
        TypeError: Something else than texts.
        ConfigurationError: A name, option or combination that cannot work.
        LimitExceeded: The recipients do not fit in a header of ``limits.header_size``.
    """

    def __init__(
        self,
        keys: str | Sequence[str] | None,
        *,
        encrypt_to: str | Sequence[str] | None,
        decrypt_with: str | Sequence[str] | None,
        limits: Limits | Mapping[str, Any] | None,
        required_context: Sequence[str],
        aliases: Mapping[str, str] | None,
        settings: Mapping[str, Mapping[str, Any]] | None,
        sign_with: str | None,
        require_signed: str | Sequence[str] | None,
    ) -> None:
        if keys is not None:
            if encrypt_to is not None or decrypt_with is not None:
                raise ConfigurationError("give keys, or encrypt_to and decrypt_with, not both")
            encrypt_to = texts(keys, "keys")
            # A public half can't decrypt, so it is no mistake among keys that mean both.
            decrypt_with = [k for k in encrypt_to if keyurl.scheme_of(k) != "public"]
        moved = {keyurl.parse(old): keyurl.parse(new) for old, new in dict(aliases or {}).items()}
        self.to = _names(encrypt_to, "encrypt_to")
        self.trust = Trust(_names(decrypt_with, "decrypt_with"), moved)
        self.sign_with = _signer(sign_with)
        self.signed_by = Trust(_names(require_signed, "require_signed"), moved)
        self.limits = limits if isinstance(limits, Limits) else Limits.from_config(limits or {})
        self.required_context = tuple(sorted(set(texts(required_context, "required_context"))))
        self._check(demands_signers=require_signed is not None)
        self.settings = self._resolved(settings or {})
        self.text = self._canonical()

    def _check(self, *, demands_signers: bool) -> None:
        """Refuse what could never work, before any driver is loaded."""
        if not self.to and not self.trust.patterns:
            raise ConfigurationError("a key ring needs at least one key")
        for name in self.to:
            if name.name == "*":
                raise ConfigurationError(f"{name} is a pattern: it can only be in decrypt_with")
        for name in self.trust.patterns:
            if name.scheme == "public":
                raise ConfigurationError(f"{name} has only a public half, which cannot decrypt")
        self._check_signers(demands_signers)
        if len(self.to) > header.MAX_RECIPIENTS:
            raise ConfigurationError(f"a header has at most {header.MAX_RECIPIENTS} recipients")
        shortest = [WrappedKey(str(name), "A256KW", bytes(40)) for name in self.to]
        signature = None
        if self.sign_with and self.to:
            from envelope import jws  # loaded by rings that sign, and by no others
            from envelope.signers import audience_of

            audience = audience_of([w.kid for w in shortest if not w.kid.startswith("public:")])
            signature = jws.shortest(str(self.sign_with), audience)
        keks.member_of(bytes(32), shortest, self.limits.header_size, signature)

    def _check_signers(self, demands_signers: bool) -> None:
        if demands_signers and not self.signed_by.patterns:
            raise ConfigurationError(
                "require_signed names no signer, so that nothing could be read",
                next_step="Name the signers that count, or leave require_signed out.",
            )
        for name in self.signed_by.patterns:
            if name.name == "*":
                raise ConfigurationError(
                    f"{name} is a pattern: whoever signs anything with any key of that vault "
                    "would count",
                    next_step="Name each signer in require_signed.",
                )
        if self.sign_with is None:
            return
        if self.sign_with.name == "*" or self.sign_with.scheme == "public":
            why = "is a pattern" if self.sign_with.name == "*" else "has only a public half"
            raise ConfigurationError(f"sign_with: {self.sign_with} {why}, which cannot sign")
        if self.sign_with.unversioned in {name.unversioned for name in self.to}:
            raise ConfigurationError(
                f"{self.sign_with} cannot both wrap and sign: a key has one use",
                next_step="Make a key for signing: envelope keys create local:signer --kty EC.",
            )

    def _resolved(self, given: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
        """Settings of each scheme in use, complete, so that they mean the same elsewhere."""
        signers = [*self.signed_by.patterns, *([self.sign_with] if self.sign_with else [])]
        names = (*self.to, *self.trust.patterns, *self.trust.aliases.values(), *signers)
        resolved = {}
        for scheme in sorted({name.scheme for name in names}):
            driver = resolvers.driver(scheme)
            settings = driver.settings(given.get(scheme, {}))
            pinned = getattr(driver, "pinned", None)  # keys that are files: their content counts
            if pinned is not None:
                files = {"signers": found} if (found := _of(scheme, signers)) else {}
                settings = pinned(settings, _of(scheme, self.to), **files)
            resolved[scheme] = settings
        return resolved

    def check_portable(self) -> None:
        """Refuse to go to another process with settings that mean something in this one alone.

        Raises:
            ConfigurationError: A driver says so, and what to give instead.
        """
        for scheme, settings in self.settings.items():
            # Optional, as `pinned`: most drivers have nothing that is bound to a process.
            bound = getattr(resolvers.driver(scheme), "bound_to_process", None)
            instead = None if bound is None else bound(settings)
            if instead is not None:
                raise ConfigurationError(
                    f"the key ring's settings of {scheme} hold in this process alone, so that it "
                    "cannot be pickled",
                    next_step=instead,
                )

    def _canonical(self) -> str:
        return resolvers.canonical(
            {
                "encrypt_to": [*map(str, self.to)],
                "decrypt_with": [*map(str, self.trust.patterns)],
                "limits": {
                    name: int(value) if value == int(value) else value
                    for name, value in self.limits.to_config().items()
                },
                "required_context": self.required_context,
                "aliases": {str(old): str(new) for old, new in self.trust.aliases.items()},
                "settings": self.settings,
                "sign_with": str(self.sign_with) if self.sign_with else None,
                "require_signed": [*map(str, self.signed_by.patterns)] or None,
            }
        )

    def printed(self, config: dict[str, Any]) -> str:
        """The canonical text, with keys that are files named by their digest, not their path."""
        public = config["settings"].get("public", {})
        digests = {file: f"sha256-{pin['sha256']}" for file, pin in public.get("files", {}).items()}
        if not digests:
            return self.text
        public["files"] = {digests[file]: pin for file, pin in public["files"].items()}
        for member, names in (("encrypt_to", self.to), ("require_signed", self.signed_by.patterns)):
            if names:
                config[member] = [
                    f"{name.scheme}:{digests.get(name.name, name.name)}"
                    if name.scheme == "public"
                    else str(name)
                    for name in names
                ]
        return resolvers.canonical(config)


def texts(value: object, what: str) -> list[str]:
    """One text, or several.

    Raises:
        TypeError: It is neither.
    """
    if isinstance(value, str):
        return [value]
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray, memoryview)):
        found = list(value)
        if all(isinstance(text, str) for text in found):
            return found
    raise TypeError(f"{what} is text or a list of texts, not {type(value).__name__}")


def _names(value: str | Sequence[str] | None, what: str) -> tuple[KeyName, ...]:
    return tuple(dict.fromkeys(map(keyurl.parse, texts(() if value is None else value, what))))


def _signer(value: object) -> KeyName | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise TypeError(f"sign_with is a text, not {type(value).__name__}")
    return keyurl.parse(value)


def _of(scheme: str, names: Iterable[KeyName]) -> list[str]:
    return [str(name) for name in names if name.scheme == scheme]
