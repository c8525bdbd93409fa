"""A store with its policy: which keys hold for a path, where it is stored, what is remembered.

What is done to a store are generators (:mod:`envelope_fsspec.steps`), in the
modules that build on this one. What a user sees is a path and plaintext; what
the store gets is a stored path and ciphertext.
"""

from __future__ import annotations

import errno
import os
from typing import Any

from envelope import runtime
from envelope.caches import Cache
from envelope.errors import ConfigurationError
from envelope.reading import NOTHING
from envelope_fsspec.names import Names
from envelope_fsspec.naming import Naming, prepared
from envelope_fsspec.places import Paths
from envelope_fsspec.policy import Domain, Policy
from envelope_fsspec.reading import Opened
from envelope_fsspec.steps import Ask, Steps

__all__ = ["KeyedStore"]

_HEADERS = 4096  # opened headers that a process keeps, and for how many seconds:
_HEADERS_AGE = 300.0
_ENDS = 64  # ends of files with their plaintext, 512 KiB each at most, and for how many seconds:
_ENDS_AGE = 30.0


class _Known:
    """Files that were opened a moment ago in this process; see :meth:`Target.opened`."""

    def __init__(self) -> None:
        self.headers: Cache[tuple[object, str], Opened] = Cache(_HEADERS, _HEADERS_AGE)
        self.ends: Cache[tuple[object, str], Opened] = Cache(_ENDS, _ENDS_AGE)


class KeyedStore:
    """See the module.

    Args:
        store: The file system of the ciphertext.
        policy: Keys, context and geometry.
        paths: How its paths and the user's correspond.
    """

    def __init__(self, store: Any, policy: Policy, paths: Paths) -> None:
        self.store = store
        self.policy = policy
        self.paths = paths
        self._identity = (policy, type(store).__name__, str(getattr(store, "_fs_token", "")))
        self.naming: Naming | None = None
        if policy.names == "encrypt":
            if not (paths.shown or paths.root):
                raise ConfigurationError('names="encrypt" in a chain needs root: see docs/names.md')
            root = paths.top("/" if policy.rooted or store.root_marker == "/" else "")
            self.naming = Naming(store, policy, root, self._identity)

    def domain(self, path: str) -> Domain:
        """What holds for a path."""
        relative = self.paths.relative(path)
        names = self._names(path) if self.policy.bind_path else None
        return self.policy.domain(relative, None if names is None else names.stored(relative))

    def stored(self, path: str) -> str:
        """The store's path. Where names are encrypted, only within an operation.

        Raises:
            FileNotFoundError: There is no name key, so no file below the root either.
        """
        if self.naming is not None and not self.paths.below(path):
            return self.paths.top(path)
        return self.paths.stored(path, self._names(path))

    def _names(self, path: str) -> Names | None:
        if self.naming is None:
            return None
        if self.naming.names is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return self.naming.names

    @prepared
    def located(self, path: str) -> Steps[str]:
        """As :meth:`stored`, for who is in no operation."""
        yield from ()
        return self.stored(path)

    def writing(self, path: str) -> Steps[None]:
        """What comes before something new below the root: its name key, where it needs one."""
        if self.naming is not None and self.paths.below(path):
            yield from self.naming.made()

    def ask(self, method: str, *args: Any, **kwargs: Any) -> Ask:
        """A call of the store."""
        return Ask(self.store, method, args, kwargs)

    # --- What is remembered ---------------------------------------------------------------------

    def forget(self, path: str) -> None:
        """Believe nothing about a path that was known before, nor let the store."""
        known = self._known()
        known.headers.drop((self._identity, path))
        known.ends.drop((self._identity, path))
        if self.naming is not None and self.naming.names is None:
            self.store.invalidate_cache()  # nobody can tell which
            return
        stored = self.stored(path)
        # A folder can come and go with what is in it, so all listings above may be wrong.
        while stored and stored != self.store.root_marker:
            self.store.invalidate_cache(stored)
            above = self.store._parent(stored)
            if above == stored:
                break
            stored = above

    def forget_all(self) -> None:
        """Believe nothing that was known before."""
        known = self._known()
        known.headers.clear()
        known.ends.clear()
        self.store.invalidate_cache()

    def _keep(self, path: str, opened: Opened) -> None:
        known, key = self._known(), (self._identity, path)
        known.headers.put(key, Opened(opened.incoming, NOTHING, opened.version))
        if opened.version:
            known.ends.put(key, opened)

    def _known(self) -> _Known:
        return runtime.current().state(_Known)
