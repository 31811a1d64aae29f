"""How well sd2rt and diffusers paint the same held-out captions from the same noise: toyworld's checker, and PSNR between the two.

`python -m benchmarks.workers.accuracy BUNDLE FOLDER SCHEDULER CAPTIONS` writes JSON to stdout.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import numpy.typing as npt
import torch

from benchmarks.records import summary
from benchmarks.workers.difference import psnr_db
from sd2rt.runtime import load
from sd2rt.runtime.bundle import Bundle, read_bundle
from sd2rt.toyworld.evaluate import Painter, evaluate

Noise = Callable[[int], npt.NDArray[np.float32]]


def compare(bundle: Bundle, folder: str, scheduler: str, captions: int) -> dict[str, Any]:
    """Paint `captions` held-out captions with both, at the bundle's defaults; return accuracies and the PSNR between the two in dB."""
    ours = evaluate(sd2rt_painter(bundle, fixed_noise(bundle)), captions)
    theirs = evaluate(diffusers_painter(bundle, folder, scheduler, fixed_noise(bundle)), captions)
    return {
        "captions": captions,
        "prompt_accuracy": {"sd2rt": ours.accuracy.overall, "diffusers": theirs.accuracy.overall},
        "psnr_db": summary([psnr_db(one, other) for one, other in zip(ours.images, theirs.images, strict=True)]),
    }


def fixed_noise(bundle: Bundle) -> Noise:
    """Return a function that draws the next `count` initial latents, in the same order for every contender."""
    rng = np.random.default_rng(0)
    height, width = (side // bundle.latent_factor for side in bundle.native_size)
    return lambda count: rng.standard_normal((count, bundle.latent_channels, height, width), dtype=np.float32)


def sd2rt_painter(bundle: Bundle, noise: Noise) -> Painter:
    """Paint with our CPU engine."""
    pipe = load(bundle.folder, target="cpu")
    return lambda texts: list(pipe(texts, latents=noise(len(texts))).images)


def diffusers_painter(bundle: Bundle, folder: str, scheduler: str, noise: Noise) -> Painter:
    """Paint with diffusers in float32, with the bundle's defaults for steps and guidance."""
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(folder, safety_checker=None, local_files_only=True, dtype=torch.float32)
    pipe.scheduler = getattr(diffusers, scheduler).from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    steps, guidance = bundle.defaults.steps, bundle.defaults.guidance_scale

    def paint(texts: list[str]) -> list[npt.ArrayLike]:
        latents = torch.from_numpy(noise(len(texts)))
        return list(pipe(texts, num_inference_steps=steps, guidance_scale=guidance, latents=latents).images)

    return paint


if __name__ == "__main__":
    bundle_folder, diffusers_folder, scheduler_name, caption_count = sys.argv[1:]
    print(json.dumps(compare(read_bundle(Path(bundle_folder)), diffusers_folder, scheduler_name, int(caption_count))))
