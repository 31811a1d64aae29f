"""Seconds per guided step of the full-size SD2 UNet, random weights: our CPU engine, eager torch, and plain ONNX Runtime.

A guided step is one run at batch 2. Every run has a process of its own, so that one model at a time is in memory. Needs about 20 GB of
disk in `work`, where the exports stay for the next time. Stays small, see `measure.run_measured`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.measure import Sample, alternate, run_measured, undisturbed
from benchmarks.records import Record, conditions_line, rounds_text, summary, table

SD2RT = str(Path(sys.executable).with_name("sd2rt"))
PRESET = "sd2-base"
OURS, TORCH = "sd2rt, cpu", "torch, eager fp32"


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """One runtime and the model in the form that it loads."""

    runtime: str
    model: Path


def measure(work: Path, *, rounds: int, steps: int) -> dict[str, Any]:
    """Export what is missing in `work`, then time every contender `rounds` times in turn. Raises ContenderFailed."""
    contenders = prepare(work)
    described = json.loads((work / "fp32" / "bundle.json").read_text())
    shape = read_shape(work / "fp32", described)
    build = run_unet(contenders[OURS], shape, 0, work)
    samples = alternate({name: partial(run_unet, contender, shape, steps, work) for name, contender in contenders.items()}, rounds)
    outputs = [str(output_path(contender, work)) for contender in contenders.values()]
    compared = run_module("difference", str(output_path(contenders[TORCH], work)), *outputs)
    return {
        "parameters": {
            "model": described["export"]["source"],
            "native_size": described["native_size"],
            "shape": shape,
            "rounds": rounds,
            "steps_per_round": steps,
        },
        "first_run": {OURS: {"wall_s": build.wall_s, "peak_rss_bytes": build.peak_rss_bytes, **json.loads(build.stdout)}},
        "contenders": {
            name: {**describe_steps(samples[name]), "against_torch_fp32": accuracy}
            for name, accuracy in zip(contenders, json.loads(compared.stdout), strict=True)
        },
    }


def prepare(work: Path) -> dict[str, Contender]:
    """Export the same random weights for every contender, unless that was done before."""
    for dtype in ("fp16", "fp32"):
        if not (work / dtype).exists():
            options = ("--preset", PRESET, "--random-weights", "--weights-seed", "0", "--dtype", dtype)
            run_measured([SD2RT, "export", *options, "--out", str(work / dtype)])
    folder, plain = work / "diffusers", work / "opset18" / "model.onnx"
    if not folder.exists():
        run_module("diffusers_folder", str(work / "fp32"), str(folder), "unet")
    if not plain.exists():
        plain.parent.mkdir(parents=True, exist_ok=True)
        run_module("plain_export", str(folder / "unet"), "18", str(plain))
    return {
        OURS: Contender(runtime="sd2rt", model=work / "fp16"),
        TORCH: Contender(runtime="torch", model=folder / "unet"),
        "onnxruntime, our opset 23 graph in fp32": Contender(runtime="onnxruntime", model=work / "fp32" / "unet" / "model.onnx"),
        "onnxruntime, torch's opset 18 export": Contender(runtime="onnxruntime", model=plain),
    }


def read_shape(bundle: Path, described: Mapping[str, Any]) -> dict[str, int]:
    """Return the sizes of a guided step at the model's native size; `described` is the content of bundle.json."""
    height, width = (side // described["latent_factor"] for side in described["native_size"])
    config = json.loads((bundle / "unet" / "config.json").read_text())
    channels, context = config["in_channels"], config["cross_attention_dim"]
    return {"batch": 2, "channels": channels, "height": height, "width": width, "timestep": 500, "tokens": 77, "context": context}


def run_unet(contender: Contender, shape: Mapping[str, int], steps: int, work: Path) -> Sample:
    """Run one contender in a process of its own; its times come as JSON."""
    arguments = (contender.runtime, str(contender.model), json.dumps(shape), str(steps), str(output_path(contender, work)))
    return run_module("unet", *arguments, SD2RT_CACHE=str(work / "cache"))


def run_module(worker: str, *arguments: str, **environment: str) -> Sample:
    """Run one of `benchmarks.workers`."""
    return run_measured([sys.executable, "-m", f"benchmarks.workers.{worker}", *arguments], {"HF_HUB_OFFLINE": "1", **environment})


def output_path(contender: Contender, work: Path) -> Path:
    """Return where a contender's output goes."""
    return work / f"output-{contender.runtime}-{contender.model.parent.name}.npy"


def describe_steps(samples: list[Sample]) -> dict[str, Any]:
    """Put the samples of one contender, as `workers.unet` times them, and the summary of the undisturbed ones together."""
    quiet = undisturbed(samples)
    times = [json.loads(sample.stdout) for sample in quiet]
    return {
        "samples": [
            {**json.loads(sample.stdout), "peak_rss_bytes": sample.peak_rss_bytes, "others_cores": sample.others_cores}
            for sample in samples
        ],
        "undisturbed": len(quiet),
        "step_s": summary([seconds for found in times for seconds in found["step_s"]]),
        "load_s": summary([found["load_s"] for found in times]),
        "peak_rss_bytes": summary([sample.peak_rss_bytes for sample in quiet]),
    }


def report(record: Record) -> str:
    """Make the README's table from a result file."""
    contenders, given = record["contenders"], record["parameters"]
    ours = contenders[OURS]["step_s"]["median"]
    rows = [
        [
            name,
            f"{found['step_s']['median']:.2f} ({found['step_s']['min']:.2f} to {found['step_s']['max']:.2f})",
            f"{found['step_s']['median'] / ours:.2f}",
            f"{found['load_s']['median']:.1f}",
            f"{found['peak_rss_bytes']['median'] / 1e9:.1f}",
            "reference" if name == TORCH else f"{found['against_torch_fp32']['psnr_db']:.0f} dB",
        ]
        for name, found in contenders.items()
    ]
    head = ["", "seconds per guided step", "relative", "seconds to load", "peak memory, GB", "PSNR against torch fp32"]
    size = " x ".join(str(side) for side in reversed(given["native_size"]))
    return (
        f"{table(head, rows)}\n\nThe UNet ({given['model']}) at {size} pixels, batch 2, medians (and ranges) of "
        f"{rounds_text(record)} processes of {given['steps_per_round']} steps after two to warm up; sd2rt from fp16 weights, "
        f"the others from the same in fp32. {conditions_line(record)}"
    )
