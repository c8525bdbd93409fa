"""``keys import`` and ``keys transfer-blob``: keys that were made elsewhere."""

from __future__ import annotations

from typing import Annotated, Literal, Protocol, runtime_checkable

import typer

from envelope import keyurl
from envelope.cli import material
from envelope.cli.keys import Expires, NotBefore, Note, Protect, Use, admin_of, given, report
from envelope.cli.options import KeystoreOptions
from envelope.cli.output import Output
from envelope.cli.signatures import examples
from envelope.cli.standard import write_new
from envelope.errors import ConfigurationError
from envelope.secret import Secret

__all__ = ["import_", "transfer_blob"]

PassphraseFile = Annotated[
    str | None,
    typer.Option(
        "--material-passphrase-file", metavar="FILE", help="Read FILE's own passphrase from here."
    ),
]


@examples(
    "envelope keys import local:lake lake.key",
    "head -c 32 /dev/urandom | envelope keys import local:lake -",
    "envelope keys import local:inbox private.pem --note 'from the old vault'",
    "envelope keys import azurekeyvault://acme/lake own.pfx --hsm",
    "envelope keys import azurekeyvault://acme/lake own.pem "
    "--transfer-key azurekeyvault://acme/byok-kek",
    "envelope keys import azurekeyvault://acme/lake own.byok",
)
def import_(
    out: Output,
    key: Annotated[str, typer.Argument(metavar="KEY[/VERSION]", help="Which key it becomes.")],
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="32 raw bytes, a private RSA key, or a transfer blob; - for a pipe.",
        ),
    ],
    keystore: KeystoreOptions,
    protect: Protect = None,
    material_passphrase_file: PassphraseFile = None,
    transfer_key: Annotated[
        str | None,
        typer.Option(
            "--transfer-key", metavar="KEY", help="Encrypt it for this key of the vault's HSM."
        ),
    ] = None,
    hsm: Annotated[bool, typer.Option("--hsm", help="Into the vault's HSM.")] = False,
    kty: Annotated[
        Literal["oct", "RSA"] | None,
        typer.Option("--kty", help="What a transfer blob holds, if not RSA."),
    ] = None,
    use: Use = None,
    not_before: NotBefore = None,
    expires: Expires = None,
    note: Note = None,
) -> None:
    """Take in key material from elsewhere, as the newest version of a key."""
    options = given(
        protect=protect,
        transfer_key=transfer_key,
        hsm=hsm or None,
        kty=kty,
        use=use,
        not_before=not_before,
        expires=expires,
        note=note,
    )
    admin = admin_of(out, key, keystore)
    found = material.read(file, material_passphrase_file)
    report(out, "imported", [admin.import_key(key, found, **options)])


@runtime_checkable
class _Transfers(Protocol):
    def transfer_blob(self, transfer_key: str, material: Secret, public: bytes | None) -> bytes: ...


@examples(
    "envelope keys transfer-blob azurekeyvault://acme/byok-kek own.pem --out own.byok",
    "envelope keys transfer-blob azurekeyvault://acme/byok-kek own.pem --public byok-kek.pem "
    "--out own.byok",
)
def transfer_blob(
    out: Output,
    key: Annotated[
        str, typer.Argument(metavar="KEY", help="The transfer key of the HSM that it goes to.")
    ],
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="A private RSA key, or 32 raw bytes.")
    ],
    keystore: KeystoreOptions,
    to: Annotated[str, typer.Option("--out", "-o", metavar="FILE", help="Where the blob goes.")],
    public: Annotated[
        str | None,
        typer.Option(
            "--public", metavar="FILE", help="The transfer key's public half: ask no vault."
        ),
    ] = None,
    material_passphrase_file: PassphraseFile = None,
    force: Annotated[bool, typer.Option("--force", "-f", help="Replace an existing file.")] = False,
) -> None:
    """Encrypt key material for an HSM's transfer key, so that only that HSM can take it in."""
    admin = admin_of(out, key, keystore)
    if not isinstance(admin, _Transfers):
        raise ConfigurationError(
            f"keys of the scheme {keyurl.scheme_of(key)} are in no HSM that takes transfer blobs",
            next_step="Import the key itself: envelope keys import.",
        )
    half = None
    if public is not None:
        with open(public, "rb") as opened:
            half = opened.read(material.LARGEST)
    blob = admin.transfer_blob(key, material.read(file, material_passphrase_file), half)
    write_new(to, blob, force=force, mode=0o644)
    out.result({"transfer_key": key, "target": to}, f"{key} -> {to}")
