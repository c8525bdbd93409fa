"""Each promise of the README names tests that exist; CI also reads that they ran and passed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs import promises
from tests.docs.pages import ROOT


def test_every_promise_names_a_test_that_exists() -> None:
    table = promises.promises()
    assert len(table) >= 10
    for promise in table:
        assert promise.tests, f"README.md:{promise.line} names no test"
    named = sorted({test for promise in table for test in promise.tests})
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *named],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    collected = {line.partition("[")[0] for line in done.stdout.splitlines() if "::" in line}
    assert set(named) <= collected, done.stdout + done.stderr


REPORT = """<testsuites><testsuite>
<testcase classname="tests.test_a" name="test_kept"/>
<testcase classname="tests.test_a" name="test_each[1]"/>
<testcase classname="tests.test_a" name="test_each[2]"><skipped/></testcase>
<testcase classname="tests.k.test_b.TestB" name="test_lost"><failure/></testcase>
</testsuite></testsuites>"""


@pytest.mark.parametrize(
    ("test", "says"),
    [
        ("tests/test_a.py::test_kept", None),
        ("tests/test_a.py::test_each", "passed, skipped"),
        ("tests/k/test_b.py::TestB::test_lost", "failed"),
        ("tests/test_a.py::test_gone", "did not run"),
    ],
)
def test_a_promise_is_broken_by_a_test_that_failed_was_skipped_or_is_gone(
    test: str, says: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = tmp_path / "report.xml"
    report.write_text(REPORT)
    row = promises.Promise("It holds", 7, (test,))
    monkeypatch.setattr(promises, "promises", lambda: [row])
    expected = [] if says is None else [f"README.md:7: {test}: {says}"]
    assert promises.broken(report) == expected
