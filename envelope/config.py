"""Which keys and settings count, and where each of them came from (docs/configuration.md).

Arguments, ``ENVELOPE_KEYS``, ``ENVELOPE_CONFIG``, the working directory's
``envelope.toml``, the user's, the system's: the first that names keys provides
all of them, and other settings are merged.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import platformdirs

from envelope import configfile, schema
from envelope.configfile import NAME
from envelope.errors import ConfigurationError
from envelope.events import ConfigurationUsed, Notice, emit
from envelope.precedence import Explained, Merger, Source

__all__ = [
    "Explained",
    "Source",
    "explain",
    "file_settings",
    "resolve",
    "system_path",
    "use",
    "user_path",
    "write_new",
]


def resolve(
    path: str | os.PathLike[str] | None = None, profile: str | None = None
) -> dict[str, Any]:
    """The configuration as ``KeyRing.from_config`` takes it.

    Args:
        path: A file to look into before all other places; it has to exist.
        profile: The profile to use.

    Returns:
        ``encrypt_to``, ``decrypt_with``, ``required_context``, ``aliases``, ``limits`` and
        ``settings`` (the drivers' sections by scheme), as plain values; ``sign_with`` and
        ``require_signed`` where they are given.

    Raises:
        ConfigurationError: No source names keys, or one has a mistake.
    """
    found = use(path, profile)
    if "encrypt_to" not in found.result:
        raise ConfigurationError(
            f"no key is configured ({'; '.join(map(_looked_into, found.sources))})",
            next_step="Run `envelope init` to make a key and an envelope.toml, or set "
            "ENVELOPE_KEYS to a key's name, or pass keys=; on a worker, send the KeyRing itself.",
        )
    return found.result


def file_settings(
    path: str | os.PathLike[str] | None = None, profile: str | None = None
) -> dict[str, Any]:
    """The merged section ``[files]``: any of ``threads``, ``durable`` and ``suffix``."""
    return explain(path, profile).files


def use(
    path: str | os.PathLike[str] | None = None, profile: str | None = None, *, keys: bool = True
) -> Explained:
    """What :func:`explain` finds, with an event for each file used and each thing to be told.

    Args:
        path, profile: As for :func:`resolve`.
        keys: Whether keys are looked for: not where arguments name them.

    Raises:
        ConfigurationError: A source has a mistake.
    """
    found = explain(path, profile, keys=keys)
    for text in found.notices:
        emit(Notice(text))
    for source in found.sources:
        if source.state == "used" and source.path:
            emit(ConfigurationUsed(source.path, source.origin))
    return found


def explain(
    path: str | os.PathLike[str] | None = None, profile: str | None = None, *, keys: bool = True
) -> Explained:
    """Merge all sources, whether or not they name keys; arguments as for :func:`use`.

    Raises:
        ConfigurationError: A source has a mistake.
    """
    merger = Merger(profile, keys)
    if path is not None:
        merger.file("argument", _absolute(os.fspath(path)), must_exist=True)
    merger.environment_keys()
    named = os.environ.get("ENVELOPE_CONFIG")
    if named:
        merger.file("ENVELOPE_CONFIG", _absolute(named), must_exist=True)
    merger.working_directory(user_path(), system_path())
    merger.file("user", user_path())
    merger.file("system", system_path())
    return merger.explained()


def user_path() -> str:
    """Where the user's configuration is, whether or not it exists."""
    return os.path.join(platformdirs.user_config_dir("envelope"), NAME)


def system_path() -> str:
    """Where the system's configuration is, whether or not it exists."""
    return os.path.join(platformdirs.site_config_dir("envelope"), NAME)


def write_new(path: str | os.PathLike[str], mapping: Mapping[str, Any]) -> None:
    """Write a new ``envelope.toml``: mode 0600 in the user's place, else 0644.

    Args:
        path: Where to. Its folder is made if needed.
        mapping: ``keys`` and the other names of the file, with the drivers' sections under
            ``settings``, as :func:`resolve` returns them.

    Raises:
        AlreadyExists: Something of that name is there.
        ConfigurationError: What was asked for would not be a valid configuration.
    """
    target = _absolute(os.fspath(path))
    text = configfile.render(mapping)
    schema.parse(text, target)
    configfile.write_new(target, text, 0o600 if target == user_path() else 0o644)


def _absolute(path: str) -> str:
    return schema.absolute(path, os.getcwd())


def _looked_into(source: Source) -> str:
    place = f"{source.origin} {source.path}" if source.path else source.origin
    return f"{place}: {source.reason or source.state}"
