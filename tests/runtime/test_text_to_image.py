"""The pipeline over fake engines: what it feeds them, what it gives back, and that a picture does not depend on its batch."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sd2rt.engine.errors import EngineError, InvalidArgument
from sd2rt.runtime import host, host_unet, text_to_image
from sd2rt.runtime.result import Result
from sd2rt.runtime.text_to_image import TextToImage
from tests.runtime.fakes import FakeEngine, fake_pipeline


@pytest.fixture
def pipe(tmp_path: Path) -> TextToImage:
    return fake_pipeline(tmp_path / "small")


def _engine(pipe: TextToImage, name: str) -> FakeEngine:
    engine = pipe._painter.networks.open(name)
    assert isinstance(engine, FakeEngine)
    return engine


def _psnr(own: Any, other: Any) -> float:
    """Return dB for pictures in [0, 1]; infinite when they are equal."""
    error = float(np.mean((np.asarray(own, np.float64) - np.asarray(other, np.float64)) ** 2))
    return float("inf") if error == 0 else -10 * np.log10(error)


def test_a_call_paints_at_the_bundles_defaults(pipe: TextToImage) -> None:
    result = pipe("a red sphere")
    assert len(result.images) == 1
    image = result.images[0]
    assert isinstance(image, Image.Image)
    assert (image.mode, image.size) == ("RGB", (48, 64))
    assert len(np.unique(np.asarray(image))) > 10
    assert result.seeds == (0,)
    assert result.cut == ()
    assert len(result.timings["steps"]) == 3
    assert [feeds["sample"].shape for feeds in _engine(pipe, "unet").feeds] == [(2, 4, 8, 6)] * 3
    assert [len(feeds["latent_sample"]) for feeds in _engine(pipe, "vae_decoder").feeds] == [1]


def test_without_guidance_the_unet_gets_one_row_and_the_negative_prompt_is_not_encoded(pipe: TextToImage) -> None:
    pipe("a", negative_prompt="b", guidance_scale=1.0)
    assert {len(feeds["sample"]) for feeds in _engine(pipe, "unet").feeds} == {1}
    assert [len(feeds["input_ids"]) for feeds in _engine(pipe, "text_encoder").feeds] == [1]


@pytest.mark.parametrize(
    ("options", "rows"),
    [
        ({}, [2, 2, 2, 2]),
        ({"guidance_interval": (0.25, 0.7)}, [1, 2, 2, 1]),
        ({"guidance_reuse": 3}, [2, 1, 1, 2]),
        ({"guidance_interval": (0.25, 1.0), "guidance_reuse": 2}, [1, 2, 1, 2]),
        ({"guidance_interval": (0.0, 1.0), "guidance_reuse": 1}, [2, 2, 2, 2]),
        ({"guidance_interval": (0.0, 0.0)}, [1, 1, 1, 1]),
    ],
)
def test_what_is_left_out_costs_no_rows_and_is_told(pipe: TextToImage, options: dict[str, Any], rows: list[int]) -> None:
    result = pipe("a", steps=4, **options)
    assert [len(feeds["sample"]) for feeds in _engine(pipe, "unet").feeds] == rows
    assert result.unet_rows == sum(rows)
    assert [state.result().parameters[0].unet_rows for state in pipe.steps("a", steps=4, **options)] == list(np.cumsum(rows))


def test_plain_rows_are_those_of_a_run_without_guidance(pipe: TextToImage) -> None:
    def latents(**options: Any) -> Any:
        return pipe("a", steps=4, output="latents", negative_prompt="b", **options).images

    np.testing.assert_array_equal(latents(guidance_interval=(0.0, 0.0)), latents(guidance_scale=1.0))
    np.testing.assert_array_equal(latents(guidance_interval=(0, 1), guidance_reuse=1), latents())
    assert np.abs(latents(guidance_reuse=2) - latents()).max() > 1e-3


def test_positive_and_negative_are_encoded_in_one_run(pipe: TextToImage) -> None:
    pipe(["a", "b"], negative_prompt="a", images_per_prompt=2)
    assert [len(feeds["input_ids"]) for feeds in _engine(pipe, "text_encoder").feeds] == [2]
    assert {len(feeds["sample"]) for feeds in _engine(pipe, "unet").feeds} == {8}


@pytest.mark.parametrize(("side", "images", "rows"), [(256, 33, [33, 33]), (264, 3, [3, 3]), (264, 5, [3, 2, 3, 2]), (264, 2, [4])])
def test_the_unet_gets_few_rows_at_once(
    pipe: TextToImage, side: int, images: int, rows: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    call: dict[str, Any] = {"width": side, "height": side, "steps": 1, "images_per_prompt": images, "output": "latents"}
    found = pipe("a", **call).images
    assert [len(feeds["sample"]) for feeds in _engine(pipe, "unet").feeds] == rows
    monkeypatch.setattr(host_unet, "SMALL_ROWS", 1000)
    monkeypatch.setattr(host_unet, "LARGE_ROWS", 1000)
    np.testing.assert_array_equal(pipe("a", **call).images, found)
    assert len(_engine(pipe, "unet").feeds[-1]["sample"]) == 2 * images


@pytest.mark.parametrize(("images", "shapes"), [(1, {2, 1}), (2, {4, 2}), (3, {3}), (4, {4}), (5, {2, 3}), (9, {3})])
def test_rows_with_and_without_their_negative_ones_come_in_the_same_parts(pipe: TextToImage, images: int, shapes: set[int]) -> None:
    """OpenVINO compiles for every number of rows and keeps two."""
    pipe("a", width=264, height=264, steps=4, images_per_prompt=images, guidance_reuse=2, output="latents")
    assert {len(feeds["sample"]) for feeds in _engine(pipe, "unet").feeds} == shapes


def test_timesteps_are_the_samplers(pipe: TextToImage) -> None:
    pipe("a", steps=4, sampler="ddim")
    assert [feeds["timestep"].tolist() for feeds in _engine(pipe, "unet").feeds] == [[t] * 2 for t in (751.0, 501.0, 251.0, 1.0)]
    assert _engine(pipe, "unet").feeds[0]["timestep"].dtype == np.float32


@pytest.mark.parametrize("output", ["pil", "numpy", "latents"])
def test_outputs_are_of_one_picture(pipe: TextToImage, output: Any) -> None:
    result = pipe("a", output=output, seed=3, images_per_prompt=2)
    pictures = pipe("a", output="numpy", seed=3, images_per_prompt=2).images
    assert isinstance(pictures, np.ndarray)
    if output == "latents":
        assert isinstance(result.images, np.ndarray)
        assert (result.images.shape, result.images.dtype) == ((2, 4, 8, 6), np.float32)
        assert result.timings["decode"] < 0.01
        decoded = np.tanh(result.images[:, :3] / np.float32(0.18215) / 5) / 2 + 0.5
        np.testing.assert_allclose(pictures[:, ::8, ::8], decoded.transpose(0, 2, 3, 1), atol=1e-6)
    elif output == "pil":
        assert isinstance(result.images, list)
        own = np.stack([np.asarray(image) for image in result.images])
        np.testing.assert_array_equal(own, np.rint(pictures * 255).astype(np.uint8))
    else:
        assert (pictures.shape, pictures.dtype) == ((2, 64, 48, 3), np.float32)
        assert pictures.min() >= 0
        assert pictures.max() <= 1


@pytest.mark.parametrize("sampler", ["ddim", "euler a", "dpm++ 2m sde karras", "lcm", "pndm"])
def test_a_picture_of_a_batch_is_the_one_its_seed_paints_alone(pipe: TextToImage, sampler: str) -> None:
    """Samplers with later noise too: each image has its own stream."""
    options: dict[str, Any] = {"sampler": sampler, "steps": 4, "output": "numpy"}
    batch = pipe(["a", "b"], negative_prompt=["x", "y"], seed=10, images_per_prompt=2, **options)
    assert batch.seeds == (10, 11, 12, 13)
    for index, (prompt, negative) in enumerate([("a", "x"), ("a", "x"), ("b", "y"), ("b", "y")]):
        alone = pipe(prompt, negative_prompt=negative, seed=10 + index, **options)
        assert _psnr(batch.images[index], alone.images[0]) >= 50
    assert _psnr(batch.images[0], batch.images[1]) < 40


def test_the_same_call_gives_the_same_bytes(pipe: TextToImage) -> None:
    first, second = (pipe("a", sampler="euler a", seed=5).images for _ in range(2))
    assert isinstance(first, list)
    assert isinstance(second, list)
    assert first[0].tobytes() == second[0].tobytes()
    other = pipe("a", sampler="euler a", seed=6).images
    assert isinstance(other, list)
    assert first[0].tobytes() != other[0].tobytes()


def test_given_latents_replace_the_first_noise(pipe: TextToImage) -> None:
    noise = np.random.default_rng(0).normal(size=(1, 4, 8, 6)).astype(np.float32)
    results = [pipe("a", seed=seed, latents=noise, output="latents") for seed in (1, 2)]
    np.testing.assert_array_equal(results[0].images[0], results[1].images[0])
    assert results[0].parameters[0].given_latents
    np.testing.assert_allclose(_engine(pipe, "unet").feeds[0]["sample"][0], noise[0], rtol=1e-6)


def test_steps_yield_every_state_and_the_last_has_the_result(pipe: TextToImage) -> None:
    states = []
    for state in pipe.steps("a", steps=5, sampler="euler", output="numpy"):
        states.append((state.index, state.total, state.latents.copy()))
        previews = state.preview()
        assert [image.size for image in previews] == [(48, 64)]
    assert [(index, total) for index, total, _ in states] == [(index, 5) for index in range(5)]
    assert abs(states[0][2] - states[1][2]).max() > 0.01
    called = pipe("a", steps=5, sampler="euler", output="numpy")
    np.testing.assert_array_equal(state.result().images, called.images)


def test_leaving_the_loop_stops_and_keeps_the_picture_foreseen(pipe: TextToImage) -> None:
    for state in pipe.steps("a", steps=20, sampler="euler"):
        if state.index == 1:
            break
    assert len(_engine(pipe, "unet").feeds) == 2
    result = state.result()
    assert isinstance(result.images, list)
    assert result.images[0].tobytes() == state.preview()[0].tobytes()
    assert len(result.timings["steps"]) == 2


def test_nothing_runs_before_the_first_step_and_bad_values_raise_at_once(pipe: TextToImage) -> None:
    pipe.steps("a")
    with pytest.raises(InvalidArgument, match="width"):
        pipe.steps("a", width=50)
    with pytest.raises(InvalidArgument, match="steps"):
        pipe.steps("a", steps=100_000)
    assert _engine(pipe, "text_encoder").feeds == []


def test_timings_leave_out_the_callers_time(pipe: TextToImage, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    def clock() -> float:
        """A second from one look at it to the next."""
        nonlocal now
        now += 1
        return now

    for module in (host, text_to_image):
        monkeypatch.setattr(module, "perf_counter", clock)
    timings = None
    for state in pipe.steps("a", steps=3):
        now += 1000
        timings = state.result().timings
    assert timings is not None
    assert 3 <= sum(timings["steps"]) < 1000
    parts = timings["text"] + sum(timings["steps"]) + timings["decode"]
    assert parts <= timings["total"] < parts + 1000


def test_parameters_tell_how_to_paint_each_image_again(pipe: TextToImage) -> None:
    result = pipe(["a", "b"], negative_prompt="n", seed=4, steps=2, sampler="DPM++ 2M Karras", guidance_scale=3, guidance_rescale=0.5)
    second = result.parameters[1]
    assert (second.prompt, second.negative_prompt, second.seed, second.steps) == ("b", "n", 5, 2)
    assert (second.sampler, second.sigmas, second.guidance_scale, second.guidance_rescale) == ("dpm++ 2m", "karras", 3.0, 0.5)
    assert (second.width, second.height, second.model, second.target, second.given_latents) == (48, 64, "small", "fake", False)
    assert second.bundle_sha256 == pipe.bundle.sha256


def test_what_did_not_fit_is_in_the_result(tmp_path: Path) -> None:
    def edit(document: dict[str, Any]) -> None:
        document["components"]["unet"]["inputs"][2]["shape"] = ["batch", 77, 8]

    with fake_pipeline(tmp_path / "fixed", edit) as pipe:
        assert pipe("x" * 75 + " tail", negative_prompt="y" * 75 + " other").cut == (" tail", " other")
        assert pipe("x" * 75 + " tail", negative_prompt="y" * 75 + " other", guidance_scale=1).cut == (" tail",)


def test_long_prompts_are_read_whole_and_leave_other_pictures_as_they_are(pipe: TextToImage) -> None:
    call: dict[str, Any] = {"negative_prompt": ["n", "m, " * 60, "n", "n"], "seed": 3, "output": "latents", "steps": 2}
    prompts = ["a", "b " * 90, "c " * 200, "d"]
    result = pipe(prompts, **call)
    assert result.cut == ()
    for index, (prompt, negative) in enumerate(zip(prompts, call["negative_prompt"], strict=True)):
        alone = pipe(prompt, **{**call, "negative_prompt": negative, "seed": 3 + index}).images
        np.testing.assert_array_equal(result.images[index], alone[0])
    shorter = pipe([*prompts[:2], "c " * 199, "d"], **call).images
    assert [bool((one == other).all()) for one, other in zip(result.images, shorter, strict=True)] == [True, True, False, True]


def test_weights_change_the_picture_unless_they_are_text(pipe: TextToImage) -> None:
    def paint(prompt: str, **options: Any) -> bytes:
        return np.asarray(pipe(prompt, output="latents", steps=2, **options).images).tobytes()

    assert len({paint("a red cube"), paint("a (red) cube"), paint("a (red:1.2) cube"), paint("a [red] cube")}) == 4
    assert paint("a (red:1) cube") == paint("a red cube") == paint("a red cube", weighting=False)
    assert paint("a (red) cube", weighting=False) == paint(r"a \(red\) cube") != paint("a (red) cube")
    assert pipe("a (red) cube", weighting=False, steps=1).parameters[0].weighting is False


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompt": "(a:2000)"}, "prompt: got a weight of 2000 for 'a'"),
        ({"prompt": "a", "negative_prompt": "(a:-2000)"}, "negative_prompt: got a weight of -2000 for 'a'"),
        ({"prompt": "a", "weighting": "no"}, "weighting: got 'no'; expected True or False"),
        ({"prompt": "a", "clip_skip": 0}, "clip_skip: got '0'; expected an integer at least 1"),
    ],
)
def test_weights_are_checked_before_any_work(pipe: TextToImage, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        pipe.steps(**options)


def test_guidance_rescale_and_prompts_change_the_picture(pipe: TextToImage) -> None:
    def paint(**options: Any) -> Result:
        return pipe(**{"prompt": "a", "output": "latents", **options})

    plain = paint()
    for options in ({"guidance_rescale": 0.7}, {"prompt": "b"}, {"negative_prompt": "b"}, {"guidance_scale": 3.0}):
        assert abs(np.asarray(plain.images) - np.asarray(paint(**options).images)).max() > 1e-3


@pytest.mark.parametrize(
    ("component", "message"), [("unet", "latents after step 2 of 3 are not finite"), ("vae_decoder", "picture is not finite")]
)
def test_numbers_that_stop_being_finite_are_an_error(pipe: TextToImage, component: str, message: str) -> None:
    engine = _engine(pipe, component)
    compute = engine.compute

    def spoil(feeds: Any) -> Any:
        spoilt = component == "vae_decoder" or feeds["timestep"][0] < 500
        return compute(feeds) * (np.nan if spoilt else 1.0)

    engine.compute = spoil
    with pytest.raises(EngineError, match=message):
        pipe("a")


def test_prediction_type_is_the_bundles(tmp_path: Path) -> None:
    epsilon = fake_pipeline(tmp_path / "epsilon")
    v = fake_pipeline(tmp_path / "v", lambda document: document.update(prediction_type="v_prediction"))
    own, other = (np.asarray(pipe("a", output="latents").images) for pipe in (epsilon, v))
    assert abs(own - other).max() > 0.1


def test_closing_frees_every_engine_and_may_be_repeated(pipe: TextToImage) -> None:
    engines = [_engine(pipe, name) for name in ("text_encoder", "unet", "vae_decoder")]
    with pipe as same:
        assert same is pipe
    pipe.close()
    assert all(engine.closed for engine in engines)
    with pytest.raises(EngineError, match="the pipeline on fake is closed; load the model again"):
        pipe("a")
