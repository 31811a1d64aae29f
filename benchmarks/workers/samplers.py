"""Paint toyworld captions with every sampler at several numbers of steps on our CPU engine, judge and time them.

`python -m benchmarks.workers.samplers BUNDLE CAPTIONS STEPS...`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt

from sd2rt.runtime import load
from sd2rt.runtime.samplers import SOLVERS
from sd2rt.runtime.text_to_image import TextToImage
from sd2rt.toyworld.evaluate import evaluate

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


def measure(bundle: Path, *, captions: int, steps: Sequence[int]) -> dict[str, Any]:
    """Paint the same held-out captions with every sampler and number of steps."""
    found = []
    with load(bundle, target="cpu") as pipe:
        for sampler in SOLVERS:
            for count in steps:
                painter = TimedPainter(pipe, sampler, count)
                accuracy = evaluate(painter, captions, batch=BATCH).accuracy.overall
                found.append({"sampler": sampler, "steps": count, "prompt_accuracy": accuracy, "batch_s": painter.seconds})
        guidance = pipe.bundle.defaults.guidance_scale
    return {"parameters": {"captions": captions, "batch": BATCH, "guidance_scale": guidance, "steps": list(steps)}, "results": found}


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]), captions=int(sys.argv[2]), steps=[int(number) for number in sys.argv[3:]])))
