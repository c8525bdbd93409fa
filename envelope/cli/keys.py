"""``keys``: master keys, alike for all drivers that can manage them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from envelope.cli.options import KeystoreOptions, driver_settings
from envelope.cli.output import Output, columns
from envelope.cli.signatures import examples
from envelope.cli.standard import write_new
from envelope.errors import ConfigurationError

if TYPE_CHECKING:
    from envelope.keys import KeyAdmin, KeyInfo

__all__ = [
    "admin_of",
    "create",
    "delete",
    "disable",
    "enable",
    "given",
    "list_",
    "public",
    "purge",
    "recover",
    "refresh",
    "report",
    "rotate",
    "show",
]

DEFAULT_SCHEME = "local"

Key = Annotated[str, typer.Argument(metavar="KEY", help="A key, such as local:lake.")]
KeyOrVersion = Annotated[
    str, typer.Argument(metavar="KEY[/VERSION]", help="One version, or a key's name for all.")
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Protect = Annotated[
    Literal["passphrase", "permissions"] | None,
    typer.Option("--protect", help="What protects the keystore; chosen with its first key."),
]
Use = Annotated[
    Literal["enc", "sig"] | None,
    typer.Option("--use", help="RSA keys: to wrap keys (enc), or to sign them (sig)."),
]
KeyOps = Annotated[
    list[str] | None,
    typer.Option("--key-op", metavar="OP", help="What it may do, as JWK says. May be repeated."),
]
NotBefore = Annotated[
    str | None, typer.Option("--not-before", metavar="TIME", help="Wraps from then on (RFC 3339).")
]
Expires = Annotated[
    str | None, typer.Option("--expires", metavar="TIME", help="Wraps until then (RFC 3339).")
]
Note = Annotated[str | None, typer.Option("--note", metavar="TEXT", help="Stored with the key.")]


@examples(
    "envelope keys create local:lake --protect passphrase",
    "envelope keys create local:lake --protect permissions",
    "envelope keys create local:inbox --kty RSA --bits 4096",
    "envelope keys create local:signer --kty EC",
)
def create(
    out: Output,
    key: Key,
    keystore: KeystoreOptions,
    protect: Protect = None,
    kty: Annotated[
        Literal["oct", "RSA", "EC", "RSA-HSM", "EC-HSM", "oct-HSM"] | None,
        typer.Option("--kty", help="AES (oct), RSA, or EC, which signs; -HSM in a vault's HSM."),
    ] = None,
    use: Use = None,
    bits: Annotated[int | None, typer.Option("--bits", help="Size of an RSA key.")] = None,
    key_ops: KeyOps = None,
    not_before: NotBefore = None,
    expires: Expires = None,
    note: Note = None,
) -> None:
    """Make a master key. Only this and `envelope init` ever make one."""
    options = given(
        protect=protect,
        kty=kty,
        use=use,
        bits=bits,
        key_ops=key_ops,
        not_before=not_before,
        expires=expires,
        note=note,
    )
    made = admin_of(out, key, keystore).create(key, **options)
    report(out, "made", [made])
    if made.use == "sig":
        out.note(f"readers need its public half or its name: envelope keys public {key}")
    elif made.key_ops != ("import",):
        text = "without a backup, losing it loses every file under it"
        out.note(f"{text}: envelope keys backup {key}")


@examples("envelope keys list", "envelope keys list local:lake --json")
def list_(
    out: Output,
    keystore: KeystoreOptions,
    key: Annotated[
        str | None, typer.Argument(metavar="[KEY]", help="A key; all local keys without it.")
    ] = None,
) -> None:
    """List keys with their versions and states."""
    versions = admin_of(out, key, keystore).list_keys(key)
    if out.options.json:
        for info in versions:
            out.answer(to_json(info))
    elif versions:
        out.answer({}, *columns([_HEADING, *map(_row, versions)]))
    else:
        out.note("there are no keys yet: envelope keys create local:NAME")


@examples("envelope keys show local:lake", "envelope keys show local:lake/VERSION --json")
def show(out: Output, key: KeyOrVersion, keystore: KeystoreOptions) -> None:
    """Show all that is known about a key's versions. Key material is never shown."""
    for info in admin_of(out, key, keystore).list_keys(key):
        document = to_json(info)
        rows = [
            (f"  {name}", ", ".join(value) if isinstance(value, list) else str(value))
            for name, value in document.items()
            if value is not None and name != "kid"
        ]
        out.answer(document, info.kid, *columns(rows))


@examples("envelope keys rotate local:lake")
def rotate(out: Output, key: Key, keystore: KeystoreOptions) -> None:
    """Make a new version of a key. New files use it; older versions go on decrypting."""
    report(out, "made", [admin_of(out, key, keystore).rotate(key)])
    out.note("files move to it with: envelope rewrap -r FOLDER")


@examples(
    "envelope keys refresh local:inbox", "envelope keys refresh local:inbox --public inbox.pem"
)
def refresh(
    out: Output,
    key: Key,
    keystore: KeystoreOptions,
    public: Annotated[
        str | None,
        typer.Option("--public", metavar="FILE", help="Bring this public half up to date."),
    ] = None,
) -> None:
    """Look up which version new files would use now, and bring a public half up to date."""
    admin = admin_of(out, key, keystore)
    newest = [info for info in admin.list_keys(key) if info.newest]
    if not newest:
        raise ConfigurationError(f"no version of {key} can be used for new files")
    report(out, "newest", newest)
    if public is not None:
        write_new(public, admin.public(newest[0].kid), force=True, mode=0o644)
        out.note(f"{public} has the public half of {newest[0].kid}")


@examples(
    "envelope keys disable local:lake/VERSION",
    "envelope rewrap -r --dry-run FOLDER   # first: what still needs it?",
)
def disable(out: Output, key: KeyOrVersion, keystore: KeystoreOptions, yes: Yes = False) -> None:
    """Take a version, or all, out of service. `enable` undoes it."""
    admin = _confirmed(out, "Disable", key, keystore, yes)
    report(out, "disabled", admin.set_enabled(key, False))


@examples("envelope keys enable local:lake/VERSION")
def enable(out: Output, key: KeyOrVersion, keystore: KeystoreOptions, yes: Yes = False) -> None:
    """Put a disabled version, or all, back into service."""
    admin = _confirmed(out, "Enable", key, keystore, yes)
    report(out, "enabled", admin.set_enabled(key, True))


@examples("envelope keys delete local:lake/VERSION", "envelope keys delete local:lake --yes")
def delete(out: Output, key: KeyOrVersion, keystore: KeystoreOptions, yes: Yes = False) -> None:
    """Delete a version, or all. `recover` undoes it until it is purged."""
    admin = _confirmed(out, "Delete", key, keystore, yes)
    report(out, "deleted", admin.delete(key))


@examples("envelope keys recover local:lake/VERSION")
def recover(out: Output, key: KeyOrVersion, keystore: KeystoreOptions, yes: Yes = False) -> None:
    """Undo `delete`."""
    admin = _confirmed(out, "Recover", key, keystore, yes)
    report(out, "recovered", admin.recover(key))


@examples("envelope keys purge local:lake/VERSION")
def purge(
    out: Output,
    kid: Annotated[str, typer.Argument(metavar="KEY/VERSION", help="The full kid.")],
    keystore: KeystoreOptions,
    yes: Yes = False,
) -> None:
    """Destroy a version for good. What only it can decrypt is lost."""
    out.confirm(f"Destroy {kid} for good? Files that only it can decrypt are lost.", yes=yes)
    report(out, "destroyed", [admin_of(out, kid, keystore).purge(kid)])


@examples(
    "envelope keys public local:inbox > inbox.pem",
    "envelope encrypt report.csv --encrypt-to public:inbox.pem",
)
def public(
    out: Output,
    key: KeyOrVersion,
    keystore: KeystoreOptions,
    to: Annotated[
        str, typer.Option("--out", "-o", metavar="FILE", help="Target; - is a pipe.")
    ] = "-",
    force: Annotated[bool, typer.Option("--force", "-f", help="Replace an existing file.")] = False,
) -> None:
    """Write the public half of a key: all that it takes to encrypt only, or to check a signer."""
    pem = admin_of(out, key, keystore).public(key)
    if to == "-":
        out.data_goes_out()
        sys.stdout.write(pem.decode("ascii"))
        return
    write_new(to, pem, force=force, mode=0o644)
    out.result({"key": key, "target": to}, f"{key} -> {to}")


# --- What they share ----------------------------------------------------------------------------


def admin_of(out: Output, key: str | None, keystore: KeystoreOptions) -> KeyAdmin:
    """The driver that manages ``key``.

    Raises:
        ConfigurationError: Keys of this scheme are managed elsewhere.
    """
    from envelope import keyurl, resolvers
    from envelope.keys import KeyAdmin

    scheme = DEFAULT_SCHEME if key is None else keyurl.scheme_of(key)
    found = resolvers.resolver(scheme, driver_settings(scheme, keystore, out))
    if not isinstance(found, KeyAdmin):
        raise ConfigurationError(
            f"keys of the scheme {scheme} cannot be managed from here",
            next_step="Use the tools of the vault that holds them.",
        )
    return found


def report(
    out: Output,
    done: str,
    versions: Sequence[KeyInfo],
    nothing: str = "all versions are in that state, or cannot be",
) -> None:
    """Each version that a command touched; ``nothing`` is why there is none."""
    for info in versions:
        out.result({"done": done, **to_json(info)}, f"{done} {info.kid} ({info.state})")
    if not versions:
        out.note(f"nothing to do: {nothing}")


def to_json(info: KeyInfo) -> dict[str, Any]:
    """A version as an object (docs/schema/key.json)."""
    from dataclasses import asdict

    from envelope import strength

    return {
        **asdict(info),
        "key_ops": list(info.key_ops),
        "strength": strength.of_key(info.alg, info.bits),
    }


_HEADING = ("KID", "STATE", "TYPE", "CREATED", "")


def _row(info: KeyInfo) -> tuple[str, ...]:
    kind = f"{info.alg} {info.bits}"
    return (info.kid, info.state, kind, info.created, "newest" if info.newest else "")


def _confirmed(out: Output, verb: str, key: str, keystore: KeystoreOptions, yes: bool) -> KeyAdmin:
    """The driver, once it is clear that all versions are meant where no version was named."""
    from envelope import keyurl

    admin = admin_of(out, key, keystore)
    if keyurl.parse(key).version is None and not yes:
        count = len(admin.list_keys(key))
        versions = "1 version" if count == 1 else f"{count} versions"
        out.confirm(f"{verb} all of {key} ({versions})?", yes=False)
    return admin


def given(**options: Any) -> dict[str, Any]:
    """The options that were given, for a driver."""
    return {name: value for name, value in options.items() if value is not None}
