"""The conformance suite of master-key drivers: subclass it, and say how your vault is set up.

    from envelope.testing.conformance import MasterKeyConformance, Subject

    class TestAcme(MasterKeyConformance):
        @pytest.fixture
        def subject(self):
            vault = AcmeEmulator()
            vault.make("lake")
            return Subject(DRIVER, {"endpoint": vault.url}, "acme:lake", rotate=vault.rotate)

What a vault cannot do is left out of the :class:`Subject`; the tests of it are
skipped, and say so. Everything else has to hold: the key ring relies on it.
"""

# ruff: noqa: S101 - asserts are what a test suite is made of

from __future__ import annotations

import base64
import json
import os
import pickle
import selectors
import signal
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from envelope.errors import (
    AccessDenied,
    EnvelopeError,
    KeyDisabled,
    KeyMismatch,
    KeyNotFound,
    KeyOperationForbidden,
)
from envelope.keys import Driver, KeyResolver, MasterKey, WrappedKey
from envelope.secret import Secret

__all__ = ["MasterKeyConformance", "Subject", "spelled", "told"]

AAD = bytes(range(32))  # stands for a KEK's id
_CHILD_SECONDS = 60.0


@dataclass
class Subject:
    """A driver under test, with a vault behind it that has one enabled key.

    Args:
        driver: What the entry point names.
        options: What a user would write in ``settings`` for it.
        key: The key's name without a version.
        other: The name of a second key of the same kind, where there is one.
        missing: The name of a key that is not there.
        alg: The algorithm that the key must be used with.
        rotate: Makes a new version of ``key``.
        disable: Disables the version of the given kid.
        deny: Takes the caller's permission to use ``key`` away.
        unwraps: False for keys that only wrap, such as public halves.
        canaries: Secrets (tokens, key bytes, passphrases) that must show nowhere.
    """

    driver: Driver
    options: Mapping[str, Any]
    key: str
    other: str | None = None
    missing: str | None = None
    alg: str | None = None
    rotate: Callable[[], object] | None = None
    disable: Callable[[str], object] | None = None
    deny: Callable[[], object] | None = None
    unwraps: bool = True
    canaries: Sequence[Secret] = field(default_factory=tuple)

    def resolver(self) -> KeyResolver:
        """A new resolver, as another process would make it from the ring's configuration."""
        settings = self.driver.settings(self.options)
        return self.driver.resolver(json.loads(json.dumps(settings)))

    def master(self) -> MasterKey:
        """The newest version of the key."""
        return self.resolver().resolve(self.key)


def spelled(secret: Secret) -> list[str]:
    """The ways in which bytes come to be printed."""
    return [
        repr(secret.reveal())[2:-1],
        repr(bytearray(secret.reveal()))[12:-2],  # escapes a quote that bytes do not
        secret.reveal().hex(),
        base64.b64encode(secret.reveal()).decode().rstrip("="),
        base64.urlsafe_b64encode(secret.reveal()).decode().rstrip("="),
        str(list(secret.reveal()))[1:-1],
    ]


def told(error: BaseException) -> str:
    """All that a careless report could print of an error: locals, causes, and its pickle."""
    texts = []
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        each = waiting.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        waiting += [each.__cause__, each.__context__]  # suppressed ones too: reporters show them
        texts.append(
            "".join(traceback.TracebackException.from_exception(each, capture_locals=True).format())
        )
    return "\n".join(
        [*texts, str(error), repr(error), repr(vars(error)), repr(pickle.dumps(error))]
    )


class MasterKeyConformance:
    """What every master key must do. Override the fixture ``subject``."""

    @pytest.fixture
    def subject(self) -> Subject:
        raise NotImplementedError("override the fixture `subject`")

    # --- Round trips ----------------------------------------------------------------------------

    def test_what_it_wraps_it_unwraps(self, subject: Subject) -> None:
        key, master = Secret.random(), subject.master()
        wrapped = master.wrap(key, aad=AAD)
        assert wrapped.kid == master.kid
        assert wrapped.alg == master.alg
        assert key.reveal() not in wrapped.encrypted_key
        if subject.alg is not None:
            assert master.alg == subject.alg
        if subject.unwraps:
            assert subject.resolver().resolve(wrapped.kid).unwrap(wrapped, aad=AAD) == key

    def test_a_wrapped_key_survives_its_json_form(self, subject: Subject) -> None:
        wrapped = subject.master().wrap(Secret.random(), aad=AAD)
        parsed = json.loads(json.dumps(wrapped.to_json()))
        assert set(parsed) >= {"kid", "alg", "encrypted_key"}
        assert all(isinstance(value, str) for value in parsed.values())

    def test_the_kid_names_the_exact_version(self, subject: Subject) -> None:
        kid = subject.master().wrap(Secret.random(), aad=AAD).kid
        assert kid != subject.key
        if subject.unwraps:
            assert subject.resolver().resolve(kid).kid == kid

    def test_a_resolver_says_whether_calls_are_metered(self, subject: Subject) -> None:
        resolver = subject.resolver()
        assert isinstance(resolver, KeyResolver)
        assert isinstance(resolver.metered, bool)

    # --- Ciphertexts that must not unwrap -------------------------------------------------------

    def test_every_changed_byte_is_a_key_mismatch(self, subject: Subject) -> None:
        master, wrapped = self._wrapped(subject)
        for index in range(0, len(wrapped.encrypted_key), 7):
            changed = bytearray(wrapped.encrypted_key)
            changed[index] ^= 1
            with raises(subject, KeyMismatch):
                master.unwrap(replace(wrapped, encrypted_key=bytes(changed)), aad=AAD)

    def test_another_length_is_a_key_mismatch(self, subject: Subject) -> None:
        master, wrapped = self._wrapped(subject)
        whole = wrapped.encrypted_key
        for changed in (b"", whole[:-1], whole[:-8], whole + bytes(1), whole + bytes(8), whole * 2):
            with raises(subject, KeyMismatch):
                master.unwrap(replace(wrapped, encrypted_key=changed), aad=AAD)

    def test_another_keys_ciphertext_is_a_key_mismatch(self, subject: Subject) -> None:
        if subject.other is None:
            pytest.skip("the subject has no second key")
        master, _ = self._wrapped(subject)
        foreign = subject.resolver().resolve(subject.other).wrap(Secret.random(), aad=AAD)
        with raises(subject, KeyMismatch):
            master.unwrap(replace(foreign, kid=master.kid), aad=AAD)

    def test_the_wrapped_key_cannot_choose_the_algorithm(self, subject: Subject) -> None:
        master, wrapped = self._wrapped(subject)
        for alg in ("RSA1_5", "RSA-OAEP", "dir", "A128KW", "none", ""):
            with raises(subject, KeyMismatch, KeyOperationForbidden):
                master.unwrap(replace(wrapped, alg=alg), aad=AAD)

    def test_a_key_that_only_wraps_refuses_to_unwrap(self, subject: Subject) -> None:
        if subject.unwraps:
            pytest.skip("this key unwraps")
        master = subject.master()
        wrapped = master.wrap(Secret.random(), aad=AAD)
        with raises(subject, KeyOperationForbidden):
            master.unwrap(wrapped, aad=AAD)

    # --- Versions and states --------------------------------------------------------------------

    def test_a_rotated_key_wraps_anew_and_still_unwraps_the_old(self, subject: Subject) -> None:
        if subject.rotate is None:
            pytest.skip("the subject cannot be rotated")
        key, before = Secret.random(), subject.master()
        wrapped = before.wrap(key, aad=AAD)
        subject.rotate()
        after = subject.master()
        assert after.kid != before.kid
        assert subject.resolver().resolve(wrapped.kid).unwrap(wrapped, aad=AAD) == key
        assert before.unwrap(wrapped, aad=AAD) == key
        with raises(subject, KeyMismatch):
            after.unwrap(replace(wrapped, kid=after.kid), aad=AAD)

    def test_a_disabled_version_is_refused_even_by_an_open_handle(self, subject: Subject) -> None:
        if subject.disable is None:
            pytest.skip("the subject cannot be disabled")
        master, wrapped = self._wrapped(subject)
        subject.disable(master.kid)
        with raises(subject, KeyDisabled):
            master.unwrap(wrapped, aad=AAD)
        with raises(subject, KeyDisabled):
            subject.resolver().resolve(wrapped.kid).unwrap(wrapped, aad=AAD)
        with raises(subject, KeyDisabled):
            subject.master().wrap(Secret.random(), aad=AAD)

    def test_an_older_version_wraps_once_the_newest_is_disabled(self, subject: Subject) -> None:
        if subject.rotate is None or subject.disable is None:
            pytest.skip("the subject cannot be rotated and disabled")
        before = subject.master()
        subject.rotate()
        subject.disable(subject.master().kid)
        assert subject.master().kid == before.kid

    def test_a_missing_key_is_key_not_found(self, subject: Subject) -> None:
        if subject.missing is None:
            pytest.skip("the subject names no missing key")
        for _ in range(2):  # and asking did not make it
            with raises(subject, KeyNotFound):
                subject.resolver().resolve(subject.missing).wrap(Secret.random(), aad=AAD)

    def test_a_refused_caller_is_access_denied(self, subject: Subject) -> None:
        if subject.deny is None:
            pytest.skip("the subject cannot deny access")
        subject.deny()
        with raises(subject, AccessDenied):
            subject.master().wrap(Secret.random(), aad=AAD)

    # --- Threads, forks, pickles ----------------------------------------------------------------

    def test_eight_threads_share_a_key(self, subject: Subject) -> None:
        master, start = subject.master(), threading.Barrier(8)

        def work(_: int) -> bool:
            start.wait(_CHILD_SECONDS)
            return all(_round_trip(subject, master) for _ in range(5))

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(work, range(8)))

    def test_eight_threads_resolve_at_once(self, subject: Subject) -> None:
        resolver, start = subject.resolver(), threading.Barrier(8)

        def work(_: int) -> bool:
            start.wait(_CHILD_SECONDS)
            return _round_trip(subject, resolver.resolve(subject.key))

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(work, range(8)))

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
    def test_a_child_forked_during_calls_can_use_new_resolvers(self, subject: Subject) -> None:
        # New ones: the library makes a driver's resolver anew in a forked child.
        master, end = subject.master(), threading.Event()

        def work() -> None:
            while not end.is_set():
                _round_trip(subject, master)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(5):
                assert _in_child(lambda: _round_trip(subject, subject.master()))
        finally:
            end.set()
            for thread in threads:
                thread.join()

    def test_settings_are_json_and_settle_at_once(self, subject: Subject) -> None:
        settings = subject.driver.settings(subject.options)
        assert json.loads(json.dumps(settings)) == settings
        assert subject.driver.settings(settings) == settings
        assert pickle.loads(pickle.dumps(settings)) == settings  # noqa: S301 - made one line ago

    def test_an_unknown_option_is_refused(self, subject: Subject) -> None:
        from envelope.errors import ConfigurationError

        with pytest.raises(ConfigurationError):
            subject.driver.settings({**subject.options, "no_such_option": "x"})

    def test_an_error_pickles_as_itself(self, subject: Subject) -> None:
        if subject.missing is None:
            pytest.skip("the subject names no missing key")
        with pytest.raises(EnvelopeError) as caught:
            subject.resolver().resolve(subject.missing).wrap(Secret.random(), aad=AAD)
        copy = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 - made in this line
        assert type(copy) is type(caught.value)
        assert (str(copy), copy.kid) == (str(caught.value), caught.value.kid)

    # --- Secrets --------------------------------------------------------------------------------

    def test_nothing_secret_is_printed_or_logged(
        self, subject: Subject, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("DEBUG")
        key, resolver = Secret.random(), subject.resolver()
        master = resolver.resolve(subject.key)
        wrapped = master.wrap(key, aad=AAD)
        if subject.unwraps:
            master.unwrap(wrapped, aad=AAD)
        settings = json.dumps(subject.driver.settings(subject.options))
        text = " ".join(
            [repr(resolver), str(master), repr(master), repr(wrapped), settings, caplog.text]
        )
        assert _leaks(text, [key, *subject.canaries]) == []

    def _wrapped(self, subject: Subject) -> tuple[MasterKey, WrappedKey]:
        if not subject.unwraps:
            pytest.skip("this key only wraps")
        master = subject.master()
        return master, master.wrap(Secret.random(), aad=AAD)


@contextmanager
def raises(subject: Subject, *kinds: type[EnvelopeError]) -> Iterator[None]:
    """As ``pytest.raises``; also the error must say what it is about, and tell no secret."""
    with pytest.raises(kinds) as caught:
        yield
    assert caught.value.kid, "an error names the key that it is about"
    assert caught.value.operation, "an error names what was being done"
    assert _leaks(told(caught.value), subject.canaries) == []


def _leaks(text: str, canaries: Sequence[Secret]) -> list[int]:
    """Which canaries show in ``text``, by number: a failing assertion must not print them."""
    return [
        number
        for number, canary in enumerate(canaries)
        if any(spelling in text for spelling in spelled(canary))
    ]


def _round_trip(subject: Subject, master: MasterKey) -> bool:
    key = Secret.random()
    wrapped = master.wrap(key, aad=AAD)
    return not subject.unwraps or master.unwrap(wrapped, aad=AAD) == key


def _in_child(work: Callable[[], bool]) -> bool:
    """What ``work`` returns in a forked child; False if it raises, or hangs."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # forking beside threads is the point
        child = os.fork()
    if child == 0:
        answer = b"0"
        try:
            answer = b"1" if work() else b"0"
        finally:
            os.write(writing, answer)
            os._exit(0)
    os.close(writing)
    try:
        with selectors.DefaultSelector() as selector:  # select() knows no descriptor above 1023
            selector.register(reading, selectors.EVENT_READ)
            ready = selector.select(_CHILD_SECONDS)
        if not ready:
            os.kill(child, signal.SIGKILL)
        return bool(ready) and os.read(reading, 1) == b"1"
    finally:
        os.close(reading)
        os.waitpid(child, 0)
