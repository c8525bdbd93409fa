"""``keys rotation-policy``: when a vault makes new versions by itself."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from envelope import keyurl
from envelope.cli.keys import Key, admin_of
from envelope.cli.options import KeystoreOptions
from envelope.cli.output import Output, columns
from envelope.cli.signatures import examples
from envelope.errors import ConfigurationError

if TYPE_CHECKING:
    from envelope.keys import RotationPolicy

__all__ = ["rotation_policy"]

_NEVER = "never"


@examples(
    "envelope keys rotation-policy azurekeyvault://acme/lake",
    "envelope keys rotation-policy azurekeyvault://acme/lake --rotate-after P18M --expires-in P2Y",
    "envelope keys rotation-policy azurekeyvault://acme/lake --rotate-after never",
)
def rotation_policy(
    out: Output,
    key: Key,
    keystore: KeystoreOptions,
    rotate_after: Annotated[
        str | None,
        typer.Option(metavar="DURATION", help="Rotate that long after a version is made."),
    ] = None,
    rotate_before_expiry: Annotated[
        str | None,
        typer.Option(metavar="DURATION", help="Rotate that long before a version expires."),
    ] = None,
    expires_in: Annotated[
        str | None, typer.Option(metavar="DURATION", help="How long new versions are valid.")
    ] = None,
    notify_before_expiry: Annotated[
        str | None,
        typer.Option(metavar="DURATION", help="Tell subscribers that long before expiry."),
    ] = None,
) -> None:
    """Show when the vault rotates a key by itself, or change it.

    Durations are ISO 8601, such as P90D, P18M or P2Y; `never` takes a rule away.
    """
    from envelope.keys import KeyRotator

    admin = admin_of(out, key, keystore)
    if not isinstance(admin, KeyRotator):
        raise ConfigurationError(
            f"keys of the scheme {keyurl.scheme_of(key)} do not rotate by themselves",
            next_step=f"Have a scheduler, such as cron, run: envelope keys rotate {key}",
        )
    given = {
        "rotate_after": rotate_after,
        "rotate_before_expiry": rotate_before_expiry,
        "expires_in": expires_in,
        "notify_before_expiry": notify_before_expiry,
    }
    changes = {
        name: None if value.lower() == _NEVER else value
        for name, value in given.items()
        if value is not None
    }
    policy = admin.set_rotation_policy(key, changes) if changes else admin.rotation_policy(key)
    out.answer(asdict(policy), policy.key, *columns(_rows(policy)))
    if policy.rotate_before_expiry and not policy.next:
        out.note(
            "unless its newest version has an end date, the key never rotates by itself; "
            f"new versions get one: envelope keys rotate {key}"
        )


def _rows(policy: RotationPolicy) -> list[tuple[str, str]]:
    rotates = _NEVER
    if policy.rotate_after:
        rotates = f"{policy.rotate_after} after a version is made"
    elif policy.rotate_before_expiry:
        rotates = f"{policy.rotate_before_expiry} before a version expires"
    if policy.next:
        rotates += f"; next about {policy.next}"
    notice = policy.notify_before_expiry
    return [
        ("  rotates", rotates),
        (
            "  new versions",
            f"expire after {policy.expires_in}" if policy.expires_in else "do not expire",
        ),
        ("  notice", f"{notice} before a version expires" if notice else "none"),
    ]
