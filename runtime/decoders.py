"""Which of a bundle's decoders makes pictures of latents: the VAE's, or a tiny one that some bundles have beside it."""

from __future__ import annotations

from typing import get_args

from sd2rt.engine.errors import InvalidArgument
from sd2rt.runtime.bundle import Bundle
from sd2rt.runtime.options import Decoder

COMPONENTS: dict[Decoder, str] = {"vae": "vae_decoder", "tiny": "tiny_vae_decoder"}


def check_decoder(decoder: Decoder, bundle: Bundle) -> Decoder:
    """Return a decoder that the bundle has. Raises InvalidArgument for another."""
    if decoder not in get_args(Decoder):
        raise InvalidArgument(f"decoder: got {decoder!r}; expected one of {', '.join(get_args(Decoder))}")
    if COMPONENTS[decoder] not in bundle.components:
        remedy = "export the model again with --tiny-vae"
        raise InvalidArgument(f"decoder: got {decoder!r}, but {bundle.name} has no {COMPONENTS[decoder]}; expected 'vae', or {remedy}")
    return decoder


def latents_divisor(decoder: Decoder, bundle: Bundle) -> float:
    """Return what a sampler's latents are divided by before they are decoded: a tiny decoder takes them as they are."""
    return bundle.scaling_factor if decoder == "vae" else 1.0
