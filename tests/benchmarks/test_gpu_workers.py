"""The GPU benchmark's workers, on a small model: torch on the CPU, ours on the fake GPU. They must compute the same."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import benchmarks.gpu as gpu
from benchmarks.workers.clock import engine_seconds, measure_overhead, seconds_per_call
from benchmarks.workers.difference import difference
from tests.engine.device_rig import make_job, open_rig
from tests.fake_gpu import TARGET, fake_gpu

SETTINGS = replace(gpu.settings((64,), (1, 2), steps=2, blocks=2, calls=2, pictures=1), device="cpu")


def test_calls_are_timed_in_blocks_and_waited_for_at_their_ends() -> None:
    order: list[str] = []
    seconds = seconds_per_call(lambda: order.append("call"), lambda: order.append("wait"), blocks=2, calls=3)
    assert order == ["wait", "call", "call", "call", "wait"] * 2
    assert len(seconds) == 2
    assert all(0 <= value < 1 for value in seconds)


@pytest.mark.parametrize("capturable", [True, False])
def test_an_engine_is_timed_alone(capturable: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    _, work = make_job()
    with open_rig() as rig:
        rig.loop.start(work)
        rig.loop.run()
        monkeypatch.setattr(type(rig.engines.step), "capturable", capturable)
        before = rig.cuda.names().count("cudaGraphLaunch")
        assert len(engine_seconds(rig.driver, rig.stream, rig.engines.step, blocks=3, calls=4)) == 3
        launched = rig.cuda.names().count("cudaGraphLaunch") - before
        assert launched == (13 if capturable else 0)


def test_the_loop_is_compared_with_its_engines() -> None:
    _, work = make_job(steps=4)
    with open_rig() as rig:
        found = measure_overhead(rig.driver, rig.stream, rig.engines, rig.loop, work, jobs=2, calls=2)
    assert found["overhead"] == pytest.approx(found["loop_s"] / found["engines_s"] - 1)
    assert found["engines_s"] > 0


@pytest.mark.torch
def test_all_contenders_compute_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Step and picture, in torch, with the loop on the device and with the loop on the host."""
    pytest.importorskip("torch", reason="needs the export extra")
    from benchmarks.workers import gpu_sd2rt, gpu_torch
    from tests.tiny import tiny_bundle, tiny_checkpoint

    monkeypatch.setenv("SD2RT_CACHE", str(tmp_path / "cache"))
    folder, settings = str(tmp_path), SETTINGS.write()
    gpu_torch.main(str(tiny_checkpoint("epsilon")), "float32", "eager", settings, f"{folder}/torch")
    runs = [capsys.readouterr().out]
    (tmp_path / "plans").mkdir()
    with fake_gpu(tmp_path / "plans") as machine:
        for mode in ("fused", "plain"):
            gpu_sd2rt.main(str(tiny_bundle("epsilon", "fp32")), TARGET, mode, settings, f"{folder}/{mode}")
            runs.append(capsys.readouterr().out)
        assert machine.cuda.leaks() == {}
    for run in runs:
        cases = json.loads(run)["cases"]
        assert list(cases) == ["64 x 1", "64 x 2"]
        assert [case.get("failed") for case in cases.values()] == [None, None]
        assert [(len(case["step_s"]), len(case["picture_s"])) for case in cases.values()] == [(2, 1), (2, 1)]
    for case in ("64x1", "64x2"):
        for what in ("step", "latents"):
            exact, *others = (np.load(tmp_path / side / case / f"{what}.npy") for side in ("torch", "fused", "plain"))
            assert all(difference(exact, other)["psnr_db"] > 80 for other in others), f"{case} {what}"
