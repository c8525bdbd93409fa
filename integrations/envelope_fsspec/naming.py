"""The name key of a root: found, opened and made (docs/names.md, "The name key").

Opening it may call a vault, and looking a path up must not: :meth:`Naming.ready`
is the first step of each operation, and from then on names are only computed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial, wraps
from typing import Any, Protocol, TypeVar, cast

from fsspec.implementations.local import LocalFileSystem

from envelope import caller, events, message, runtime, values
from envelope.caches import Cache
from envelope.errors import AlreadyExists, EnvelopeError, KeyNotFound, UnsupportedFormat
from envelope.events import Notice
from envelope.sealing import seal_run
from envelope.secret import Secret
from envelope.sinks import TEMPORARY_SUFFIX, LocalSink, publishing
from envelope_fsspec.names import KEY_SIZE, Names, looks_encrypted
from envelope_fsspec.policy import Policy
from envelope_fsspec.steps import Ask, Steps, Wait, Work

__all__ = ["CONTEXT", "NAME", "Naming", "prepared"]

NAME = "envelope-names.env1"
"""The object below the root that holds its name key."""

CONTEXT = {"purpose": "envelope-names/1"}
"""What no other file has in its context: none can be put in the place of a name key."""

_KEYS = 256  # opened name keys that a process keeps, and for how many seconds:
_AGE = 300.0

T = TypeVar("T")


class _State:
    """The name keys of a process, and those that are being opened."""

    def __init__(self) -> None:
        self.opened: Cache[object, Names] = Cache(_KEYS, _AGE)
        self.opening: dict[object, Future[Names | None]] = {}
        self.lock = threading.Lock()
        self.told: Cache[tuple[object, str, int], bool] = Cache(_KEYS, float("inf"))


class Naming:
    """See the module.

    Args:
        store: The file system of the ciphertext.
        policy: Whose ring holds the name key.
        root: The root's path in the store.
        identity: Tells stores and policies apart.
    """

    def __init__(self, store: Any, policy: Policy, root: str, identity: object) -> None:
        self.root = root
        self.path = f"{root.rstrip('/')}/{NAME}"
        self.names: Names | None = None
        self._store = store
        self._policy = policy
        self._identity = (identity, root)

    def ready(self) -> Steps[None]:
        """Have the name key in :attr:`names`; ``None`` where there is none yet.

        Raises:
            KeyNotFound: There is none, and there are names that it had encrypted: they must not
                pass for missing.
            EnvelopeError: There is one, and it does not open.
        """
        state = runtime.current().state(_State)
        found = state.opened.get(self._identity)
        while found is None:
            with state.lock:
                under_way = state.opening.get(self._identity)
                if under_way is None:
                    mine: Future[Names | None] = Future()
                    state.opening[self._identity] = mine
            if under_way is None:
                found = yield from self._answered(state, mine)
                break
            # Of 300 files that are asked for together, one opens the name key.
            try:
                found = yield Wait(under_way)
                break
            except GivenUp:
                continue
        self._believe(found)

    def _believe(self, found: Names | None) -> None:
        """What was found counts, unless it is nothing and another thread has made a key since."""
        state = runtime.current().state(_State)
        with state.lock:
            self.names = found or state.opened.get(self._identity)

    def _answered(self, state: _State, mine: Future[Names | None]) -> Steps[Names | None]:
        error: BaseException = GivenUp()  # what others are told where this operation is left
        found: Names | None = None
        done = False
        try:
            found = yield from self._read()
            done = True
            if found is not None:
                state.opened.put(self._identity, found)
            return found
        except Exception as raised:
            error = raised
            raise
        finally:
            with state.lock:
                del state.opening[self._identity]
            if done:
                mine.set_result(found)
            else:
                mine.set_exception(error)

    def _read(self) -> Steps[Names | None]:
        """The name key; ``None`` where nothing was ever written."""
        found: Names | None = yield from self._stored()
        if found is None and (yield from self._in_use()):
            found = yield from self._stored()  # a first writer may have come in between
            if found is None:
                raise KeyNotFound(
                    "names in this folder look encrypted, and there is no name key",
                    path=self.path,
                    next_step=f"Restore {NAME} from a backup. Without it these names are lost; "
                    "the contents are not. If they are plain names that only look so, use another "
                    "folder.",
                )
        return found

    def _stored(self) -> Steps[Names | None]:
        try:
            stored = yield Ask(self._store, "cat_file", (self.path,))
        except FileNotFoundError:
            return None
        names: Names = yield Work(partial(self._open, bytes(stored)))
        return names

    def _open(self, stored: bytes) -> Names:
        try:
            with caller.deadline(self._policy.timeout):
                key = Secret(values.decrypt(stored, keys=self._policy.names_ring, context=CONTEXT))
        except EnvelopeError as error:
            error.path = self.path
            raise
        if len(key) != KEY_SIZE:
            raise UnsupportedFormat(f"a name key of {len(key)} bytes", path=self.path)
        return Names(key)

    # --- The first writer -----------------------------------------------------------------------

    def made(self) -> Steps[None]:
        """As :meth:`ready`, and make a name key where there is none.

        Raises:
            EnvelopeError: As :meth:`ready`; or the key ring cannot encrypt.
        """
        yield from self.ready()
        if self.names is not None:
            return
        sealed = yield Work(self._sealed)
        try:
            yield from self._create(sealed)
        except FileNotFoundError:
            yield Ask(self._store, "makedirs", (self.root,), {"exist_ok": True})
            yield from self._create(sealed)
        self._store.invalidate_cache(self.root)
        # What is there now counts, whoever made it; a look that another thread began before it was
        # there does not.
        found = yield from self._stored()
        if found is None:
            raise KeyNotFound("the name key was written and cannot be found", path=self.path)
        runtime.current().state(_State).opened.put(self._identity, found)
        self._believe(found)

    def _in_use(self) -> Steps[bool]:
        self._store.invalidate_cache(self.root)
        try:
            found = yield Ask(self._store, "ls", (self.root,), {"detail": False})
        except FileNotFoundError:
            return False
        return any(looks_encrypted(name.rstrip("/").rpartition("/")[2]) for name in found)

    def _sealed(self) -> bytes:
        ring = self._policy.names_ring
        context = {**dict.fromkeys(ring.required_context, "*"), **CONTEXT}
        with caller.deadline(self._policy.timeout):
            outgoing = message.begin(
                ring, context, segment_length=self._policy.layout.segment_length
            )
        stored = bytearray(outgoing.layout.stored_size(KEY_SIZE))
        start = len(outgoing.prefix)
        stored[:start] = outgoing.prefix
        plain = memoryview(Secret.random(KEY_SIZE).reveal())
        seal_run(outgoing.sealer, 0, True, plain, memoryview(stored)[start:])
        outgoing.grant.count_bytes(KEY_SIZE)
        return bytes(stored)

    def _create(self, sealed: bytes) -> Steps[None]:
        """Put it there, unless another one is there."""
        try:
            if isinstance(self._store, LocalFileSystem):
                yield Work(partial(_linked, self.path, sealed))
            else:
                yield Ask(self._store, "pipe_file", (self.path, sealed), {"mode": "create"})
        except (FileExistsError, AlreadyExists):
            pass  # of two first writers, this is the later one

    def beside(self) -> Steps[list[str]]:
        """The stored paths of all else that is directly below the root."""
        found = yield Ask(self._store, "ls", (self.root,), {"detail": False})
        return [path for path in found if path.strip("/") != self.path.strip("/")]

    # --- Listings -------------------------------------------------------------------------------

    def foreign(self, paths: Sequence[str]) -> list[str]:
        """Those of stored paths that did not decrypt, of which nobody knows what they are."""
        own = self.path.strip("/")
        return [p for p in paths if p.strip("/") != own and not p.endswith(TEMPORARY_SUFFIX)]

    def tell(self, paths: Sequence[str]) -> None:
        """Warn of stored paths that did not decrypt; of the same ones only once."""
        others = self.foreign(paths)
        if not others:
            return
        folder = others[0].rpartition("/")[0]
        told = runtime.current().state(_State).told
        if told.get((self._identity, folder, len(others))) is None:
            told.put((self._identity, folder, len(others)), True)
            events.emit(
                Notice(
                    f"{len(others)} stored names that do not decrypt were left out of a listing, "
                    f"the first of them in {folder}"
                )
            )


class GivenUp(Exception):
    """The operation that was opening a name key for all was cancelled."""


class _Named(Protocol):
    @property
    def naming(self) -> Naming | None:
        """The name key, where names are encrypted."""


F = TypeVar("F", bound=Callable[..., Steps[Any]])


def prepared(operation: F) -> F:
    """Have an operation, a method of what is named, begin with the name key if there is one."""

    @wraps(operation)
    def begun(self: _Named, *args: Any, **kwargs: Any) -> Steps[Any]:
        steps = operation(self, *args, **kwargs)
        return steps if self.naming is None else _after(self.naming.ready(), steps)

    return cast(F, begun)


def _after(first: Steps[None], then: Steps[T]) -> Steps[T]:
    yield from first
    return (yield from then)


def _linked(path: str, sealed: bytes) -> None:
    """A local file that appears whole, and is on the disk before anything relies on it."""
    with publishing(LocalSink(path, overwrite=False, durable=True, mode=None)) as sink:
        sink.write_at(0, memoryview(sealed))
