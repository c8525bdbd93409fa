"""What `envelope keys list` and `show` tell of a key: read from what the vault told of it."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from envelope.errors import KeyOperationForbidden
from envelope.jose import b64u_decode
from envelope.keys import KeyInfo
from envelope_azure.keys import alg_of
from envelope_azure.signing import signing_alg

_BITS = {"P-384": 384, "P-521": 521}  # the others have 256

__all__ = ["created", "info_of", "is_enabled", "rfc3339", "with_state"]


def is_enabled(bundle: Mapping[str, Any]) -> bool:
    """Whether the vault lets this version be used."""
    return bool((bundle.get("attributes") or {}).get("enabled", True))


def created(bundle: Mapping[str, Any]) -> int:
    """When this version was made, in seconds of Unix time."""
    return int((bundle.get("attributes") or {}).get("created", 0))


def rfc3339(value: Any) -> str | None:
    """Seconds of Unix time as a text (RFC 3339), or ``None``."""
    if value is None:
        return None
    moment = datetime.datetime.fromtimestamp(int(value), datetime.UTC)
    return moment.isoformat().replace("+00:00", "Z")


def _purpose(bundle: Mapping[str, Any], kid: str) -> tuple[str, str]:
    """The algorithm that a key is used with here, and its use. An RSA key may be for either."""
    wraps = "wrapKey" in (ops := bundle["key"].get("key_ops") or ()) or "unwrapKey" in ops
    for use, find in (("enc", alg_of), ("sig", signing_alg)):
        if use == "enc" and not wraps and "sign" in ops:
            continue
        try:
            return find(bundle, kid), use
        except KeyOperationForbidden:
            pass  # it is not for this
    return "none", "sig" if "sign" in ops else "enc"


def info_of(bundle: Mapping[str, Any], *, newest: bool = True) -> KeyInfo:
    """A version. ``newest`` says that new files use it, if it is enabled."""
    jwk, attributes = bundle["key"], bundle.get("attributes") or {}
    kid, kind = str(jwk["kid"]), str(jwk.get("kty"))
    alg, use = _purpose(bundle, kid)
    bits = len(b64u_decode(jwk["n"], "n")) * 8 if "n" in jwk else _BITS.get(jwk.get("crv"), 256)
    return KeyInfo(
        kid=kid,
        state="enabled" if is_enabled(bundle) else "disabled",
        kty=kind,
        alg=alg,
        bits=bits,
        use=use,
        key_ops=tuple(jwk.get("key_ops") or ()),
        created=rfc3339(attributes.get("created")) or "",
        not_before=rfc3339(attributes.get("nbf")),
        expires=rfc3339(attributes.get("exp")),
        newest=newest and is_enabled(bundle),
        note=(bundle.get("tags") or {}).get("note"),
    )


def with_state(info: KeyInfo, state: str) -> KeyInfo:
    """The same version in another state, in which no new file uses it."""
    return replace(info, state=state, newest=False)
