"""The web UI's `parameters` text (AUTOMATIC1111, Forge), which galleries and bots read: written from a record, and taken apart again.

The prompt, a `Negative prompt:` line, then one line of `Key: value` pairs; values with commas, colons or line breaks are JSON strings.
What the pairs mean is `a1111_fields`' business.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from sd2rt.runtime.parameters import Parameters, version

WEB_UI_SOLVERS = {
    "ddim": "DDIM",
    "ddpm": "DDPM",
    "pndm": "PLMS",
    "lms": "LMS",
    "euler": "Euler",
    "euler a": "Euler a",
    "heun": "Heun",
    "dpm2": "DPM2",
    "dpm2 a": "DPM2 a",
    "dpm++ 2s a": "DPM++ 2S a",
    "dpm++ 2m": "DPM++ 2M",
    "dpm++ 2m sde": "DPM++ 2M SDE",
    "dpm++ sde": "DPM++ SDE",
    "unipc": "UniPC",
    "deis": "DEIS",
    "lcm": "LCM",
}
WEB_UI_RNG = {"torch": "CPU", "nv": "NV"}
NEGATIVE = "Negative prompt:"
OURS = "sd2rt"  # how the Version of a text by sd2rt begins
LEAST_PAIRS = 3  # with fewer, the last line belongs to the prompt
_PAIR = re.compile(r'(?<![\w \-/])[ \-/]*+(\w[\w \-/]{0,60}+):\s*("(?:\\.|[^\\"])*"|[^,]*)(?:,|$)')  # tried once a word: linear in time


@dataclass(frozen=True, slots=True, kw_only=True)
class WebUiText:
    """A `parameters` text taken apart: two prompts, and the pairs as they stand there, unquoted."""

    prompt: str
    negative_prompt: str
    pairs: Mapping[str, str]

    @property
    def ours(self) -> bool:
        """Whether sd2rt wrote it."""
        return self.pairs.get("Version", "").startswith(OURS)


def web_ui_text(parameters: Parameters) -> str:
    """Write parameters as the web UI (AUTOMATIC1111, Forge) does; its name for an upscaler that follows is "Hires"."""
    negative = [f"{NEGATIVE} {parameters.negative_prompt}"] if parameters.negative_prompt else []
    pairs = {**_sampling(parameters), **_picture(parameters)}
    line = ", ".join(f"{key}: {_quoted(str(value))}" for key, value in pairs.items() if value is not None)
    return "\n".join([parameters.prompt, *negative, line])


def _sampling(parameters: Parameters) -> dict[str, object]:
    """Return the pairs that say how the sampler ran; None for what there is nothing to say of."""
    return {
        "Steps": parameters.steps,
        "Sampler": WEB_UI_SOLVERS.get(parameters.sampler, parameters.sampler),
        "Schedule type": parameters.sigmas.capitalize() or None,
        "CFG scale": f"{parameters.guidance_scale:g}",
        "CFG rescale": parameters.guidance_rescale or None,
        "Guidance interval": None if parameters.guidance_interval == (0.0, 1.0) else "{:g} to {:g}".format(*parameters.guidance_interval),
        "Guidance reuse": None if parameters.guidance_reuse == 1 else parameters.guidance_reuse,
        "Deep cache": None if parameters.deep_cache == 1 else parameters.deep_cache,
        "Denoising strength": None if parameters.strength is None else f"{parameters.strength:g}",
        "Mask blur": f"{parameters.mask_blur:g}" if parameters.mask_blur else None,
        "Noise level": parameters.noise_level,
        "Precision": None if parameters.precision == "auto" else parameters.precision,
        "Decoder": None if parameters.decoder == "vae" else parameters.decoder,
        "Clip skip": None if parameters.clip_skip == 1 else parameters.clip_skip,
        "Emphasis": None if parameters.weighting else "None",
    }


def _picture(parameters: Parameters) -> dict[str, object]:
    """Return the pairs that say which picture it is, and whose."""
    after = parameters.upscaler
    return {
        "Seed": parameters.seed,
        "Size": f"{parameters.width}x{parameters.height}",
        "Model hash": parameters.bundle_sha256[:10],
        "Model": parameters.model,
        "Variation seed": parameters.variation_seed,
        "Variation seed strength": None if parameters.variation_seed is None else f"{parameters.variation_strength:g}",
        "RNG": WEB_UI_RNG[parameters.rng],
        "Hires upscale": None if after is None else f"{after.width / parameters.width:g}",
        "Hires steps": None if after is None else after.steps,
        "Hires upscaler": None if after is None else after.model,
        "Version": f"{OURS} {version()}",
    }


def read_web_ui_text(text: str) -> WebUiText | None:
    """Take a `parameters` text apart as the web UI does; None when its last line holds no pairs, and so says nothing but a prompt.

    A line of the prompt that begins with "Negative prompt:" ends it, and blanks around lines are lost: the format cannot tell.
    """
    *lines, last = text.strip().split("\n")
    found = _PAIR.findall(last)
    if len(found) < LEAST_PAIRS:
        return None
    lines = [line.strip() for line in lines]
    split = next((index for index, line in enumerate(lines) if line.startswith(NEGATIVE)), len(lines))
    negative = "\n".join(lines[split:]).removeprefix(NEGATIVE)
    pairs = {key: _unquoted(value.strip()) for key, value in found}
    return WebUiText(prompt="\n".join(lines[:split]), negative_prompt=negative.strip(), pairs=pairs)


def _quoted(value: str) -> str:
    """Quote a value that would otherwise not come back as it is."""
    plain = value and not set(value) & set(",:\n\r") and value[0] != '"' and value == value.strip()
    return value if plain else json.dumps(value, ensure_ascii=False)


def _unquoted(value: str) -> str:
    try:
        read = json.loads(value) if value.startswith('"') else value
    except ValueError:
        return value
    return str(read)
