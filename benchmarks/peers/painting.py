"""The scenarios in which whole pictures are painted: cold start, single stream, offline, growth, and the full-size pipeline.

Every contender paints the same captions from the same noise by DDIM with as many threads; the pictures of the last round are judged.
Stays small, see `measure.run_measured`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.measure import Sample, run_measured
from benchmarks.peers.contenders import REFERENCE, Contender, taking_part
from benchmarks.peers.models import OFFLINE, command, prepare, worker
from benchmarks.peers.trial import Trial, alternate_trial, describe
from benchmarks.peers.venvs import details, python

SEED, STEPS, GUIDANCE = 7, 20, 4.0
PART_FIELDS = ("name", "batch", "steps", "calls", "height", "width", "warm_ups")
Part = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A scenario's bundle, folder and rounds, and whose names to take (all when empty)."""

    scenario: str
    bundle: Path
    work: Path
    rounds: int
    wanted: tuple[str, ...] = ()
    threads: int = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def part(name: str, batch: int, calls: int, *, side: int = 64, steps: int = STEPS, warm_ups: int = 1) -> Part:
    """Describe a part, see `benchmarks.workers.painting.Part`."""
    return dict(zip(PART_FIELDS, (name, batch, steps, calls, side, side, warm_ups), strict=True))


PARTS = {
    "cold-start": [part("picture", 1, 1, warm_ups=0)],
    "single-stream": [part("1 at a time", 1, 16)],
    "offline": [part(f"{batch} at a time", batch, calls) for batch, calls in ((4, 6), (16, 2))],
    "growth": [
        *(part(f"size {side}", 1, 3, side=side) for side in (64, 128, 192, 256)),
        *(part(f"batch {batch}", batch, 2) for batch in (1, 2, 4, 8)),
        *(part(f"steps {steps}", 1, 3, steps=steps) for steps in (5, 10, 20, 40)),
    ],
    "pipeline": [part("picture", 1, 1, side=512, steps=4, warm_ups=0)],
}


def measure(setting: Setting, parts: Sequence[Part]) -> dict[str, Any]:
    """Make the models, paint in turn, judge. A contender that cannot be installed, loaded or run is recorded with its reason."""
    contenders = taking_part(setting.scenario, setting.wanted)
    forms = prepare(setting.bundle, setting.work / "models", {one.form for one in contenders})
    failed = obstacles(contenders, forms)
    inputs = draw_inputs(setting, parts)
    runs = {one.name: partial(run_one, one, setting, parts, inputs, forms) for one in contenders}
    trial = alternate_trial(runs, setting.rounds, first=setting.scenario == "cold-start", failed=failed)
    verdicts = judge(setting, parts, contenders, trial, inputs["captions"])
    return {
        "parameters": {
            "scenario": setting.scenario,
            "model": inputs["model"],
            "sampler": "ddim",
            "steps": STEPS,
            "guidance_scale": GUIDANCE,
            "seed": SEED,
            "threads": setting.threads,
            "rounds": setting.rounds,
            "parts": {one["name"]: one for one in parts},
            "captions": inputs["captions"],
        },
        "forms": forms,
        "contenders": {one.name: {**who(one), **describe(trial, one.name), **verdicts.get(one.name, {})} for one in contenders},
    }


def obstacles(contenders: Sequence[Contender], forms: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return who cannot start and why: not installed, or its model could not be made."""
    found = {}
    for one in contenders:
        installed = details(one.venv) or {"failed": "not installed: python -m benchmarks peers --scenario install"}
        if reason := installed.get("failed"):
            found[one.name] = f"cannot be installed: {reason}"
        elif reason := forms[one.form].get("failed"):
            found[one.name] = f"its model cannot be made: {reason}"
    return found


def who(one: Contender) -> dict[str, Any]:
    """Describe a contender and the versions in its venv."""
    installed = details(one.venv) or {}
    return {"venv": one.venv, "form": one.form, "options": dict(one.options), "versions": installed.get("versions", {})}


def draw_inputs(setting: Setting, parts: Sequence[Part]) -> dict[str, Any]:
    """Write the noise of every size, and return captions, schedule and model's name."""
    count = max(one["batch"] * one["calls"] for one in parts)
    sides = sorted({one["height"] for one in parts})
    start = setting.work / "inputs" / "noise"
    start.parent.mkdir(parents=True, exist_ok=True)
    arguments = (str(setting.bundle), str(count), str(SEED), str(start), *map(str, sides))
    return {**json.loads(run_measured(worker("peer_inputs", *arguments)).stdout), "noise": str(start)}


def run_one(
    one: Contender, setting: Setting, parts: Sequence[Part], inputs: Mapping[str, Any], forms: Mapping[str, Mapping[str, Any]]
) -> Sample:
    """Paint everything once in a fresh process."""
    out = output(setting, one.name)
    out.mkdir(parents=True, exist_ok=True)
    environment = {**OFFLINE, "SD2RT_CACHE": str(setting.work / "sd2rt-cache"), "TORCHINDUCTOR_CACHE_DIR": str(out / "inductor")}
    if setting.scenario == "cold-start" and one.painter == "ours":
        return run_measured(our_command(one, setting, inputs["captions"][0], out), environment)
    job = {
        "painter": one.painter,
        "model": forms[one.form]["path"],
        "cache": "" if setting.scenario == "pipeline" else str(setting.work / "caches" / folder_name(one.name)),  # it would be 10 GB
        "threads": setting.threads,
        "seed": SEED,
        "guidance": GUIDANCE,
        "captions": inputs["captions"],
        "parts": list(parts),
        "noise": inputs["noise"],
        "out": str(out),
        "scheduler": inputs["scheduler"],
        "options": dict(one.options),
    }
    (out / "job.json").write_text(json.dumps(job))
    picture = [str(out / "picture.png")] if setting.scenario == "cold-start" else []
    return run_measured([python(one.venv), "-m", "benchmarks.workers.paint", str(out / "job.json"), *picture], environment)


def our_command(one: Contender, setting: Setting, caption: str, out: Path) -> list[str]:
    """Return the command that a user of ours types."""
    call = ("--sampler", "ddim", "--steps", str(STEPS), "--guidance", str(GUIDANCE), "--seed", str(SEED))
    files = ("--model", str(setting.bundle), "--out", str(out / "picture.png"), "--force")
    return [command(one.venv, "sd2rt"), "generate", caption, "--target", one.options["target"], *call, *files]


def output(setting: Setting, name: str) -> Path:
    """Return where a contender's pictures go."""
    return setting.work / setting.scenario / folder_name(name)


def folder_name(name: str) -> str:
    """diffusers, eager fp32 -> diffusers-eager-fp32."""
    return "-".join("".join(letter if letter.isalnum() else " " for letter in name).split())


def judge(
    setting: Setting, parts: Sequence[Part], contenders: Sequence[Contender], trial: Trial, captions: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Return, per contender and part, what its pictures are worth: right ones of all, and PSNR to the reference's."""
    painted = [(one.name, found) for one in contenders if trial.samples.get(one.name) for found in parts]
    cases = [case(setting, name, found, captions, trial) for name, found in painted]
    file = setting.work / setting.scenario / "cases.json"
    file.write_text(json.dumps(cases))
    verdicts: dict[str, dict[str, Any]] = {}
    for (name, found), verdict in zip(painted, json.loads(run_measured(worker("judge", str(file))).stdout), strict=True):
        verdicts.setdefault(name, {"accuracy": {}})["accuracy"][found["name"]] = verdict
    return verdicts


def case(setting: Setting, name: str, found: Part, captions: Sequence[str], trial: Trial) -> dict[str, Any]:
    """Describe one part of one contender to `benchmarks.workers.judge`."""
    file = "picture.png" if setting.scenario == "cold-start" else f"{found['name']}.npy"
    numbers = range(found["batch"] * found["calls"])
    sample = trial.samples[name][0].stdout
    one_prompt = '"one_prompt": true' in sample
    shown = [k // found["batch"] * found["batch"] if one_prompt else k for k in numbers]
    described: dict[str, Any] = {"pictures": str(output(setting, name) / file), "same": [k for k in numbers if shown[k] == k]}
    if found["height"] == 64 and setting.scenario != "pipeline":  # what toyworld was trained on, and its checker reads
        described["captions"] = [captions[k] for k in shown]
    if trial.samples.get(REFERENCE):
        described["reference"] = str(output(setting, REFERENCE) / file)
    return described
