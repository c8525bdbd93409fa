"""docs/format.md: its examples are what the independent writer makes, its rules are numbered."""

from __future__ import annotations

import re

from envelope import errors
from tests.format_examples import BLOCKS, PAGE, filled, value_fields
from tests.independent_reader import read, read_pipe
from tests.vectors import generate

TEXT = PAGE.read_text(encoding="utf-8")


def test_the_examples_are_those_that_the_independent_writer_makes() -> None:
    assert filled(TEXT) == TEXT, "run: python -m tests.format_examples"


def test_a_changed_digit_in_an_example_is_noticed() -> None:
    for name in BLOCKS:
        at = TEXT.index(f"<!-- generated: {name} -->")
        digit = re.compile(r"\d").search(TEXT, TEXT.index("\n", at))
        assert digit is not None
        other = str((int(digit[0]) + 1) % 10)
        spoilt = TEXT[: digit.start()] + other + TEXT[digit.end() :]
        assert filled(spoilt) == TEXT


def test_the_compact_value_of_the_page_opens() -> None:
    data = b"".join(field for _, field in value_fields(b"one order\n"))
    keys = {"local:lake/0123456789abcdef": bytes(range(0x80, 0xA0))}
    assert read(data, keys, context={"table": "orders"}) == b"one order\n"
    assert b"".join(read_pipe(data, keys)) == b"one order\n"


def test_every_rule_and_step_has_its_number_once() -> None:
    rules = re.findall(r"^- \*\*([WR]\d+)\.\*\*", TEXT, re.MULTILINE)
    assert rules == [f"W{at}" for at in range(1, 7)] + [f"R{at}" for at in range(1, 9)]
    steps = re.findall(r"^\| (\d+) \|", TEXT, re.MULTILINE)
    assert steps == [str(at) for at in range(1, 13)]


def test_every_error_of_a_step_exists_and_those_of_the_frozen_files_are_named() -> None:
    table = TEXT[TEXT.index("| step | check | error |") : TEXT.index("On single steps:")]
    named = set(re.findall(r"\b(?:[A-Z][a-z]+){1,3}\b(?=[^|]*\|\n)", table)) & set(dir(errors))
    assert named >= set(generate.CODES)
