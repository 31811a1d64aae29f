"""What is put back and cut off when a picture with a mask is done, in results and previews; with the embedded model."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from sd2rt.runtime import load
from sd2rt.runtime.inpaint import finish_pictures
from sd2rt.runtime.source import Source
from sd2rt.runtime.text_to_image import TextToImage

pytest.importorskip("onnxruntime", reason="the cpu target needs onnxruntime")
PICTURE = np.random.default_rng(0).integers(0, 256, (43, 61, 3), dtype=np.uint8)
MASK = np.zeros((43, 61), np.uint8)
MASK[:, 40:] = 255


@pytest.fixture(scope="module")
def pipe() -> Iterator[TextToImage]:
    with load("toyworld", target="cpu") as pipe:
        yield pipe


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_pasted_then_cut(dtype: type) -> None:
    originals = np.random.default_rng(1).integers(0, 256, (1, 8, 8, 3), dtype=np.uint8)
    painted = np.random.default_rng(2).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    scale = 1 if dtype == np.uint8 else np.float32(1 / 255)
    paste = np.zeros((8, 8), np.float32)
    paste[:, 4:] = 1
    source = Source(height=8, width=8, images=originals, mask=paste, paste=paste, crop=(5, 7))
    done = finish_pictures((painted * scale).astype(dtype), source)
    assert (done.dtype, done.shape) == (dtype, (2, 5, 7, 3))
    for index in (0, 1):
        np.testing.assert_allclose(done[index, :, :4], originals[0, :5, :4] * scale, rtol=1e-6)
        np.testing.assert_allclose(done[index, :, 4:], painted[index, :5, 4:7] * scale, rtol=1e-6)


def test_without_pasting_pictures_stay_as_they_are() -> None:
    pictures = np.zeros((1, 8, 8, 3), np.uint8)
    assert finish_pictures(pictures, None) is pictures
    assert finish_pictures(pictures, Source(height=8, width=8, images=pictures, mask=np.ones((8, 8), np.float32))) is pictures


@pytest.mark.parametrize("options", [{"mask": MASK, "paste": True}, {"expand": (0, 0, 8, 0)}])
def test_previews_and_results_show_the_kept_pixels(pipe: TextToImage, options: dict[str, Any]) -> None:
    width = 61 + options.get("expand", (0, 0, 0, 0))[2]
    for state in pipe.steps("a red cube", image=PICTURE, steps=2, seed=7, **options):
        preview = np.asarray(state.preview()[0])
        assert preview.shape == (43, width, 3)
        np.testing.assert_array_equal(preview[:, :40], PICTURE[:, :40])
    assert state.latents.shape[2:] == (6, -(-width // 8))
    result = state.result()
    np.testing.assert_array_equal(np.asarray(result.images[0]), preview)
    assert (result.parameters[0].height, result.parameters[0].width) == (43, width)
