"""Trying things out: what ``doctor`` and ``config test`` report, line by line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from envelope.cli.failures import explained
from envelope.cli.output import Output

if TYPE_CHECKING:
    from envelope.keys import Finding
    from envelope.ring import KeyRing

_ENOUGH = 128  # bits of security; NIST SP 800-57 part 1 has 112 end with the year 2030

__all__ = ["Check", "failed", "finish", "probe_keys"]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was tried. ``level`` is ``ok``, ``warn`` or ``fail``."""

    level: str
    check: str
    text: str
    next_step: str | None = None
    exit: int = 0

    def to_json(self) -> dict[str, Any]:
        """docs/schema/check.json"""
        return {k: v for k, v in asdict(self).items() if k != "exit"}


def failed(check: str, subject: str, error: BaseException) -> Check:
    """The check of something that raised ``error``."""
    failure = explained(error)
    text = f"{subject}: {failure.message} [{failure.error}]"
    return Check("fail", check, text, failure.next_step, failure.exit)


def finish(out: Output, checks: Iterable[Check]) -> int:
    """Print each check as it comes; the exit status is that of the first that failed."""
    status = 0
    for check in checks:
        steps = [check.next_step] if check.next_step else []
        line = f"{check.check:<14} {check.text}"
        out.marked(check.level, check.to_json(), line, *steps)
        if check.level == "fail":
            status = status or check.exit or 2
    return status


def probe_keys(ring: KeyRing) -> Iterator[Check]:
    """Whether each key of ``ring`` does what the ring needs of it."""
    for name in dict.fromkeys((*ring.encrypt_to, *ring.decrypt_with)):
        try:
            yield from _examined(ring, name)
        except Exception as error:
            yield failed("key", name, error)

    yield from _strengths(ring)
    signer = [ring.sign_with] if ring.sign_with else []
    for name in dict.fromkeys((*signer, *ring.require_signed)):
        try:
            yield from _examined_signer(ring, name, signs=name in signer)
        except Exception as error:
            yield failed("signer", name, error)


def _strengths(ring: KeyRing) -> Iterator[Check]:
    """Whether the recipients of a ring's files differ in strength, and which is the weakest."""
    from envelope import caller, keyurl, resolvers, strength
    from envelope.errors import EnvelopeError
    from envelope.secret import Secret

    if len(ring.encrypt_to) < 2:
        return
    found = []
    for name in ring.encrypt_to:
        scheme = keyurl.scheme_of(name)
        resolver = resolvers.resolver(scheme, ring.to_config()["settings"][scheme])
        try:
            with caller.deadline(ring.limits.deadline):
                wrapped = resolver.resolve(name).wrap(Secret.random(), aad=bytes(32))
        except EnvelopeError:
            continue  # told by the check of that key
        found.append((wrapped.kid, strength.of_recipient(wrapped)))
    weakest = strength.least(found)
    if weakest is not None:
        kid, bits = weakest
        text = f"files are as strong as their weakest recipient: {kid}, about {bits} bits"
        step = "If that is not meant, replace it: RSA of 3072 bits has 128, AES has 256."
        low = bits < _ENOUGH
        yield Check("warn" if low else "ok", "strength", text, step if low else None)


def _examined_signer(ring: KeyRing, name: str, *, signs: bool) -> Iterator[Check]:
    """Whether a key signs, where the ring signs with it, and whether its signatures hold."""
    from envelope import caller, jws, keyurl, resolvers
    from envelope.keys import SignerExaminer, SignerResolver
    from envelope.secret import Secret

    parsed = keyurl.parse(name)
    resolver = resolvers.resolver(parsed.scheme, ring.to_config()["settings"][parsed.scheme])
    if isinstance(resolver, SignerExaminer):
        yield from _stepwise(ring, resolver.examine_signer(name, signs=signs))
        return
    if not isinstance(resolver, SignerResolver):
        yield Check("fail", "signer", f"{name}: keys of this scheme cannot sign")
        return
    with caller.deadline(ring.limits.deadline):
        if parsed.scheme == "public":
            half = resolver.public_half(name)
            alg = jws.alg_of(jws.load(half.spki, half.kid))
            yield Check("ok", "signer", f"{half.kid} ({alg}): its signatures can be verified")
            return
        key = resolver.signer(name)
        public, half = jws.load(key.public.spki, key.kid), resolver.public_half(key.kid)
        if not signs:
            yield Check("ok", "signer", f"{half.kid} ({key.alg}): its signatures can be verified")
            return
        data = Secret.random().reveal()
        signed = jws.Claims(key.alg, key.kid, bytes(32), (), 0, data, key.sign(data))
    if jws.verify(signed, public):
        yield Check("ok", "signer", f"{key.kid} ({key.alg}): signs")
    else:
        yield Check("fail", "signer", f"{name}: its signature does not hold under its public half")


def _examined(ring: KeyRing, name: str) -> Iterator[Check]:
    """The driver's own walk where it has one: it tells where on the way to the key it failed."""
    from envelope import keyurl, resolvers
    from envelope.keys import KeyExaminer

    parsed = keyurl.parse(name)
    resolver = resolvers.resolver(parsed.scheme, ring.to_config()["settings"][parsed.scheme])
    if parsed.name == "*" or not isinstance(resolver, KeyExaminer):
        yield _probed(ring, name)
        return
    steps = resolver.examine_key(
        name, wraps=name in ring.encrypt_to, unwraps=name in ring.decrypt_with
    )
    yield from _stepwise(ring, steps)


def _stepwise(ring: KeyRing, steps: Iterator[Finding]) -> Iterator[Check]:
    from envelope import caller

    while True:
        with caller.deadline(ring.limits.deadline):  # for each step, and never while one is printed
            found = next(steps, None)
        if found is None:
            return
        yield Check(found.level, found.check, found.text, found.next_step, found.exit)


def _probed(ring: KeyRing, name: str) -> Check:
    from envelope import caller, keyurl, resolvers
    from envelope.errors import AccessDenied, KeyOperationForbidden
    from envelope.secret import Secret

    parsed = keyurl.parse(name)
    if parsed.name == "*":
        return Check("ok", "key", f"{name}: all keys of this vault are trusted; none was called")
    settings = ring.to_config()["settings"][parsed.scheme]
    secret, aad = Secret.random(), Secret.random().reveal()
    with caller.deadline(ring.limits.deadline):
        master = resolvers.resolver(parsed.scheme, settings).resolve(name)
        try:
            wrapped = master.wrap(secret, aad=aad)
        except (AccessDenied, KeyOperationForbidden):
            if name in ring.encrypt_to:
                raise
            text = f"{master.kid} ({master.alg}): is there, may not wrap; unwrapping was not tried"
            return Check("ok", "key", text)
        if name not in ring.decrypt_with:
            return Check("ok", "key", f"{master.kid} ({master.alg}): wraps")
        if master.unwrap(wrapped, aad=aad) != secret:
            return Check("fail", "key", f"{name}: unwraps to something else than was wrapped")
    return Check("ok", "key", f"{master.kid} ({master.alg}): wraps and unwraps")
