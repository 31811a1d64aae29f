"""What a caller may say of a picture to paint: the arguments of a call, as they come, unchecked. `request` checks them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypedDict

import numpy.typing as npt

if TYPE_CHECKING:
    from sd2rt.runtime.image_input import ImageSource

Output = Literal["pil", "numpy", "latents"]
Decoder = Literal["vae", "tiny"]
Preview = Literal["latent", "vae", "tiny"]
"""How an unfinished picture is shown: the latents themselves in colours, or what a decoder makes of them.

The colours cost nothing where the autoencoder's are known; where they are not, some previews are decoded to find them.
"""
Speed = Literal["quality", "balanced", "fast"]
Rng = Literal["torch", "nv"]
Borders = tuple[int, int, int, int]
"""Pixels at the left, top, right and bottom."""


class Options(TypedDict, total=False):
    """What a call may say besides the prompt. Steps, guidance, sampler and size are the bundle's own when left out or None."""

    negative_prompt: str | Sequence[str] | None
    """One text, or one per prompt; not used at a guidance scale of 1 or less."""
    weighting: bool
    """Read (word:1.3), [word] and BREAK in prompts as the web UI does (`prompt_weights`); True when left out, False: all is text."""
    clip_skip: int | None
    """Which layer of the text encoder is put through its final norm, counted from the model's last one, 1, as the web UI counts.

    SD2's files end with the layer that it was trained with, the last but one of its encoder. diffusers' `clip_skip` is one less. 1 when
    left out.
    """
    steps: int | None
    guidance_scale: float | None
    """Above 1: how far from the negative prompt. 1 or less: no guidance, and half the work."""
    sampler: str | None
    """As diffusers, k-diffusion or the web UI write it: "euler a", "DPM++ 2M Karras", "DDIMScheduler"."""
    seed: int
    """Image i of the call has seed + i, and is the picture that this seed paints alone. 0 to 2^63 - 1; 0 when left out."""
    rng: Rng
    """Whose noise a seed means: "torch", that of torch's CPU generator, or "nv", that of its CUDA one, as NVIDIA GPUs draw it."""
    variation_seed: int | None
    """Another seed, towards whose noise the first noise is turned; image i has variation_seed + i, and all of them `seed` itself."""
    variation_strength: float
    """0 to 1: how far it is turned; 0: not at all, 1: `variation_seed` in place of `seed`."""
    width: int | None
    height: int | None
    """Width and height in pixels, multiples of the latents' cells (8). Left out: the model's native size, or that of given latents.

    With a picture: its own size, at most 2 x 2 native squares, down to such multiples, or padded and cut back where it is pasted or
    expanded; one side alone brings the other along. An upscaler takes neither.
    """
    images_per_prompt: int
    latents: npt.ArrayLike | None
    """Initial noise of unit variance, float [N, C, h, w], in place of the seeds'; gives the size when width and height are left out."""
    output: Output
    """"pil": list of PIL images; "numpy": float32 [N, H, W, 3] in [0, 1]; "latents": the final latents, float32 [N, C, h, w]."""
    guidance_rescale: float
    """0 to 1: how much of the guided prediction's excess spread is taken away."""
    guidance_interval: tuple[float, float] | None
    """The part of the run that is guided: from 0, its noisiest end, to 1; outside it the UNet has half the work. All when left out."""
    guidance_reuse: int | None
    """Every how many guided evaluations the difference that guidance adds is computed anew; between them the UNet has half the work."""
    deep_cache: int | None
    """Every how many evaluations the whole UNet is run; its outer layers alone between them, on the last deep features."""
    speed: Speed
    """A preset of sampler, steps and the three options before this one, each of which wins over it (`speed.PRESETS`); "quality": none."""
    image: ImageSource | Sequence[ImageSource] | None
    """A picture to begin from: file, PIL image or array (uint8, or float in [0, 1], [H, W, 3]); one, or one per prompt."""
    strength: float | None
    """0 to 1: how much of the picture is given up; the part of the steps that are taken."""
    mask: ImageSource | None
    """White where the picture is painted anew, black where it stays; of any size."""
    mask_blur: float
    """Pixels by which the mask's edge is softened, the seam of what is pasted too."""
    invert: bool
    """Paint where the mask is black instead."""
    paste: bool | None
    """Put the pixels outside the mask back as they were, exactly; when left out, only with `expand` or `mask_blur`."""
    expand: Borders | None
    """Pixels to paint beyond the picture's left, top, right and bottom."""
    depth: ImageSource | None
    """A depth map in place of the estimated one: nearer is brighter; of any size."""
    noise_level: int | None
    """For upscaling: how much noise is put on the picture, which hides its faults."""
    decoder: Decoder
    """"vae"; or "tiny", for bundles that have such a decoder: less exact, and much faster."""
    tile: int | None
    """Pixels a side of the part of a large picture that is decoded, or upscaled, at once; 0: all of it; chosen by size when left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A call as the caller wrote it: `Options` and the prompt, one text or one per image."""

    prompt: str | Sequence[str]
    negative_prompt: str | Sequence[str] | None = ""
    weighting: bool = True
    clip_skip: int | None = None
    steps: int | None = None
    guidance_scale: float | None = None
    sampler: str | None = None
    seed: int = 0
    rng: Rng = "torch"
    variation_seed: int | None = None
    variation_strength: float = 0.0
    width: int | None = None
    height: int | None = None
    images_per_prompt: int = 1
    latents: npt.ArrayLike | None = None
    output: Output = "pil"
    guidance_rescale: float = 0.0
    guidance_interval: tuple[float, float] | None = None
    guidance_reuse: int | None = None
    deep_cache: int | None = None
    speed: Speed = "quality"
    image: ImageSource | Sequence[ImageSource] | None = None
    strength: float | None = None
    mask: ImageSource | None = None
    mask_blur: float = 0.0
    invert: bool = False
    paste: bool | None = None
    expand: Borders | None = None
    depth: ImageSource | None = None
    noise_level: int | None = None
    decoder: Decoder = "vae"
    tile: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What calls will ask for, so that `load` opens the networks that they need and the first call need not.

    `deep_cache`: the UNet in its two parts. `decoder` and `clip_skip` are as in `Options`. A call may ask for something else.
    """

    deep_cache: bool = False
    decoder: Decoder = "vae"
    clip_skip: int = 1
