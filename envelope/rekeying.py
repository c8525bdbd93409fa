"""What a rewrap makes of a header's `keys` section (docs/format.md, "Rewrap", rules W4 and W6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from envelope import header, hierarchy, jose, keyurl
from envelope.header import KeySection
from envelope.keks import Keks
from envelope.keys import MasterKey, WrappedKey
from envelope.keyurl import KeyName
from envelope.masters import ALGORITHMS, Kek
from envelope.secret import Secret
from envelope.trust import Trust, name_of

__all__ = ["Rekeyed", "moved", "refreshed", "same_set"]


@dataclass(frozen=True, slots=True)
class Rekeyed:
    """The `keys` section after a rewrap, and what changed in it.

    Args:
        keys: The bytes of the section.
        refreshed: Kids that took the place of another version of the same key.
        added: Kids of keys that were no recipients.
        kept: Kids that stay.
        dropped: Kids that are gone: keys that are no recipients any more, or a second
            version of a key whose newest one is a recipient now.
        proven: The new section was opened through a recipient that the ring may decrypt with.
        changed: There is anything to write.
    """

    keys: bytes
    refreshed: tuple[str, ...]
    added: tuple[str, ...]
    kept: tuple[str, ...]
    dropped: tuple[str, ...]
    proven: bool
    changed: bool


def same_set(section: KeySection, masters: Sequence[MasterKey], trust: Trust) -> bool:
    """Whether the file is for exactly the keys that ``masters`` are versions of."""
    return {_key(r.kid, trust) for r in section.recipients} == {_key(m.kid, trust) for m in masters}


def refreshed(
    section: KeySection, kek: Kek, keks: Keks, encrypt_to: Sequence[KeyName], trust: Trust
) -> Rekeyed:
    """Move recipients named in ``encrypt_to`` to their newest version, keep the rest as they are.

    The KEK, its id, its signature and unknown members stay: the set of keys is the same.
    """
    present = {name_of(r.kid) for r in section.recipients}
    members: list[object] = []
    recipients: list[WrappedKey] = []
    fresh: list[WrappedKey] = []
    kept: list[str] = []
    dropped: list[str] = []
    for recipient, member in zip(section.recipients, section.kek["recipients"], strict=True):
        name = name_of(recipient.kid)
        master = _newest(name, keks, encrypt_to, trust) if name else None
        if master is None or (newest := keyurl.parse(master.kid)) == name:
            members.append(member)  # as it was read, members unknown to us included
            recipients.append(recipient)
            kept.append(recipient.kid)
        elif newest in present:
            dropped.append(recipient.kid)
        else:
            present.add(newest)
            fresh.append(keks.rewrapped(kek, master))
            members.append(fresh[-1].to_json())
            recipients.append(fresh[-1])
    changed = bool(fresh or dropped)
    keys = header.keys_json(
        jose.dumps({**section.kek, "recipients": members}), section.dek_encrypted_key, section.other
    )
    return Rekeyed(
        keys=keys,
        refreshed=tuple(r.kid for r in fresh),
        added=(),
        kept=tuple(kept),
        dropped=tuple(dropped),
        proven=_proven(fresh, recipients, kek.id, keks, trust, call=changed),
        changed=changed,
    )


def moved(section: KeySection, dek: Secret, keks: Keks, trust: Trust) -> Rekeyed:
    """Move the DEK under the ring's current KEK, since whoever opens a KEK opens all its files.

    The old `kek` goes with its signature and unknown members; unknown
    top-level members of `keys` stay.
    """
    keks.look_again()
    writing = keks.writing()
    wrapped = hierarchy.wrap_dek(writing.kek.wrapping, dek)
    before = {_key(r.kid, trust) for r in section.recipients}
    versions = {name_of(r.kid) for r in section.recipients}
    now = {_key(r.kid, trust) for r in writing.recipients}
    refreshed, added, kept = [], [], []
    for recipient in writing.recipients:
        if _key(recipient.kid, trust) not in before:
            added.append(recipient.kid)
        elif name_of(recipient.kid) in versions:
            kept.append(recipient.kid)
        else:
            refreshed.append(recipient.kid)
    return Rekeyed(
        keys=header.keys_json(writing.member, wrapped, section.other),
        refreshed=tuple(refreshed),
        added=tuple(added),
        kept=tuple(kept),
        dropped=tuple(r.kid for r in section.recipients if _key(r.kid, trust) not in now),
        proven=_proven(writing.recipients, (), writing.kek.id, keks, trust, call=True),
        changed=True,
    )


def _key(kid: str, trust: Trust) -> KeyName | str:
    """What makes two recipients the same key: its name today, whichever version."""
    name = name_of(kid)
    return kid if name is None else trust.lives_at(name).unversioned


def _newest(
    name: KeyName, keks: Keks, encrypt_to: Sequence[KeyName], trust: Trust
) -> MasterKey | None:
    """The newest version of the key of ``encrypt_to`` that ``name`` is a version of."""
    called = trust.lives_at(name)
    for recipient in encrypt_to:
        if keyurl.matches(recipient, name) or keyurl.matches(recipient, called):
            return keks.masters.newest(str(recipient))
        if recipient.scheme == "public":  # named by a file; whose key it is stands inside
            master = keks.masters.newest(str(recipient))
            if keyurl.parse(master.kid).unversioned == called.unversioned:
                return master
    return None


def _proven(
    fresh: Sequence[WrappedKey],
    others: Sequence[WrappedKey],
    kek_id: bytes,
    keks: Keks,
    trust: Trust,
    *,
    call: bool,
) -> bool:
    """Open the new section through one recipient that may be called (rule W6).

    Where fresh ones may be called it is one of those. The answer is remembered
    by the wrapped key, so it costs one unwrap for all the files of a KEK.
    """
    known = [wrapped for wrapped in others if wrapped.alg in ALGORITHMS]
    candidates = list(trust.callable(fresh)) or list(trust.callable(known))
    if any(keks.masters.proven(wrapped, kek_id) for wrapped, _ in candidates):
        return True
    if not call or not candidates:
        return False
    keks.unwrap(candidates, kek_id)
    return True
