"""Image to image: a picture's latents, noised to where the sampler begins (Meng et al. 2021, SDEdit, arXiv 2108.01073)."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import numpy.typing as npt

from sd2rt.runtime.source import Bytes, Floats
from sd2rt.runtime.start import Materials, Start, repeat_rows
from sd2rt.runtime.tiles import run_in_tiles

MASKED = 0.5  # from this mask value on, a pixel counts as masked


def start_image_to_image(materials: Materials) -> Start:
    """Begin from the noised picture. The order of draws is diffusers': the autoencoder's sample, then the latents' noise."""
    clean = encode_picture(materials)
    return Start(noise=materials.first_noise(), draw=materials.noise.draw, clean=clean)


def to_samples(images: Bytes) -> Floats:
    """Turn pictures [N, H, W, 3] into the autoencoder's samples [N, 3, H, W] in [-1, 1]."""
    from sd2rt.runtime.image_input import to_model

    return np.concatenate([to_model(image) for image in images])


def encode_picture(materials: Materials, hide: Floats | None = None) -> Floats:
    """Draw scaled latents [N, C, h, w] of the caller's pictures from the autoencoder's posterior.

    `hide` [H, W] is 1 where a picture is first made mid-gray. Pictures go one at a time: the encoder's memory grows with the batch.
    """
    source, bundle = materials.source, materials.bundle
    assert source.images is not None  # the task's first check
    samples = to_samples(source.images)
    if hide is not None:
        samples *= hide < MASKED

    def encode(part: Floats) -> Floats:
        return materials.run("vae_encoder", {"sample": part})["latent_parameters"].astype(np.float32, copy=False)

    scale = Fraction(1, bundle.latent_factor)
    parameters = np.concatenate([run_in_tiles(encode, row[np.newaxis], scale, materials.tile) for row in samples])
    latents = draw_latents(repeat_rows(parameters, materials.count), materials.noise.draw())
    return latents * np.float32(bundle.scaling_factor)


def draw_latents(parameters: npt.NDArray[np.floating], noise: Floats) -> Floats:
    """Draw from diagonal Gaussians [N, 2C, h, w]: means, then log variances, held to [-30, 20] as in ldm's and diffusers' classes."""
    mean, log_variance = np.split(parameters.astype(np.float32, copy=False), 2, axis=1)
    deviation: Floats = np.exp(np.float32(0.5) * np.clip(log_variance, -30.0, 20.0))
    latents: Floats = mean + deviation * noise
    return latents
