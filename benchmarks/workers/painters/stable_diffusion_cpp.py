"""stable-diffusion.cpp, on a single file. It takes seeds, of which its "cpu" generator makes torch's noise, and a list of sigmas.

Euler over the sigmas of DDIM's timesteps is DDIM (Song et al. 2021, section 4.3), but for the first latents' scale,
sigma instead of sqrt(1 + sigma^2), and the last latents', 1 instead of 1 / sqrt(1 + sigma^2): both differ by less than 0.3 %.
"""

from __future__ import annotations

from time import perf_counter

import numpy as np
from stable_diffusion_cpp import StableDiffusion

from benchmarks.workers.painting import Floats, Job, Part, Pictures, ddim_sigmas


class CppPainter:
    """A loaded file; pictures come one after another."""

    one_prompt = False

    def __init__(self, job: Job) -> None:
        self.guidance, self.scheduler = job.guidance, job.scheduler
        self.step_ends: list[float] = []
        self.model = StableDiffusion(
            model_path=job.model, n_threads=job.threads, rng_type="cpu", sampler_rng_type="cpu", prediction="eps", verbose=False
        )

    def prepare(self, part: Part) -> None:
        """Nothing: any shape will do."""

    def paint(self, prompts: list[str], noise: Floats, seeds: list[int], part: Part) -> Pictures:
        """Paint from seeds."""
        sigmas = ",".join(str(sigma) for sigma in ddim_sigmas(self.scheduler, part.steps))
        size = {"width": part.width, "height": part.height}
        sampler = {"sample_method": "euler", "sigmas": sigmas, "sample_steps": part.steps, "cfg_scale": self.guidance}
        watch = {"progress_callback": lambda step, steps, seconds: self.step_ends.append(perf_counter())}
        painted = [
            self.model.generate_image(prompt, seed=seed, **size, **sampler, **watch) for prompt, seed in zip(prompts, seeds, strict=True)
        ]
        return np.stack([np.asarray(images[0].convert("RGB")) for images in painted])


def open_painter(job: Job) -> CppPainter:
    """Load the file."""
    return CppPainter(job)
