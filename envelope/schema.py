"""What may stand in an ``envelope.toml`` (docs/configuration.md, "The file"): parsed and checked.

Pure but for the names of the installed drivers: text in, values out.
"""

from __future__ import annotations

import datetime
import difflib
import math
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, NoReturn

from envelope import keyurl, resolvers
from envelope.context import MAX_NAME_BYTES
from envelope.errors import ConfigurationError
from envelope.limits import Limits

__all__ = [
    "FILE_OPTIONS",
    "KEY_NAMES",
    "ConfigFile",
    "Layer",
    "absolute",
    "check_keys",
    "is_path_option",
    "parse",
    "suggestion",
]

# The standard library's parser takes time in the square of a dotted key's parts: one line of
# 64 KiB, "a.a.a…", keeps it busy for minutes. Keys stay on one line, so this bounds them.
_MAX_DOTS = 64
_MAX_MESSAGE = 400

KEY_NAMES = (
    "keys",
    "encrypt_to",
    "decrypt_with",
    "required_context",
    "aliases",
    "sign_with",
    "require_signed",
    "parquet",
)
PARQUET_NAMES = ("aliases", "policies")
FILE_OPTIONS = ("threads", "durable", "suffix")
_PATH_OPTION = re.compile(r"(?:file|folder|path|store)\Z")
_ALIAS = re.compile(r"[A-Za-z0-9._-]{1,128}\Z")
_COMMAND_OPTION = re.compile(r"command\Z")


@dataclass(frozen=True, slots=True)
class Layer:
    """What a file says at its top, or in one of its profiles.

    ``keys`` is ``None`` or all of encrypt_to, decrypt_with, required_context
    and aliases, with sign_with, require_signed and parquet where given; ``sections``
    has the other settings: limits, files, and those of drivers by scheme.
    """

    keys: dict[str, Any] | None = None
    sections: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """A checked file: its paths are absolute and its names are known."""

    path: str
    top: Layer
    profiles: dict[str, Layer]
    default_profile: str | None = None


def parse(text: str, path: str, *, may_run_commands: bool = True) -> ConfigFile:
    """Check a whole file, the profiles that are not asked for included.

    Args:
        text: Its content.
        path: Its absolute path, to which paths in it are relative, and for errors.
        may_run_commands: Whether settings may name a program to start.

    Raises:
        ConfigurationError: Not TOML, an unknown name, or a bad value.
    """
    return _Checker(text, path, may_run_commands).file()


class _Checker:
    """Holds a file's text and path while it is checked, so that errors can say where."""

    def __init__(self, text: str, path: str, may_run_commands: bool) -> None:
        self.text = text
        self.path = path
        self.folder = os.path.dirname(path)
        self.may_run_commands = may_run_commands
        self.start = 0  # where the profile begins that is being checked

    def fail(self, message: str, name: str = "", next_step: str | None = None) -> NoReturn:
        """Raise, with the line on which ``name`` stands as a key, where that is plain to see."""
        place = self.path
        key = rf"^[ \t]*(?:\[[^\n\]]*?)?[\"']?{re.escape(name)}[\"']?[ \t]*[=.\]]"
        if name and (found := re.compile(key, re.M).search(self.text, self.start)):
            place += f":{self.text.count(chr(10), 0, found.end()) + 1}"
        if len(message) > _MAX_MESSAGE:  # a name or value in it may be as long as the file
            message = message[:_MAX_MESSAGE] + "…"
        raise ConfigurationError(f"{place}: {message}", next_step=next_step)

    def file(self) -> ConfigFile:
        for number, line in enumerate(self.text.split("\n"), 1):
            if line.count(".") > _MAX_DOTS and not line.lstrip().startswith("#"):
                raise ConfigurationError(
                    f"{self.path}:{number}: a line with more than {_MAX_DOTS} dots",
                    next_step="Split it into several lines.",
                )
        try:
            content = tomllib.loads(self.text)
        except RecursionError:
            self.fail("it is nested too deeply")
        except ValueError as error:  # TOMLDecodeError, or an integer of absurd length
            self.fail(f"it is not TOML: {error}")
        profiles = self.table(content.pop("profile", {}), "profile")
        default = content.pop("default_profile", None)
        top = self.layer(content, "")
        layers = {}
        for name, value in profiles.items():
            self.start = max(0, self.text.find(f"[profile.{name}"))
            layers[name] = self.layer(self.table(value, name), f"profile.{name}.")
        self.start = 0
        if default is not None and (not isinstance(default, str) or default not in layers):
            self.fail(
                f"default_profile {default!r} is not one of this file's profiles",
                "default_profile",
                suggestion(str(default), layers),
            )
        return ConfigFile(self.path, top, layers, default)

    def layer(self, content: dict[str, Any], where: str) -> Layer:
        given = {name: content.pop(name) for name in KEY_NAMES if name in content}
        try:
            keys = check_keys(given, self.folder)
        except ConfigurationError as error:
            told = [name for name in given if len(given) == 1 or name in error.message]
            self.fail(where + error.message, told[0] if told else "", error.next_step)
        sections = {}
        for name, value in content.items():
            if name == "limits":
                sections[name] = self.limits(self.table(value, name))
            elif name == "files":
                sections[name] = self.files(self.table(value, name))
            elif name == "mount":
                sections[name] = self.mounts(self.table(value, name))
            else:
                sections[name] = self.driver(name, value, where)
        return Layer(keys, sections)

    def table(self, value: Any, name: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            self.fail(f"{name} must be a table, written [{name}]", name)
        return value

    def limits(self, given: dict[str, Any]) -> dict[str, Any]:
        known = [limit.name for limit in fields(Limits)]
        for name, value in given.items():
            if name not in known:
                self.fail(f"unknown limit {name!r}", name, suggestion(name, known))
            try:
                Limits.from_config({name: value})
            except ConfigurationError as error:
                self.fail(error.message, name)
        return given

    def files(self, given: dict[str, Any]) -> dict[str, Any]:
        for name, value in given.items():
            if name == "threads":
                right = type(value) is int and 1 <= value <= 64
                wanted = "a whole number from 1 to 64"
            elif name == "durable":
                right, wanted = isinstance(value, bool), "true or false"
            elif name == "suffix":
                right = isinstance(value, str) and bool(re.match(r"\.[\w.+-]{1,31}\Z", value))
                wanted = "a dot and up to 31 letters, digits, dots, and signs of _+-"
            else:
                self.fail(f"unknown name {name!r} in [files]", name, suggestion(name, FILE_OPTIONS))
            if not right:
                self.fail(f"{name} must be {wanted}", name)
        return given

    def mounts(self, given: dict[str, Any]) -> dict[str, Any]:
        """Mounts by name. What may stand in one is the file system's business."""
        for name, value in given.items():
            if not re.match(r"[a-z0-9][a-z0-9._-]{0,62}\Z", name):
                self.fail(f"mount {name!r}: a name has lower-case letters, digits, and . _ -", name)
            options = self.table(value, f"mount.{name}")
            for option, content in options.items():
                if isinstance(content, datetime.date):
                    options[option] = content.isoformat()
                elif not _is_plain(content):
                    self.fail(f"mount.{name}.{option} has a value of no use here", option)
        return given

    def driver(self, scheme: str, value: Any, where: str) -> dict[str, Any]:
        schemes = resolvers.schemes()
        if scheme not in schemes:
            known = [*KEY_NAMES, "limits", "files", "mount", *schemes]
            if not where:
                known += ["profile", "default_profile"]
            self.fail(f"unknown name {where + scheme!r}", scheme, suggestion(scheme, known))
        options = self.table(value, scheme)
        for name, option in options.items():
            if not _is_plain(option):
                self.fail(f"{scheme}.{name} has a value of a kind that settings cannot have", name)
            if _COMMAND_OPTION.search(name) and not self.may_run_commands:
                self.fail(
                    f"{scheme}.{name} would start a program, which a working directory's file "
                    "may not",
                    name,
                    "Move it into your own envelope.toml, or name this file with --config.",
                )
            if is_path_option(name) and isinstance(option, str):
                try:
                    options[name] = absolute(option, self.folder)
                except ConfigurationError as error:
                    self.fail(f"{scheme}.{name}: {error.message}", name)
        return options


def check_keys(given: Mapping[str, Any], folder: str) -> dict[str, Any] | None:
    """The settings that belong together, checked; ``None`` if none is given.

    Args:
        given: Any of ``KEY_NAMES``, as parsed from TOML or JSON.
        folder: What the path of a ``public:FILE`` is relative to.
    """
    if not given:
        return None
    named = [name for name in KEY_NAMES[:3] if name in given]
    if not named:
        raise ConfigurationError(
            f"{' and '.join(given)} without keys would have no effect",
            next_step="Put it beside the keys that it belongs to.",
        )
    both = _texts(given.get("keys", ()), "keys")
    # A public half cannot decrypt, so it is no mistake among keys that mean both.
    reading = [key for key in both if keyurl.scheme_of(key) != "public"]
    keys: dict[str, Any] = {
        name: _distinct_keys([*shared, *_texts(given.get(name, ()), name)], folder)
        for name, shared in (("encrypt_to", both), ("decrypt_with", reading))
    }
    if not keys["encrypt_to"] and not keys["decrypt_with"]:
        raise ConfigurationError(f"{' and '.join(named)}: no key is named")
    required = _texts(given.get("required_context", ()), "required_context")
    if not all(1 <= len(name.encode(errors="replace")) <= MAX_NAME_BYTES for name in required):
        raise ConfigurationError(f"a name in required_context has 1 to {MAX_NAME_BYTES} bytes")
    aliases = given.get("aliases", {})
    if not isinstance(aliases, dict):
        raise ConfigurationError("aliases must be a table of old and new key names")
    keys["required_context"] = list(dict.fromkeys(required))
    keys["aliases"] = {_key(old, folder): _key(new, folder) for old, new in aliases.items()}
    parquet = {"parquet": _parquet(given["parquet"], folder)} if "parquet" in given else {}
    return keys | _signers(given, folder) | parquet


def _parquet(given: Any, folder: str) -> dict[str, Any]:
    """Names of keys in Parquet files, and column policies, whose options the package checks."""
    tables = {name: given[name] for name in given} if isinstance(given, dict) else {"": given}
    for name, table in tables.items():
        if name not in PARQUET_NAMES or not isinstance(table, dict):
            raise ConfigurationError(
                f"parquet has the tables {' and '.join(PARQUET_NAMES)}, and nothing else"
            )
    aliases: dict[str, list[str]] = {}
    for name, keys in tables.get("aliases", {}).items():
        if not _ALIAS.match(name):
            raise ConfigurationError(
                f"parquet: {name!r} cannot name a key in a Parquet file",
                next_step="An alias has 1 to 128 of the characters A-Z a-z 0-9 . _ -",
            )
        try:
            aliases[name] = _distinct_keys(_texts(keys, "it"), folder)
        except ConfigurationError as error:
            raise ConfigurationError(
                f"parquet.aliases.{name}: {error.message}", next_step=error.next_step
            ) from None
        if not aliases[name]:
            raise ConfigurationError(f"parquet.aliases.{name} names no key")
    policies = tables.get("policies", {})
    for name, policy in policies.items():
        if not isinstance(policy, dict) or not _is_plain(policy):
            raise ConfigurationError(f"parquet.policies.{name} must be a table of texts and lists")
    return {"aliases": aliases, "policies": policies}


def _signers(given: Mapping[str, Any], folder: str) -> dict[str, Any]:
    """Whose signature new files get, and whose is required; only what is given."""
    found: dict[str, Any] = {}
    if "sign_with" in given:
        if not isinstance(given["sign_with"], str):
            raise ConfigurationError("sign_with must be the name of one key")
        found["sign_with"] = _key(given["sign_with"], folder)
    if "require_signed" in given:
        found["require_signed"] = _distinct_keys(
            _texts(given["require_signed"], "require_signed"), folder
        )
        if not found["require_signed"]:
            # It would read as "none is required", where somebody meant to require one.
            raise ConfigurationError("require_signed names no signer")
    return found


def _texts(value: Any, name: str) -> list[str]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, (list, tuple)) or not all(isinstance(text, str) for text in texts):
        raise ConfigurationError(f"{name} must be text or a list of texts")
    return list(texts)


def _distinct_keys(texts: Iterable[str], folder: str) -> list[str]:
    distinct: dict[keyurl.KeyName, str] = {}
    for text in texts:
        key = _key(text, folder)
        distinct.setdefault(keyurl.parse(key), key)
    return list(distinct.values())


def _key(text: object, folder: str) -> str:
    """A key's name as given, once it is known to be one; the path of ``public:`` made absolute."""
    if not isinstance(text, str):
        raise ConfigurationError("a key's name is text")
    if keyurl.scheme_of(text) == "public":
        text = "public:" + absolute(text.partition(":")[2], folder)
    keyurl.parse(text)
    return text


def absolute(path: str, folder: str) -> str:
    """``path`` with ``~`` expanded, relative to ``folder``."""
    expanded = os.path.expanduser(path)
    if not path or expanded.startswith("~"):  # no such user, or no home
        raise ConfigurationError(f"{path!r} is not a path that can be resolved")
    return os.path.normpath(os.path.join(folder, expanded))


def is_path_option(name: str) -> bool:
    """Whether a driver's setting holds a path, which its name tells."""
    return _PATH_OPTION.search(name) is not None


def _is_plain(value: Any) -> bool:
    """Whether JSON can hold it: settings are part of a key ring's repr."""
    if isinstance(value, list):
        return all(_is_plain(item) for item in value)
    if isinstance(value, dict):
        return all(_is_plain(item) for item in value.values())
    return isinstance(value, (str, int)) or (isinstance(value, float) and math.isfinite(value))


def suggestion(name: str, known: Iterable[str]) -> str:
    """The next step for an unknown name: the nearest known one, or all of them."""
    names = sorted(set(known))
    near = difflib.get_close_matches(name[:64], names, n=1)
    if near:
        return f"Did you mean {near[0]!r}?"
    return f"Known: {', '.join(names)}." if names else "None is known here."
