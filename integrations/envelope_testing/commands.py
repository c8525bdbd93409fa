"""``envelope testing``: what programs in any language test against, from a shell."""

from __future__ import annotations

import os
import shlex
import subprocess
import time
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from typer.core import TyperCommand

from envelope.cli.output import Output
from envelope.cli.signatures import as_callback
from envelope.errors import ConfigurationError

if TYPE_CHECKING:
    from .keyvault import LocalKeyVault

__all__ = ["keyvault", "testing"]

testing = typer.Typer(help="Run stand-ins of vendors' services, for tests.", add_completion=False)

_EXAMPLES = (
    "envelope testing keyvault --vault acme -- pytest",
    "envelope testing keyvault --vault acme --vault lake.managedhsm.azure.net > keyvault.env",
)
_LOOK_EVERY = 0.1  # seconds


@testing.callback()
def _group() -> None:
    """A group, although it has one command so far."""


def keyvault(
    out: Output,
    program: Annotated[
        list[str] | None,
        typer.Argument(metavar="[-- PROGRAM ARGUMENTS]", help="Run this in it, then stop."),
    ] = None,
    vault: Annotated[
        list[str] | None,
        typer.Option(
            "--vault",
            metavar="NAME",
            help="Make this vault; a host name such as lake.managedhsm.azure.net, or its first "
            "label. May be given several times.",
        ),
    ] = None,
    principal: Annotated[
        str, typer.Option(metavar="NAME", help="Who the environment signs in as.")
    ] = "developer",
    credential: Annotated[
        Literal[
            "client-secret", "certificate", "workload-identity", "managed-identity", "app-service"
        ],
        typer.Option(help="How it proves that."),
    ] = "client-secret",
) -> int:
    """Run a local Azure Key Vault and Managed HSM until Ctrl-C.

    Prints, for a shell, the environment in which the vendor's SDKs and tools reach it.

    All is in memory, and gone when it stops. `developer` may do everything in its vaults.
    """
    try:
        from .keyvault import VARIABLES, LocalKeyVault
    except ModuleNotFoundError as error:
        step = 'Run: pip install "envelope-encryption[testing]"'
        raise ConfigurationError(str(error), next_step=step) from error
    with LocalKeyVault() as local:
        urls = [_made(local, name) for name in vault or ()]
        given = local.environment(principal, credential=credential)
        unset = [name for name in VARIABLES if name not in given]
        if program:
            kept = {name: text for name, text in os.environ.items() if name not in unset}
            return _ended(program, {**kept, **given})
        lines = [
            *(f"export {name}={shlex.quote(text)}" for name, text in given.items()),
            f"unset {' '.join(unset)}",
        ]
        out.answer({"environment": given, "unset": unset, "vaults": urls}, *lines)
        out.note(f"serving {', '.join(urls) or 'no vault'} until Ctrl-C")
        while True:
            out.stop.check()
            time.sleep(_LOOK_EVERY)


keyvault_epilog = "\n\n".join(["Examples:", *(f"  $ {line}" for line in _EXAMPLES)])
testing.command("keyvault", cls=TyperCommand, epilog=keyvault_epilog)(as_callback(keyvault))


def _made(local: LocalKeyVault, name: str) -> str:
    label, _, suffix = name.partition(".")
    if not label:
        raise ConfigurationError(f"{name!r} is no name of a vault")
    return local.vault(label, suffix=suffix or "vault.azure.net").url


def _ended(program: list[str], environment: dict[str, str]) -> int:
    """Run a program to its end; returns the status that a shell reports for it."""
    try:
        status = subprocess.run(program, env=environment, check=False).returncode  # noqa: S603
    except OSError as error:
        raise ConfigurationError(f"{program[0]}: {error.strerror}") from error
    return status if status >= 0 else 128 - status
