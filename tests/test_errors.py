"""The tree of errors, and docs/errors.md, which says the same."""

from __future__ import annotations

import copy
import pickle
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envelope import errors
from envelope.errors import EnvelopeError

DOCUMENT = (Path(__file__).parent.parent / "docs" / "errors.md").read_text("utf-8")
CLASSES: list[type[EnvelopeError]] = [getattr(errors, name) for name in errors.__all__]
SECTIONS = {
    section.partition("\n")[0]: section
    for section in re.split(r"^#{2,3} ", DOCUMENT, flags=re.MULTILINE)
    if section.startswith("ENV-")
}
each_class = pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)

DETAILS = {
    "path": "/data/a.env1",
    "kid": "local:lake/v1",
    "operation": "unwrap",
    "provider_code": "Forbidden",
    "request_id": "request-1",
    "next_step": "Do something else.",
}


def test_every_error_of_the_module_is_public() -> None:
    found = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, Exception)
    }
    assert found == set(errors.__all__)
    assert all(issubclass(kind, EnvelopeError) for kind in CLASSES)


def test_no_two_errors_share_a_code() -> None:
    codes = [kind.code for kind in CLASSES]
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch(r"ENV(-[A-Z]+)+", code) for code in codes)


@each_class
def test_no_error_is_one_that_file_systems_read_as_missing(kind: type[EnvelopeError]) -> None:
    # OSError covers FileNotFoundError, NotADirectoryError and PermissionError.
    assert not issubclass(kind, (OSError, LookupError, ValueError, EOFError))


@each_class
def test_an_error_says_code_exit_and_next_step_of_its_own(kind: type[EnvelopeError]) -> None:
    assert "code" in vars(kind)
    assert kind.exit in range(1, 8)
    assert re.fullmatch(r"[A-Z`][^\n]+\.", kind.next_step)
    assert kind.__doc__
    assert kind.retryable == (kind in (errors.VaultUnavailable, errors.FileChanged))


@each_class
def test_the_text_has_message_code_and_next_step_in_one_line(kind: type[EnvelopeError]) -> None:
    assert str(kind("what is wrong")) == f"what is wrong [{kind.code}]. {kind.next_step}"
    assert str(kind()) == f"{kind.__name__} [{kind.code}]. {kind.next_step}"
    assert str(kind("it", path="/a", next_step="Do.")) == f"/a: it [{kind.code}]. Do."
    assert str(kind("/a: it", path="/a")).startswith("/a: it [")


@each_class
@pytest.mark.parametrize("details", [{}, DETAILS], ids=["bare", "with details"])
def test_an_error_pickles_and_copies_with_all_that_it_carries(
    kind: type[EnvelopeError], details: dict[str, str]
) -> None:
    error = kind("what is wrong", **details)  # type: ignore[arg-type]  all of them are text
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert_same(pickle.loads(pickle.dumps(error, protocol)), error)
    assert_same(copy.copy(error), error)
    assert_same(copy.deepcopy(error), error)


def assert_same(found: EnvelopeError, error: EnvelopeError) -> None:
    assert type(found) is type(error)
    assert str(found) == str(error)
    assert vars(found) == vars(error)
    assert found.next_step == error.next_step


@each_class
def test_an_error_made_again_from_its_text_has_the_same_text(kind: type[EnvelopeError]) -> None:
    error = kind("what is wrong", path="/a", next_step="Do something else.")
    assert str(kind(str(error))) == str(error)


def test_a_message_that_speaks_of_a_code_still_gets_its_next_step() -> None:
    for text in ("the file ENV-TAMPERED.csv", "one of them said [ENV-DENIED]"):
        assert str(errors.Tampered(text)).endswith(errors.Tampered.next_step)
    # An error that reports several, one of its own kind among them.
    several = errors.KeyDisabled("no recipient could be used (a: it is off [ENV-KEY-DISABLED])")
    assert str(several).endswith(f") [ENV-KEY-DISABLED]. {errors.KeyDisabled.next_step}")
    # One code is the beginning of another.
    assert str(errors.KeyUnusable("it is disabled [ENV-KEY-DISABLED]")).endswith(
        f"[ENV-KEY]. {errors.KeyUnusable.next_step}"
    )


@given(st.text(), st.text(min_size=1))
def test_any_message_and_path_are_kept(message: str, path: str) -> None:
    error = errors.Tampered(message, path=path)
    again = pickle.loads(pickle.dumps(error))
    assert (again.message, again.path) == (message, path)
    assert "[ENV-TAMPERED]" in str(again)


# --- docs/errors.md -----------------------------------------------------------------------------


def test_the_table_of_the_document_has_the_attributes_of_each_class() -> None:
    rows = re.findall(r"^\| `(\w+)` \| \[`([A-Z-]+)`\]\(#([a-z-]+)\) \| (.*) \|$", DOCUMENT, re.M)
    expected = [
        (
            kind.__name__,
            kind.code,
            kind.code.lower(),
            f"{kind.exit} | {'yes' if kind.retryable else 'no'} | {kind.next_step}",
        )
        for kind in CLASSES
    ]
    assert sorted(rows) == sorted(expected)


@each_class
def test_the_document_has_a_section_for_each_code(kind: type[EnvelopeError]) -> None:
    section = SECTIONS[kind.code]
    retryable = "yes" if kind.retryable else "no"
    assert f"\n`{kind.__name__}` · exit {kind.exit} · retryable: {retryable}\n" in section
    assert "\n**Causes.** " in section
    assert "\n**What to do.** " in section
    [example] = re.findall(r"```text\n(.*)\n```", section)
    assert str(kind(example)) == example
    message, _, step = example.partition(f" [{kind.code}]. ")
    assert str(kind(message, next_step=step)) == example
    assert step == kind.next_step or kind in (errors.ConfigurationError, errors.LimitExceeded)


def test_the_document_has_no_section_for_a_code_that_does_not_exist() -> None:
    assert set(SECTIONS) == {kind.code for kind in CLASSES}
    assert set(re.findall(r"ENV(?:-[A-Z]+)+", DOCUMENT)) == set(SECTIONS)


def test_the_exit_statuses_of_the_document_are_those_of_the_classes() -> None:
    chapter = DOCUMENT.partition("## Exit statuses")[2].partition("\n## ")[0]
    statuses = {int(found) for found in re.findall(r"^\| (\d+) \|", chapter, re.M)}
    assert statuses == {0, *(kind.exit for kind in CLASSES), 130}
    for title, status in re.findall(
        r"^## [^\n]+\(exit (\d)\)\n(.*?)(?=^## |\Z)", DOCUMENT, re.M | re.S
    ):
        for code in re.findall(r"^### (\S+)$", status, re.M):
            assert {kind.exit for kind in CLASSES if kind.code == code} == {int(title)}
