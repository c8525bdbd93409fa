"""What is printed, and errors as lines, objects and exit statuses."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import envelope.cli
from envelope import errors, events
from envelope.cli.failures import explained, shown
from envelope.cli.options import GlobalOptions
from envelope.cli.output import Output, amount, columns
from tests.cli.conftest import SCHEMAS, check, validator

CLASSES = [getattr(errors, name) for name in errors.__all__]


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_error_has_a_line_a_next_step_an_object_and_a_status(
    kind: type[errors.EnvelopeError],
) -> None:
    failure = explained(kind("what is wrong", kid="local:lake/1"), "file")
    line, step = failure.lines()
    assert line == f"envelope: file: what is wrong [{kind.code}]"
    assert step == f"    {kind.next_step}"
    assert failure.exit == kind.exit
    check(failure.to_json(), "error")


@pytest.mark.parametrize("debug", [False, True])
def test_what_sdks_warn_of_is_printed_under_debug_alone(debug: bool) -> None:
    # In a process of its own: pytest's handlers would take the warning in either case.
    code = (
        "import logging; from envelope.cli.options import GlobalOptions; "
        "from envelope.cli.output import Output\n"
        f"with Output(GlobalOptions(debug={debug})): logging.getLogger('vendor').warning('a page')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert ("a page" in done.stderr) == debug


def test_the_operating_systems_errors_have_its_names() -> None:
    missing = explained(FileNotFoundError(errno.ENOENT, "No such file or directory", "x"), "y")
    assert (missing.exit, missing.error, missing.path) == (5, "ENOENT", "x")
    full = explained(OSError(errno.ENOSPC, "No space left on device"), "y")
    assert (full.exit, full.error, full.path) == (7, "ENOSPC", "y")
    assert explained(OSError("odd")).lines()[0] == "envelope: odd [EIO]"


def test_what_a_stores_client_raises_is_no_defect_of_ours() -> None:
    from botocore.exceptions import NoCredentialsError

    failure = explained(NoCredentialsError(), "s3://b/x")
    assert (failure.exit, failure.error, failure.path) == (7, "EIO", "s3://b/x")
    assert "credentials" in failure.next_step


def test_a_path_is_not_said_twice() -> None:
    error = errors.Tampered("/x/file: segment 3 does not hold", path="/x/file")
    assert explained(error).lines()[0].count("/x/file") == 1


def test_a_defect_is_told_without_a_traceback() -> None:
    failure = explained(ZeroDivisionError("division by zero"))
    assert (failure.exit, failure.error) == (1, "INTERNAL")
    assert "--debug" in failure.next_step
    check(failure.to_json(), "error")


@given(st.text(alphabet=st.characters(codec=None), max_size=50))
def test_what_is_shown_is_printable_and_on_one_line(text: str) -> None:
    assert shown(text).isprintable()
    shown(text).encode("utf-8")  # a surrogate, as in undecodable file names, would raise
    if text.isprintable():
        assert shown(text) == text


def test_columns_are_as_wide_as_their_cells_and_never_cut() -> None:
    rows = [("a", "b"), ("x" * 300, "y\n")]
    assert columns(rows) == [f"{'a':<300}  b", f"{'x' * 300}  y\\n"]


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (2**20, "1.0 MiB"), (2**42, "4096.0 GiB")],
)
def test_amounts_are_for_people(count: int, text: str) -> None:
    assert amount(count) == text


EVENTS = [
    events.KeyCall("kid", "unwrap", 0.1, None, "id"),
    events.KeyRetry("kid", "unwrap", 1, 0.2, "ENV-VAULT"),
    events.KekCreated("AAAA", ("kid",)),
    events.WriteAborted("file", "why"),
    events.ConfigurationUsed("/x/envelope.toml", "working directory"),
    events.Notice("something"),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.name)
def test_an_event_is_an_object_beside_the_results(
    event: events.Event, capfd: pytest.CaptureFixture[str]
) -> None:
    with Output(GlobalOptions(json=True)):
        events.emit(event)
    out, err = capfd.readouterr()
    assert out == ""
    document = json.loads(err)
    check(document, "event")
    assert document == json.loads(json.dumps(events.to_json(event)))


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.name)
def test_quiet_keeps_events_back(event: events.Event, capfd: pytest.CaptureFixture[str]) -> None:
    with Output(GlobalOptions(quiet=True, json=True)):
        events.emit(event)
    assert capfd.readouterr() == ("", "")


def test_people_are_told_what_matters(capfd: pytest.CaptureFixture[str]) -> None:
    with Output(GlobalOptions()):
        for event in EVENTS:
            events.emit(event)
    assert capfd.readouterr().err.splitlines() == [
        "envelope: kid does not answer (ENV-VAULT); trying again",
        "envelope: using /x/envelope.toml",
        "envelope: something",
    ]


def test_every_schema_is_one_and_the_page_names_it() -> None:
    page = (SCHEMAS.parent / "cli.md").read_text()
    found = sorted(SCHEMAS.glob("*.json"))
    assert len(found) > 15
    for path in found:
        validator(path.stem).check_schema(json.loads(path.read_text()))
        assert f"schema/{path.name}" in page, path.name


def test_the_page_has_every_exit_status() -> None:
    page = (SCHEMAS.parent / "cli.md").read_text()
    statuses = {kind.exit for kind in CLASSES if not kind.__subclasses__()}
    for status in statuses:
        assert f"\n| {status} |" in page


def test_no_command_has_an_argument_for_a_secret() -> None:
    files = list(Path(envelope.cli.__file__).parent.glob("*.py"))
    assert len(files) > 10
    for path in files:
        text = path.read_text()
        assert '"--passphrase"' not in text
        assert '"--password"' not in text
