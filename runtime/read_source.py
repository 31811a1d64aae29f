"""Read the pictures that a call brings along, check them and fit them to one size. Knows no engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sd2rt.engine.errors import InvalidArgument
from sd2rt.runtime.bundle import Bundle
from sd2rt.runtime.checks import MAX_SIDE_PIXELS, check_borders, check_finite, check_integer
from sd2rt.runtime.options import Request
from sd2rt.runtime.picture_size import Size, choose_size
from sd2rt.runtime.source import DEFAULT_NOISE_LEVEL, Bytes, Floats, Source

if TYPE_CHECKING:
    from sd2rt.runtime.image_input import ImageSource

DEFAULT_STRENGTH = {"image-to-image": 0.8, "inpainting": 1.0, "depth-to-image": 0.8}


def read_source(request: Request, task: str, prompts: int, bundle: Bundle) -> Source | None:
    """Read what a call brings along for `task`; None for text to image. Raises InvalidArgument."""
    if task == "text-to-image":
        return None
    if task == "upscaling":
        return _read_for_upscaling(request, prompts, bundle)
    from sd2rt.runtime.image_input import file_sha256

    strength = _usual_strength(task, bundle) if request.strength is None else check_finite("strength", request.strength, 0.0, 1.0)
    if request.image is None:
        return _depth_alone(request, strength, bundle)
    images = _read_images(request.image, prompts)
    source = _read_masked(images, request, bundle) if task == "inpainting" else _read_plain(images, request, bundle)
    return replace(
        source,
        strength=strength,
        image_sha256=tuple(file_sha256("image", image) for image in _listed(request.image)),
        mask_sha256=file_sha256("mask", request.mask),
        depth_sha256=file_sha256("depth", request.depth),
    )


def _read_plain(images: list[Bytes], request: Request, bundle: Bundle) -> Source:
    """Fit pictures to the size to paint, beside their depth where one is given."""
    from sd2rt.runtime.image_input import fit_image

    own = size_of(images[0])
    size = choose_size(request, own, bundle)
    return Source(
        height=size.height,
        width=size.width,
        images=np.stack([fit_image(image, size.fitted) for image in images]),
        originals=np.stack(images) if bundle.task == "depth-to-image" and own != size.fitted else None,
        depth=None if request.depth is None else _read_depth(request.depth),
        scaled_from=size.scaled_from,
    )


def _read_masked(images: list[Bytes], request: Request, bundle: Bundle) -> Source:
    """Fit pictures and their mask to the size to paint. What is pasted back or expanded is padded rather than resized."""
    from sd2rt.runtime.canvas import choose_overlap
    from sd2rt.runtime.image_input import fit_image, pad_image
    from sd2rt.runtime.mask import MAX_BLUR_PIXELS, fit_masks, prepare_masks

    blur = check_finite("mask_blur", request.mask_blur, 0.0, MAX_BLUR_PIXELS)
    expand = None if request.expand is None else check_borders("expand", request.expand)
    overlap = choose_overlap(bundle.native_size, bundle.latent_factor)
    images, masks = prepare_masks(images, replace(request, expand=expand), overlap)
    pastes = (expand is not None or blur > 0) if request.paste is None else bool(request.paste)
    if blur and not pastes and bundle.task == "inpainting":
        why = f"{bundle.name} sees masks of zeros and ones, so that a blur shows in what is pasted alone"
        raise InvalidArgument(f"mask_blur: {why}; leave it out, or paste")
    size = choose_size(request, size_of(images[0]), bundle, pad=pastes or expand is not None)
    canvas = (size.height, size.width)
    fitted = fit_masks(masks, size.fitted, canvas, blur)
    _check_seen(fitted.paint, blur, bundle)
    return Source(
        height=size.height,
        width=size.width,
        images=np.stack([pad_image(fit_image(image, size.fitted), canvas) for image in images]),
        mask=fitted.paint,
        paste=fitted.paste if pastes else None,
        mask_blur=blur,
        invert=bool(request.invert),
        expand=expand,
        crop=size.crop,
        scaled_from=size.scaled_from,
    )


def _check_seen(mask: Floats, blur: float, bundle: Bundle) -> None:
    """Raise InvalidArgument when the model would see nothing of a fitted mask, as diffusers' would not."""
    from sd2rt.runtime.mask import mask_to_latent

    factor = bundle.latent_factor
    seen = mask_to_latent(mask, factor).max()
    if seen < 0.5 if bundle.task == "inpainting" else seen == 0:  # nine channels see zeros and ones, blending sees the grays too
        why = ", or blur it less" if blur else ""
        raise InvalidArgument(f"mask: got strokes thinner than {factor} pixels of the picture to paint; widen them{why}")


def _usual_strength(task: str, bundle: Bundle) -> float:
    """Return the bundle's own default or the task's. A text-to-image bundle's is for image to image: inpainting starts from noise."""
    usual = bundle.defaults.strength
    meant = task == bundle.task or (bundle.task, task) == ("text-to-image", "image-to-image")
    return usual if meant and usual is not None else DEFAULT_STRENGTH[task]


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
        raise InvalidArgument(
            f"image: got {width:,} x {height:,} pixels (width x height); expected at most {largest:,} a side to upscale: scale it down"
        )
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
    from sd2rt.runtime.image_input import file_sha256

    if request.strength is not None and strength != 1.0:
        raise InvalidArgument(f"strength: got {strength:g} without a picture; leave it out, or give image too")
    depth = _read_depth(request.depth)
    size = choose_size(request, size_of(depth), bundle, name="depth")
    return Source(
        height=size.height,
        width=size.width,
        images=None,
        depth=depth,
        depth_sha256=file_sha256("depth", request.depth),
        scaled_from=size.scaled_from,
    )


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


def size_of(image: npt.NDArray[Any]) -> Size:
    """Return height and width of a picture [H, W, ...]."""
    height, width = image.shape[:2]
    return height, width
