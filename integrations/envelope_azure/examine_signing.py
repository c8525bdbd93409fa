"""What `envelope doctor` tries of a key in a vault that signs KEKs.

The way to it is that of :mod:`envelope_azure.examine`; at its end a throw-away
text is signed where the key ring signs with it, and the public half is taken
where the ring believes its signatures.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from envelope import jws
from envelope.errors import AccessDenied, EnvelopeError, KeyMismatch, KeyOperationForbidden
from envelope.keys import Finding
from envelope_azure.examine import Walk, walked
from envelope_azure.signing import signing_alg
from envelope_azure.trying import refused

__all__ = ["examine_signer"]


def examine_signer(settings: Mapping[str, Any], kid: str, *, signs: bool) -> Iterator[Finding]:
    """See :class:`envelope.keys.SignerExaminer`. It ends at what makes the rest pointless."""
    return walked(lambda: _SignerWalk(settings, kid, signs))


class _SignerWalk(Walk):
    makes, lasts = "sign", "its signatures hold"

    def __init__(self, settings: Mapping[str, Any], kid: str, signs: bool) -> None:
        super().__init__(settings, kid, {"sign": signs, "verify": not signs})
        self.signs = signs

    def used(self) -> Iterator[tuple[str, Callable[[], Iterator[Finding]]]]:
        yield from (("sign", self.sign), ("permission", self.permitted))

    def operations(self) -> Iterator[Finding]:
        bundle = self.trial.bundle or {}
        alg = signing_alg(bundle, self.kid)  # refuses keys that cannot be used at all
        allowed = list(bundle["key"].get("key_ops") or ())
        text = f"{', '.join(allowed)}; signs with {alg}"
        if self.signs and "sign" not in allowed:
            yield refused("operations", KeyOperationForbidden(f"{text}: not sign"))
        else:
            yield Finding("ok", "operations", text)
        if {"wrapKey", "unwrapKey", "decrypt"} & set(allowed):
            step = "Use a key with the operations sign and verify alone: a key has one use."
            yield Finding("warn", "operations", f"{text}: it encrypts as well", step)

    def sign(self) -> Iterator[Finding]:
        try:
            signer = self.trial.keys.signer(self.kid)
            public = jws.load(signer.public.spki, signer.kid)
        except EnvelopeError as error:
            yield refused("sign", error)
            return
        yield Finding("ok", "verify", f"its public half was fetched, for {signer.alg}")
        if not self.signs:  # it asks for no right that the key ring does not need
            return
        data = secrets.token_bytes(32)
        try:
            signature = signer.sign(data)
        except EnvelopeError as error:
            if isinstance(error, AccessDenied):
                self.trial.permissions["sign"] = error
            yield refused("sign", error)
            return
        self.trial.permissions["sign"] = None
        claims = jws.Claims(signer.alg, signer.kid, bytes(32), (), 0, data, signature)
        if jws.verify(claims, public):
            text = f"a throw-away text was signed in the vault, with {signer.alg}"
            yield Finding("ok", "sign", text)
        else:
            message = "what the vault signed does not hold under the public half that it tells"
            yield refused("sign", KeyMismatch(message))

    def permitted(self) -> Iterator[Finding]:
        for permission, error in self.trial.permissions.items():
            if error is None:
                yield Finding("ok", "permission", f"{permission}: given")
            else:
                yield Finding("warn", "permission", f"{permission}: not given", error.next_step)
