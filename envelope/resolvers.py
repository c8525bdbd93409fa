"""Which driver serves which scheme: entry points, and what programs register.

A driver is loaded when a key ring first names its scheme, so that a program
pays for the vaults it uses. Resolvers live as long as the process and are
shared by all key rings of the same settings; a forked child makes its own,
since clients and their connections do not survive a fork.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from envelope import runtime
from envelope.errors import ConfigurationError
from envelope.keys import Driver, KeyResolver

__all__ = ["GROUP", "canonical", "driver", "register", "resolver", "schemes"]

GROUP = "envelope.resolvers"
"""The entry-point group in which packages offer drivers, by scheme."""

# Only what a sentence can say about a scheme without a driver; no scheme is served from here.
_EXTRAS = {
    "azurekeyvault": "azure",
    "azurekeyvault-secret": "azure",
    "azurekeyvault-certificate": "azure",
}
_PLANNED = frozenset({"awskms", "gcpkms", "openbao", "pkcs11"})


class _Drivers:
    survives_fork = True

    def __init__(self) -> None:
        self.registered: dict[str, Driver] = {}
        self.loaded: dict[str, Driver] = {}


class _Resolvers:
    def __init__(self) -> None:
        self.made: dict[tuple[str, str], KeyResolver] = {}


def canonical(value: Mapping[str, Any]) -> str:
    """JSON with sorted names: equal settings give equal text.

    Raises:
        ConfigurationError: The settings are no plain JSON and so could not be sent or compared.
    """
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"settings must be plain JSON: {error}") from None


def register(scheme: str, driver: Driver) -> Callable[[], None]:
    """Let ``driver`` serve ``scheme`` in this process, before any installed one.

    For tests, and for programs with a vault of their own. Forked children
    inherit it; a process started otherwise registers again. Returns a function
    that puts things back.
    """
    drivers = runtime.current().state(_Drivers)
    before = drivers.registered.get(scheme)

    def put(now: Driver | None) -> None:
        if now is None:
            drivers.registered.pop(scheme, None)
        else:
            drivers.registered[scheme] = now
        made = runtime.current().state(_Resolvers).made
        for key in [key for key in made if key[0] == scheme]:
            made.pop(key, None)

    put(driver)
    return lambda: put(before)


def driver(scheme: str) -> Driver:
    """The driver of ``scheme``.

    Raises:
        ConfigurationError: There is none, or a package that it needs is not installed.
    """
    drivers = runtime.current().state(_Drivers)
    found = drivers.registered.get(scheme) or drivers.loaded.get(scheme)
    if found is None:
        found = drivers.loaded[scheme] = _load(scheme)
    return found


def schemes() -> set[str]:
    """All schemes that have a driver here, registered or installed."""
    from importlib.metadata import entry_points

    return {*runtime.current().state(_Drivers).registered, *entry_points(group=GROUP).names}


def resolver(scheme: str, settings: Mapping[str, Any]) -> KeyResolver:
    """The process's resolver for these settings (as :meth:`Driver.settings` returned them)."""
    made = runtime.current().state(_Resolvers).made
    key = (scheme, canonical(settings))
    found = made.get(key)
    if found is None:
        found = made.setdefault(key, driver(scheme).resolver(settings))
    return found


def _load(scheme: str) -> Driver:
    from importlib.metadata import entry_points  # slow to import, and only needed here

    for point in entry_points(group=GROUP, name=scheme):
        try:
            loaded: Driver = point.load()
        except ImportError as error:
            raise _missing(scheme, f"the driver of {scheme}: needs {error.name}") from error
        return loaded
    raise _missing(scheme, f"no driver is installed for keys of the scheme {scheme}:")


def _missing(scheme: str, message: str) -> ConfigurationError:
    extra = _EXTRAS.get(scheme)
    if extra:
        step = f'Run: pip install "envelope-encryption[{extra}]"'
    elif scheme in _PLANNED:
        step = "No release of envelope-encryption has this driver yet; use another vault."
    else:
        step = "Check the spelling, or install the package that serves this scheme."
    return ConfigurationError(message, next_step=step)
