"""Reading and setting when a vault rotates a key by itself (:class:`envelope.keys.KeyRotator`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from envelope import keyurl
from envelope.errors import AccessDenied, ConfigurationError
from envelope.keys import RotationPolicy
from envelope.keyurl import KeyName
from envelope_azure.keys import path_of
from envelope_azure.rotation import body_of, changed, due, policy_of
from envelope_azure.vault import Vault, Vaults

__all__ = ["Rotation"]


class Rotation(Vaults):
    """The rotation policies of the keys in all vaults that these settings reach."""

    def rotation_policy(self, key: str) -> RotationPolicy:
        """When the vault rotates a key by itself.

        Raises:
            AccessDenied, KeyNotFound, VaultUnavailable: As the vault said.
        """
        vault, name = self._rotating(key)
        return _completed(vault, name, _asked(vault, name))

    def set_rotation_policy(self, key: str, changes: Mapping[str, str | None]) -> RotationPolicy:
        """Change some rules of a key's policy, and keep the others.

        Raises:
            ConfigurationError: The vault does not take such a policy.
            AccessDenied, KeyNotFound, VaultUnavailable: As the vault said.
        """
        vault, name = self._rotating(key)
        hsm = vault.cloud.hsm
        wanted = changed(policy_of(str(name), _asked(vault, name)), changes, hsm=hsm)
        return _completed(vault, name, _asked(vault, name, body_of(wanted, hsm=hsm)))

    def _rotating(self, key: str) -> tuple[Vault, KeyName]:
        if keyurl.scheme_of(key) == "azurekeyvault-certificate":
            raise ConfigurationError(
                "the key of a certificate is rotated by the certificate's own policy",
                next_step="Set its lifetime action with the tools of the vault.",
            )
        return self.whole_key(key, "rotate")


def _asked(vault: Vault, name: KeyName, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The policy as it is, or as it was set to ``body``."""
    return vault.ask(
        "GET" if body is None else "PUT",
        f"keys/{name.name}/rotationpolicy",
        kid=str(name),
        operation="get the rotation policy" if body is None else "set the rotation policy",
        body=body,
    )


def _completed(vault: Vault, name: KeyName, document: Mapping[str, Any]) -> RotationPolicy:
    policy = policy_of(str(name), document)
    try:
        newest = vault.ask("GET", path_of(name), kid=str(name), operation="get")
    except AccessDenied:  # whoever may set policies need not be allowed to look at keys
        return policy
    return replace(policy, next=due(policy, newest))
