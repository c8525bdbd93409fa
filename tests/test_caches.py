from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from envelope.caches import Cache
from tests.fake_clock import FakeClock

SIZE, AGE = 3, 10.0


class CacheAgainstAModel(RuleBasedStateMachine):
    """The model is a list of (key, value, when it was put), the most recently used one last."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.cache: Cache[int, int] = Cache(SIZE, AGE, clock=self.clock)
        self.model: list[tuple[int, int, float]] = []

    @rule(key=st.integers(0, 5), value=st.integers())
    def put(self, key: int, value: int) -> None:
        self.cache.put(key, value)
        self.model = [item for item in self.model if item[0] != key]
        self.model = [*self.model, (key, value, self.clock())][-SIZE:]

    @rule(key=st.integers(0, 5), age=st.none() | st.floats(0, 15))
    def get(self, key: int, age: float | None) -> None:
        found = next((item for item in self.model if item[0] == key), None)
        old = self.clock() - found[2] if found else 0.0
        if found and old >= AGE:
            self.model.remove(found)
            found = None
        if found and age is not None and old >= age:
            found = None
        elif found:
            self.model.remove(found)
            self.model.append(found)
        assert self.cache.get(key, age=age) == (found[1] if found else None)

    @rule(seconds=st.floats(0, 6))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds

    @invariant()
    def it_is_bounded(self) -> None:
        assert len(self.cache) <= SIZE


TestCacheAgainstAModel = CacheAgainstAModel.TestCase


def test_use_does_not_renew_the_age_of_a_value() -> None:
    clock = FakeClock()
    cache: Cache[str, int] = Cache(10, 10.0, clock=clock)
    cache.put("a", 1)
    for _ in range(9):
        clock.now += 1
        assert cache.get("a") == 1
    clock.now += 1
    assert cache.get("a") is None


def test_a_cache_never_prints_what_it_holds() -> None:
    cache: Cache[str, str] = Cache(10, 10.0)
    cache.put("key", "canary")
    assert "canary" not in repr(cache)
