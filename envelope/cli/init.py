"""``init``: a key and a configuration that names it."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from envelope.cli.keys import Protect, admin_of
from envelope.cli.options import KeystoreOptions, driver_settings
from envelope.cli.output import Output
from envelope.cli.signatures import examples
from envelope.errors import AlreadyExists

__all__ = ["init"]


@examples(
    "envelope init",
    "envelope init local:lake --protect passphrase",
    "envelope init --protect permissions --config ./envelope.toml",
)
def init(
    out: Output,
    keystore: KeystoreOptions,
    key: Annotated[str, typer.Argument(metavar="[KEY]", help="The key to make.")] = "local:main",
    protect: Protect = None,
) -> None:
    """Make a master key and a configuration that names it, and say what to back up.

    The configuration goes into your home, or to --config FILE; one that is there stays as it
    is. A key of that name that is there is used.
    """
    from envelope import config, keyurl

    path = os.path.abspath(out.options.config or config.user_path())
    if os.path.lexists(path):
        step = "Edit it, or name another with --config FILE."
        raise AlreadyExists("a configuration is here already", path=path, next_step=step)
    out.options = out.options.without_configuration()
    admin = admin_of(out, key, keystore)
    try:
        made = admin.create(key, **({"protect": protect} if protect else {}))
    except AlreadyExists:
        made = next(info for info in reversed(admin.list_keys(key)) if info.newest)
        out.note(f"{key} is there already and is used")
    scheme = keyurl.scheme_of(key)
    named = {name: value for name, value in _named(keystore).items() if value}
    config.write_new(path, {"keys": [key], **({"settings": {scheme: named}} if named else {})})
    folder = driver_settings(scheme, keystore, out).get("keystore")
    out.result(
        {"key": key, "kid": made.kid, "config": path, "keystore": folder},
        f"key            {made.kid}",
        f"configuration  {path}",
        *([f"keystore       {folder}"] if folder else []),
        "",
        "Back up now, and keep it away from this machine: without it every file is lost.",
        f"  envelope keys backup {key} --out {keyurl.parse(key).name}-keys.backup",
        "Keep the passphrase of the backup, and the keystore's if it has one, in another place.",
        "",
        "Then:  envelope encrypt FILE",
    )


def _named(keystore: KeystoreOptions) -> dict[str, str | None]:
    """Where the passphrase comes from, for the configuration; never the passphrase."""
    file = keystore.passphrase_file
    return {
        "passphrase_file": os.path.abspath(file) if file else None,
        "passphrase_command": keystore.passphrase_command,
    }
