"""``config``: what counts here, where it came from, and whether it works."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from envelope.cli.options import KeyOptions
from envelope.cli.output import Output, columns
from envelope.cli.probing import finish, probe_keys
from envelope.cli.signatures import examples

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
    shown = [
        (f"{name} = {json.dumps(value)}", f"from {found.origins[name]}")
        for name, value in values.items()
        if name in found.origins
    ]
    lines = ["Looked into, the strongest first:", *(f"  {line}" for line in columns(rows))]
    lines += ["", "In force:", *(f"  {line}" for line in columns(shown or [("nothing", "")]))]
    document = found.to_json()
    if found.mounts:
        rows = [
            (f"  envelope://{name}/", str(mount.get("url")), _keys(mount))
            for name, mount in sorted(document["mounts"].items())
        ]
        lines += ["", "Mounts:", *columns(rows)]
    out.answer(document, *lines)


def _keys(mount: Mapping[str, Any]) -> str:
    """What a mount says of its keys."""
    if "rules" in mount:
        return f"keys by its rules ({len(mount['rules'])})"
    if "profile" in mount:
        return f"keys of the profile {mount['profile']}"
    named = [mount[name] for name in ("keys", "encrypt_to", "decrypt_with") if name in mount]
    return ", ".join(map(json.dumps, named)) or "keys of the configuration"


@examples("envelope config test", "envelope config test --key azurekeyvault://acme/lake")
def test(out: Output, keys: KeyOptions) -> int:
    """Try the configuration: wrap and unwrap a throw-away key with each of its keys."""
    return finish(out, probe_keys(keys.ring(out)))
