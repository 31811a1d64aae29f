"""The GPU benchmark without a GPU: its refusal, its records and its table, from runs that are made up."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import benchmarks.gpu as gpu
from benchmarks.__main__ import benchmarks
from benchmarks.gpu_report import least_psnr, report
from benchmarks.measure import ContenderFailed, Sample
from benchmarks.records import read_record, write_record
from benchmarks.workers.gpu_case import Case, Settings, draw, guided, measure_cases
from sd2rt.engine.gpu import Gpu

SETTINGS = gpu.settings((512, 768), (1,), steps=20, blocks=2, calls=3, pictures=2)
CARD = Gpu(name="Toy 4090", capability=(8, 9), driver_version=13010)
ABSENT = "sd2rt.engine.errors.TargetUnavailable: target tensorrt: tensorrt is not installed"


def made_up(worker: str, *arguments: str, **environment: str) -> Sample:
    """Stand in for a worker's process: TensorRT is not installed, torch.compile has no memory for 768, the others run."""
    if worker == "difference":
        return Sample(wall_s=1.0, peak_rss_bytes=1, stdout=json.dumps([{"max_abs": 0.1, "max_abs_by_spread": 0.01, "psnr_db": 61.0}]))
    kind, *_, settings, out = arguments[1:]
    if kind == "tensorrt":
        raise ContenderFailed(f"python -m worker exited with 1: Traceback (most recent call last):\n  File x\n{ABSENT}\n")
    for case in Settings.read(settings).cases:
        folder = Path(out) / case.name.replace(" ", "")
        folder.mkdir(parents=True)  # nothing of an earlier run may be there
        np.save(folder / "step.npy", np.zeros(3))

    def measured(case: Case, folder: Path) -> Mapping[str, Any]:
        if "compiled" in arguments and case.side == 768:
            raise MemoryError("no memory left")
        found: dict[str, Any] = {"step_s": [0.010, 0.012], "picture_s": [0.30, 0.34]}
        return found | ({"overhead": {"loop_s": 0.2, "engines_s": 0.196, "overhead": 0.0204}} if "fused" in arguments else {})

    results = measure_cases(Settings.read(settings), Path(out), measured)
    return Sample(wall_s=2.0, peak_rss_bytes=5, stdout=f"a library talks\n{json.dumps(results)}\n")


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mapping[str, Any]:
    """Run the benchmark on made up processes, and read its result file."""
    monkeypatch.setattr(gpu, "find_gpu", lambda: CARD)
    monkeypatch.setattr(gpu, "run_module", made_up)
    for folder in ("fp16", "diffusers", "outputs/left-over"):
        (tmp_path / "work" / folder).mkdir(parents=True)
    write_record(tmp_path, "gpu", gpu.measure(tmp_path / "work", SETTINGS, rounds=1))
    found = read_record(tmp_path, "gpu")
    assert found is not None
    return found


def test_without_a_gpu_it_exits_with_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(gpu, "find_gpu", lambda: "no NVIDIA driver was found: install it")
    done = CliRunner().invoke(benchmarks, ["gpu", "--work", str(tmp_path / "work"), "--results", str(tmp_path / "results")])
    assert (done.exit_code, done.output) == (1, "Error: no GPU to measure on: no NVIDIA driver was found: install it\n")
    assert list(tmp_path.iterdir()) == []


def test_the_record_holds_every_contender_and_why_one_cannot_run(record: Mapping[str, Any]) -> None:
    assert record["gpu"]["name"] == "Toy 4090"
    assert (record["parameters"]["rounds"], record["parameters"]["steps"]) == (1, 20)
    assert list(record["contenders"]) == list(gpu.contenders(Path()))
    eager, absent = record["contenders"]["torch eager"], record["contenders"]["sd2rt tensorrt, device loop"]
    assert eager["cases"]["512 x 1"]["step_s"] == {"median": 0.011, "min": 0.010, "max": 0.012}
    assert eager["cases"]["768 x 1"]["against_torch_fp32"]["step"]["psnr_db"] == 61.0
    assert (absent["failed"], absent["cases"]) == ("target tensorrt: tensorrt is not installed", {})


def test_a_case_that_fails_leaves_the_others(record: Mapping[str, Any]) -> None:
    cases = record["contenders"]["torch.compile"]["cases"]
    assert cases["768 x 1"] == {"failed": "MemoryError: no memory left"}
    assert cases["512 x 1"]["picture_s"]["median"] == pytest.approx(0.32)


def test_the_table_says_speed_with_accuracy_and_what_failed(record: Mapping[str, Any]) -> None:
    lines = report(dict(record)).splitlines()
    assert lines[0] == "|  | 512 x 512, 1 at a time | 768 x 768, 1 at a time | PSNR against torch fp32 |"
    assert "| torch eager | 11.0 / 0.32 | 11.0 / 0.32 | 61 dB |" in lines
    assert "| torch.compile | 11.0 / 0.32 | failed | 61 dB |" in lines
    assert "| sd2rt tensorrt, device loop | - | - | - |" in lines
    assert "sd2rt tensorrt, host loop cannot run here: target tensorrt: tensorrt is not installed." in lines[-1]
    assert "adds at most 2.0 % to the sum of its engines (gate 3 %)" in lines[-1]
    assert "Toy 4090, driver for CUDA 13.1" in lines[-1]


def test_speed_without_accuracy_is_not_told_as_if_it_had_any() -> None:
    timed = {"step_s": {"median": 1.0}, "against_torch_fp32": None}
    assert least_psnr({"cases": {"512 x 1": timed}}) == "not compared"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (f"x exited with 1: Traceback:\n  File\n{ABSENT}\n\n", "target tensorrt: tensorrt is not installed"),
        ("x exited with 1: ModuleNotFoundError: No module named 'torch'", "x exited with 1: ModuleNotFoundError: No module named 'torch'"),
        ("killed", "killed"),
    ],
)
def test_reasons_are_one_line(words: str, expected: str) -> None:
    assert gpu.reason(words) == expected


def test_settings_come_back_as_they_were() -> None:
    assert Settings.read(SETTINGS.write()) == SETTINGS
    assert [case.name for case in SETTINGS.cases] == ["512 x 1", "768 x 1"]


def test_inputs_are_the_same_in_either_precision() -> None:
    latents = draw("latents", (2, 4, 3, 3))
    np.testing.assert_array_equal(latents, latents.astype(np.float16))
    assert not np.array_equal(latents, draw("states", (2, 4, 3, 3)))


def test_guidance_combines_the_rows() -> None:
    np.testing.assert_allclose(guided(np.array([[1.0], [3.0]], np.float32)), [[16.0]])
