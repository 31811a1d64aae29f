"""sd2rt itself, on a bundle. Options are `target`, `precision`, and `call`: what else its calls are given; those with a `speed` preset take
sampler and steps from that."""

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
        precision = job.options.get("precision", "auto")
        self.pipe = load(job.model, target=job.options["target"], threads=job.threads, precision=precision)
        self.call: dict[str, Any] = {"guidance_scale": job.guidance, **job.options.get("call", {})}
        self.step_ends: list[float] = []

    def prepare(self, part: Part) -> None:
        """Nothing: engines take any shape, and the warm-up compiles where a target does."""

    def paint(self, prompts: list[str], noise: Floats, seeds: list[int], part: Part) -> Pictures:
        """Paint from noise."""
        size = {"width": part.width, "height": part.height}
        sampling = {} if "speed" in self.call else {"sampler": "ddim", "steps": part.steps}
        states = []
        for state in self.pipe.steps(prompts, latents=noise, **size, **sampling, **self.call):
            self.step_ends.append(perf_counter())
            states = [state]
        return np.stack([np.asarray(image) for image in states[0].result().images])


def open_painter(job: Job) -> OurPainter:
    """Load the bundle on the target of the job's options."""
    return OurPainter(job)
