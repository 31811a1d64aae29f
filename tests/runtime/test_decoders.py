"""The tiny decoder in the place of the VAE's: which bundles have one, and pictures against diffusers with an AutoencoderTiny."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sd2rt.engine.errors import InvalidArgument
from sd2rt.runtime import load
from sd2rt.runtime.text_to_image import TextToImage
from tests.runtime.fakes import fake_pipeline


def test_a_bundle_without_a_tiny_decoder_refuses_one(tmp_path: Path) -> None:
    pipe = fake_pipeline(tmp_path / "small")
    message = "decoder: got 'tiny', but small has no tiny_vae_decoder; expected 'vae', or export the model again with --tiny-vae"
    with pytest.raises(InvalidArgument, match=message):
        pipe("a", decoder="tiny")
    state = next(pipe.steps("a"))
    with pytest.raises(InvalidArgument, match=message):
        state.preview("tiny")
    assert state.preview("vae")[0].tobytes() == state.preview()[0].tobytes()


def test_another_decoder_is_refused(tmp_path: Path) -> None:
    pipe = fake_pipeline(tmp_path / "small")
    with pytest.raises(InvalidArgument, match="decoder: got 'big'; expected one of vae, tiny"):
        pipe("a", decoder="big")  # type: ignore[arg-type]


torch = pytest.importorskip("torch", reason="tiny models need the export extra")

from tests.tiny import tiny_bundle, tiny_pipeline, tiny_vae  # noqa: E402

CALL: dict[str, Any] = {"steps": 4, "seed": 3, "guidance_scale": 4.0, "sampler": "ddim", "width": 48, "height": 72}
GATE_DB = 60.0


@pytest.fixture(scope="module")
def pipe() -> Iterator[TextToImage]:
    with load(tiny_bundle("v", with_tiny_vae=True), target="cpu") as opened:
        yield opened


def psnr(own: Any, expected: Any) -> float:
    return float(-10 * np.log10(np.square(np.asarray(own, np.float64) - expected).mean() + 1e-20))


def levels_apart(own: Any, other: Any) -> int:
    return int(np.abs(np.asarray(own[0]).astype(int) - np.asarray(other[0])).max())


@pytest.mark.torch
def test_pictures_are_diffusers_with_a_tiny_vae(pipe: TextToImage) -> None:
    own = pipe("a red cube", output="numpy", decoder="tiny", images_per_prompt=2, **CALL)
    reference = tiny_pipeline("v")
    reference.vae = tiny_vae()
    noise = [torch.Generator().manual_seed(seed) for seed in own.seeds]
    sizes = {"height": CALL["height"], "width": CALL["width"], "num_inference_steps": CALL["steps"], "guidance_scale": 4.0}
    expected = reference("a red cube", num_images_per_prompt=2, generator=noise, output_type="np", **sizes).images
    assert own.images.shape == expected.shape == (2, 72, 48, 3)
    assert expected.std() > 0.05
    assert psnr(own.images, expected) >= GATE_DB
    assert psnr(pipe("a red cube", output="numpy", images_per_prompt=2, **CALL).images, expected) < 30


@pytest.mark.torch
def test_previews_and_files_say_which_decoder_made_them(pipe: TextToImage) -> None:
    call = {**CALL, "sampler": "euler"}  # whose last step ends with what it foresees
    *_, last = pipe.steps("a red cube", **call)
    result, tiny = last.result(), pipe("a red cube", decoder="tiny", **call)
    for decoder, final in ((None, result), ("vae", result), ("tiny", tiny)):
        assert levels_apart(last.preview(decoder), final.images) < 2
    assert levels_apart(last.preview("tiny"), result.images) > 30
    assert [found.parameters[0].decoder for found in (result, tiny)] == ["vae", "tiny"]


@pytest.mark.torch
def test_the_bundle_says_where_the_tiny_decoder_is_from() -> None:
    import json

    document = json.loads((tiny_bundle("v", with_tiny_vae=True) / "bundle.json").read_text())
    assert list(document["components"]) == ["text_encoder", "unet", "vae_decoder", "vae_encoder", "tiny_vae_decoder"]
    assert document["export"]["tiny_vae"].endswith("-vae")
    assert json.loads((tiny_bundle("v") / "bundle.json").read_text())["export"]["tiny_vae"] is None
