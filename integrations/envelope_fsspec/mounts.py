"""Mounts: names in the configuration for a store, its options and a policy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from envelope import config, schema
from envelope.errors import ConfigurationError
from envelope_fsspec.policy import OPTIONS, Policy

__all__ = ["resolved"]

_MOUNT_OPTIONS = ("url", "options", "profile", *(name for name in OPTIONS if name != "root"))


def resolved(name: str) -> dict[str, Any]:
    """A mount of the configuration as plain options of a file system, keys and defaults included.

    Raises:
        ConfigurationError: There is none of that name, or it is not right.
    """
    known = config.use(keys=False).mounts
    if name not in known:
        raise ConfigurationError(
            f"no configuration has a mount {name!r}",
            next_step=schema.suggestion(name, known) if known else "Add [mount.NAME] to one.",
        )
    given = dict(known[name])
    for option in given:
        if option not in _MOUNT_OPTIONS:
            raise ConfigurationError(
                f"mount.{name} has no option {option!r}",
                next_step=schema.suggestion(option, _MOUNT_OPTIONS),
            )
    url, options = given.pop("url", None), given.pop("options", {})
    if not isinstance(url, str) or not url or not isinstance(options, Mapping):
        raise ConfigurationError(f"mount.{name} needs a url, and options that are a table")
    profile = given.pop("profile", None)
    if profile is not None:
        if any(option in given for option in (*OPTIONS[:3], "rules")):
            raise ConfigurationError(f"mount.{name}: give either keys, or rules, or a profile")
        given["keys"] = f"profile:{profile}"
    return {"url": url, "options": dict(options), "policy": Policy(given)}
