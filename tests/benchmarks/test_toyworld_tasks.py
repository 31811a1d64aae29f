"""The measurement of toyworld's other tasks, on a few scenes."""

import json
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.workers.toyworld_tasks import main

pytest.importorskip("onnxruntime", reason="the cpu target needs onnxruntime")


@pytest.mark.parametrize(("task", "figure", "width"), [("inpainting", "solid_right", 3 * 64), ("depth", "colours_right", 2 * 64)])
def test_figures_and_a_sheet(task: str, figure: str, width: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(task, "4", "steps=10", str(tmp_path / "sheet.png"))
    found = json.loads(capsys.readouterr().out)
    assert found["model"] == f"toyworld-{task}"
    assert (found["pictures"], found["steps"]) == (4, 10)
    assert found[figure] >= 0.75
    assert Image.open(tmp_path / "sheet.png").size == (4 * width, 64)
