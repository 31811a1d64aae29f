"""OpenVINO GenAI's text-to-image pipeline, on what optimum-intel exported, with static shapes and our noise behind its generator."""

from __future__ import annotations

from time import perf_counter
from typing import Any

import numpy as np
import openvino
import openvino_genai

from benchmarks.workers.painting import Floats, Job, Part, Pictures


class GivenNoise(openvino_genai.Generator):  # type: ignore[misc]
    """A generator that hands out given numbers in their order; fails loudly where more are asked for than there are."""

    def __init__(self, noise: Floats) -> None:
        super().__init__()
        self.numbers = iter(noise.ravel().tolist())

    def next(self) -> float:
        """Return the next number."""
        return float(next(self.numbers))

    def randn_tensor(self, shape: Any) -> openvino.Tensor:
        """Return the next numbers in a shape."""
        values = [self.next() for _ in range(int(np.prod(list(shape))))]
        return openvino.Tensor(np.array(values, np.float32).reshape(list(shape)))


class GenaiPainter:
    """Compiled anew for every shape, from the files: a compiled pipeline cannot be reshaped."""

    one_prompt = True

    def __init__(self, job: Job) -> None:
        self.job = job
        self.shape: tuple[int, int, int] | None = None
        self.pipe: Any = None
        self.step_ends: list[float] = []

    def prepare(self, part: Part) -> None:
        """Read, reshape and compile, unless it has this shape already."""
        shape = (part.batch, part.height, part.width)
        if shape == self.shape:
            return
        self.pipe = openvino_genai.Text2ImagePipeline(self.job.model)
        schedule = f"{self.job.model}/scheduler/scheduler_config.json"
        self.pipe.set_scheduler(openvino_genai.Scheduler.from_config(schedule, openvino_genai.Scheduler.Type.DDIM))
        self.pipe.reshape(*shape, self.job.guidance)
        properties: dict[str, Any] = {"INFERENCE_NUM_THREADS": self.job.threads}
        if self.job.cache:
            properties["CACHE_DIR"] = self.job.cache
        if "precision" in self.job.options:
            properties["INFERENCE_PRECISION_HINT"] = self.job.options["precision"]
        self.pipe.compile("CPU", **properties)
        self.shape = shape

    def paint(self, prompts: list[str], noise: Floats, seeds: list[int], part: Part) -> Pictures:
        """Paint the first prompt, as many times as there are noises."""
        size = {"width": part.width, "height": part.height, "num_images_per_prompt": part.batch}
        settings = {"num_inference_steps": part.steps, "guidance_scale": self.job.guidance, "generator": GivenNoise(noise)}
        return np.array(self.pipe.generate(prompts[0], callback=self.step_ended, **size, **settings).data)

    def step_ended(self, step: int, steps: int, latents: Any) -> bool:
        """Note the time and go on."""
        self.step_ends.append(perf_counter())
        return False


def open_painter(job: Job) -> GenaiPainter:
    """Load and compile for the first part's shape."""
    painter = GenaiPainter(job)
    painter.prepare(job.parts[0])
    return painter
