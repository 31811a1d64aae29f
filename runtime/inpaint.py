"""Inpainting: a picture's masked part painted anew, by a UNet that sees mask and picture, or by any other one by blending.

The nine channels are latents, mask and the latents of the picture with the masked part gray, as Stability trained them. A model of four
keeps the rest by putting the noised picture back after every step (Lugmayr et al. 2022, RePaint, arXiv 2201.09865, without resampling).
"""

from __future__ import annotations

import numpy as np

from sd2rt.runtime.bundle import Bundle
from sd2rt.runtime.image_to_image import encode_picture, to_samples
from sd2rt.runtime.noise import BatchNoise
from sd2rt.runtime.painter import Pictures
from sd2rt.runtime.source import Bytes, Floats, Source
from sd2rt.runtime.start import Kept, RunComponent, Start, repeat_rows

PAINTED = 0.5  # from this mask value on, a pixel counts as masked


def start_inpainting(source: Source, bundle: Bundle, noise: BatchNoise, given: Floats | None, run: RunComponent) -> Start:
    """Begin from noise at strength 1, else from the noised picture. The order of draws is diffusers': picture, latents, masked picture."""
    from sd2rt.runtime.mask import mask_to_latent

    assert source.images is not None
    assert source.mask is not None
    count = noise.count
    mask = repeat_rows(mask_to_latent(source.mask, bundle.latent_factor)[np.newaxis, np.newaxis], count)
    concatenates = bundle.task == "inpainting"
    clean = None
    if source.strength < 1.0 or not concatenates:
        clean = encode_picture(run, bundle, repeat_rows(to_samples(source.images), count), noise.draw())
    first = noise.draw() if given is None else given
    if not concatenates:
        assert clean is not None
        begins = clean if source.strength < 1.0 else None
        noise.draw()  # diffusers encodes the masked picture here too, without a use for it
        return Start(noise=first, draw=noise.draw, clean=begins, kept=Kept(mask=mask, clean=clean, noise=first))
    painted = (mask >= PAINTED).astype(np.float32)
    masked = repeat_rows(hide_masked(source.images, source.mask), count)
    extra = np.concatenate([painted, encode_picture(run, bundle, masked, noise.draw())], axis=1)
    return Start(noise=first, draw=noise.draw, clean=clean, extra=extra)


def hide_masked(images: Bytes, mask: Floats) -> Floats:
    """Return samples [N, 3, H, W] in [-1, 1] of pictures [N, H, W, 3], mid-gray where the mask [H, W] says to paint."""
    return to_samples(images) * (mask < PAINTED)


def finish_pictures(pictures: Pictures, source: Source | None) -> Pictures:
    """Put the kept pixels back where the caller asked for that; `pictures` [N, H, W, 3] are bytes, or floats in [0, 1]."""
    if source is None or not source.paste or source.mask is None or source.images is None:
        return pictures
    from sd2rt.runtime.mask import paste_back

    originals = repeat_rows(source.images, len(pictures))
    if pictures.dtype == np.uint8:
        return np.stack([paste_back(original, painted, source.mask) for original, painted in zip(originals, pictures, strict=True)])
    share = source.mask[:, :, np.newaxis]
    mixed: Pictures = originals.astype(np.float32) / np.float32(255) * (1 - share) + pictures * share
    return mixed
