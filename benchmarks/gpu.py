"""The full-size SD2 on a GPU, random weights: torch, ONNX Runtime CUDA and TensorRT, step and whole picture, speed and accuracy.

All contenders run in one go, alternating, each in a process of its own; one that cannot run here leaves its reason and the others go on.
The reference of every accuracy is torch in float32 with the same weights, inputs and initial noise. Needs about 20 GB of disk in `work`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.measure import ContenderFailed, alternate, run_measured
from benchmarks.records import summary
from benchmarks.schedulers import SCHEDULERS
from benchmarks.unet_step import PRESET, SD2RT, run_module
from benchmarks.workers.gpu_case import Case, Settings
from sd2rt.engine.gpu import Gpu, find_gpu

REFERENCE = "torch float32"
SAMPLER = "euler"


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """A worker and its arguments: the model, how it runs, and in which variant."""

    worker: str
    arguments: tuple[str, ...]


def contenders(work: Path) -> dict[str, Contender]:
    """Return what is compared, the reference not among it."""
    diffusers, bundle = str(work / "diffusers"), str(work / "fp16")
    found = {
        "torch eager": Contender(worker="gpu_torch", arguments=(diffusers, "float16", "eager")),
        "torch.compile": Contender(worker="gpu_torch", arguments=(diffusers, "float16", "compiled")),
    }
    for target in ("cuda", "tensorrt", "tensorrt-rtx"):
        for mode, words in (("fused", "device loop"), ("plain", "host loop")):
            found[f"sd2rt {target}, {words}"] = Contender(worker="gpu_sd2rt", arguments=(bundle, target, mode))
    return found


def require_gpu() -> Gpu:
    """Return this machine's GPU. Raises ContenderFailed, in one line, where there is none."""
    gpu = find_gpu()
    if isinstance(gpu, str):
        raise ContenderFailed(f"no GPU to measure on: {gpu}")
    return gpu


def measure(work: Path, settings: Settings, *, rounds: int) -> dict[str, Any]:
    """Export what is missing in `work`, run the reference once, then every contender `rounds` times in turn. Raises ContenderFailed."""
    gpu = require_gpu()
    prepare(work)
    shutil.rmtree(work / "outputs", ignore_errors=True)
    reference = Contender(worker="gpu_torch", arguments=(str(work / "diffusers"), "float32", "eager"))
    exact = attempt(reference, replace(settings, blocks=1, calls=1, pictures=1), work, REFERENCE)
    given = contenders(work)
    runs = alternate({name: partial(attempt, contender, settings, work, name) for name, contender in given.items()}, rounds)
    return {
        "gpu": asdict(gpu),
        "parameters": {
            "model": f"random weights, preset {PRESET}, seed 0",
            "rounds": rounds,
            **json.loads(settings.write()),
        },
        "reference": exact,
        "contenders": {name: describe(samples, compare(name, samples, settings, work)) for name, samples in runs.items()},
    }


def prepare(work: Path) -> None:
    """Export the same random weights for every contender, unless that was done before."""
    if not (work / "fp16").exists():
        options = ("--preset", PRESET, "--random-weights", "--weights-seed", "0", "--dtype", "fp16")
        run_measured([SD2RT, "export", *options, "--out", str(work / "fp16")])
    if not (work / "diffusers").exists():
        run_module("diffusers_folder", str(work / "fp16"), str(work / "diffusers"))


def run(contender: Contender, settings: Settings, work: Path, name: str) -> dict[str, Any]:
    """Run one contender in a process of its own. Raises ContenderFailed."""
    caches = {"SD2RT_CACHE": str(work / "cache"), "TORCHINDUCTOR_CACHE_DIR": str(work / "inductor")}
    sample = run_module(contender.worker, *contender.arguments, settings.write(), str(output_folder(work, name)), **caches)
    return {"wall_s": sample.wall_s, "peak_rss_bytes": sample.peak_rss_bytes, **json.loads(sample.stdout.splitlines()[-1])}


def attempt(contender: Contender, settings: Settings, work: Path, name: str) -> dict[str, Any]:
    """Run a contender; where it fails as a whole, return its reason in one line."""
    try:
        return run(contender, settings, work, name)
    except ContenderFailed as error:
        return {"failed": reason(str(error))}


def reason(words: str) -> str:
    """Return the last line of what a failed process said: Python's error, without its class's full name."""
    lines = [line.strip() for line in words.splitlines() if line.strip()]
    kind, separator, message = lines[-1].partition(": ")
    return message[:300] if separator and "." in kind and " " not in kind else lines[-1][:300]


def output_folder(work: Path, name: str) -> Path:
    """Return where a contender's outputs go."""
    return work / "outputs" / "".join(letter if letter.isalnum() else "-" for letter in name)


def compare(name: str, samples: Sequence[Mapping[str, Any]], settings: Settings, work: Path) -> dict[str, Any]:
    """Compare the step's output and the final latents of each case with the reference's, where both are there."""
    found: dict[str, Any] = {}
    for case in settings.cases:
        if not any("step_s" in sample.get("cases", {}).get(case.name, {}) for sample in samples):
            continue
        for what in ("step", "latents"):
            exact, got = (output_folder(work, side) / case.name.replace(" ", "") / f"{what}.npy" for side in (REFERENCE, name))
            if exact.exists() and got.exists():
                (found.setdefault(case.name, {})[what],) = json.loads(run_module("difference", str(exact), str(got)).stdout)
    return found


def describe(samples: Sequence[Mapping[str, Any]], accuracy: Mapping[str, Any]) -> dict[str, Any]:
    """Put a contender's samples, the summary of each case and its accuracy together."""
    failed = [sample["failed"] for sample in samples if "failed" in sample]
    cases: dict[str, Any] = {}
    for name in {name: None for sample in samples for name in sample.get("cases", {})}:
        runs = [sample["cases"][name] for sample in samples if name in sample.get("cases", {})]
        whole = [one for one in runs if "failed" not in one]
        if not whole:
            cases[name] = {"failed": runs[0]["failed"]}
            continue
        cases[name] = {
            "step_s": summary([seconds for one in whole for seconds in one["step_s"]]),
            "picture_s": summary([seconds for one in whole for seconds in one["picture_s"]]),
            "against_torch_fp32": accuracy.get(name),
        }
        if "overhead" in whole[0]:
            cases[name]["overhead"] = summary([one["overhead"]["overhead"] for one in whole])
    return {"samples": list(samples), "cases": cases, **({"failed": failed[0]} if failed and not cases else {})}


def settings(sides: Sequence[int], batches: Sequence[int], *, steps: int, blocks: int, calls: int, pictures: int) -> Settings:
    """Return what is measured: every size with every batch."""
    cases = tuple(Case(side=side, images=images) for side in sides for images in batches)
    scheduler = SCHEDULERS[SAMPLER]
    return Settings(cases=cases, sampler=SAMPLER, scheduler=scheduler, steps=steps, blocks=blocks, calls=calls, pictures=pictures)
