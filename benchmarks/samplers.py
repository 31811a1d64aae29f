"""Prompt accuracy and seconds per picture of every sampler at several numbers of steps, on toyworld with our CPU engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy.typing as npt

from benchmarks.records import Record, conditions_line, table
from sd2rt.runtime import load
from sd2rt.runtime.samplers import SOLVERS
from sd2rt.runtime.text_to_image import TextToImage
from sd2rt.toyworld.evaluate import evaluate

STEPS = (5, 10, 20, 40)
BATCH = 10


class TimedPainter:
    """Paint captions with one sampler and number of steps, and add up the seconds that takes; every call starts at seed 0."""

    def __init__(self, pipe: TextToImage, sampler: str, steps: int) -> None:
        self.pipe, self.sampler, self.steps = pipe, sampler, steps
        self.seconds: list[float] = []

    def __call__(self, captions: list[str]) -> list[npt.ArrayLike]:
        result = self.pipe(captions, sampler=self.sampler, steps=self.steps)
        self.seconds.append(result.timings["total"])
        return list(result.images)


def measure(bundle: Path, *, captions: int) -> dict[str, Any]:
    """Paint the same held-out captions with every sampler and number of steps."""
    found = []
    with load(bundle, target="cpu") as pipe:
        for sampler in SOLVERS:
            for steps in STEPS:
                painter = TimedPainter(pipe, sampler, steps)
                accuracy = evaluate(painter, captions, batch=BATCH).accuracy.overall
                found.append({"sampler": sampler, "steps": steps, "prompt_accuracy": accuracy, "batch_s": painter.seconds})
        guidance = pipe.bundle.defaults.guidance_scale
    return {"parameters": {"captions": captions, "batch": BATCH, "guidance_scale": guidance, "steps": list(STEPS)}, "results": found}


def report(record: Record) -> str:
    """Make the README's table from a result file: per cent of the pictures right, and milliseconds per picture."""
    given = record["parameters"]
    rows: dict[str, list[str]] = {}
    for found in record["results"]:
        milliseconds = 1000 * sum(found["batch_s"]) / given["captions"]
        rows.setdefault(found["sampler"], []).append(f"{100 * found['prompt_accuracy']:.0f} % / {milliseconds:.0f} ms")
    head = ["sampler", *(f"{steps} steps" for steps in given["steps"])]
    return (
        f"{table(head, [[name, *cells] for name, cells in rows.items()])}\n\n"
        f"Pictures that are wholly right, of {given['captions']} held-out captions, and time per picture in batches of {given['batch']}; "
        f"toyworld, guidance {given['guidance_scale']}. {conditions_line(record)}"
    )
