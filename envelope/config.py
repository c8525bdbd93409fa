"""Which keys and settings count, and where each of them came from (docs/configuration.md).

Arguments, ``ENVELOPE_KEYS``, ``ENVELOPE_CONFIG``, the working directory's
``envelope.toml``, the user's, the system's: the first that names keys provides
all of them, and other settings are merged.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import platformdirs

from envelope import configfile, schema
from envelope.configfile import NAME, Unsafe
from envelope.errors import ConfigurationError
from envelope.events import ConfigurationUsed, Notice, emit

__all__ = [
    "Explained",
    "Source",
    "explain",
    "file_settings",
    "resolve",
    "system_path",
    "user_path",
    "write_new",
]


@dataclass(frozen=True, slots=True)
class Source:
    """A place that was looked into.

    Args:
        origin: ``argument``, ``ENVELOPE_KEYS``, ``ENVELOPE_CONFIG``, ``working directory``,
            ``user`` or ``system``.
        path: The file, where it is one.
        state: ``used``, ``passed over`` (nothing in it counts), ``refused`` (not safe), or
            ``absent``.
        reason: Why it, or the keys in it, do not count.
    """

    origin: str
    path: str | None
    state: str
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Explained:
    """The merged configuration, and where each value came from.

    Args:
        result: What ``KeyRing.from_config`` takes; without ``encrypt_to`` if nobody names keys.
        files: The defaults of the section ``[files]``.
        origins: Source of each value by its dotted name, such as ``limits.kek_age``.
        sources: All places that were looked into, the strongest first.
        profile: The profile that was asked for.
        notices: What a person should be told.
    """

    result: dict[str, Any]
    files: dict[str, Any]
    origins: dict[str, str]
    sources: tuple[Source, ...]
    profile: str | None
    notices: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """All of it as one JSON object."""
        return asdict(self)


def resolve(
    path: str | os.PathLike[str] | None = None, profile: str | None = None
) -> dict[str, Any]:
    """The configuration as ``KeyRing.from_config`` takes it.

    Args:
        path: A file to look into before all other places; it has to exist.
        profile: The profile to use.

    Returns:
        ``encrypt_to``, ``decrypt_with``, ``required_context``, ``aliases``, ``limits`` and
        ``settings`` (the drivers' sections by scheme), as plain values.

    Raises:
        ConfigurationError: No source names keys, or one has a mistake.
    """
    found = explain(path, profile)
    for text in found.notices:
        emit(Notice(text))
    for source in found.sources:
        if source.state == "used" and source.path:
            emit(ConfigurationUsed(source.path, source.origin))
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


def explain(path: str | os.PathLike[str] | None = None, profile: str | None = None) -> Explained:
    """Merge all sources, whether or not they name keys; arguments as for :func:`resolve`.

    Raises:
        ConfigurationError: A source has a mistake.
    """
    merger = _Merger(profile)
    if path is not None:
        merger.file("argument", _absolute(os.fspath(path)), must_exist=True)
    merger.environment_keys()
    named = os.environ.get("ENVELOPE_CONFIG")
    if named:
        merger.file("ENVELOPE_CONFIG", _absolute(named), must_exist=True)
    merger.working_directory()
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


class _Merger:
    """Takes the sources one by one, the strongest first."""

    def __init__(self, profile: str | None) -> None:
        self.argument = profile
        self.profile = profile or os.environ.get("ENVELOPE_PROFILE") or None
        self.profiles: set[str] = set()  # the names that any file knows
        self.keys: dict[str, Any] | None = None
        self.keys_origin = ""
        self.sections: dict[str, dict[str, Any]] = {}
        self.origins: dict[str, str] = {}
        self.sources: list[Source] = []
        self.notices: list[str] = []

    def environment_keys(self) -> None:
        text = os.environ.get("ENVELOPE_KEYS", "").strip()
        if not text:
            self.sources.append(Source("ENVELOPE_KEYS", None, "absent"))
            return
        keys = _keys_of_environment(text)
        why = f"the profile {self.argument!r} was asked for by name" if self.argument else None
        self.add("ENVELOPE_KEYS", None, [] if why else [("", schema.Layer(keys))], why)

    def file(self, origin: str, path: str, *, must_exist: bool = False) -> None:
        # Without a home, platformdirs leaves "~" in the path: a folder of that name is not it.
        found = configfile.read(path) if os.path.isabs(path) else None
        if found is None:
            if must_exist:
                raise ConfigurationError(f"{path}: there is no such file ({origin})")
            self.sources.append(Source(origin, path, "absent"))
            return
        text, status = found
        if status.st_mode & stat.S_IWOTH:
            if not must_exist:
                raise ConfigurationError(
                    f"anybody can write to {path}",
                    next_step=f"Look at what it says, then run `chmod o-w {path}`.",
                )
            self.notices.append(f"anybody can write to the configuration {path}")
        self.parsed(origin, schema.parse(text, path))

    def working_directory(self) -> None:
        found = configfile.read_working_directory()
        if found is None:
            self.sources.append(Source("working directory", None, "absent"))
        elif isinstance(found, Unsafe):
            if self.is_named_elsewhere(found.path):
                return
            self.notices.append(f"{found.path} was not used: {found.why}")
            self.sources.append(Source("working directory", found.path, "refused", found.why))
        elif not self.is_named_elsewhere(found[0]):
            path = found[0]
            self.parsed("working directory", schema.parse(found[1], path, may_run_commands=False))

    def is_named_elsewhere(self, path: str) -> bool:
        """Whether another source is the same file, so that this one adds only its restrictions."""
        others = [source.path for source in self.sources if source.path]
        others += [user_path(), system_path()]
        return os.path.realpath(path) in map(os.path.realpath, others)

    def parsed(self, origin: str, file: schema.ConfigFile) -> None:
        self.profiles.update(file.profiles)
        name = self.profile or file.default_profile
        layers = [("", file.top)]
        if name in file.profiles:
            layers.insert(0, (f" [profile.{name}]", file.profiles[name]))
        elif self.profile:  # a file that does not know the profile must not provide its keys
            layers = [("", schema.Layer(None, file.top.sections))]
        why = None
        if len(layers) == 1 and file.top.keys and self.profile:
            why = f"it has no profile {self.profile!r}"
        self.add(origin, file.path, layers, why)

    def add(
        self,
        origin: str,
        path: str | None,
        layers: list[tuple[str, schema.Layer]],
        why: str | None = None,
    ) -> None:
        used = False
        own = next(((tag, layer.keys) for tag, layer in layers if layer.keys), None)
        if own and self.keys is None:
            used, self.keys, self.keys_origin = True, own[1], f"{path or origin}{own[0]}"
            self.origins.update(dict.fromkeys(own[1], self.keys_origin))
        elif own:
            why = f"{self.keys_origin} already named keys"
        for tag, layer in layers:
            for section, options in layer.sections.items():
                for name, value in options.items():
                    used |= self.option(section, name, value, f"{path or origin}{tag}")
        if not used and why is None:
            why = "stronger sources have all that it says"
        self.sources.append(Source(origin, path, "used" if used else "passed over", why))

    def option(self, section: str, name: str, value: Any, origin: str) -> bool:
        """Take a setting unless a stronger source has it."""
        dotted = f"{section}.{name}"
        if dotted in self.origins:
            return False
        variable = f"ENVELOPE_{name.upper()}"
        given = os.environ.get(variable)
        if given and schema.is_path_option(name):
            value, origin = schema.absolute(given, os.getcwd()), variable
        self.sections.setdefault(section, {})[name] = value
        self.origins[dotted] = origin
        return origin != variable

    def explained(self) -> Explained:
        if self.profile and self.profile not in self.profiles:
            raise ConfigurationError(
                f"no configuration file has a profile {self.profile!r}",
                next_step=schema.suggestion(self.profile, self.profiles),
            )
        files = self.sections.pop("files", {})
        limits = self.sections.pop("limits", {})
        result = {**(self.keys or {}), "limits": limits, "settings": self.sections}
        return Explained(
            result, files, self.origins, tuple(self.sources), self.profile, tuple(self.notices)
        )


def _keys_of_environment(text: str) -> dict[str, Any]:
    try:
        if text[0] not in "[{":
            given: Any = {"keys": text.replace(",", " ").split()}
        else:
            given = json.loads(text, object_pairs_hook=_distinct)
            given = {"keys": given} if isinstance(given, list) else given
        for name in given:
            if name not in schema.KEY_NAMES:
                raise ConfigurationError(
                    f"unknown name {name!r}", next_step=schema.suggestion(name, schema.KEY_NAMES)
                )
        keys = schema.check_keys(given, os.getcwd())
    except ConfigurationError as error:
        raise ConfigurationError(
            f"ENVELOPE_KEYS: {error.message}", next_step=error.next_step
        ) from None
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"ENVELOPE_KEYS is not JSON: {error}") from None
    if keys is None:
        raise ConfigurationError("ENVELOPE_KEYS names no key")
    return keys


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a name stands twice in one object")
    return dict(pairs)


def _absolute(path: str) -> str:
    return schema.absolute(path, os.getcwd())


def _looked_into(source: Source) -> str:
    place = f"{source.origin} {source.path}" if source.path else source.origin
    return f"{place}: {source.reason or source.state}"
