"""The options that commands share, and what they mean to the verbs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from envelope.errors import ConfigurationError
from envelope.events import ConfigurationUsed, emit

if TYPE_CHECKING:
    from envelope.cli.output import Output
    from envelope.config import Explained
    from envelope.ring import KeyRing

__all__ = [
    "ContextOptions",
    "GlobalOptions",
    "KeyOptions",
    "KeystoreOptions",
    "PaceOptions",
    "WorkOptions",
    "WritingKeyOptions",
    "driver_settings",
]

_GLOBAL = "Global options"
_KEYS = "Keys"


@dataclass(frozen=True)
class GlobalOptions:
    """What may stand before and after every command."""

    config: Annotated[
        str | None,
        typer.Option(
            "--config",
            metavar="FILE",
            help="Look into this envelope.toml first.",
            rich_help_panel=_GLOBAL,
        ),
    ] = None
    profile: Annotated[
        str | None,
        typer.Option(
            "--profile",
            metavar="NAME",
            help="Use this profile of the configuration.",
            rich_help_panel=_GLOBAL,
        ),
    ] = None
    json: Annotated[
        bool,
        typer.Option("--json", help="Print one JSON object a line.", rich_help_panel=_GLOBAL),
    ] = False
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print errors only.", rich_help_panel=_GLOBAL)
    ] = False
    debug: Annotated[
        bool,
        typer.Option("--debug", help="Show where an error came from.", rich_help_panel=_GLOBAL),
    ] = False

    def overridden(self, own: GlobalOptions) -> GlobalOptions:
        """These, given before the command, with those given after it."""
        return GlobalOptions(
            **{f.name: getattr(own, f.name) or getattr(self, f.name) for f in fields(self)}
        )

    def without_configuration(self) -> GlobalOptions:
        """These, before the configuration that they name is there."""
        return replace(self, config=None, profile=None)


@dataclass(frozen=True)
class KeystoreOptions:
    """Where the passphrase of the embedded keystore comes from. It is never an argument itself."""

    passphrase_file: Annotated[
        str | None,
        typer.Option(
            "--passphrase-file",
            metavar="FILE",
            help="Read the keystore's passphrase from this file.",
            rich_help_panel=_KEYS,
        ),
    ] = None
    passphrase_command: Annotated[
        str | None,
        typer.Option(
            "--passphrase-command",
            metavar="COMMAND",
            help="Run this and take the first line that it prints as the passphrase.",
            rich_help_panel=_KEYS,
        ),
    ] = None

    def over(self, settings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """Drivers' settings by scheme, with these options in their place."""
        given = {
            name: value
            for name, value in (
                ("passphrase_file", self.passphrase_file),
                ("passphrase_command", self.passphrase_command),
            )
            if value
        }
        merged = {scheme: dict(options) for scheme, options in settings.items()}
        if given:
            merged["local"] = {**merged.get("local", {}), **given}
        return merged


@dataclass(frozen=True)
class KeyOptions(KeystoreOptions):
    """Which keys: those of the options, else those of the configuration."""

    key: Annotated[
        list[str],
        typer.Option(
            "--key",
            "-k",
            metavar="URL",
            help="Encrypt to this key and trust it for reading. May be repeated.",
            rich_help_panel=_KEYS,
        ),
    ] = field(default_factory=list)
    encrypt_to: Annotated[
        list[str],
        typer.Option(
            "--encrypt-to",
            metavar="URL",
            help="Encrypt to this key, and do not read with it. May be repeated.",
            rich_help_panel=_KEYS,
        ),
    ] = field(default_factory=list)
    trust: Annotated[
        list[str],
        typer.Option(
            "--trust",
            metavar="URL",
            help="Read with this key, and do not encrypt to it. May be repeated.",
            rich_help_panel=_KEYS,
        ),
    ] = field(default_factory=list)

    require_signed: Annotated[
        list[str],
        typer.Option(
            "--require-signed",
            metavar="URL",
            help="Read only files that this key signed; a key, or public:FILE. May be repeated.",
            rich_help_panel=_KEYS,
        ),
    ] = field(default_factory=list)

    def signers(self) -> dict[str, Any]:
        """Whose signatures count, where an option says so."""
        return {"require_signed": self.require_signed} if self.require_signed else {}

    def named(self) -> list[str]:
        """The options that were given to say which keys."""
        said = {"--key": self.key, "--encrypt-to": self.encrypt_to, "--trust": self.trust}
        return [name for name, given in said.items() if given] + [
            "--require-signed" for _ in self.require_signed[:1]
        ]

    def ring(self, out: Output) -> KeyRing:
        """The key ring: keys of the options replace the configuration's; its settings stay."""
        from envelope import config
        from envelope.ring import KeyRing

        named = bool(self.key or self.encrypt_to or self.trust)
        found = out.configuration()
        if not named and "encrypt_to" not in found.result:
            config.resolve(out.options.config, out.options.profile)  # raises, and says where
        _tell(found, keys=not named)
        settings = self.over(found.result["settings"])
        if not named:
            return KeyRing.from_config({**found.result, "settings": settings, **self.signers()})
        both = [key for key in self.key if not key.lower().startswith("public:")]
        return KeyRing(
            encrypt_to=[*self.key, *self.encrypt_to],
            decrypt_with=[*both, *self.trust],
            limits=found.result["limits"],
            settings=settings,
            **self.signers(),
        )


def _tell(found: Explained, *, keys: bool) -> None:
    """Emit which files took part: where keys were given, those that say anything else."""
    parts = [name for name in found.origins if keys or "." in name]
    for source in found.sources:
        if source.path and any(found.origins[name].startswith(source.path) for name in parts):
            emit(ConfigurationUsed(source.path, source.origin))


@dataclass(frozen=True)
class WritingKeyOptions(KeyOptions):
    """The same where files are encrypted to keys."""

    sign_with: Annotated[
        str | None,
        typer.Option(
            "--sign-with",
            metavar="URL",
            help="Sign the key of new files with this key, which proves who wrote them.",
            rich_help_panel=_KEYS,
        ),
    ] = None

    kid: Annotated[
        str | None,
        typer.Option(
            "--kid",
            metavar="KID",
            help="Whose public key it is, where the FILE of public:FILE does not say so.",
            rich_help_panel=_KEYS,
        ),
    ] = None

    def signers(self) -> dict[str, Any]:
        """As above, and who signs."""
        return super().signers() | ({"sign_with": self.sign_with} if self.sign_with else {})

    def over(self, settings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        merged = super().over(settings)
        if self.kid:
            merged["public"] = {**merged.get("public", {}), "kid": self.kid}
        return merged


@dataclass(frozen=True)
class ContextOptions:
    """What is bound to the data."""

    context: Annotated[
        list[str],
        typer.Option(
            "--context",
            "-c",
            metavar="NAME=VALUE",
            help="When writing, bind this to the data, stored in the clear; when reading, expect "
            "it. May be repeated.",
        ),
    ] = field(default_factory=list)
    bind_path: Annotated[
        str | None,
        typer.Option(
            "--bind-path",
            metavar="ROOT",
            help="Bind the encrypted file's path relative to this folder, or expect it.",
        ),
    ] = None

    def verb(self) -> dict[str, Any]:
        """As the verbs take it."""
        pairs: dict[str, str] = {}
        for text in self.context:
            name, sign, value = text.partition("=")
            if not sign or not name or name in pairs:
                why = "stands twice" if name in pairs and sign else "is not NAME=VALUE"
                raise ConfigurationError(
                    f"--context {text!r} {why}", next_step="For example: --context table=orders."
                )
            pairs[name] = value
        return {"context": pairs or None, "bind_path": self.bind_path}


@dataclass(frozen=True)
class PaceOptions:
    """How long it may take, and whether that is shown."""

    timeout: Annotated[
        float | None,
        typer.Option(
            "--timeout", metavar="SECONDS", min=0.001, help="How long calls of a vault may take."
        ),
    ] = None
    progress: Annotated[
        bool | None,
        typer.Option(
            "--progress/--no-progress",
            help="Show a progress bar; by default on a terminal, once the work takes a while.",
            show_default=False,
        ),
    ] = None


@dataclass(frozen=True)
class WorkOptions(PaceOptions):
    """How the work is done."""

    threads: Annotated[
        int | None,
        typer.Option("--threads", min=1, max=64, help="Threads for each file; 4 by default."),
    ] = None

    def verb(self, out: Output) -> dict[str, Any]:
        """As the verbs take it."""
        threads = self.threads or out.configuration().files.get("threads")
        return {"timeout": self.timeout, **({"threads": threads} if threads else {})}


def driver_settings(scheme: str, keystore: KeystoreOptions, out: Output) -> dict[str, Any]:
    """The settings of one driver, as key commands give them to its resolver."""
    from envelope import resolvers

    given = keystore.over(out.configuration().result["settings"])
    return resolvers.driver(scheme).settings(given.get(scheme, {}))
