"""What ``doctor`` says of files, folders and mounts behind URLs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from envelope.cli.filing import stores_of
from envelope.cli.handover import Handover, Side
from envelope.cli.options import KeyOptions
from envelope.cli.output import Output
from envelope.cli.probing import Check, failed, probe_keys
from envelope.cli.stores import Place, StorageOptions, enveloped

if TYPE_CHECKING:
    from envelope.ring import KeyRing

__all__ = ["checks_of", "file_check"]

_MOST_RINGS = 20  # key rings of rules that are tried


def checks_of(
    out: Output, url: str, keys: KeyOptions, storage: StorageOptions, ring: KeyRing | None
) -> Iterator[Check]:
    """The checks of a URL: of a file, whether it opens; of a folder, what lies in it."""
    try:
        stores = stores_of(out, storage, [url], keys)
        place = stores.at(url)
        folder = place.info()["type"] == "directory"
        if not folder:
            if enveloped(url):
                yield from probe_keys(place.behind.keys)
            yield file_check(place, url, ring)
            return
        raw = place
        if enveloped(url):
            stored = place.fs.target.stored(place.path)
            raw = Place(place.store, stored, str(place.store.unstrip_protocol(stored)))
        files = [info for _place, info in raw.listed(empty=True)]
        if enveloped(url):
            yield from _keys(place)
            found = place.fs.examine(place.path, files)
        else:
            found = _kind().examine_store(raw.fs, raw.path, files)
        for finding in found:
            yield Check(finding.level, finding.check, finding.text, finding.next_step, finding.exit)
    except Exception as error:
        yield failed("store", url, error)


def _kind() -> Any:
    import fsspec

    return fsspec.get_filesystem_class("envelope")


def _keys(place: Place) -> Iterator[Check]:
    """The keys of a mount or a chain; of rules, those that hold for files that are there."""
    paths = [one.path for one, _info in place.listed(empty=True)]
    rings, lost = place.fs.rings(paths)
    policy = place.fs.policy
    if not policy.rules and not rings:
        rings = [policy.ring]
    if policy.rules:
        yield Check("ok", "rules", f"{len(paths)} files have {len(rings)} key rings")
    if lost:
        text = f"no rule matches {len(lost)} files: {', '.join(lost[:5])}"
        yield Check("fail", "rules", text, "Nothing is opened there: add a rule.", 2)
    for ring in rings[:_MOST_RINGS]:
        yield from probe_keys(ring)
    if len(rings) > _MOST_RINGS:
        yield Check("warn", "keys", f"{len(rings) - _MOST_RINGS} more key rings were not tried")


def file_check(side: Side, shown: str, ring: KeyRing | None) -> Check:
    """Whether a file opens."""
    from envelope.inspection import inspect
    from envelope.streams import open as open_encrypted

    handover = Handover(lambda: ring)  # type: ignore[arg-type, return-value]  # asked only if it is one
    behind = side.behind if isinstance(side, Place) else None
    try:
        if ring is None and behind is None:
            kids = ", ".join(kid for kid, _alg in inspect(handover.stored(side)).recipients)
            return Check("warn", "file", f"{shown}: is for {kids}", "Name its key with --key.")
        given = handover.reading(side)
        with open_encrypted(given.pop("source"), **given) as file:
            text = f"{shown}: opens, {file.size} bytes; header and end are proven"
            return Check("ok", "file", text, "envelope verify proves all of it.")
    except Exception as error:
        return failed("file", shown, error)
