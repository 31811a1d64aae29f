"""Pictures that a real GPU paints with its loop on the device, against the numpy loop on the cpu in float32."""

from collections.abc import Sequence
from functools import partial
from itertools import islice

import numpy as np
import numpy.typing as npt
import pytest

from benchmarks.workers.difference import difference
from sd2rt.engine.build import build_engine
from sd2rt.engine.errors import EngineError
from sd2rt.runtime import load
from sd2rt.runtime.bundle import Bundle
from sd2rt.runtime.engine_plan import SIZED, PlanOptions, plan_engines
from sd2rt.runtime.text_to_image import TextToImage
from sd2rt.toyworld.evaluate import evaluate
from tests.gpu.conftest import FAKE, MODEL

pytestmark = pytest.mark.gpu

PROMPT = "a large red sphere on the left and a small blue cube on the right, gray floor"
GATE_DB = 30.0
CAPTIONS = 200 if not FAKE else 4


def psnr_db(one: npt.ArrayLike, other: npt.ArrayLike) -> float:
    """Compare pictures of bytes."""
    error = np.square(np.asarray(one, np.float64) - np.asarray(other, np.float64)).mean()
    return float(10 * np.log10(255**2 / error)) if error else 99.0


def paint(pipe: TextToImage, texts: list[str]) -> list[npt.ArrayLike]:
    """Paint captions, each time from seed 0 on."""
    return list(pipe(texts).images)


@pytest.mark.parametrize("sampler", ["dpm++ 2m", "euler a", "pndm", "dpm++ 2m sde", "heun"])
def test_the_device_loop_paints_what_the_numpy_loop_does(sampler: str, pipe: TextToImage, reference: TextToImage) -> None:
    got, expected = (side(PROMPT, sampler=sampler, steps=10, seed=7, output="latents").images for side in (pipe, reference))
    assert difference(np.asarray(expected), np.asarray(got))["psnr_db"] > GATE_DB
    pictures = [side(PROMPT, sampler=sampler, steps=10, seed=7).images[0] for side in (pipe, reference)]
    assert psnr_db(*pictures) > GATE_DB


@pytest.mark.parametrize("asked", [{"guidance_scale": 1.0}, {"guidance_rescale": 0.7}, {"images_per_prompt": 3}, {"width": 96}])
def test_so_it_does_for_other_shapes_and_guidance(asked: dict[str, float], pipe: TextToImage, reference: TextToImage) -> None:
    sides: list[Sequence[npt.ArrayLike]] = [list(side(PROMPT, steps=6, seed=3, **asked).images) for side in (pipe, reference)]
    assert len(sides[0]) == len(sides[1])
    assert min(psnr_db(one, other) for one, other in zip(*sides, strict=True)) > GATE_DB


def test_the_same_call_gives_the_same_bytes(pipe: TextToImage) -> None:
    """From the plain first job over the recorded second to replayed ones."""
    assert len({pipe(PROMPT, steps=5, seed=1, sampler="euler a").images[0].tobytes() for _ in range(5)}) == 1


def test_numbers_out_of_range_are_an_error_and_leave_nothing_behind(pipe: TextToImage) -> None:
    whole = pipe(PROMPT, steps=4, seed=5).images[0].tobytes()
    shape = np.asarray(pipe(PROMPT, steps=1, seed=5, output="latents").images).shape
    with pytest.raises(EngineError, match="not finite"):
        pipe(PROMPT, steps=4, latents=np.full(shape, 1e38, np.float32))
    assert pipe(PROMPT, steps=4, seed=5).images[0].tobytes() == whole


def test_launches_are_recorded(target: str) -> None:
    """Two jobs, since the first is never recorded; then whatever could not be would have been told."""
    told: list[str] = []
    with load(MODEL, target=target, notify=told.append) as opened:
        for seed in (1, 2):
            opened(PROMPT, steps=4, seed=seed)
    assert [text for text in told if "CUDA graph" in text] == []


def test_leaving_the_steps_stops_and_leaves_nothing_behind(pipe: TextToImage) -> None:
    whole = pipe(PROMPT, steps=8, seed=5).images[0].tobytes()
    steps = pipe.steps("a small green cone", steps=8, seed=6)
    assert [state.index for state in islice(steps, 2)] == [0, 1]
    steps.close()
    assert pipe(PROMPT, steps=8, seed=5).images[0].tobytes() == whole


def test_step_by_step_is_the_whole_and_previews_foresee(pipe: TextToImage, reference: TextToImage) -> None:
    whole = pipe(PROMPT, steps=8, seed=5).images[0].tobytes()
    for state, exact in zip(*(side.steps(PROMPT, steps=8, seed=5) for side in (pipe, reference)), strict=True):
        assert psnr_db(state.preview()[0], exact.preview()[0]) > GATE_DB
        if state.index + 1 == state.total:
            assert state.result().images[0].tobytes() == whole


def test_engines_for_a_range_take_every_size_in_turn(target: str, bundle: Bundle, reference: TextToImage) -> None:
    if target not in SIZED:
        pytest.skip(f"{target}: its engines are for every size")
    plan = PlanOptions(target=target, smallest=(64, 64), usual=(64, 64), largest=(64, 96), batch=(1, 1, 2))
    for files, options in plan_engines(bundle, plan):
        build_engine(files, options)
    told: list[str] = []
    with load(MODEL, target=target, notify=told.append) as opened:
        for asked in ({"images_per_prompt": 2}, {"width": 96}, {"images_per_prompt": 1}, {"images_per_prompt": 2, "width": 72}):
            got, expected = (list(side(PROMPT, steps=6, seed=3, **asked).images) for side in (opened, reference))
            assert min(psnr_db(one, other) for one, other in zip(got, expected, strict=True)) > GATE_DB
    assert [text for text in told if "building" in text] == []


def test_prompts_are_followed_as_on_the_cpu(pipe: TextToImage, reference: TextToImage) -> None:
    got, expected = (evaluate(partial(paint, side), CAPTIONS).accuracy.overall for side in (pipe, reference))
    assert got >= expected - 0.01
