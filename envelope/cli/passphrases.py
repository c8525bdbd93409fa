"""``keys passphrase``, and asking for passphrases. They are never arguments."""

from __future__ import annotations

import getpass
import sys
from typing import Annotated, Any

import typer

from envelope.cli.keys import DEFAULT_SCHEME
from envelope.cli.options import KeystoreOptions, driver_settings
from envelope.cli.output import Output
from envelope.cli.signatures import examples
from envelope.errors import ConfigurationError
from envelope.secret import Secret

__all__ = ["add", "asked", "change", "check", "remove"]

NewFile = Annotated[
    str | None,
    typer.Option("--new-passphrase-file", metavar="FILE", help="Read the new one from this file."),
]


@examples("envelope keys passphrase check", "envelope keys passphrase check --passphrase-file FILE")
def check(out: Output, keystore: KeystoreOptions) -> None:
    """Check that a passphrase opens the keystore."""
    from envelope.keystore import upkeep

    settings = driver_settings(DEFAULT_SCHEME, keystore, out)
    slot = upkeep.unlock(settings)
    _report(out, "opened", settings, slot=slot)


@examples(
    "envelope keys passphrase change", "envelope keys passphrase change --new-passphrase-file FILE"
)
def change(out: Output, keystore: KeystoreOptions, new_passphrase_file: NewFile = None) -> None:
    """Replace the passphrase by a new one."""
    from envelope.keystore import upkeep

    settings, current = _opened(out, keystore)
    upkeep.change_passphrase(settings, asked(new_passphrase_file, _NEW, twice=True), current)
    _report(out, "changed", settings)


@examples("envelope keys passphrase add", "envelope keys passphrase add --new-passphrase-file FILE")
def add(out: Output, keystore: KeystoreOptions, new_passphrase_file: NewFile = None) -> None:
    """Let a second passphrase open the keystore too, such as one that lies in a safe."""
    from envelope.keystore import upkeep

    settings, current = _opened(out, keystore)
    upkeep.add_passphrase(settings, asked(new_passphrase_file, _NEW, twice=True), current)
    _report(out, "added", settings)


@examples("envelope keys passphrase remove --passphrase-file old.txt")
def remove(out: Output, keystore: KeystoreOptions) -> None:
    """Let one of two passphrases open the keystore no more: the one that is given."""
    from envelope.keystore import upkeep

    settings, current = _opened(out, keystore)
    upkeep.remove_passphrase(settings, current)
    _report(out, "removed", settings)


_NEW = ("New passphrase: ", "--new-passphrase-file")


def asked(file: str | None, what: tuple[str, str], *, twice: bool) -> Secret:
    """A passphrase out of a file, else from a person on the terminal.

    Args:
        file: The file, or None.
        what: The prompt, and the option that names a file.
        twice: It is new, so it is asked for twice.

    Raises:
        ConfigurationError: There is none, or the two differ.
    """
    from envelope.keystore import passphrase

    prompt, option = what
    if file is not None:
        found = passphrase.from_file(file)
    elif sys.stderr is not None and sys.stderr.isatty():
        found = _typed(prompt)
        if twice and _typed("The same again: ") != found:
            raise ConfigurationError("the two passphrases differ")
    else:
        raise ConfigurationError(
            "a passphrase is needed, and there is no terminal to ask on",
            next_step=f"Give {option} FILE.",
        )
    if not len(found):
        raise ConfigurationError("a passphrase must not be empty")
    return found


def _typed(prompt: str) -> Secret:
    from envelope.keystore import passphrase

    try:
        return passphrase.normalised(
            Secret(getpass.getpass(prompt).encode("utf-8", "surrogateescape"))
        )
    except EOFError:
        raise ConfigurationError("no passphrase was entered") from None


def _opened(out: Output, keystore: KeystoreOptions) -> tuple[dict[str, Any], Secret]:
    """The keystore's settings and its passphrase, proven before a new one is asked for."""
    from envelope.keystore import passphrase, upkeep

    settings = driver_settings(DEFAULT_SCHEME, keystore, out)
    current = passphrase.find(settings)
    upkeep.unlock(settings, current)
    return settings, current


def _report(out: Output, done: str, settings: dict[str, Any], **more: Any) -> None:
    folder = settings["keystore"]
    out.result({"passphrase": done, "keystore": folder, **more}, f"{done}: passphrase of {folder}")
