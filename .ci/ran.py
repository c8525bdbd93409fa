"""``ran.py REPORT PREFIX…``: fails unless tests under each dotted prefix ran, none skipped."""

import sys
from pathlib import Path
from xml.etree import ElementTree

report, *prefixes = sys.argv[1:]
cases = list(ElementTree.parse(Path(report)).iter("testcase"))
wrong = False
for prefix in prefixes:
    found = [case for case in cases if (case.get("classname") or "").startswith(prefix)]
    skipped = [case.get("name") for case in found if case.find("skipped") is not None]
    print(f"{len(found):5} tests under {prefix}", *(f"skipped: {name}" for name in skipped))
    wrong = wrong or not found or bool(skipped)
sys.exit(wrong)
