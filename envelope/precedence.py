"""Merges sources of configuration by their precedence, and keeps where each value came from.

docs/configuration.md has the rules. :mod:`envelope.config` says which sources there are.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from envelope import configfile, schema
from envelope.configfile import Unsafe
from envelope.errors import ConfigurationError

__all__ = ["Explained", "Merger", "Source"]

_ARGUMENTS = "arguments named keys"


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
        mounts: The sections ``[mount.NAME]`` by name; the first source that has one has all of it.
        parquet: ``aliases`` and ``policies`` of ``[parquet]``, of the source whose keys count.
        origins: Source of each value by its dotted name, such as ``limits.kek_age``.
        sources: All places that were looked into, the strongest first.
        profile: The profile that was asked for.
        notices: What a person should be told.
    """

    result: dict[str, Any]
    files: dict[str, Any]
    mounts: dict[str, dict[str, Any]]
    parquet: dict[str, Any]
    origins: dict[str, str]
    sources: tuple[Source, ...]
    profile: str | None
    notices: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """All of it as one JSON object. Options of mounts' stores are hidden: some are secrets."""
        return {**asdict(self), "mounts": {n: _shown(each) for n, each in self.mounts.items()}}


def _shown(mount: dict[str, Any]) -> dict[str, Any]:
    options = mount.get("options")
    if not isinstance(options, dict):
        return dict(mount)
    return {**mount, "options": dict.fromkeys(options, "hidden")}


class Merger:
    """Takes the sources one by one, the strongest first.

    Args:
        profile: The profile that an argument asks for.
        wants_keys: Whether keys count, or only the other settings.
    """

    def __init__(self, profile: str | None, wants_keys: bool) -> None:
        self.argument = profile
        self.wants_keys = wants_keys
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
        if not self.wants_keys:
            self.sources.append(Source("ENVELOPE_KEYS", None, "passed over", _ARGUMENTS))
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

    def working_directory(self, *others: str) -> None:
        """``./envelope.toml``, unless it is one of the ``others``, which are trusted as such."""
        found = configfile.read_working_directory()
        if found is None:
            self.sources.append(Source("working directory", None, "absent"))
        elif isinstance(found, Unsafe):
            if self.is_among(others, found.path):
                return
            self.notices.append(f"{found.path} was not used: {found.why}")
            self.sources.append(Source("working directory", found.path, "refused", found.why))
        elif not self.is_among(others, found[0]):
            path = found[0]
            self.parsed("working directory", schema.parse(found[1], path, may_run_commands=False))

    def is_among(self, others: Iterable[str], path: str) -> bool:
        named = [source.path for source in self.sources if source.path]
        return os.path.realpath(path) in map(os.path.realpath, [*named, *others])

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
        if own and not self.wants_keys:
            why = _ARGUMENTS
        elif own and self.keys is None:
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
        if given and section != "mount" and schema.is_path_option(name):
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
        mounts = self.sections.pop("mount", {})
        keys = dict(self.keys or {})
        parquet = keys.pop("parquet", {})
        result = {**keys, "limits": limits, "settings": self.sections}
        sources, notices = tuple(self.sources), tuple(self.notices)
        return Explained(
            result, files, mounts, parquet, self.origins, sources, self.profile, notices
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
