"""Toyworld's tiny decoder against its VAE's, on what the model paints of held-out captions."""

import numpy as np
import pytest

from sd2rt.runtime import load
from sd2rt.runtime.bundle import read_bundle
from sd2rt.runtime.models import embedded_models
from sd2rt.toyworld.checker import check
from sd2rt.toyworld.evaluate import held_out_captions

pytest.importorskip("onnxruntime", reason="the cpu target needs onnxruntime")
PICTURES = 12


def test_pictures_stay_right_and_alike() -> None:
    """Of 200, as many are right, at 36 dB."""
    captions = held_out_captions(PICTURES, seed=1)
    with load("toyworld", target="cpu", threads=1) as pipe:
        *_, last = pipe.steps(captions, seed=1)
        vae, tiny = (np.stack([np.asarray(image) for image in last.preview(decoder)]) for decoder in ("vae", "tiny"))
    assert sum(check(picture, caption).passed for picture, caption in zip(tiny, captions, strict=True)) >= PICTURES - 1
    error = np.square(tiny.astype(np.float64) - vae).mean()
    assert 30 < 10 * np.log10(255**2 / error) < 50


def test_models_of_the_same_latents_share_it() -> None:
    parts = [read_bundle(path).components.get("tiny_vae_decoder") for path in embedded_models().values()]
    assert [part is not None for part in parts] == [True, True, True, False]  # the upscaler has another VAE
    assert len({part.files.onnx for part in parts if part is not None}) == 1
