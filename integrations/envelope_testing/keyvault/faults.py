"""What goes wrong on purpose: answers, delays and broken connections that a test asks for."""

from __future__ import annotations

import threading
from dataclasses import dataclass


@dataclass
class Fault:
    """One rule: which calls it is for, how often it strikes, and what it does to them."""

    operation: str | None = None
    host: str | None = None
    times: int | None = 1
    status: int | None = None
    code: str | None = None
    message: str | None = None
    retry_after: float | None = None
    drop: bool = False
    hang: float | None = None
    latency: float | None = None
    challenge_resource: str | None = None

    @property
    def answers(self) -> bool:
        """Whether the call ends here, so that no later rule and no operation gets to see it."""
        return self.status is not None or self.drop

    def matches(self, host: str, operation: str) -> bool:
        """Whether this rule is for that call and has strikes left."""
        return self.times != 0 and self.host in (None, host) and self.operation in (None, operation)

    def strike(self) -> None:
        """Count one strike."""
        if self.times is not None:
            self.times -= 1


class Faults:
    """The rules of a world, oldest first. Calls without a token are challenged, not harmed.

    The SDKs' first call carries neither token nor body, just to be told where to get a token; a
    rule for ``times=1`` would otherwise be used up by it, in some runs and not in others.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rules: list[Fault] = []

    def add(
        self,
        *,
        operation: str | None = None,
        host: str | None = None,
        times: int | None = 1,
        status: int | None = None,
        code: str | None = None,
        message: str | None = None,
        retry_after: float | None = None,
        drop: bool = False,
        hang: float | None = None,
        latency: float | None = None,
        challenge_resource: str | None = None,
    ) -> None:
        """Add a rule.

        :param operation: the operation's name in the log, such as ``unwrapkey``; all when None.
        :param host: the vault's full host name; all when None.
        :param times: how many calls it strikes; without an end when None.
        :param status: answer this HTTP status instead of doing the operation.
        :param code: the error body's code; one that fits the status when None.
        :param message: the error body's message.
        :param retry_after: seconds, sent as ``Retry-After`` with the status.
        :param drop: close the connection without an answer.
        :param hang: wait for so many seconds first, as a service does that has lost the call.
        :param latency: wait for so many seconds, then go on as usual.
        :param challenge_resource: name this resource when a call without a token is challenged.
        """
        fault = Fault(
            operation,
            host,
            times,
            status,
            code,
            message,
            retry_after,
            drop,
            hang,
            latency,
            challenge_resource,
        )
        with self._lock:
            self._rules.append(fault)

    def clear(self) -> None:
        """Forget all rules."""
        with self._lock:
            self._rules.clear()

    def take(self, host: str, operation: str) -> list[Fault]:
        """The rules that strike this call, up to the first that answers it."""
        taken = []
        with self._lock:
            for rule in self._rules:
                if rule.challenge_resource is None and rule.matches(host, operation):
                    rule.strike()
                    taken.append(rule)
                    if rule.answers:
                        break
        return taken

    def take_challenge(self, host: str, operation: str) -> str | None:
        """The wrong resource to name in this challenge, or None."""
        with self._lock:
            for rule in self._rules:
                if rule.challenge_resource is not None and rule.matches(host, operation):
                    rule.strike()
                    return rule.challenge_resource
        return None
