"""The README's tables are what the result files say, and its picture strips are beside the commands that make them."""

import re
import runpy
from pathlib import Path

import pytest

from benchmarks.__main__ import README, REPORTS
from benchmarks.records import RESULTS, fill_markers, read_record


@pytest.mark.parametrize("name", REPORTS)
def test_the_readme_has_a_place_for_every_benchmark(name: str) -> None:
    assert README.read_text().count(f"<!-- benchmark {name} -->") == 1


def test_the_tables_are_up_to_date() -> None:
    records = {name: record for name in REPORTS if (record := read_record(RESULTS, name))}
    assert fill_markers(README.read_text(), REPORTS, records) == README.read_text(), "run `python -m benchmarks report`"


def test_every_strip_is_beside_its_command() -> None:
    """The command's --out apart, which the script keeps out of the way."""
    commands: dict[str, str] = runpy.run_path(str(README.parent / "docs/make_strips.py"))["COMMANDS"]
    text = README.read_text()
    strips = {Path(name).stem for name in re.findall(r"\]\((docs/[^)]*)\)", text)} - {"toyworld"}
    assert strips == {name for name in commands if " " not in name} - {"scene"}
    for name in strips:
        assert (README.parent / f"docs/{name}.png").is_file()
        assert f"`{commands[name].rpartition(' --out ')[0]} --out " in text
