"""The table in README.md that says which test keeps which promise.

As a program, ``python -m tests.docs.promises REPORT`` reads a JUnit report of a
whole test run and fails unless every promised test ran there and passed.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from tests.docs.pages import ROOT, Page

HEADING = "What is promised, and what keeps it"
_NODE_ID = re.compile(r"`(tests/[\w/]+\.py(?:::\w+)+)`")


@dataclass(frozen=True)
class Promise:
    text: str
    line: int
    tests: tuple[str, ...]  # pytest's node ids, without parameters


def promises() -> list[Promise]:
    """The rows of the table, in order."""
    found: list[Promise] = []
    inside = False
    for number, line in Page(ROOT / "README.md").prose:
        if line.startswith("#"):
            inside = line.lstrip("# ") == HEADING
        elif inside and line.startswith("|") and not re.match(r"\|\s*(:?-|promise\b)", line, re.I):
            cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
            found.append(Promise(cells[0], number, tuple(_NODE_ID.findall(line))))
    return found


def outcomes(report: Path) -> dict[str, set[str]]:
    """Node id without parameters -> its outcomes (passed, failed, skipped) in a JUnit report."""
    found: dict[str, set[str]] = {}
    for case in ElementTree.parse(report).iter("testcase"):
        outcome = "passed"
        for element in case:
            if element.tag in ("failure", "error"):
                outcome = "failed"
            elif element.tag == "skipped" and outcome == "passed":
                outcome = "skipped"
        key = f"{case.get('classname')}.{(case.get('name') or '').partition('[')[0]}"
        found.setdefault(key, set()).add(outcome)
    return found


def broken(report: Path) -> list[str]:
    """What is wrong with the promises after a test run; empty where all were kept."""
    seen = outcomes(report)
    wrong = [f"README.md:{p.line}: no test is named" for p in promises() if not p.tests]
    for promise in promises():
        for test in promise.tests:
            key = test.replace(".py::", "::").replace("::", ".").replace("/", ".")
            outcome = seen.get(key, {"did not run"})
            if outcome != {"passed"}:
                wrong.append(f"README.md:{promise.line}: {test}: {', '.join(sorted(outcome))}")
    return wrong


if __name__ == "__main__":
    failures = broken(Path(sys.argv[1]))
    print(*failures, sep="\n")
    if failures or not promises():
        sys.exit(1)
    print(f"{len(promises())} promises, kept by {sum(len(p.tests) for p in promises())} tests")
