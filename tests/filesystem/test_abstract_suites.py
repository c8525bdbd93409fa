"""fsspec's own suites for implementations, over each store.

They copy, get, put, open and pipe by all the rules on trailing slashes, globs and folders.
Contents are a byte at most there, so that they would pass on ciphertext too: the other tests here
are about that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fsspec.tests.abstract import (
    AbstractCopyTests,
    AbstractFixtures,
    AbstractGetTests,
    AbstractOpenTests,
    AbstractPipeTests,
    AbstractPutTests,
)

from tests.filesystem.conftest import Store

pytestmark = pytest.mark.slow


class _Fixtures(AbstractFixtures):  # type: ignore[misc]  # fsspec is not typed
    @pytest.fixture
    def fs(self, store: Store) -> Any:
        store.raw.invalidate_cache()
        return store.fs

    @pytest.fixture
    def fs_path(self, store: Store) -> str:
        return store.root

    @pytest.fixture
    def fs_join(self) -> Callable[..., str]:
        return lambda *parts: "/".join(parts)

    @pytest.fixture
    def supports_empty_directories(self, store: Store) -> bool:
        return store.protocol in ("file", "memory")  # an object store has no folders of their own


class TestCopy(_Fixtures, AbstractCopyTests):  # type: ignore[misc]
    pass


class TestGet(_Fixtures, AbstractGetTests):  # type: ignore[misc]
    pass


class TestPut(_Fixtures, AbstractPutTests):  # type: ignore[misc]
    pass


class TestOpen(_Fixtures, AbstractOpenTests):  # type: ignore[misc]
    pass


class TestPipe(_Fixtures, AbstractPipeTests):  # type: ignore[misc]
    pass
