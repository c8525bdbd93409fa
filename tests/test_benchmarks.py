"""Every benchmark runs, on small files, so that none of them rots. No time is asserted."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

import envelope
from benchmarks import bare
from benchmarks.__main__ import MEASURES, main
from benchmarks.copies import copy_fresh, copy_over, fill
from benchmarks.page import BEGIN, END, HEADLINES
from benchmarks.plan import KIB, MIB, Plan
from benchmarks.plot import as_svg
from benchmarks.prefaulted import into_existing
from benchmarks.random_reads import BareReader
from benchmarks.render import as_markdown, as_text, in_brief, summary
from benchmarks.results import Row, Table, ratios
from benchmarks.rounds import Contestant, interleave
from benchmarks.scene import Scene
from benchmarks.values import primitives_of

pytestmark = pytest.mark.slow

TABLE = Table(
    "sample",
    "A sample",
    "nowhere",
    (
        Row("quick", "copy", (0.5, 0.7, 0.6), target=0.8),
        Row("slow", "copy", (1.5, 1.7, 1.6), target=0.8),
        Row("stated", "copy", (3.0,)),
        Row("absent", note="not installed"),
    ),
    ("A note.",),
    "on a quiet day",
)


@pytest.mark.parametrize("name", MEASURES)
def test_a_measure_runs_and_fills_its_table(name: str, tmp_path: Path) -> None:
    results, images = tmp_path / "results.json", tmp_path / "images"
    places = ["--memory", str(tmp_path), "--disk", str(tmp_path)]
    where = ["--results", str(results), "--images", str(images)]
    assert main(["--tiny", "--only", name, *places, *where]) == 0

    saved = json.loads(results.read_text())
    (table,) = saved["tables"]
    assert table["name"] == name
    measured = [row for row in table["rows"] if row["values"]]
    assert measured
    for row in measured:
        assert all(value >= 0 for value in row["values"])
    for row in table["rows"]:
        assert row["values"] or row["note"], "a row without values says why"
    assert "load average" in table["measured"]
    assert "cryptography" in saved["machine"]
    assert (images / f"benchmark-{name}.svg").read_text().startswith("<svg")
    assert {path.name for path in tmp_path.iterdir()} == {"results.json", "images"}


def test_a_target_is_reached_by_the_median_or_missed() -> None:
    assert TABLE.rows[0].reached is True
    assert TABLE.rows[1].reached is False
    assert TABLE.rows[2].reached is None
    assert replace(TABLE.rows[3], target=1.0).reached is False, "unmeasured is missed"


def test_what_was_missed_stands_first() -> None:
    lines = as_text(TABLE).splitlines()
    first = next(index for index, line in enumerate(lines) if line.startswith("reached?")) + 1
    assert lines[first].startswith("missed")
    assert "slow" in lines[first]
    assert "| **missed** | slow |" in as_markdown(TABLE).splitlines()[6]
    assert summary([TABLE]).startswith("1 of 2 targets missed:\n\n- A sample, slow ÷ copy: 1.60 ×")


def test_no_miss_is_said_in_one_line() -> None:
    assert summary([replace(TABLE, rows=TABLE.rows[:1])]) == "All 1 targets reached."


def test_a_table_comes_back_from_json() -> None:
    assert Table.from_json(json.loads(json.dumps(TABLE.to_json()))) == TABLE


def test_a_plot_shows_every_measured_row() -> None:
    picture = as_svg(TABLE)
    assert picture.count("<rect") == 3
    assert "quick ÷ copy" in picture


def test_ratios_are_taken_round_by_round() -> None:
    assert ratios([1.0, 4.0], [2.0, 2.0]) == (0.5, 2.0)


def test_rounds_go_forwards_and_backwards_after_a_warm_up() -> None:
    order: list[str] = []
    contestants = [Contestant(n, lambda n=n: order.append(n)) for n in "ab"]  # type: ignore[misc]
    seconds = interleave(contestants, 2)
    assert "".join(order) == "ababba"
    assert {name: len(values) for name, values in seconds.items()} == {"a": 2, "b": 2}


def test_both_copy_loops_copy(tmp_path: Path) -> None:
    source = fill(tmp_path / "source", 3 * MIB + 5)
    copy_fresh(source, tmp_path / "fresh", durable=True)
    over = fill(tmp_path / "over", 3 * MIB + 5)
    copy_over(source, over)
    assert source.read_bytes() == (tmp_path / "fresh").read_bytes() == over.read_bytes()


def test_a_verb_can_be_measured_into_an_existing_file(tmp_path: Path) -> None:
    ring = Scene.make(tmp_path).ring
    source = fill(tmp_path / "source", 3 * MIB)
    over = fill(tmp_path / "over", 4 * MIB)
    into_existing(envelope.encrypt_file, source, over, keys=ring)
    stored = envelope.encrypt_file(source, tmp_path / "sealed", keys=ring).stored_size
    with open(over, "r+b") as file:
        file.truncate(stored)
    with envelope.open(over, keys=ring) as reader:
        assert reader.read() == source.read_bytes()


@pytest.mark.parametrize("size", [0, 1, 4096])
def test_the_bare_primitives_write_what_the_library_reads(size: int, tmp_path: Path) -> None:
    # A denominator that does less than it must would make the library look slow or quick at will.
    ring = Scene.make(tmp_path).ring
    plain = bytes(range(256)) * 16
    keys = primitives_of(ring, envelope.encrypt(b"", keys=ring))
    assert envelope.decrypt(bare.seal_value(plain[:size], *keys), keys=ring) == plain[:size]
    sealed = envelope.encrypt(plain[:size], keys=ring)
    assert bare.open_value(sealed, keys[0]) == plain[:size]


@pytest.mark.parametrize("length", [4 * KIB, 64 * KIB, 256 * KIB])
def test_the_bare_reader_reads_what_the_library_reads(length: int, tmp_path: Path) -> None:
    ring = Scene.make(tmp_path).ring
    source = fill(tmp_path / "source", 2 * MIB)
    envelope.encrypt_file(source, tmp_path / "sealed", keys=ring, segment_length=length)
    reader = BareReader(tmp_path / "sealed", ring)
    data = source.read_bytes()
    for offset in (0, 1, length - 33, MIB, len(data) - 64 * KIB):
        assert reader.read(offset, 64 * KIB) == data[offset : offset + 64 * KIB]
    reader.close()


def test_the_size_is_halved_until_it_fits(tmp_path: Path) -> None:
    plan = Plan(2**60, 1, tmp_path, tmp_path)
    assert MIB <= plan.fitting(tmp_path, 4) < 2**60


def test_the_page_gets_its_tables_between_the_marks(tmp_path: Path) -> None:
    page, results = tmp_path / "page.md", tmp_path / "results.json"
    page.write_text(f"before\n\n{BEGIN}\nold\n{END}\n\nafter\n")
    saved = {"machine": {"processor": "an abacus"}, "tables": [TABLE.to_json()]}
    saved["tables"][0]["name"] = "tmpfs"  # type: ignore[index]
    results.write_text(json.dumps(saved))
    where = ["--results", str(results), "--images", str(tmp_path), "--page", str(page)]
    assert main(["--again", "--docs", *where]) == 0
    text = page.read_text()
    assert text.startswith(f"before\n\n{BEGIN}\n\n1 of 2 targets missed:")
    assert text.endswith(f"{END}\n\nafter\n")
    assert "an abacus" in text
    assert "old" not in text


def test_the_readme_gets_its_rows_between_the_marks(tmp_path: Path) -> None:
    page, readme, results = (tmp_path / name for name in ("page.md", "readme.md", "results.json"))
    for each in (page, readme):
        each.write_text(f"{BEGIN}\n{END}\n")
    name, what, of = HEADLINES[0]
    table = replace(TABLE, name=name, rows=(Row(what, of, (1.0, 2.0, 4.0), target=1.5),))
    results.write_text(json.dumps({"machine": {}, "tables": [table.to_json()]}))
    where = ["--results", str(results), "--images", str(tmp_path), "--page", str(page)]
    assert main(["--again", "--docs", *where, "--readme", str(readme)]) == 0
    assert readme.read_text() == f"{BEGIN}\n\n{in_brief([table], HEADLINES)}\n\n{END}\n"
    assert readme.read_text().splitlines()[2:] == [
        "1 of 1 targets missed.",
        "",
        "| measure | ÷ | median | middle half |",
        "|---|---|---|---|",
        f"| A sample: {what} | {of} | 2.00 × | 1.50 – 3.00 |",
        "",
        END,
    ]


def test_the_readme_says_what_the_page_says() -> None:
    root = Path(__file__).parents[1]
    page = (root / "docs" / "benchmarks.md").read_text()
    readme = (root / "README.md").read_text().partition(BEGIN)[2].partition(END)[0]
    missed, *lines = readme.split("\n")[2:-2]
    assert f"\n{missed.rstrip('.')}:\n" in page
    rows = [line.strip("| ").split(" | ") for line in lines[3:]]
    assert len(rows) == len(HEADLINES)
    for (_, what, of), (measure, divided, median, middle) in zip(HEADLINES, rows, strict=True):
        assert (measure.endswith(f": {what}"), divided) == (True, of)
        section = page.partition(f"### {measure.removesuffix(f': {what}')}\n")[2]
        [row] = [line for line in section.splitlines() if f"| {what} | {of} | " in line][:1]
        assert f" | {median} | " in row
        assert f" | {middle} | " in row


def test_a_rehearsal_never_goes_into_the_documentation() -> None:
    with pytest.raises(SystemExit):
        main(["--tiny", "--docs"])
