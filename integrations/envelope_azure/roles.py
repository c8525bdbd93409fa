"""Which built-in role allows what was refused: for the next step of an error.

Of each, the least that is enough. The roles of a vault and of a Managed HSM have other names and
give other rights (Microsoft Learn, "Azure built-in roles for Key Vault data plane operations" and
"Managed HSM local RBAC built-in roles").
"""

from __future__ import annotations

from envelope import keyurl

__all__ = ["role_for"]

_LOOKS = {"resolve", "get", "list", "list versions", "public key", "get the transfer key"}
_USES = {"wrap", "unwrap"}
_ABOVE_USER = {"recover", "purge", "get deleted"}  # of a deleted key; in a Managed HSM alone


def role_for(operation: str, kid: str, *, hsm: bool) -> str:
    """The role to ask for, and what would do as well.

    Args:
        operation: As :func:`envelope_azure.problems.from_answer` takes it.
        kid: The key, by which secrets and certificates are told.
        hsm: It is in a Managed HSM.
    """
    scheme = keyurl.scheme_of(kid)
    if scheme == "azurekeyvault-secret":
        return "Key Vault Secrets User"
    if hsm:
        return _in_hsm(operation)
    if operation in _LOOKS:
        return "Key Vault Reader, or a Crypto role"
    if operation in _USES:
        return "Key Vault Crypto Service Encryption User (or Crypto User)"
    if operation == "sign":
        return "Key Vault Crypto User"
    if scheme == "azurekeyvault-certificate":
        return "Key Vault Certificates Officer"
    return "Key Vault Crypto Officer"


def _in_hsm(operation: str) -> str:
    if operation in _LOOKS:
        return "Managed HSM Crypto Auditor (or Crypto User)"
    if operation in _USES:
        return "Managed HSM Crypto Service Encryption User (or Crypto User)"
    if operation in _ABOVE_USER:
        return "Managed HSM Crypto Officer"
    return "Managed HSM Crypto User"
