"""The embedded model end to end: what a fresh installation does with `load()`."""

import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest

from sd2rt.engine.errors import ModelNotFound
from sd2rt.runtime import load
from sd2rt.runtime.models import find_model
from sd2rt.runtime.text_to_image import TextToImage

pytest.importorskip("onnxruntime", reason="the cpu target needs onnxruntime")
PROMPT = "a large red sphere on the left and a small blue cube on the right, gray floor"
PEAK_BYTES = 350e6


@pytest.fixture(scope="module")
def pipe() -> Iterator[TextToImage]:
    """With the user's own engine cache, as a user would."""
    try:
        find_model("toyworld")
    except ModelNotFound as error:
        pytest.skip(str(error))
    with load("toyworld", target="cpu") as pipe:
        yield pipe


def test_colours_are_where_the_prompt_says(pipe: TextToImage) -> None:
    """Red on the left, blue on the right; whether shapes and sizes are right is toyworld's checker's business."""
    picture = np.asarray(pipe(PROMPT, seed=7, output="numpy").images[0])
    left, right = picture[:, : picture.shape[1] // 2], picture[:, picture.shape[1] // 2 :]
    assert (left[..., 0] - left[..., 2]).max() > 0.5
    assert (right[..., 2] - right[..., 0]).max() > 0.3


@pytest.mark.parametrize("sampler", ["ddim", "dpm++ 2m karras", "euler a"])
def test_a_picture_of_a_batch_is_the_one_its_seed_paints_alone(pipe: TextToImage, sampler: str) -> None:
    batch = pipe([PROMPT, "a small green cone"], seed=7, steps=10, sampler=sampler, output="numpy")
    alone = pipe("a small green cone", seed=8, steps=10, sampler=sampler, output="numpy")
    error = np.mean((np.asarray(batch.images[1]) - np.asarray(alone.images[0])) ** 2, dtype=np.float64)
    assert error <= 1e-5  # 50 dB


def test_the_same_call_gives_the_same_bytes(pipe: TextToImage) -> None:
    first, second = (pipe(PROMPT, seed=1, steps=8, output="numpy").images for _ in range(2))
    assert np.asarray(first).tobytes() == np.asarray(second).tobytes()


def test_another_size_paints_too(pipe: TextToImage) -> None:
    picture = np.asarray(pipe(PROMPT, steps=4, width=104, height=40).images[0])
    assert picture.shape == (40, 104, 3)
    assert picture.std() > 10


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
def test_painting_needs_little_memory(pipe: TextToImage) -> None:
    """In a process of its own; the fixture has built the engines. (getrusage would count the parent's memory before exec.)"""
    code = (
        "from pathlib import Path; from sd2rt.runtime import load\n"
        f"load('toyworld', target='cpu')({PROMPT!r}, seed=7)\n"
        "print(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])"
    )
    peak_kib = int(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)
    assert 20e6 < peak_kib * 1024 <= PEAK_BYTES
