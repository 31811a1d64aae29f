"""The worker that measures what fewer UNet rows cost."""

from pathlib import Path

import pytest

pytest.importorskip("diffusers", reason="the worker shares its noise with diffusers' painter: the dev extra")

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
@pytest.mark.parametrize("options", CASES)
def test_cases_are_calls_that_there_are(options: dict[str, object]) -> None:
    assert resolve(Request(prompt="a", **options), read_bundle(find_model("toyworld"))).evaluations  # type: ignore[arg-type]
