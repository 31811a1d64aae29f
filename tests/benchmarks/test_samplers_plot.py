"""The samplers' plot, and that the one on the page is of the results that are there."""

from pathlib import Path

import pytest

from benchmarks.machine import ROOT
from benchmarks.records import RESULTS, read_record
from benchmarks.samplers_plot import curves, draw

RECORD = {
    "commit": "0123456789abcdef",
    "results": [
        {"sampler": "ddim", "steps": 5, "prompt_accuracy": 0.5},
        {"sampler": "euler", "steps": 5, "prompt_accuracy": 1.0},
        {"sampler": "ddim", "steps": 10, "prompt_accuracy": 0.75},
    ],
}


def test_curves_are_per_cent_by_steps() -> None:
    assert curves(RECORD) == {"ddim": [(5, 50.0), (10, 75.0)], "euler": [(5, 100.0)]}


def test_the_plot_names_every_sampler_and_is_drawn_the_same_each_time(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs the bench extra")
    drawn = draw(RECORD, tmp_path / "one.svg").read_text()
    assert drawn == draw(RECORD, tmp_path / "two.svg").read_text()
    assert ">ddim<" in drawn
    assert ">euler<" in drawn
    assert "of commit 0123456789<" in drawn


def test_the_page_has_the_plot_of_the_results() -> None:
    record = read_record(RESULTS, "samplers")
    assert record
    assert f"of commit {record['commit'][:10]}<" in (ROOT / "docs/samplers.svg").read_text(), "run `python -m benchmarks report`"
