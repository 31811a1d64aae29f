"""The contenders of the GPU benchmark that run in torch: diffusers as its users write it, eager or compiled, and the float32 reference.

`python -m benchmarks.workers.gpu_torch FOLDER float16|float32 eager|compiled SETTINGS OUT`, FOLDER being a diffusers folder.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

import diffusers
import numpy as np
import torch

from benchmarks.workers.clock import seconds_per_call
from benchmarks.workers.gpu_case import GUIDANCE, PROMPT, TIMESTEP, Case, Settings, draw, guided, measure_cases

WARM_UPS = 3


def open_pipeline(folder: Path, precision: str, compiled: bool, settings: Settings) -> Any:
    """Load the pipeline onto the device; float32 is computed in float32."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    dtype = getattr(torch, precision)
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(folder, safety_checker=None, local_files_only=True, dtype=dtype)
    pipe.scheduler = getattr(diffusers, settings.scheduler).from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    pipe.to(settings.device)
    if compiled:
        pipe.unet.to(memory_format=torch.channels_last)
        pipe.unet = torch.compile(pipe.unet, mode="reduce-overhead", fullgraph=True)
        pipe.vae.decode = torch.compile(pipe.vae.decode, mode="reduce-overhead", fullgraph=True)
    return pipe


def measure(pipe: Any, settings: Settings, case: Case, out: Path) -> Mapping[str, Any]:
    """Time guided UNet steps and whole pictures; write what they give."""
    config, side = pipe.unet.config, case.side // pipe.vae_scale_factor
    latents = draw("latents", (case.images, config.in_channels, side, side))
    states = draw("states", (2 * case.images, 77, config.cross_attention_dim))
    sample, hidden = (
        torch.from_numpy(array).to(settings.device, pipe.unet.dtype) for array in (np.concatenate([latents, latents]), states)
    )
    timestep = torch.tensor(TIMESTEP, device=settings.device)

    def step() -> torch.Tensor:
        return pipe.unet(sample, timestep, hidden, return_dict=False)[0]

    def picture(output: str = "pil") -> Any:
        given = torch.from_numpy(latents)
        prompts, steps = [PROMPT] * case.images, settings.steps
        return pipe(
            prompts,
            num_inference_steps=steps,
            guidance_scale=GUIDANCE,
            latents=given,
            output_type=output,
            height=case.side,
            width=case.side,
        )

    with torch.inference_mode():
        for _ in range(WARM_UPS):
            output = step().float().cpu().numpy()
        np.save(out / "step.npy", guided(output))
        step_s = seconds_per_call(step, lambda: synchronize(settings.device), blocks=settings.blocks, calls=settings.calls)
        np.save(out / "latents.npy", picture("latent").images.float().cpu().numpy())
        return {"step_s": step_s, "picture_s": time_pictures(picture, settings)}


def time_pictures(picture: Any, settings: Settings) -> list[float]:
    """Return the seconds of each call that paints, after two to warm up."""
    seconds = []
    for _ in range(2 + settings.pictures):
        start = perf_counter()
        picture()
        seconds.append(perf_counter() - start)
    return seconds[2:]


def synchronize(device: str) -> None:
    """Wait for the device."""
    if device == "cuda":
        torch.cuda.synchronize()


def main(folder: str, precision: str, mode: str, settings_text: str, out: str) -> None:
    """Load, measure every case, and write JSON to stdout."""
    settings = Settings.read(settings_text)
    pipe = open_pipeline(Path(folder), precision, mode == "compiled", settings)
    print(json.dumps(measure_cases(settings, Path(out), lambda case, place: measure(pipe, settings, case, place))))


if __name__ == "__main__":
    main(*sys.argv[1:])
