"""Depth to image: the depth of a picture, estimated or given, as a fifth channel of the UNet, and as a picture of its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from sd2rt.engine.errors import BundleError
from sd2rt.runtime.bundle import Bundle
from sd2rt.runtime.image_to_image import encode_picture
from sd2rt.runtime.source import Bytes, Floats
from sd2rt.runtime.start import Materials, RunComponent, Start, repeat_rows

if TYPE_CHECKING:
    from PIL.Image import Image as PilImage

ESTIMATOR = "depth_estimator"
PROCESSOR = "feature_extractor/preprocessor_config.json"


def start_depth(materials: Materials) -> Start:
    """Begin from the noised picture, or from noise where there is only depth."""
    from sd2rt.runtime.depth_map import normalize_depth

    source, factor = materials.source, materials.bundle.latent_factor
    clean = None if source.images is None else encode_picture(materials)
    first = materials.first_noise()
    if source.depth is not None:
        maps = source.depth[np.newaxis]
    else:
        images = source.images if source.originals is None else source.originals  # as diffusers: the estimator resizes by itself
        assert images is not None  # there is a picture where there is no depth: the request's check
        maps = estimate_depth(images, materials.bundle, materials.run)
    extra = np.concatenate([normalize_depth(depth, (source.height // factor, source.width // factor)) for depth in maps])
    return Start(noise=first, draw=materials.noise.draw, clean=clean, extra=repeat_rows(extra, materials.count))


def estimate_depth(images: Bytes, bundle: Bundle, run: RunComponent) -> Floats:
    """Estimate the inverse depth of pictures [N, H, W, 3]: float32 [N, h, w] of the estimator's own size, larger is nearer."""
    settings = json.loads(bundle.read_file(PROCESSOR))
    feeds = ({"pixel_values": to_pixel_values(image, settings, bundle)} for image in images)  # one by one, as engines may be built for
    depth: Floats = np.concatenate([run(ESTIMATOR, feed)["predicted_depth"] for feed in feeds]).astype(np.float32, copy=False)
    return depth


def open_and_estimate(
    images: Bytes, bundle: Bundle, target: str, notify: Callable[[str], None] = lambda message: None, *, precision: str = "auto"
) -> Floats:
    """Estimate as `estimate_depth` does, with the estimator opened for this alone; a job that is given the result paints the same picture.

    `target` and `precision` are as `load` takes them. Raises as `load` does.
    """
    from sd2rt.engine.build import open_engine
    from sd2rt.runtime.engine_plan import PlanOptions, choose_bundle_target, plan_component

    size = bundle.native_size  # the estimator has a size of its own, whatever the picture's
    plan = PlanOptions(target=choose_bundle_target(bundle, target), smallest=size, usual=size, largest=size, precision=precision)
    options = plan_component(bundle, ESTIMATOR, plan)
    engine = open_engine(bundle.component(ESTIMATOR).files, options, notify)
    try:
        return estimate_depth(images, bundle, lambda name, feeds: engine.run(feeds))
    finally:
        engine.close()


def to_image(depth: Floats, size: tuple[int, int]) -> PilImage:
    """Return a depth map [h, w] as a 16-bit gray picture of (height, width): the nearest is white, the farthest black."""
    from PIL import Image

    from sd2rt.runtime.depth_map import normalize_depth

    unit = normalize_depth(depth, size)[0, 0] / np.float32(2) + np.float32(0.5)
    return Image.fromarray(np.rint(unit * np.float32(65535)).astype(np.uint16))


def to_pixel_values(image: Bytes, settings: dict[str, Any], bundle: Bundle) -> Floats:
    """Resize and normalize one picture [H, W, 3] as transformers' DPTImageProcessor does with `settings`; float32 [1, 3, h, w]."""
    from PIL import Image

    try:
        size, mean, deviation = settings["size"], settings["image_mean"], settings["image_std"]
        height, width = (size, size) if isinstance(size, int) else (size["height"], size["width"])
        resample = Image.Resampling(settings.get("resample", Image.Resampling.BICUBIC))
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(f"{bundle.folder / PROCESSOR}: no usable size, image_mean, image_std and resample; export again") from error
    resized = np.asarray(Image.fromarray(image).resize((width, height), resample), np.float32) / np.float32(255)
    normal: Floats = ((resized - np.array(mean, np.float32)) / np.array(deviation, np.float32)).astype(np.float32, copy=False)
    return normal.transpose(2, 0, 1)[np.newaxis]
