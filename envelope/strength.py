"""How strong master keys are: bits of security, so that unlike keys can be compared.

The numbers are estimates. RSA's are those of NIST SP 800-57 part 1 rev. 5, table 2, and for the
sizes between those that it names, of SP 800-56A rev. 3, appendix D, whose finite fields are as hard
as factoring. An AES key counts with its length.
"""

from __future__ import annotations

from collections.abc import Iterable

from envelope.keys import WrappedKey

__all__ = ["least", "of_key", "of_recipient"]

_RSA = ((15360, 256), (8192, 200), (7680, 192), (6144, 176), (4096, 152), (3072, 128), (2048, 112))
_AES = frozenset({"A256KW", "A256GCM"})
_BY_CURVE = {"ES256": 128}


def of_key(alg: str, bits: int) -> int | None:
    """A key's strength in bits of security; ``None`` if it is not known.

    Args:
        alg: What the key is used with.
        bits: Its length, an RSA key's modulus.
    """
    if alg in ("RSA-OAEP-256", "PS256"):
        return next((strength for size, strength in _RSA if bits >= size), 80)
    return 256 if alg in _AES else _BY_CURVE.get(alg)


def of_recipient(wrapped: WrappedKey) -> int | None:
    """The strength of the key that wrapped a recipient, by what it wrapped alone.

    Of the algorithms with PKCS #11's names it is not known: they do not fix the key's length.
    """
    return of_key(wrapped.alg, len(wrapped.encrypted_key) * 8)


def least(recipients: Iterable[tuple[str, int | None]]) -> tuple[str, int] | None:
    """The weakest of recipients whose strengths differ; ``None`` if none is known to be weaker.

    Args:
        recipients: Kids, each with its strength.
    """
    known = [(kid, strength) for kid, strength in recipients if strength is not None]
    if len({strength for _, strength in known}) < 2:
        return None
    return min(known, key=lambda each: each[1])
