"""The measurement of toyworld's other tasks, on a few scenes."""

import json
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.workers.toyworld_tasks import main

pytest.importorskip("onnxruntime", reason="the cpu target needs onnxruntime")


@pytest.mark.parametrize(
    ("task", "figure", "pictures", "side"),
    [("inpainting", "solid_right", 3, 64), ("depth", "colours_right", 2, 64), ("upscaler", "gain_over_bicubic_db", 3, 256)],
)
def test_figures_and_a_sheet(task: str, figure: str, pictures: int, side: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(task, "4", "steps=8", str(tmp_path / "sheet.png"))
    found = json.loads(capsys.readouterr().out)
    assert found["model"] == f"toyworld-{task}"
    assert (found["pictures"], found["steps"]) == (4, 8)
    assert found[figure] >= 0.7
    assert Image.open(tmp_path / "sheet.png").size == (4 * pictures * side, side)
