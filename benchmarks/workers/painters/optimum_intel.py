"""optimum-intel: OpenVINO behind a diffusers pipeline, on what its own command exported, with static shapes as its manual advises."""

from __future__ import annotations

from typing import Any

import torch
from optimum.intel import OVStableDiffusionPipeline

from benchmarks.workers.painters.torch_diffusers import DiffusersPainter
from benchmarks.workers.painting import Job, Part


class StaticPainter(DiffusersPainter):
    """Compiled anew for every shape. One prompt at a time: its static decoder takes as many pictures as `num_images_per_prompt` says."""

    one_prompt = True
    shape: tuple[int, int, int] | None = None

    def prepare(self, part: Part) -> None:
        """Reshape and compile, unless it has this shape already."""
        shape = (part.batch, part.height, part.width)
        if shape != self.shape:
            self.pipe.reshape(1, part.height, part.width, num_images_per_prompt=part.batch)
            self.pipe.compile()
            self.shape = shape


def open_painter(job: Job) -> StaticPainter:
    """Load the exported folder; option `precision` is OpenVINO's hint, or left to it. Compiled models are cached."""
    torch.set_num_threads(job.threads)
    config: dict[str, Any] = {"INFERENCE_NUM_THREADS": str(job.threads)}
    if job.cache:
        config["CACHE_DIR"] = job.cache
    if "precision" in job.options:
        config["INFERENCE_PRECISION_HINT"] = job.options["precision"]
    pipe = OVStableDiffusionPipeline.from_pretrained(job.model, local_files_only=True, compile=False, ov_config=config, safety_checker=None)
    return StaticPainter(pipe, job.guidance, torch.float32)
