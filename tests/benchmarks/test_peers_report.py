"""The peers' tables and plots, from small records."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks.peers import plots, report
from benchmarks.peers.contenders import REFERENCE
from benchmarks.records import Record, conditions_line, read_record, write_record

OURS, BROKEN = "sd2rt, cpu", "optimum-onnx, fp32"
SECONDS = {"median": 0.1, "min": 0.09, "max": 0.2}
PSNR = {"median": 50.0, "min": 45.0, "max": 99.0}


def contender(part: str, **more: Any) -> dict[str, Any]:
    return {
        "venv": "diffusers",
        "form": "bundle",
        "versions": {"diffusers": "0.42.1"},
        "undisturbed": 2,
        "wall_s": SECONDS,
        "load_s": SECONDS,
        "peak_rss_bytes": {"median": 150e6, "min": 1, "max": 2},
        "parts": {part: {"call_s": SECONDS, "step_s": SECONDS}},
        "accuracy": {part: {"pictures": 16, "prompt_accuracy": 0.75, "psnr_db": PSNR}},
        **more,
    }


def record(tmp_path: Path, part: str, batch: int = 1, **more: Any) -> Record:
    parameters = {"rounds": 2, "sampler": "ddim", "steps": 20, "guidance_scale": 4.0, "threads": 2, "steps_per_round": 2, "pixels": 512}
    parameters |= {"model": "random weights", "parts": {part: {"name": part, "batch": batch, "width": 512, "height": 512, "steps": 4}}}
    contenders = {
        OURS: contender(part, **more),
        REFERENCE: contender(part, **more),
        BROKEN: {"venv": "x", "versions": {}, "failed": "no wheel."},
    }
    write_record(tmp_path, "made", {"parameters": parameters, "forms": {"bundle": {"bytes": 23e6}}, "contenders": contenders})
    found = read_record(tmp_path, "made")
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("make", "part", "batch", "row"),
    [
        (report.cold_start, "picture", 1, "| sd2rt, cpu | 0.10 (0.09 to 0.20) | 150 | 23 | 75 % | 50 (45) |"),
        (report.single_stream, "1 at a time", 1, "| sd2rt, cpu | 100 (90 to 200) | 100.0 (90.0 to 200.0) | 0.1 | 150 | 75 % | 50 (45) |"),
        (report.offline, "4 at a time", 4, "| sd2rt, cpu | 144000 | 75 % | 50 (45) | 150 |"),
        (report.pipeline, "picture", 1, "| sd2rt, cpu | 0.10 (0.09 to 0.20) | 0.1 | 50 (45) |"),
    ],
)
def test_a_row_has_its_speed_and_its_accuracy(tmp_path: Path, make: Any, part: str, batch: int, row: str) -> None:
    found = record(tmp_path, part, batch)
    made = make(found)
    assert row in made.splitlines()
    assert f"Not in the table: {BROKEN}: no wheel." in made
    assert conditions_line(found) in made
    assert "In venvs of their own: diffusers 0.42.1." in made


def test_who_is_missing_for_one_reason_is_told_together_without_the_machines_folders() -> None:
    reason = {"failed": "its model cannot be made: no file in /tmp/work/models/diffusers."}
    found: Any = {"contenders": {"one": reason, "two": reason, "three": {"failed": "no wheel"}, "ran": {}}}
    assert report.failures(found) == " Not in the table: one and two: its model cannot be made: no file in diffusers; three: no wheel."


@pytest.mark.parametrize("make", [report.cold_start, report.pipeline])
def test_a_speed_without_accuracy_is_refused(tmp_path: Path, make: Any) -> None:
    with pytest.raises(ValueError, match="picture: measured, but not judged"):
        make(record(tmp_path, "picture", accuracy={}))


def test_the_step_of_the_unet(tmp_path: Path) -> None:
    step = {"step_s": {"median": 4.0, "min": 3.0, "max": 5.0}}
    made = report.unet(record(tmp_path, "x", **step, against_torch_fp32={"psnr_db": 77.4}))
    assert "| sd2rt, cpu | 4.00 (3.00 to 5.00) | 1.00 | 0.1 | 0.1 | 77 |" in made.splitlines()
    with pytest.raises(ValueError, match="measured, but not compared"):
        report.unet(record(tmp_path, "x", **step))


def test_installations(tmp_path: Path) -> None:
    contenders = {"sd2rt": {"seconds": 12.4, "bytes": 300e6, "versions": {"numpy": "2"}}, "peer": {"failed": "no wheel"}}
    write_record(tmp_path, "made", {"parameters": {}, "contenders": contenders})
    found = read_record(tmp_path, "made")
    assert found is not None
    made = report.install(found)
    assert "| sd2rt | 12 | 300 | 1 |" in made.splitlines()
    assert "Not in the table: peer: no wheel." in made


def test_points_are_milliseconds_per_picture(tmp_path: Path) -> None:
    found = record(tmp_path, "batch 4", 4)
    drawn = plots.points(found, "batch")
    assert list(drawn) == [OURS, REFERENCE]
    assert drawn[OURS] == [(4, pytest.approx(25.0), pytest.approx(22.5), pytest.approx(50.0))]
    assert plots.points(found, "size") == {}
    made = report.growth(found)
    assert "![Milliseconds per picture against pixels a side](growth-size.svg)" in made
    assert f"those of {REFERENCE}: sd2rt, cpu 45 dB." in made
    with pytest.raises(ValueError, match="sd2rt, cpu, batch 4: measured, but not judged"):
        plots.points(record(tmp_path, "batch 4", 4, accuracy={}), "batch")


def test_plots_are_drawn_the_same_each_time(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs the bench extra")
    found = record(tmp_path, "batch 4", 4)
    first = {path.name: path.read_bytes() for path in plots.draw(found, tmp_path / "one")}
    assert first == {path.name: path.read_bytes() for path in plots.draw(found, tmp_path / "two")}
    assert set(first) == {"growth-size.svg", "growth-batch.svg", "growth-steps.svg"}


def test_lines_of_one_library_share_a_colour_and_differ_in_dashes() -> None:
    names = [OURS, REFERENCE, "diffusers, eager bf16"]
    assert plots.colour(names[1]) == plots.colour(names[2]) != plots.colour(names[0])
    assert [plots.position(name, names) for name in names] == [0, 0, 1]
    assert plots.colour("another") == "#555555"
