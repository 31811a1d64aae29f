"""The README's tables are what the result files say."""

import pytest

from benchmarks.__main__ import README, REPORTS
from benchmarks.records import RESULTS, fill_markers, read_record


@pytest.mark.parametrize("name", REPORTS)
def test_the_readme_has_a_place_for_every_benchmark(name: str) -> None:
    assert README.read_text().count(f"<!-- benchmark {name} -->") == 1


def test_the_tables_are_up_to_date() -> None:
    records = {name: record for name in REPORTS if (record := read_record(RESULTS, name))}
    assert fill_markers(README.read_text(), REPORTS, records) == README.read_text(), "run `python -m benchmarks report`"
