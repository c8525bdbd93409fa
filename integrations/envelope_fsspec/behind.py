"""What lies behind a path of the file system: the stored file, and what holds for it.

For those who work on stored files (rewrap, verify, migrate) and name them as users do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from envelope import KeyRing
from envelope.errors import ConfigurationError
from envelope_fsspec.naming import CONTEXT
from envelope_fsspec.policy import Policy
from envelope_fsspec.target import Target

__all__ = ["Behind", "described", "rings_of"]


@dataclass(frozen=True, slots=True)
class Behind:
    """A stored file, and how the verbs of the core work on it.

    Args:
        store: The file system that has it.
        path: Its path there.
        url: The same as a URL, which needs the store's ``storage_options``.
        keys: The only ring that is trusted for it.
        context: What its context has to have, its bound path included.
        segment_length: Of files that are written there.
    """

    store: Any
    path: str
    url: str
    keys: KeyRing
    context: Mapping[str, str]
    segment_length: int

    @classmethod
    def of(cls, target: Target, path: str) -> Behind:
        """See :meth:`envelope_fsspec.filesystem.EnvelopeFileSystem.behind`."""
        domain, stored = target.domain(path), target.stored(path)
        url = str(target.store.unstrip_protocol(stored))
        length = target.policy.layout.segment_length
        return cls(target.store, stored, url, domain.ring, dict(domain.context), length)

    @classmethod
    def of_names(cls, target: Target) -> Behind | None:
        """The file with the name key, if names are encrypted and there is one."""
        naming, policy = target.naming, target.policy
        if naming is None or naming.names is None:
            return None
        url = str(target.store.unstrip_protocol(naming.path))
        length = policy.layout.segment_length
        return cls(target.store, naming.path, url, policy.names_ring, dict(CONTEXT), length)


def described(target: Target, path: str, mount: str) -> dict[str, Any]:
    """What holds for a path, as JSON: docs/schema/applies.json."""
    policy = target.policy
    try:
        domain = target.domain(path)
        url, context = Behind.of(target, path).url, dict(domain.context)
    except FileNotFoundError:  # names are encrypted, and there is no name key yet
        domain = policy.domain(target.paths.relative(path))
        bound = {"path"} if policy.bind_path else set()
        url, context = None, {k: v for k, v in domain.context.items() if k not in bound}
    return {
        "path": path,
        "mount": mount or None,
        "url": url,
        "rule": _rule(policy, domain.match),
        "encrypt_to": list(domain.ring.encrypt_to),
        "decrypt_with": list(domain.ring.decrypt_with),
        "context": context,
        "bind_path": policy.bind_path,
        "header_size": policy.header_size,
        "segment_length": policy.layout.segment_length,
        "sizes": policy.sizes,
        "names": policy.names,
        "on_plaintext": policy.plaintext_allowed,
        "plaintext_until": policy.plaintext_until,
    }


def rings_of(target: Target, paths: Sequence[str]) -> tuple[list[KeyRing], list[str]]:
    """See :meth:`envelope_fsspec.filesystem.EnvelopeFileSystem.rings`."""
    found: list[KeyRing] = []
    lost = []
    for path in paths:
        try:
            ring = target.domain(path).ring
        except ConfigurationError:
            lost.append(path)
            continue
        if ring not in found:
            found.append(ring)
    return found, lost


def _rule(policy: Policy, match: Any) -> dict[str, Any] | None:
    if match is None:
        return None
    text = policy.rules[match.index].pattern.text
    return {"number": match.index + 1, "match": text, "names": dict(match.names)}
