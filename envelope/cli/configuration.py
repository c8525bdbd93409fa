"""``config``: what counts here, where it came from, and whether it works."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer

from envelope.cli.filing import stores_of
from envelope.cli.options import ContextOptions, KeyOptions
from envelope.cli.output import Output, columns
from envelope.cli.probing import finish, probe_keys
from envelope.cli.signatures import examples
from envelope.cli.stores import StorageOptions, enveloped
from envelope.errors import ConfigurationError

__all__ = ["show", "test"]


@examples("envelope config show", "envelope config show --profile prod --json")
def show(out: Output) -> None:
    """Show the merged configuration, and where each value came from."""
    found = out.configuration()
    rows = [
        (source.origin, source.path or "", source.state, source.reason or "")
        for source in found.sources
    ]
    values = {
        **{name: value for name, value in found.result.items() if name in found.origins},
        **{f"limits.{name}": value for name, value in found.result["limits"].items()},
        **{
            f"{scheme}.{name}": value
            for scheme, options in found.result["settings"].items()
            for name, value in options.items()
        },
        **{f"files.{name}": value for name, value in found.files.items()},
    }
    if found.parquet:
        values["parquet"] = found.parquet
    shown = [
        (f"{name} = {json.dumps(value)}", f"from {found.origins[name]}")
        for name, value in values.items()
        if name in found.origins
    ]
    lines = ["Looked into, the strongest first:", *(f"  {line}" for line in columns(rows))]
    lines += ["", "In force:", *(f"  {line}" for line in columns(shown or [("nothing", "")]))]
    document = found.to_json()
    if found.mounts:
        listed = [
            (f"  envelope://{name}/", str(mount.get("url")), _keys(mount))
            for name, mount in sorted(document["mounts"].items())
        ]
        lines += ["", "Mounts:", *columns(listed)]
    out.answer(document, *lines)


def _keys(mount: Mapping[str, Any]) -> str:
    """What a mount says of its keys."""
    if "rules" in mount:
        return f"keys by its rules ({len(mount['rules'])})"
    if "profile" in mount:
        return f"keys of the profile {mount['profile']}"
    named = [mount[name] for name in ("keys", "encrypt_to", "decrypt_with") if name in mount]
    return ", ".join(map(json.dumps, named)) or "keys of the configuration"


@examples(
    "envelope config test",
    "envelope config test --key azurekeyvault://acme/lake",
    "envelope config test envelope://lake/acme/orders.parquet",
)
def test(
    out: Output,
    keys: KeyOptions,
    context: ContextOptions,
    storage: StorageOptions,
    path: Annotated[
        str | None,
        typer.Argument(metavar="[URL]", help="Of a mount or a chain; no file has to be there."),
    ] = None,  # noqa: PT028 - a command of this name, and no test
) -> int:
    """Try the configuration: wrap and unwrap a throw-away key with each of its keys.

    With a URL of a mount or a chain, tell which rule, keys, context and geometry hold for it
    instead, and call no key: `envelope doctor URL` does.
    """
    if path is None:
        return finish(out, probe_keys(keys.ring(out)))
    if not enveloped(path):
        raise ConfigurationError(
            f"{path!a} lies in no mount and no chain, so no rule is for it",
            next_step="Give envelope://MOUNT/… or envelope::STORE://….",
        )
    place = stores_of(out, storage, [path], keys, context).at(path)
    found = {**place.fs.applies(place.path), "path": path}
    out.answer(found, *columns(_applying(found)))
    return 0


def _applying(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    rule = found["rule"]
    if found["mount"]:
        yield "mount", found["mount"]
    yield "stored at", found["url"] or "decided with the first file: names are encrypted"
    if rule is None:
        yield "rule", "none: all files have the same keys"
    else:
        names = "".join(f", {name} = {text}" for name, text in rule["names"].items())
        yield "rule", f"{rule['number']}: {rule['match']}{names}"
    yield "encrypts to", ", ".join(found["encrypt_to"]) or "nothing: it is for reading"
    yield "trusts", ", ".join(found["decrypt_with"]) or "nothing: it is for writing"
    for name, value in found["context"].items():
        yield "context", f"{name}={value}"
    yield "header", f"{found['header_size']} B"
    yield "segments", f"{found['segment_length']} B"
    yield "names", found["names"]
    until = f", until {found['plaintext_until']}" if found["plaintext_until"] else ""
    yield "plain files", f"{found['on_plaintext']}{until}"
