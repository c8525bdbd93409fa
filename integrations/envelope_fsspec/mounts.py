"""Mounts: names in the configuration for a store, its options and a policy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from envelope import config, schema
from envelope.errors import ConfigurationError
from envelope_fsspec.policy import OPTIONS, Policy

__all__ = ["again", "all_resolved", "resolved", "unknown"]

_MOUNT_OPTIONS = ("url", "options", "profile", *(name for name in OPTIONS if name != "root"))


def resolved(name: str) -> dict[str, Any]:
    """A mount of the configuration as plain options of a file system, keys and defaults included.

    Raises:
        ConfigurationError: There is none of that name, or it is not right.
    """
    known = config.use(keys=False).mounts
    if name not in known:
        raise unknown(name, known)
    return _resolved(name, known[name])


def all_resolved() -> dict[str, dict[str, Any]]:
    """All mounts of the configuration by name, each as :func:`resolved` has it.

    A mount that is not right has an ``error`` instead: whoever uses the others is not to suffer.

    Raises:
        ConfigurationError: The configuration has no mounts.
    """
    known = config.use(keys=False).mounts
    if not known:
        raise ConfigurationError(
            "the envelope file system was made with neither a store nor a mount, and the "
            "configuration has no mounts",
            next_step="Add [mount.NAME] to it, or write envelope::STORE://….",
        )
    found: dict[str, dict[str, Any]] = {}
    for name, given in sorted(known.items()):
        try:
            found[name] = _resolved(name, given)
        except (ConfigurationError, TypeError) as error:
            found[name] = {"error": str(error)}
    return found


def again(described: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Mounts with their policies, of which JSON has the configuration."""
    found = {name: dict(of) for name, of in described.items()}
    for of in found.values():
        if isinstance(of.get("policy"), Mapping):
            of["policy"] = Policy.from_config(of["policy"])
    return found


def unknown(name: str, known: Iterable[str]) -> ConfigurationError:
    """The error for a name that no mount has."""
    names = sorted(known)
    listed = f" Known: {', '.join(names)}." if names else ""
    near = schema.suggestion(name, names)
    return ConfigurationError(
        f"no configuration has a mount {name!r}",
        next_step=f"{near}{'' if near in listed else listed}" if names else "Add [mount.NAME].",
    )


def _resolved(name: str, mount: Mapping[str, Any]) -> dict[str, Any]:
    given = dict(mount)
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
