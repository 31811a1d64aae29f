"""The programs of the peers' benchmark that need no peer: jobs, painting, judging, and the single file."""

import json
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pytest

from benchmarks.machine import ROOT
from benchmarks.workers import judge, paint, peer_inputs
from benchmarks.workers.painting import Floats, Job, Part, Pictures, as_bytes, ddim_sigmas, read_job

BUNDLE = ROOT / "toyworld" / "bundle"
PART = Part(name="pair", batch=2, steps=3, calls=2, height=8, width=8, warm_ups=1)


class FakePainter:
    """Paints the first number of each noise, and remembers what it was asked."""

    def __init__(self, one_prompt: bool) -> None:
        self.one_prompt = one_prompt
        self.step_ends: list[float] = []
        self.asked: list[tuple[list[str], list[int]]] = []

    def prepare(self, part: Part) -> None:
        self.prepared = part

    def paint(self, prompts: list[str], noise: Floats, seeds: list[int], part: Part) -> Pictures:
        self.asked.append((prompts, seeds))
        self.step_ends += [perf_counter() for _ in range(part.steps)]
        return np.stack([np.full((8, 8, 3), picture.flat[0], np.uint8) for picture in noise])


def job(tmp_path: Path) -> Job:
    np.save(tmp_path / "noise-8x8.npy", np.arange(4, dtype=np.float32).reshape(4, 1, 1, 1))
    said: dict[str, Any] = {"painter": "fake", "model": "", "cache": "", "threads": 1, "seed": 7, "guidance": 4.0, "scheduler": {}}
    said |= {"captions": list("abcd"), "noise": str(tmp_path / "noise"), "out": str(tmp_path)}
    said |= {"parts": [{name: getattr(PART, name) for name in ("name", "batch", "steps", "calls", "height", "width", "warm_ups")}]}
    (tmp_path / "job.json").write_text(json.dumps(said))
    return read_job(tmp_path / "job.json")


@pytest.mark.parametrize(
    ("one_prompt", "prompts"), [(False, [["a", "b"], ["a", "b"], ["c", "d"]]), (True, [["a", "a"], ["a", "a"], ["c", "c"]])]
)
def test_a_part_is_painted_and_kept(tmp_path: Path, one_prompt: bool, prompts: list[list[str]]) -> None:
    read = job(tmp_path)
    assert read.parts == (PART,)
    painter = FakePainter(one_prompt)
    found = paint.do_part(painter, read, PART)
    assert painter.asked == list(zip(prompts, [[7, 8], [7, 8], [9, 10]], strict=True))
    assert np.load(tmp_path / "pair.npy")[:, 0, 0, 0].tolist() == [0, 1, 2, 3]
    assert [len(found[name]) for name in ("warm_up_s", "call_s", "step_s")] == [1, 2, 2]


def test_pictures_become_bytes() -> None:
    assert as_bytes([-1.0, 0.0, 0.5, 1.0, 2.0]).tolist() == [0, 0, 128, 255, 255]


def test_noise_levels_are_those_of_our_own_schedule() -> None:
    schedule = json.loads((BUNDLE / "bundle.json").read_text())["scheduler"]
    sigmas = ddim_sigmas(schedule, 4)
    alpha_bar = np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2)[[751, 501, 251, 1, 0]]
    assert sigmas == pytest.approx(np.sqrt(1 / alpha_bar - 1))


def test_inputs_are_torchs_noise_and_held_out_captions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    peer_inputs.main(str(BUNDLE), "3", "7", str(tmp_path / "noise"), "64", "128")
    said = json.loads(capsys.readouterr().out)
    assert (len(said["captions"]), said["model"]) == (3, "toyworld")
    small, large = np.load(tmp_path / "noise-64x64.npy"), np.load(tmp_path / "noise-128x128.npy")
    assert (small.shape, large.shape) == ((3, 4, 8, 8), (3, 4, 16, 16))
    torch = pytest.importorskip("torch", reason="needs the export extra")
    assert np.allclose(small[1], torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(8)).numpy()[0], atol=1e-6)


def test_verdicts(tmp_path: Path) -> None:
    black = np.zeros((2, 64, 64, 3), np.uint8)
    grey = black.copy()
    grey[1] += 10
    np.save(tmp_path / "black.npy", black)
    np.save(tmp_path / "grey.npy", grey)
    files = {"pictures": str(tmp_path / "grey.npy"), "reference": str(tmp_path / "black.npy")}
    found = judge.judge({**files, "captions": ["a large red cube, gray floor"] * 2})
    assert (found["pictures"], found["prompt_accuracy"]) == (2, 0.0)
    assert found["psnr_db"]["max"] == 99.0
    assert found["psnr_db"]["min"] == pytest.approx(20 * np.log10(25.5))
    assert judge.judge({**files, "same": [0]})["psnr_db"]["min"] == 99.0
    assert judge.judge({"pictures": files["pictures"]}) == {"pictures": 2}


@pytest.mark.torch
def test_the_single_file_is_read_back_as_the_checkpoint(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="needs the export extra")
    from safetensors.numpy import load_file

    from benchmarks.workers.single_file import text_weights, unet_weights, vae_weights, write_single_file
    from tests.tiny import tiny_pipeline

    tiny_pipeline("epsilon", folder=tmp_path / "folder")
    write_single_file(tmp_path / "folder", tmp_path / "one.safetensors")
    written = load_file(tmp_path / "one.safetensors")
    counted = sum(
        len(made(tmp_path / "folder" / part))
        for made, part in ((unet_weights, "unet"), (vae_weights, "vae"), (text_weights, "text_encoder"))
    )
    assert len(written) == counted
    assert {array.dtype for array in written.values()} == {np.dtype(np.float16)}
    assert "model.diffusion_model.input_blocks.0.0.weight" in written
    assert written["first_stage_model.decoder.mid.attn_1.q.weight"].ndim == 4
    layers = {key.split("resblocks.")[1].split(".")[0] for key in written if "resblocks." in key}
    assert len(layers) == 1 + json.loads((tmp_path / "folder" / "text_encoder" / "config.json").read_text())["num_hidden_layers"]
