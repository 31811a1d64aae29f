"""The scenario of the full-size UNet: seconds per guided step (batch 2), random weights, each runtime's own UNet object alone.

Runtimes that show no UNet take part in the scenario `pipeline` instead. Stays small, see `measure.run_measured`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.measure import Sample, run_measured
from benchmarks.peers.contenders import REFERENCE, Contender, taking_part
from benchmarks.peers.models import OFFLINE, prepare, worker
from benchmarks.peers.painting import Setting, folder_name, obstacles, who
from benchmarks.peers.trial import alternate_trial, describe
from benchmarks.peers.venvs import python
from benchmarks.unet_step import read_shape

SD2RT = str(Path(sys.executable).with_name("sd2rt"))
NOISE_LEVEL = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class FullSize:
    """An architecture of SD2's, as `sd2rt export --preset` names it, and the pixels of what its UNet is given."""

    preset: str
    side: int
    task: str = "text-to-image"


# SD2's UNet for 768 pixels is sd2-base's; the x4 upscaler's latents are as large as the picture that it is given: 128 pixels become 512
SIZES = {
    "512": FullSize(preset="sd2-base", side=512),
    "768": FullSize(preset="sd2-base", side=768),
    "x4": FullSize(preset="x4-upscaler", side=512, task="x4-upscaling"),
}


def full_size_bundle(work: Path, preset: str) -> Path:
    """Return an architecture's bundle with seeded random weights in half precision, exported on first use."""
    bundle = work / preset
    if not bundle.exists():
        options = ("--preset", preset, "--random-weights", "--weights-seed", "0", "--dtype", "fp16")
        run_measured([SD2RT, "export", *options, "--out", str(bundle)])
    return bundle


def measure(setting: Setting, size: FullSize, *, steps: int) -> dict[str, Any]:
    """Time `steps` guided steps a round of everyone who shows a UNet; accuracy is PSNR to torch in float32 on the same inputs."""
    contenders = taking_part("unet", setting.wanted)
    forms = prepare(setting.bundle, setting.work / "models", {one.form for one in contenders})
    described = json.loads((setting.bundle / "bundle.json").read_text())
    shape = step_shape(setting.bundle, described, size)
    failed = obstacles(contenders, forms)
    (setting.work / "unet").mkdir(parents=True, exist_ok=True)
    runs = {one.name: partial(run_one, one, setting, shape, steps, forms) for one in contenders}
    trial = alternate_trial(runs, setting.rounds, first=False, failed=failed)
    accuracy = compare(setting, [one.name for one in contenders if one.name in trial.samples])
    return {
        "parameters": {
            "scenario": "unet",
            "model": described["export"]["source"],
            "pixels": size.side,
            "shape": shape,
            "threads": setting.threads,
            "rounds": setting.rounds,
            "steps_per_round": steps,
        },
        "forms": forms,
        "contenders": {one.name: {**who(one), **describe(trial, one.name), **accuracy.get(one.name, {})} for one in contenders},
    }


def step_shape(bundle: Path, described: Mapping[str, Any], size: FullSize) -> dict[str, int]:
    """Return the sizes of a guided step."""
    shape = read_shape(bundle, described)
    side = size.side // described["latent_factor"]
    return {**shape, "height": side, "width": side, **({"noise_level": NOISE_LEVEL} if size.task == "x4-upscaling" else {})}


def run_one(one: Contender, setting: Setting, shape: Mapping[str, int], steps: int, forms: Mapping[str, Mapping[str, Any]]) -> Sample:
    """Run one contender in a process of its own; its times come as JSON."""
    model = f"{forms[one.form]['path']}/unet" if one.step == "torch" else forms[one.form]["path"]
    options = {**one.options, "threads": setting.threads}
    out = output(setting, one.name)
    caches = {"SD2RT_CACHE": str(setting.work / "sd2rt-cache"), "TORCHINDUCTOR_CACHE_DIR": str(out.with_suffix(".inductor"))}
    arguments = (one.step, model, json.dumps(shape), str(steps), str(out), json.dumps(options))
    return run_measured([python(one.venv), "-m", "benchmarks.workers.unet", *arguments], {**OFFLINE, **caches})


def output(setting: Setting, name: str) -> Path:
    """Return where a contender's output goes."""
    return setting.work / "unet" / f"{folder_name(name)}.npy"


def compare(setting: Setting, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return how far everyone is from the reference; nothing where that failed."""
    if REFERENCE not in names:
        return {}
    files = [str(output(setting, name)) for name in (REFERENCE, *names)]
    found = json.loads(run_measured(worker("difference", *files)).stdout)
    return {name: {"against_torch_fp32": one} for name, one in zip(names, found, strict=True)}
