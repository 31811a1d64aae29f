"""sd2rt itself, on a bundle."""

from __future__ import annotations

from time import perf_counter
from typing import Any

import numpy as np

from benchmarks.workers.painting import Floats, Job, Part, Pictures
from sd2rt.runtime import load


class OurPainter:
    """A loaded pipeline; whatever else its calls are given comes from the job."""

    one_prompt = False

    def __init__(self, job: Job) -> None:
        self.pipe = load(job.model, target=job.options["target"], threads=job.threads)
        self.call: dict[str, Any] = {"sampler": "ddim", "guidance_scale": job.guidance, **job.options.get("call", {})}
        self.step_ends: list[float] = []

    def prepare(self, part: Part) -> None:
        """Nothing: engines take any shape."""

    def paint(self, prompts: list[str], noise: Floats, seeds: list[int], part: Part) -> Pictures:
        """Paint from noise."""
        size = {"width": part.width, "height": part.height}
        states = []
        for state in self.pipe.steps(prompts, latents=noise, **size, **{"steps": part.steps, **self.call}):
            self.step_ends.append(perf_counter())
            states = [state]
        return np.stack([np.asarray(image) for image in states[0].result().images])


def open_painter(job: Job) -> OurPainter:
    """Load the bundle on the target of the job's options."""
    return OurPainter(job)
