"""The pictures that a call brings along: which task they ask for, and all of them read, checked and fitted to one size.

Knows no engine. How the pictures become latents and channels is in the tasks' own modules.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sd2rt.engine.errors import InvalidArgument
from sd2rt.runtime.bundle import Bundle
from sd2rt.runtime.checks import MAX_SIDE_PIXELS, check_borders, check_finite, check_integer, check_side
from sd2rt.runtime.options import Borders, Request

if TYPE_CHECKING:
    from sd2rt.runtime.image_input import ImageSource

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]
DEFAULT_STRENGTH = {"image-to-image": 0.8, "inpainting": 1.0, "depth-to-image": 0.8}
DEFAULT_NOISE_LEVEL = 20
PICTURE_OPTIONS = ("image", "mask", "expand", "depth", "strength", "noise_level")
MASK_OPTIONS = ("mask_blur", "invert", "paste")  # which say something of a mask, or of the one that `expand` makes
# What a bundle's task takes of them; `image` and others that it cannot do without are checked where they are read.
TAKES = {
    "text-to-image": ("image", "mask", "expand", "strength"),
    "inpainting": ("image", "mask", "expand", "strength"),
    "depth-to-image": ("image", "depth", "strength"),
    "upscaling": ("image", "noise_level"),
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Source:
    """Pictures of one size. `images` uint8 [1 or P, H, W, 3], P the number of prompts, or None where depth comes alone.

    `mask` float32 [H, W] is 1 where the picture is painted anew and 0 where it is kept; with `paste` the kept pixels come back exactly.
    `depth` float32 [h, w] of any size, larger is nearer. `height` and `width` are those of the picture to paint, in pixels.
    `originals` are `images` as they were given, for the depth estimator; None where they had that size already.
    The SHA-256s, one for each of `images`, are those of the files given, None for what was no file.
    """

    height: int
    width: int
    images: Bytes | None
    originals: Bytes | None = None
    mask: Floats | None = None
    paste: bool = False
    depth: Floats | None = None
    strength: float = 1.0
    noise_level: int = DEFAULT_NOISE_LEVEL
    image_sha256: tuple[str | None, ...] = (None,)
    mask_sha256: str | None = None
    depth_sha256: str | None = None
    mask_blur: float = 0.0
    invert: bool = False
    expand: Borders | None = None


def first_step(steps: int, strength: float) -> int:
    """Return how many of `steps` a strength in [0, 1] leaves out, as diffusers counts. Raises InvalidArgument when none is left."""
    left = min(int(steps * strength), steps)
    if left < 1:
        least = math.ceil(1000 / steps) / 1000  # up to three decimals, so that the number said is enough
        needed = math.ceil(1 / strength) if strength else 0
        needed += int(needed * strength) < 1  # 1 / 49 in floats is a little less
        hint = f"raise steps to at least {needed}, or strength to 1" if steps == 1 and strength else f"expected at least {least:g}"
        raise InvalidArgument(f"strength: got {strength:g}, which leaves none of {steps} steps; {hint}")
    return steps - left


def choose_task(request: Request, bundle: Bundle) -> str:
    """Return what a call asks of a bundle: the bundle's task, or of a text-to-image one what the pictures given make of it.

    Raises InvalidArgument for pictures that the bundle has no use for, and when it cannot do without one that is not there.
    """
    given = [name for name in PICTURE_OPTIONS if getattr(request, name) is not None]
    of_masks = [name for name in MASK_OPTIONS if getattr(request, name)]
    stray = [name for name in given if name not in TAKES[bundle.task]] or ([] if "mask" in TAKES[bundle.task] else of_masks)
    if stray:
        takes = ", ".join(TAKES[bundle.task])
        raise InvalidArgument(
            f"{stray[0]}: {bundle.name} is a model for {bundle.task}, which takes {takes}; leave it out or name another model"
        )
    masked = "mask" in given or "expand" in given
    if "image" not in given and (masked or bundle.task in ("inpainting", "upscaling") or given == ["strength"]):
        why = f"there is {given[0]}" if bundle.task == "text-to-image" else f"{bundle.name} is for {bundle.task}"
        raise InvalidArgument(f"image: got none; expected a picture, as {why}")
    if bundle.task == "depth-to-image" and not {"image", "depth"} & set(given):
        raise InvalidArgument(f"image: got neither a picture nor depth; expected one of them, as {bundle.name} is for depth-to-image")
    if bundle.task == "depth-to-image" and "depth" not in given and "depth_estimator" not in bundle.components:
        raise InvalidArgument(f"depth: got none, and {bundle.name} cannot estimate it; give a depth map, nearer is brighter, of any size")
    if not masked and (of_masks or bundle.task == "inpainting"):
        what = f"none for {of_masks[0]}" if of_masks else "none"
        raise InvalidArgument(f"mask: got {what}; expected a picture that is white where to paint, or expand")
    if bundle.task != "text-to-image":
        return bundle.task
    return "inpainting" if masked else "image-to-image" if "image" in given else "text-to-image"


def read_source(request: Request, task: str, prompts: int, bundle: Bundle) -> Source | None:
    """Read what a call brings along for `task`; None for text to image. Raises InvalidArgument."""
    if task == "text-to-image":
        return None
    from sd2rt.runtime.image_input import file_sha256, fit_image, usual_size

    if task == "upscaling":
        return _read_for_upscaling(request, prompts, bundle)
    strength = _usual_strength(task, bundle) if request.strength is None else check_finite("strength", request.strength, 0.0, 1.0)
    if request.image is None:
        return _depth_alone(request, strength, bundle)
    images = _read_images(request.image, prompts)
    mask, mask_blur, paste = None, 0.0, False
    if task == "inpainting":
        from sd2rt.runtime.mask import MAX_BLUR_PIXELS, prepare_mask

        mask_blur = check_finite("mask_blur", request.mask_blur, 0.0, MAX_BLUR_PIXELS)
        images, mask = prepare_mask(images, request, bundle.latent_factor)
        paste = request.expand is not None if request.paste is None else bool(request.paste)
    height, width = _size(request, usual_size(images[0], bundle.latent_factor), bundle.latent_factor)
    if mask is not None:
        mask = _fit_mask(mask, (height, width), mask_blur, bundle)
    return Source(
        height=height,
        width=width,
        images=np.stack([fit_image(image, (height, width)) for image in images]),
        originals=np.stack(images) if task == "depth-to-image" and images[0].shape[:2] != (height, width) else None,
        mask=mask,
        paste=paste,
        depth=None if request.depth is None else _read_depth(request.depth),
        strength=strength,
        image_sha256=tuple(file_sha256("image", image) for image in _listed(request.image)),
        mask_sha256=file_sha256("mask", request.mask),
        depth_sha256=file_sha256("depth", request.depth),
        mask_blur=mask_blur,
        invert=bool(request.invert),
        expand=None if request.expand is None else check_borders("expand", request.expand),
    )


def _fit_mask(mask: Floats, size: tuple[int, int], blur: float, bundle: Bundle) -> Floats:
    """Fit a mask to the picture to paint. Raises InvalidArgument when the model would see nothing of it, as diffusers' would not."""
    from sd2rt.runtime.mask import fit_mask, mask_to_latent

    factor = bundle.latent_factor
    fitted = fit_mask(mask, size, blur)
    seen = mask_to_latent(fitted, factor).max()
    if seen < 0.5 if bundle.task == "inpainting" else seen == 0:  # nine channels see zeros and ones, blending sees the grays too
        why = ", or blur it less" if blur else ""
        raise InvalidArgument(f"mask: got strokes thinner than {factor} pixels of the picture to paint; widen them{why}")
    return fitted


def _usual_strength(task: str, bundle: Bundle) -> float:
    """Return the bundle's own default, which is for its own task, or the task's."""
    usual = bundle.defaults.strength
    return DEFAULT_STRENGTH[task] if usual is None or task != bundle.task else usual


def _read_for_upscaling(request: Request, prompts: int, bundle: Bundle) -> Source:
    """Read the small picture. It keeps its size; the result has `latent_factor` times that."""
    from sd2rt.runtime.image_input import file_sha256

    if request.width is not None or request.height is not None:
        factor = bundle.latent_factor
        raise InvalidArgument(f"width and height: an upscaler paints {factor} times the picture's size; leave them out")
    assert request.image is not None  # choose_task saw to it
    images = _read_images(request.image, prompts)
    height, width = images[0].shape[:2]
    largest = MAX_SIDE_PIXELS // bundle.latent_factor
    if max(height, width) > largest:
        raise InvalidArgument(f"image: got {width:,} x {height:,} pixels (width x height); expected at most {largest:,} a side to upscale")
    usual = DEFAULT_NOISE_LEVEL if bundle.defaults.noise_level is None else bundle.defaults.noise_level
    level = usual if request.noise_level is None else request.noise_level
    return Source(
        height=height * bundle.latent_factor,
        width=width * bundle.latent_factor,
        images=np.stack(images),
        noise_level=check_integer("noise_level", level, 0, bundle.max_noise_level),
        image_sha256=tuple(file_sha256("image", image) for image in _listed(request.image)),
    )


def _depth_alone(request: Request, strength: float, bundle: Bundle) -> Source:
    """Paint a depth map without a picture: all from noise, so there is no strength."""
    from sd2rt.runtime.image_input import file_sha256, usual_size

    if request.strength is not None and strength != 1.0:
        raise InvalidArgument(f"strength: got {strength:g} without a picture; leave it out, or give image too")
    depth = _read_depth(request.depth)
    height, width = _size(request, usual_size(depth, bundle.latent_factor), bundle.latent_factor)
    return Source(height=height, width=width, images=None, depth=depth, depth_sha256=file_sha256("depth", request.depth))


def _read_images(image: ImageSource | Sequence[ImageSource], prompts: int) -> list[Bytes]:
    """Read one picture, or one per prompt, all of the first one's size. Raises InvalidArgument."""
    from sd2rt.runtime.image_input import read_image

    listed = _listed(image)
    if len(listed) not in (1, prompts):
        raise InvalidArgument(f"image: got {len(listed)} pictures for {prompts} prompts; expected one, or one per prompt")
    images = [read_image("image", source) for source in listed]
    sizes = {picture.shape[:2] for picture in images}
    if len(sizes) > 1:
        raise InvalidArgument(f"image: got pictures of {len(sizes)} sizes in one call; expected one size, make several calls")
    return images


def _listed(image: ImageSource | Sequence[ImageSource]) -> Sequence[Any]:
    return image if isinstance(image, list | tuple) else [image]


def _read_depth(source: ImageSource | None) -> Floats:
    from sd2rt.runtime.depth_map import read_depth

    assert source is not None  # choose_task saw to it
    return read_depth("depth", source)


def _size(request: Request, usual: tuple[int, int], factor: int) -> tuple[int, int]:
    """Return (height, width): what was asked, or the picture's own size."""
    if max(usual) > MAX_SIDE_PIXELS and None in (request.height, request.width):
        got = f"image: got {usual[1]:,} x {usual[0]:,} pixels (width x height)"
        raise InvalidArgument(f"{got}; expected at most {MAX_SIDE_PIXELS:,} a side: scale it down, or give width and height")
    height = check_side("height", usual[0] if request.height is None else request.height, factor)
    width = check_side("width", usual[1] if request.width is None else request.width, factor)
    return height, width
