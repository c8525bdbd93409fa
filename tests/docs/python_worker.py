"""Runs the Python blocks of one page, in order, in one namespace; a process of its own.

Each line on standard input is a JSON object with the code, where it stands,
and the environment and folder that the page's shell commands have arrived at.
Each answer is a JSON line: a traceback, or an empty text.
"""

import json
import os
import sys
import traceback

answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
os.dup2(2, 1)  # what a block prints must not mix with the answers

namespace = {"__name__": "__main__"}
for line in sys.stdin:
    task = json.loads(line)
    os.environ.clear()
    os.environ.update(task["environment"])
    os.chdir(task["folder"])
    try:
        # Blank lines in front, so that a traceback counts the lines of the page.
        source = "\n" * (task["line"] - 1) + task["code"]
        exec(compile(source, task["page"], "exec"), namespace)
        sys.stdout.flush()
        failure = ""
    except BaseException:
        failure = traceback.format_exc()
    print(json.dumps(failure), file=answers, flush=True)
