"""``version`` and ``completion``."""

from __future__ import annotations

import platform
from typing import Annotated, Literal

import typer

from envelope._version import __version__
from envelope.cli.output import Output
from envelope.cli.signatures import examples

__all__ = ["completion", "version", "version_line"]


def version_line() -> str:
    return f"envelope-encryption {__version__}"


@examples("envelope version", "envelope version --json")
def version(out: Output) -> None:
    """Print the versions of envelope and of Python."""
    python = platform.python_version()
    document = {"version": __version__, "python": python, "formats": ["envelope/1"]}
    out.answer(document, f"{version_line()} (Python {python}, format envelope/1)")


@examples(
    "envelope completion bash > ~/.local/share/bash-completion/completions/envelope",
    "envelope completion zsh > ~/.zfunc/_envelope",
    "envelope completion fish > ~/.config/fish/completions/envelope.fish",
)
def completion(
    shell: Annotated[Literal["bash", "zsh", "fish"], typer.Argument(help="Which shell.")],
) -> None:
    """Print the script that completes commands and options in a shell.

    `envelope --install-completion` puts it in its place for the shell that it runs in.
    """
    from typer.completion import get_completion_script  # type: ignore[attr-defined]  # not in its __all__

    script = get_completion_script(
        prog_name="envelope", complete_var="_ENVELOPE_COMPLETE", shell=shell
    )
    typer.echo(script)
