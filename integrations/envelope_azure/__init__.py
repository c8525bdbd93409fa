"""Master keys in Azure Key Vault and Managed HSM (docs/azure.md).

Installed by ``pip install "envelope-encryption[azure]"`` and found by its entry
points; nothing has to be imported to use ``azurekeyvault://VAULT/KEY`` in a key
ring. :func:`process_credential` is for programs that have a credential object.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__all__ = ["process_credential"]

if TYPE_CHECKING:
    from envelope_azure.credentials import process_credential


def __getattr__(name: str) -> Any:
    if name != "process_credential":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from envelope_azure import credentials

    return credentials.process_credential
