"""Run contenders in turn, keep every sample, and put one that fails aside with its reason. Knows no scenario."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from benchmarks.measure import ContenderFailed, Sample, alternate, undisturbed
from benchmarks.peers.venvs import last_error
from benchmarks.records import summary

Run = Callable[[], Sample]


@dataclass(slots=True, kw_only=True)
class Trial:
    """What came of it: the first run of each contender, which fills caches and is not counted, the samples, and who failed and why."""

    first: dict[str, Sample] = field(default_factory=dict)
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


def alternate_trial(runs: Mapping[str, Run], rounds: int, *, first: bool, failed: Mapping[str, str]) -> Trial:
    """Run everyone `rounds` times in turn, with `first` once more before that; who is in `failed` does not start."""
    trial = Trial(failed=dict(failed))
    if first:
        for name, run in runs.items():
            if sample := attempt(trial, name, run):
                trial.first[name] = sample
    taken = alternate({name: partial(attempt, trial, name, run) for name, run in runs.items()}, rounds)
    trial.samples = {name: [sample for sample in samples if sample] for name, samples in taken.items() if name not in trial.failed}
    return trial


def attempt(trial: Trial, name: str, run: Run) -> Sample | None:
    """Run a contender unless it has failed before; None where it does."""
    if name in trial.failed:
        return None
    try:
        return run()
    except (ContenderFailed, OSError) as error:
        trial.failed[name] = last_error(getattr(error, "words", str(error)))
        return None


def plain(sample: Sample) -> dict[str, Any]:
    """Return a sample as JSON values, with what its process wrote."""
    said = json.loads(sample.stdout) if sample.stdout.lstrip().startswith("{") else {}
    return {"wall_s": sample.wall_s, "peak_rss_bytes": sample.peak_rss_bytes, "others_cores": sample.others_cores, **said}


def describe(trial: Trial, name: str) -> dict[str, Any]:
    """Put one contender's samples and the summaries of the undisturbed ones together, or say why it failed.

    Per part of a painting job, `picture_s` is seconds per picture, `step_s` seconds per step of the whole batch.
    """
    if name in trial.failed:
        return {"failed": trial.failed[name]}
    quiet = undisturbed(trial.samples[name])
    said = [plain(sample) for sample in quiet]
    found: dict[str, Any] = {
        "samples": [plain(sample) for sample in trial.samples[name]],
        "undisturbed": len(quiet),
        "wall_s": summary([sample.wall_s for sample in quiet]),
        "peak_rss_bytes": summary([sample.peak_rss_bytes for sample in quiet]),
    }
    if name in trial.first:
        found["first_run"] = plain(trial.first[name])
    if all("load_s" in one for one in said):
        found["load_s"] = summary([one["load_s"] for one in said])
    if all("step_s" in one for one in said):
        found["step_s"] = summary([seconds for one in said for seconds in one["step_s"]])
    if all("parts" in one for one in said):
        found["parts"] = {part: sum_part(part, said) for part in said[0]["parts"]}
    return found


def sum_part(part: str, said: list[dict[str, Any]]) -> dict[str, Any]:
    """Sum one part up over all samples."""
    seconds = {key: [value for one in said for value in one["parts"][part][key]] for key in ("call_s", "step_s")}
    return {key: summary(values) for key, values in seconds.items() if values}
