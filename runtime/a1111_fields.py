"""What the pairs of a `parameters` text mean to a call, as the web UI, Forge and stable-diffusion.cpp write them.

Their seeds are of CUDA's noise unless the text says otherwise. Knows no bundle and no file.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sd2rt.engine.errors import InvalidArgument
from sd2rt.runtime.a1111 import WebUiText
from sd2rt.runtime.samplers_names import parse_sampler

# What the web UI takes for "Automatic", by solver; the model's own sigmas for the others.
AUTOMATIC = {"dpm++ 2m": "karras", "dpm++ sde": "karras", "dpm++ 2s a": "karras", "dpm2": "karras", "dpm2 a": "karras"} | {
    "dpm++ 2m sde": "exponential"
}
RNGS = {"cpu": "torch", "nv": "nv", "gpu": "nv", "cuda": "nv"}
SILENT = ("Model", "Model hash", "Version", "Hashes", "User")  # say whose picture it is, not how it was painted
EXTRA_NETWORKS = re.compile(r"<(?:lora|lyco|hypernet):[^<>]*>")
BROWNIAN = ("dpm++ sde", "dpm++ 2m sde")


def _interval(text: str) -> tuple[float, float]:
    low, high = (float(part) for part in text.split(" to "))
    return low, high


# Pairs that name one argument: its name and how to read the value. What ValueError says is told.
_PLAIN: dict[str, tuple[str, Callable[[str], Any]]] = {
    "Steps": ("steps", int),
    "CFG scale": ("guidance_scale", float),
    "CFG rescale": ("guidance_rescale", float),
    "Guidance interval": ("guidance_interval", _interval),
    "Guidance reuse": ("guidance_reuse", int),
    "Deep cache": ("deep_cache", int),
    "Noise level": ("noise_level", int),
    "Mask blur": ("mask_blur", float),
    "Denoising strength": ("strength", float),
    "Decoder": ("decoder", str),
    "Clip skip": ("clip_skip", int),
    "Seed": ("seed", int),
    "Variation seed": ("variation_seed", int),
    "Variation seed strength": ("variation_strength", float),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fields:
    """A call's arguments as a text says them, named as in `Request`, and notes on what it says and they do not."""

    options: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def read_fields(text: WebUiText) -> Fields:
    """Return the arguments that a text stands for. What cannot be read or done is left out and told."""
    pairs, fields = dict(text.pairs), Fields()
    for name, prompt in (("prompt", text.prompt), ("negative_prompt", text.negative_prompt)):
        fields.options[name] = EXTRA_NETWORKS.sub("", prompt)
        for found in EXTRA_NETWORKS.findall(prompt):
            fields.notes.append(f"{found} is left out: `sd2rt export --lora` puts a LoRA into a bundle")
    for key in ("Precision", *SILENT):
        pairs.pop(key, None)
    hires = [key for key in pairs if key.startswith("Hires")]
    if hires:
        pairs.pop("Denoising strength", None)  # that of the second pass
    for key, (name, read) in _PLAIN.items():
        if key in pairs:
            _take(fields, name, key, pairs.pop(key), read)
    _read_sampler(fields, pairs.pop("Sampler", None), pairs.pop("Schedule type", None), ours=text.ours)
    _read_rng(fields, pairs.pop("RNG", "GPU"))
    _read_size(fields, pairs.pop("Size", None))
    if pairs.get("Emphasis") == "None":
        del pairs["Emphasis"]
        fields.options["weighting"] = False
    if not fields.options.get("variation_strength"):
        fields.options.pop("variation_seed", None)
    if pairs:
        fields.notes.append("not used: " + ", ".join(f"{key}: {value}" for key, value in pairs.items()))
    return fields


def _take(fields: Fields, name: str, key: str, value: str, read: Callable[[str], Any]) -> None:
    """Read one value, or tell that it cannot be read."""
    try:
        fields.options[name] = read(value)
    except ValueError:
        fields.notes.append(f"{key}: got {value[:80]!r}, which is none; left out")


def _read_size(fields: Fields, size: str | None) -> None:
    sides = re.fullmatch(r"(\d{1,6})x(\d{1,6})", size or "")
    if sides:
        fields.options.update(width=int(sides[1]), height=int(sides[2]))
    elif size is not None:
        fields.notes.append(f"Size: got {size[:80]!r}; expected such as 512x768; left out")


def _read_rng(fields: Fields, rng: str) -> None:
    fields.options["rng"] = RNGS.get(rng.lower(), "nv")
    if rng.lower() not in RNGS:
        fields.notes.append(f"RNG: got {rng[:80]!r}, whose noise sd2rt has not; CUDA's instead")


def _read_sampler(fields: Fields, name: str | None, schedule: str | None, *, ours: bool) -> None:
    """Put solver and sigmas together. A solver that there is not stays as it is: whoever paints has to choose another."""
    if name is None:
        return
    plain = name.removesuffix(" discrete")
    try:
        sampler = parse_sampler(plain)
    except InvalidArgument:
        fields.options["sampler"] = plain
        return
    if sampler.solver in BROWNIAN and not ours:
        fields.notes.append(f"Sampler: the web UI draws the noise of {name} from a Brownian tree; sd2rt's is not the same")
    sigmas: str = sampler.sigmas
    if schedule is not None and not sigmas:
        word = schedule.lower()
        sigmas = AUTOMATIC.get(sampler.solver, "") if word == "automatic" else word
    if sigmas not in ("", "uniform", "karras", "exponential"):
        fields.notes.append(f"Schedule type: got {str(schedule)[:80]!r}, which sd2rt has not; the model's own instead")
    fields.options["sampler"] = f"{sampler.solver} {sigmas if sigmas in ('karras', 'exponential') else ''}".strip()
