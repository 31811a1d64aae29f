"""Inpainting: a picture's masked part painted anew, by a UNet that sees mask and picture, or by any other one by blending.

The nine channels are latents, mask and the latents of the picture with the masked part gray, as Stability trained them. A model of four
keeps the rest by putting the noised picture back after every step (Lugmayr et al. 2022, RePaint, arXiv 2201.09865, without resampling).
"""

from __future__ import annotations

import numpy as np

from sd2rt.runtime.image_to_image import MASKED, encode_picture
from sd2rt.runtime.painter import Pictures
from sd2rt.runtime.source import Source
from sd2rt.runtime.start import Kept, Materials, Start, repeat_rows


def start_inpainting(materials: Materials) -> Start:
    """Begin from noise at strength 1, else from the noised picture. The order of draws is diffusers': picture, latents, masked picture."""
    from sd2rt.runtime.mask import mask_to_latent

    source, bundle, noise = materials.source, materials.bundle, materials.noise
    assert source.mask is not None  # the request's check
    mask = repeat_rows(mask_to_latent(source.mask, bundle.latent_factor)[np.newaxis, np.newaxis], materials.count)
    concatenates = bundle.task == "inpainting"
    clean = encode_picture(materials) if source.strength < 1.0 or not concatenates else None
    first = materials.first_noise()
    masked = encode_picture(materials, hide=source.mask) if concatenates else noise.draw()  # diffusers draws it without a use for it
    if clean is not None and not concatenates:
        begins = clean if source.strength < 1.0 else None
        return Start(noise=first, draw=noise.draw, clean=begins, kept=Kept(mask=mask, clean=clean, noise=first))
    painted = mask_to_latent((source.mask >= MASKED).astype(np.float32), bundle.latent_factor)[np.newaxis, np.newaxis]
    extra = np.concatenate([repeat_rows(painted, materials.count), masked], axis=1)
    return Start(noise=first, draw=noise.draw, clean=clean, extra=extra)


def finish_pictures(pictures: Pictures, source: Source | None) -> Pictures:
    """Put the kept pixels back where the caller asked for that, and cut off what was padded.

    `pictures` [N, H, W, 3] are bytes, or floats in [0, 1].
    """
    if source is None or source.images is None:
        return pictures
    if source.paste is not None:
        from sd2rt.runtime.mask import paste_back

        originals = repeat_rows(source.images, len(pictures))
        if pictures.dtype != np.uint8:
            originals = originals.astype(np.float32) / np.float32(255)  # type: ignore[assignment]
        pictures = np.stack([paste_back(*pair, source.paste) for pair in zip(originals, pictures, strict=True)])
    height, width = source.result_size
    return pictures[:, :height, :width] if source.crop else pictures
