"""Which hosts are vaults, in which cloud, and who authenticates there. Pure.

A token is only ever asked for the resource that stands here for a host, and
sent to that host alone: what a vault (or who pretends to be one) says about it
in its challenge must agree.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from envelope.errors import ConfigurationError

__all__ = ["Cloud", "cloud_of"]


@dataclass(frozen=True, slots=True)
class Cloud:
    """Where a vault's tokens come from.

    Args:
        resource: What tokens are for, such as ``https://vault.azure.net``.
        authority: The host that issues them.
        hsm: Whether it is a Managed HSM, which has symmetric keys and roles of its own.
        verify_challenge: Whether the SDK can compare the resource with the host's name.
    """

    resource: str
    authority: str
    hsm: bool = False
    verify_challenge: bool = True


_PUBLIC = "login.microsoftonline.com"
_CHINA = "login.chinacloudapi.cn"
_US = "login.microsoftonline.us"

# The suffixes of the vendor's page "Azure Key Vault keys, secrets, and certificates overview".
_SUFFIXES = {
    "vault.azure.net": Cloud("https://vault.azure.net", _PUBLIC),
    "vault.azure.cn": Cloud("https://vault.azure.cn", _CHINA),
    "vault.usgovcloudapi.net": Cloud("https://vault.usgovcloudapi.net", _US),
    "managedhsm.azure.net": Cloud("https://managedhsm.azure.net", _PUBLIC, hsm=True),
    "managedhsm.azure.cn": Cloud("https://managedhsm.azure.cn", _CHINA, hsm=True),
    "managedhsm.usgovcloudapi.net": Cloud("https://managedhsm.usgovcloudapi.net", _US, hsm=True),
}


def cloud_of(host: str, private_hosts: Mapping[str, str]) -> Cloud:
    """The cloud of a vault.

    Args:
        host: As :mod:`envelope.keyurl` normalised it, with a port if it is not 443.
        private_hosts: By host, the suffix of the cloud that it is an alias in.

    Raises:
        ConfigurationError: No cloud has vaults of that name, and nobody said that it is one.
    """
    alias = private_hosts.get(host)
    if alias is not None:
        cloud = _SUFFIXES.get(alias)
        if cloud is None:
            raise ConfigurationError(
                f"private_hosts: {alias!r} is not the suffix of a cloud's vaults",
                next_step=f"Known: {', '.join(sorted(_SUFFIXES))}.",
            )
        return Cloud(cloud.resource, cloud.authority, cloud.hsm, verify_challenge=False)
    name, _, suffix = host.partition(".")
    if not name or suffix not in _SUFFIXES:
        raise ConfigurationError(
            f"{host} is not the host name of a vault in any known cloud",
            next_step="Name a private host in private_hosts, with the suffix of its cloud.",
        )
    return _SUFFIXES[suffix]
