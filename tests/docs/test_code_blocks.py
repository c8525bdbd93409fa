"""Every Python and shell block of the documentation runs, in the order of its page.

A page is read as somebody reads it who types along: one folder, one shell, one
Python session, an empty home. In a shell block, lines that start with ``$ ``
are run and the lines after one are its output, in which ``…`` stands for
anything. Comments right before a block change the rules: ``<!-- not run:
REASON -->``, and ``<!-- exit: N -->`` where the last command has to fail.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import fsspec
import pytest

from envelope_testing.keyvault import LocalKeyVault
from tests.docs.pages import Block, Page, all_pages
from tests.filesystem import servers

PYTHON = {"python"}
CONSOLE = {"console"}
SCRIPT = {"bash"}
RUN = PYTHON | CONSOLE | SCRIPT
# Spellings that would slip past the sets above without anybody noticing.
MISSPELT = {"py", "python3", "pycon", "sh", "shell", "shell-session", "terminal", "zsh", ""}
SECONDS = 120

PAGES = [page for page in all_pages() if page.blocks]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_blocks_of_a_page_run_in_order(page: Page, tmp_path: Path) -> None:
    with surroundings(page) as environment, Reader(tmp_path, environment) as reader:
        for block in page.blocks:
            if block.not_run is None:
                reader.follow(block)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_block_says_its_language_or_why_it_is_not_run(page: Page) -> None:
    for block in page.blocks:
        assert block.language not in MISSPELT, (
            f"{block.where}: write one of {', '.join(sorted(RUN))}, or `text` for what is not code"
        )
        reason = block.not_run
        if reason is not None:
            assert block.language in RUN, f"{block.where}: is not run anyway"
            assert len(reason) > 10, f"{block.where}: say why it is not run"


@contextmanager
def surroundings(page: Page) -> Iterator[dict[str, str]]:
    """What a page's reader has besides: vaults for the pages on Azure, stores for pipelines."""
    if page.name == "docs/pipelines.md":
        with servers.s3() as s3, servers.azurite() as azure:
            fsspec.filesystem("s3", **s3).call_s3("create_bucket", Bucket="lake")
            fsspec.filesystem("abfs", **azure).mkdir("archive")
            yield {
                "AWS_ENDPOINT_URL": s3["endpoint_url"],
                "AWS_ACCESS_KEY_ID": s3["key"],
                "AWS_SECRET_ACCESS_KEY": s3["secret"],
                "AWS_DEFAULT_REGION": "us-east-1",
                "AZURE_STORAGE_CONNECTION_STRING": azure["connection_string"],
            }
        return
    if not page.name.startswith(("docs/azure", "docs/column-keys", "docs/spark")):
        yield {}
        return
    with LocalKeyVault() as local:
        for name in ("acme", "acme-west", "escrow"):
            local.vault(name)
        yield local.environment()


def blocks_not_run() -> list[Block]:
    return [block for page in PAGES for block in page.blocks if block.not_run is not None]


def test_few_blocks_are_not_run() -> None:
    run = sum(block.language in RUN for page in PAGES for block in page.blocks)
    listed = [f"{block.where}: {block.not_run}" for block in blocks_not_run()]
    print(*listed, sep="\n")
    assert len(listed) <= run // 3, "most of what readers see must have been run"


class Reader:
    """Somebody who types a page's blocks, with a home of their own."""

    def __init__(self, home: Path, environment: Mapping[str, str] | None = None) -> None:
        self.folder = home / "work"
        self.folder.mkdir()
        tools = home / "bin"
        tools.mkdir()
        for name, arguments in (("envelope", "-m envelope "), ("python", ""), ("python3", "")):
            tool = tools / name
            tool.write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments}"$@"\n')
            tool.chmod(0o755)
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("ENVELOPE_", "XDG_"))}
        xdg = {
            f"XDG_{kind}_HOME": str(home / kind.lower())
            for kind in ("CONFIG", "DATA", "CACHE", "STATE")
        }
        self.environment = {
            **kept,
            **xdg,
            "HOME": str(home),
            "ENVELOPE_KEYSTORE": str(home / "keystore"),
            "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "COLUMNS": "100",
            "LC_ALL": "C.UTF-8",
            "NO_COLOR": "1",
            "TERM": "dumb",
            **(environment or {}),
        }
        self._state = home / "shell-state"
        self._python: subprocess.Popen[str] | None = None

    def __enter__(self) -> Reader:
        return self

    def __exit__(
        self, *exception: type[BaseException] | BaseException | TracebackType | None
    ) -> None:
        if self._python is not None:
            self._python.kill()
            self._python.communicate()

    def follow(self, block: Block) -> None:
        if block.language in PYTHON:
            self._run_python(block)
        elif block.language in CONSOLE or block.code.startswith("$ "):
            self._run_console(block)
        elif block.language in SCRIPT:
            status, output = self._run_shell(f"set -e\n{block.code}", 0)
            assert status == block.exit_status, f"{block.where} ended with {status}:\n{output}"

    def _run_python(self, block: Block) -> None:
        if self._python is None:
            worker = Path(__file__).with_name("python_worker.py")
            self._python = subprocess.Popen(
                [sys.executable, "-W", "error", str(worker)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                encoding="utf-8",
                env=self.environment,
            )
        assert self._python.stdin is not None
        assert self._python.stdout is not None
        task = {
            "code": block.code,
            "page": block.page,
            "line": block.line,
            "environment": self.environment,
            "folder": str(self.folder),
        }
        print(json.dumps(task), file=self._python.stdin, flush=True)
        answer = self._python.stdout.readline()
        assert answer, f"{block.where}: the Python session ended"
        failure = json.loads(answer)
        assert not failure, f"{block.where}\n{failure}"

    def _run_console(self, block: Block) -> None:
        commands = split_console(block.code)
        assert commands, f"{block.where}: a console block has lines that start with `$ `"
        status = 0
        for index, command in enumerate(commands):
            status, output = self._run_shell(command.text, status)
            said = f"{block.where}: $ {command.text}\n{output}"
            if command.expected is not None:
                assert matches(command.expected, output), f"{said}\nexpected:\n{command.expected}"
            if index == len(commands) - 1:
                assert status == block.exit_status, f"{said}\nended with {status}"
            elif not commands[index + 1].text.startswith("echo $?"):
                assert status == 0, f"{said}\nended with {status}"

    def _run_shell(self, text: str, last_status: int) -> tuple[int, str]:
        """Run one command as the next one of a shell: variables, folder and ``$?`` live on."""
        state = self._state
        script = (
            "set -o allexport\n"
            f'trap \'last=$?; env -0 >"{state}.env"; pwd >"{state}.pwd"; exit $last\' EXIT\n'
            f"(exit {last_status})\n{text}\n"
        )
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=SECONDS,
            check=False,
        )
        pairs = Path(f"{state}.env").read_bytes().decode().split("\0")
        self.environment = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
        self.folder = Path(Path(f"{state}.pwd").read_text().strip())
        return done.returncode, done.stdout.decode("utf-8", "replace")


@dataclass(frozen=True)
class Command:
    text: str
    expected: str | None  # None: the page shows no output, so any will do


def split_console(code: str) -> list[Command]:
    """The commands of a console block. One goes on after a backslash and on lines with ``> ``."""
    commands: list[Command] = []
    text: list[str] = []
    expected: list[str] = []
    for line in [*code.splitlines(), "$ "]:
        if line.startswith("$ "):
            if text:
                shown = "\n".join(expected).strip("\n")
                commands.append(Command("\n".join(text), shown or None))
            text, expected = [line[2:]], []
        elif text and not expected and line.startswith("> "):
            text.append(line[2:])
        elif text and not expected and text[-1].endswith("\\"):
            text.append(line)
        else:
            expected.append(line)
    return commands


def matches(expected: str, output: str) -> bool:
    """Whether a command printed what the page shows; ``…`` is any text, over lines too."""

    def lines_of(text: str) -> list[str]:
        return [line.rstrip() for line in text.strip("\n").splitlines()]

    # A line that is nothing but … also stands for many lines, and for none.
    pattern = "".join(
        r"(?:.*\n)?" if line == "…" else re.escape(line).replace("…", ".*") + r"\n"
        for line in lines_of(expected)
    )
    text = "".join(f"{line}\n" for line in lines_of(output))
    return re.fullmatch(pattern, text, re.DOTALL) is not None


def test_a_wrong_line_in_a_page_is_noticed(tmp_path: Path) -> None:
    with Reader(tmp_path) as reader:
        reader.follow(Block("page", 1, "console", "$ A=1; cd /\n$ echo $A $PWD\n1 /", ""))
        reader.follow(Block("page", 1, "console", "$ false\n$ echo $?\n1", ""))
        reader.follow(Block("page", 1, "console", "$ false", "exit: 1"))
        reader.follow(Block("page", 1, "python", "import os\nassert os.getcwd() == '/'", ""))
        reader.follow(Block("page", 1, "python", "assert os.environ['A'] == '1'", ""))
        for language, code in (
            ("console", "$ echo one\ntwo"),
            ("console", "$ false"),
            ("console", "$ false\n$ true"),
            ("console", "echo without a prompt"),
            ("bash", "false\ntrue"),
            ("python", "raise ValueError"),
            ("python", "import sys; sys.exit(0)"),
        ):
            with pytest.raises(AssertionError):
                reader.follow(Block("page", 1, language, code, ""))


def test_an_ellipsis_stands_for_anything_and_nothing_else_does() -> None:
    assert matches("a … c", "a bb c\n")
    assert matches("first\n…\nlast", "first\n2\n3\nlast\n")
    assert matches("first\n…\nlast", "first\nlast\n")
    assert not matches("first\n…\nlast", "first\nlast\nmore\n")
    assert not matches("a.c", "abc")
    assert split_console("$ a \\\n  b\nout\n$ cat <<E\n> x\n> E\nx") == [
        Command("a \\\n  b", "out"),
        Command("cat <<E\nx\nE", "x"),
    ]
