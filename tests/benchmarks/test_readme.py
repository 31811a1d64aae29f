"""The pages' tables are what the result files say, and the README's picture strips are beside the commands that make them."""

import re
import runpy
from pathlib import Path

import pytest

from benchmarks.__main__ import PAGES, REPORTS, read_records
from benchmarks.peers.runner import COMMANDS
from benchmarks.records import RESULTS, fill_markers

README = PAGES[0]


@pytest.mark.parametrize("name", REPORTS)
def test_there_is_one_place_for_every_benchmark(name: str) -> None:
    assert sum(page.read_text().count(f"<!-- benchmark {name} -->") for page in PAGES) == 1


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_tables_are_up_to_date(page: Path) -> None:
    assert fill_markers(page.read_text(), REPORTS, read_records(RESULTS), COMMANDS) == page.read_text(), "run `python -m benchmarks report`"


def test_every_strip_is_beside_its_command() -> None:
    """The command's --out apart, which the script keeps out of the way; plots are SVG files."""
    commands: dict[str, str] = runpy.run_path(str(README.parent / "docs/make_strips.py"))["COMMANDS"]
    text = README.read_text()
    strips = {Path(name).stem for name in re.findall(r"\]\((docs/[^/)]*\.png)\)", text)} - {"toyworld"}
    assert strips == {name for name in commands if " " not in name} - {"scene"}
    for name in strips:
        assert (README.parent / f"docs/{name}.png").is_file()
        assert f"`{commands[name].rpartition(' --out ')[0]} --out " in text
