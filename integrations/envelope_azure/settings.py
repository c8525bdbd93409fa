"""The options of ``azurekeyvault``: complete, JSON, and without a secret (docs/azure.md)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from envelope.errors import ConfigurationError
from envelope_azure.clouds import cloud_of
from envelope_azure.keys import HSM_ALGS

__all__ = ["CREDENTIALS", "checked"]

CREDENTIALS = (
    "default",
    "environment",
    "managed-identity",
    "workload-identity",
    "client-secret",
    "client-certificate",
    "azure-cli",
    "azure-developer-cli",
    "azure-powershell",
    "device-code",
    "browser",
)
"""The ways of :mod:`envelope_azure.credentials`, besides a chain of them."""

_TEXTS = (
    "tenant_id",
    "client_id",
    "object_id",
    "resource_id",
    "client_secret_env",
    "client_secret_file",
    "certificate_file",
    "certificate_password_env",
    "authority",
    "proxy",
    "ca_file",
)
_FILES = ("client_secret_file", "certificate_file", "ca_file")
_NAMES = (*_TEXTS, "credential", "additionally_allowed_tenants", "hsm_alg", "wrap", "private_hosts")


def checked(options: Mapping[str, Any]) -> dict[str, Any]:
    """``options`` with defaults filled in and paths absolute; what it returns, it takes as it is.

    Raises:
        ConfigurationError: An unknown option, or a value that cannot be.
    """
    for name in options:
        if name in ("client_secret", "password", "secret", "certificate_password"):
            raise ConfigurationError(
                f"azurekeyvault: {name} would be a secret in the configuration",
                next_step="Name where it is: client_secret_env or client_secret_file.",
            )
        if name not in _NAMES:
            import difflib  # only a mistake takes it

            close = difflib.get_close_matches(name, _NAMES, 1)
            hint = f"Did you mean {close[0]}?" if close else f"Known: {', '.join(sorted(_NAMES))}."
            raise ConfigurationError(f"azurekeyvault: unknown option {name!r}", next_step=hint)
    settings: dict[str, Any] = {"credential": _credential(options.get("credential", "default"))}
    for name in _TEXTS:
        text = options.get(name)
        if text is None:
            continue
        if not isinstance(text, str) or not text:
            raise ConfigurationError(f"azurekeyvault: {name} must be a text")
        settings[name] = os.path.abspath(text) if name in _FILES else text
    settings["additionally_allowed_tenants"] = _texts(options, "additionally_allowed_tenants")
    settings["hsm_alg"] = options.get("hsm_alg", "A256KW")
    if settings["hsm_alg"] not in HSM_ALGS:
        raise ConfigurationError(f"azurekeyvault: hsm_alg is one of {', '.join(HSM_ALGS)}")
    settings["wrap"] = options.get("wrap", "local")
    if settings["wrap"] not in ("local", "vault"):
        raise ConfigurationError("azurekeyvault: wrap is 'local' or 'vault'")
    hosts = options.get("private_hosts", {})
    if not isinstance(hosts, Mapping):
        raise ConfigurationError("azurekeyvault: private_hosts maps hosts to a cloud's suffix")
    settings["private_hosts"] = {str(host).lower(): suffix for host, suffix in hosts.items()}
    for host in settings["private_hosts"]:
        cloud_of(host, settings["private_hosts"])
    return settings


def _credential(value: Any) -> Any:
    chain = [value] if isinstance(value, str) else value
    if not isinstance(chain, (list, tuple)) or not chain:
        raise ConfigurationError("azurekeyvault: credential is a name, or a list of names to try")
    for name in chain:
        if name not in CREDENTIALS and not str(name).startswith("process:"):
            raise ConfigurationError(
                f"azurekeyvault: there is no credential {name!r}",
                next_step=f"Known: {', '.join(CREDENTIALS)}.",
            )
    return value if isinstance(value, str) else list(chain)


def _texts(options: Mapping[str, Any], name: str) -> list[str]:
    value = options.get(name, [])
    if isinstance(value, str) or not all(isinstance(text, str) for text in value):
        raise ConfigurationError(f"azurekeyvault: {name} is a list of texts")
    return sorted(set(value))
