"""The checker on renders that went through the embedded model's own VAE, as everything it paints does."""

import numpy as np
import pytest

from sd2rt.engine.build import open_engine
from sd2rt.engine.errors import ModelNotFound
from sd2rt.engine.spec import BuildOptions
from sd2rt.runtime.bundle import read_bundle
from sd2rt.runtime.models import find_model
from sd2rt.toyworld.checker import check
from tests.toyworld.pictures import KINDS, scenes, wrong_caption

pytest.importorskip("onnxruntime", reason="the VAE runs on the cpu target (pip install 'sd2rt[cpu]')")


@pytest.fixture(scope="module")
def decoded() -> list[tuple[str, np.ndarray]]:
    """Captions and pictures: 120 renders encoded (mean of the posterior) and decoded."""
    try:
        bundle = read_bundle(find_model("toyworld"))
    except ModelNotFound as error:
        pytest.skip(str(error))
    drawn = scenes(120, seed=4)
    pixels = np.stack([image for _, image in drawn]).transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1
    for name, feed in (("vae_encoder", "sample"), ("vae_decoder", "latent_sample")):
        engine = open_engine(bundle.component(name).files, BuildOptions(target="cpu", threads=1))
        pixels = next(iter(engine.run({feed: pixels}).values()))
        pixels = pixels[:, :4] if name == "vae_encoder" else pixels
        engine.close()
    images = (np.clip(pixels, -1, 1) * 127.5 + 128).astype(np.uint8).transpose(0, 2, 3, 1)
    return [(scene.caption, image) for (scene, _), image in zip(drawn, images, strict=True)]


def test_decoded_renders_are_not_the_renders_and_pass(decoded):
    originals = [image for _, image in scenes(120, seed=4)]
    differences = [np.abs(a.astype(int) - b).mean() for a, (_, b) in zip(originals, decoded, strict=True)]
    assert 0.1 < np.mean(differences) < 6
    assert np.mean([check(image, caption).passed for caption, image in decoded]) >= 0.98


@pytest.mark.parametrize("kind", KINDS)
def test_wrong_captions_of_decoded_renders_fail(decoded, kind):
    rng = np.random.default_rng(5)
    pairs = [(image, wrong_caption(caption, kind, rng)) for caption, image in decoded]
    assert np.mean([not check(image, caption).passed for image, caption in pairs if caption]) >= 0.98
