"""The worker that measures what fewer UNet rows cost."""

import json
from pathlib import Path

import pytest

pytest.importorskip("diffusers", reason="the worker shares its noise with diffusers' painter: the dev extra")

from benchmarks import evaluations
from benchmarks.records import write_record
from benchmarks.workers.evaluations import CASES, REFERENCE, measure
from sd2rt.runtime.bundle import read_bundle
from sd2rt.runtime.models import find_model
from sd2rt.runtime.options import Request
from sd2rt.runtime.request import resolve


@pytest.mark.torch
def test_cases_are_compared_with_the_first_from_the_same_noise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SD2RT_CACHE", str(tmp_path))
    found = measure(Path(find_model("toyworld")), captions=2, cases=[REFERENCE, {"steps": 3, "guidance_reuse": 2}])["results"]
    assert [case["unet_rows"] for case in found] == [100, 100, 5]
    assert [case["psnr_db"]["min"] for case in found[:2]] == [99.0, 99.0]
    assert found[2]["psnr_db"]["min"] < 60
    assert found[0]["prompt_accuracy"] == 1.0
    assert [len(case["batch_s"]) for case in found] == [1, 1, 1]


@pytest.mark.torch
@pytest.mark.parametrize("options", [*CASES, *evaluations.CASES])
def test_cases_are_calls_that_there_are(options: dict[str, object]) -> None:
    assert resolve(Request(prompt="a", **options), read_bundle(find_model("toyworld"))).evaluations  # type: ignore[arg-type]


def test_the_table_compares_with_the_first_case(tmp_path: Path) -> None:
    found = [
        {"options": options, "unet_rows": rows, "prompt_accuracy": accuracy, "psnr_db": {"median": 40.0}, "batch_s": [1.0, 2.0]}
        for options, rows, accuracy in (
            ({"sampler": "ddim", "steps": 50}, 100, 1.0),
            ({"speed": "fast"}, 14, 0.995),
            ({"sampler": "euler", "steps": 8, "guidance_interval": [0, 0.75], "deep_cache": 2}, 14, 0.5),
        )
    ]
    record = {"parameters": {"captions": 200, "batch": 10, "guidance_scale": 4.0}, "results": found}
    lines = evaluations.report(json.loads(write_record(tmp_path, "evaluations", record).read_text())).splitlines()
    assert lines[2] == "| ddim, 50 steps | 100 (1.00) | 100.0 % | reference | 15 |"
    assert lines[3] == "| --speed fast | 14 (0.14) | 99.5 % | 40.0 dB | 15 |"
    assert lines[4] == "| euler, 8 steps, guidance interval 0,0.75, deep cache 2 | 14 (0.14) | 50.0 % | 40.0 dB | 15 |"
