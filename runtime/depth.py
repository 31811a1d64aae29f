"""Depth to image: the depth of a picture, estimated or given, as a fifth channel of the UNet."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from sd2rt.engine.errors import BundleError
from sd2rt.runtime.bundle import Bundle
from sd2rt.runtime.image_to_image import encode_picture
from sd2rt.runtime.source import Bytes, Floats
from sd2rt.runtime.start import Materials, Start, repeat_rows

PROCESSOR = "feature_extractor/preprocessor_config.json"


def start_depth(materials: Materials) -> Start:
    """Begin from the noised picture, or from noise where there is only depth."""
    from sd2rt.runtime.depth_map import normalize_depth

    source, factor = materials.source, materials.bundle.latent_factor
    clean = None if source.images is None else encode_picture(materials)
    first = materials.first_noise()
    maps = estimate_depth(materials) if source.depth is None else source.depth[np.newaxis]
    extra = np.concatenate([normalize_depth(depth, (source.height // factor, source.width // factor)) for depth in maps])
    return Start(noise=first, draw=materials.noise.draw, clean=clean, extra=repeat_rows(extra, materials.count))


def estimate_depth(materials: Materials) -> Floats:
    """Estimate the inverse depth of every picture, [N, h, w] of the estimator's own size."""
    bundle, images = materials.bundle, materials.source.images
    assert images is not None  # there is a picture where there is no depth: the request's check
    settings = json.loads(bundle.read_file(PROCESSOR))
    pixels = np.concatenate([to_pixel_values(image, settings, bundle) for image in images])
    depth: Floats = materials.run("depth_estimator", {"pixel_values": pixels})["predicted_depth"].astype(np.float32, copy=False)
    return depth


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
