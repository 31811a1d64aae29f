"""How a checkpoint is sampled when nobody says otherwise, read from its scheduler's config."""

from collections.abc import Mapping
from typing import Any

SAMPLERS = {
    "DDIMScheduler": "ddim",
    "DDPMScheduler": "ddpm",
    "PNDMScheduler": "pndm",
    "LMSDiscreteScheduler": "lms",
    "EulerDiscreteScheduler": "euler",
    "EulerAncestralDiscreteScheduler": "euler a",
    "HeunDiscreteScheduler": "heun",
    "KDPM2DiscreteScheduler": "dpm2",
    "KDPM2AncestralDiscreteScheduler": "dpm2 a",
    "DPMSolverMultistepScheduler": "dpm++ 2m",
    "DPMSolverSDEScheduler": "dpm++ sde",
    "UniPCMultistepScheduler": "unipc",
    "DEISMultistepScheduler": "deis",
    "LCMScheduler": "lcm",
}
FALLBACK_SAMPLER = "ddim"
# Their diffusers classes space no sigmas; configs keep the keys of the scheduler they were converted from all the same.
OWN_SPACING = ("ddim", "ddpm", "pndm", "euler a", "lcm")


def sampling_defaults(scheduler: Mapping[str, Any], task: str = "text-to-image") -> dict[str, object]:
    """Return steps, guidance_scale and sampler.

    Distilled models (an LCM scheduler; or Euler with trailing timesteps, epsilon and ordinary betas, as SD-Turbo's) are painted in
    few steps without guidance, all others in 30 steps with the checkpoint's own scheduler, at diffusers' guidance: 7.5, for
    upscaling 9.
    """
    name = str(scheduler.get("_class_name"))
    sampler = SAMPLERS.get(name, FALLBACK_SAMPLER)
    if name == "DPMSolverMultistepScheduler" and "sde" in str(scheduler.get("algorithm_type", "")):
        sampler = "dpm++ 2m sde"
    sigmas = next((sigmas for sigmas in ("karras", "exponential") if scheduler.get(f"use_{sigmas}_sigmas")), None)
    if sigmas is not None and sampler not in OWN_SPACING:
        sampler += f" {sigmas}"
    if name == "LCMScheduler":
        return {"steps": 4, "guidance_scale": 1.0, "sampler": sampler}
    if _is_turbo(scheduler):
        return {"steps": 2, "guidance_scale": 1.0, "sampler": sampler}
    return {"steps": 30, "guidance_scale": 9.0 if task == "upscaling" else 7.5, "sampler": sampler}


def _is_turbo(scheduler: Mapping[str, Any]) -> bool:
    return (
        str(scheduler.get("_class_name")).startswith("Euler")
        and scheduler.get("timestep_spacing") == "trailing"
        and scheduler.get("prediction_type", "epsilon") == "epsilon"
        and not scheduler.get("rescale_betas_zero_snr")
    )
