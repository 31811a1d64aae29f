"""diffusers on torch: eager in any dtype, or compiled as its documentation says (channels last, UNet and decoder compiled)."""

from __future__ import annotations

from time import perf_counter
from typing import Any

import diffusers
import torch

from benchmarks.workers.painting import Floats, Job, Part, Pictures, as_bytes


class DiffusersPainter:
    """A diffusers pipeline."""

    one_prompt = False

    def __init__(self, pipe: Any, guidance: float, dtype: torch.dtype) -> None:
        """Take a loaded pipeline and have it use DDIM."""
        self.pipe, self.guidance, self.dtype = pipe, guidance, dtype
        self.step_ends: list[float] = []
        pipe.scheduler = diffusers.DDIMScheduler.from_config(pipe.scheduler.config)
        pipe.set_progress_bar_config(disable=True)

    def prepare(self, part: Part) -> None:
        """Nothing: torch takes any shape."""

    def paint(self, prompts: list[str], noise: Floats, seeds: list[int], part: Part) -> Pictures:
        """Paint from noise."""
        latents = torch.from_numpy(noise).to(self.dtype)
        asked = {"prompt": prompts[0], "num_images_per_prompt": part.batch} if self.one_prompt else {"prompt": prompts}
        size = {"height": part.height, "width": part.width}
        options = {"num_inference_steps": part.steps, "guidance_scale": self.guidance, "output_type": "np"}
        return as_bytes(self.pipe(**asked, latents=latents, callback_on_step_end=self.step_ended, **size, **options).images)

    def step_ended(self, pipe: Any, step: int, timestep: Any, given: dict[str, Any]) -> dict[str, Any]:
        """Note the time, change nothing."""
        self.step_ends.append(perf_counter())
        return given


def open_painter(job: Job) -> DiffusersPainter:
    """Load the folder; options are `dtype` and `compile`."""
    torch.set_num_threads(job.threads)
    dtype = getattr(torch, job.options["dtype"])
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(job.model, local_files_only=True, torch_dtype=dtype, safety_checker=None)
    if job.options.get("compile"):
        pipe.unet = torch.compile(pipe.unet.to(memory_format=torch.channels_last), dynamic=False)
        pipe.vae.decode = torch.compile(pipe.vae.to(memory_format=torch.channels_last).decode, dynamic=False)
    return DiffusersPainter(pipe, job.guidance, dtype)
