"""Descriptions of stored files and folders, as those of plaintext."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from envelope import message
from envelope.errors import EnvelopeError, NotEncrypted
from envelope.keys import Finding
from envelope_fsspec.keyed import KeyedStore
from envelope_fsspec.naming import prepared
from envelope_fsspec.steps import Steps, Together, Work
from envelope_fsspec.stored import ROUNDS, Fetched, Lacking, cut, plain_info

__all__ = ["Listing"]

_SHOWN = 5  # names in a finding


class Listing(KeyedStore):
    """See the module."""

    @prepared
    def info(self, path: str, **kwargs: Any) -> Steps[dict[str, Any]]:
        """The description of one file or folder."""
        found = yield self.ask("info", self.stored(path), **kwargs)
        if self.naming is not None:
            found = {**found, "name": self.stored(path)}  # as it was asked for, which decrypts
        described = yield from self.described([found])
        return described[0]

    @prepared
    def ls(self, path: str, **kwargs: Any) -> Steps[list[dict[str, Any]]]:
        """The descriptions of what is in a folder."""
        found = yield self.ask("ls", self.stored(path), detail=True, **kwargs)
        described = yield from self.described(found)
        return described

    @prepared
    def find(
        self, path: str, maxdepth: int | None = None, withdirs: bool = False, **kwargs: Any
    ) -> Steps[dict[str, dict[str, Any]]]:
        """The descriptions of all that is below a folder, by path."""
        kwargs.pop("prefix", None)  # a hint of fsspec's glob, which some stores misread
        if self.naming is not None and self.naming.names is None and self.paths.below(path):
            return {}  # as for any folder that is not there
        found = yield self.ask(
            "find", self.stored(path), maxdepth=maxdepth, withdirs=withdirs, detail=True, **kwargs
        )
        if not isinstance(found, Mapping):  # adlfs answers with a list for a single file
            listed = yield Together([self._asked("info", name) for name in found])
            found = dict(zip(found, listed, strict=True))
        entries = []
        for name, info in found.items():
            entries.append(info if info else (yield self.ask("info", name)))
        described = yield from self.described(entries)
        base = path.strip("/")
        most = None if maxdepth is None else maxdepth + (base.count("/") + 1 if base else 0)
        return {
            info["name"]: info
            for info in sorted(described, key=lambda info: str(info["name"]))
            if most is None or info["name"].strip("/").count("/") < most
        }

    def _asked(self, method: str, *args: Any, **kwargs: Any) -> Steps[Any]:
        answer = yield self.ask(method, *args, **kwargs)
        return answer

    def described(self, found: Sequence[Mapping[str, Any]]) -> Steps[list[dict[str, Any]]]:
        """The store's descriptions as those of plaintext."""
        layout = self.policy.layout
        named = self._plain_names([str(info["name"]) for info in found])
        kept = [(info, name) for info, name in zip(found, named, strict=True) if name is not None]
        infos = [plain_info(info, name, layout) for info, name in kept]
        if self.policy.exact_sizes:
            files = [i for i, (info, _) in enumerate(kept) if info.get("type") == "file"]
            yield Together([self._exact(kept[i][0], infos[i]) for i in files])
        if self.naming is not None:  # the store's order says nothing
            infos.sort(key=lambda info: str(info["name"]))
        return infos

    def foreign(self, stored: Sequence[str]) -> Iterator[Finding]:
        """What ``envelope doctor`` says of stored names that do not decrypt."""
        if self.naming is None:
            return
        names = self.naming.names
        lost = [p for p in stored if names is None or self.paths.plain(p, names) is None]
        lost = self.naming.foreign(lost)
        if not lost:
            yield Finding("ok", "names", f"all of {len(stored)} decrypt")
            return
        shown = ", ".join(lost[:_SHOWN]) + (" …" if len(lost) > _SHOWN else "")
        yield Finding(
            "warn", "names", f"{len(lost)} of {len(stored)} stored names do not decrypt: {shown}",
            "They were put or moved there by something else, and do not show up. Move them back, "
            "or write them through the mount.",
        )  # fmt: skip

    def _plain_names(self, stored: Sequence[str]) -> list[str | None]:
        """The paths of users for those of the store; ``None`` for those that are not shown."""
        if self.naming is None:
            return [self.paths.plain(path) for path in stored]
        names = self.naming.names
        if names is None:  # so nothing below the root was written here
            root = self.naming.root.strip("/")
            plain = [self.paths.plain(at) if at.strip("/") == root else None for at in stored]
        else:
            plain = [self.paths.plain(path, names) for path in stored]
        self.naming.tell([path for path, found in zip(stored, plain, strict=True) if found is None])
        return plain

    def _exact(self, info: Mapping[str, Any], plain: dict[str, Any]) -> Steps[None]:
        """Put the size into ``plain`` that the file's own header says."""
        size = info["size"]
        if size is None:
            return
        fetched = Fetched(plain["name"], size)
        want: tuple[int, int] = (0, min(size, self.policy.layout.body))
        for _ in range(ROUNDS):
            piece = yield self.ask("cat_file", info["name"], start=want[0], end=want[1])
            fetched.add(want[0], cut(piece, *want, size))
            try:
                layout = yield Work(lambda: message.read_layout(fetched))
                plain["size"] = layout.plain_size(size)
                return
            except NotEncrypted:
                plain.update(size=size, encrypted=False)
                return
            except Lacking as more:
                want = (more.start, more.end)
            except EnvelopeError:
                return  # what is wrong with it is told when it is opened
