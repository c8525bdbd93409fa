"""For the tests of drivers and of programs that use this library. Needs pytest."""

import pytest

# Before the module is first imported, so that a failing suite shows the values that differ.
pytest.register_assert_rewrite("envelope.testing.conformance")
