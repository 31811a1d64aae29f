"""Tasks that begin from a picture, against diffusers' pipelines: same weights, same seeds, same pictures and masks; fp32."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sd2rt.runtime import load
from sd2rt.runtime.text_to_image import TextToImage

torch = pytest.importorskip("torch", reason="parity needs the export extra")
diffusers = pytest.importorskip("diffusers", reason="parity needs the export extra")

from tests.tiny import tiny_bundle, tiny_pipeline  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore::DeprecationWarning:diffusers")]

Pipelines = dict[str, tuple[Any, TextToImage]]
CLASSES = {"image": "StableDiffusionImg2ImgPipeline", "blend": "StableDiffusionInpaintPipeline"}
SCHEDULERS: dict[str, tuple[str, dict[str, Any]]] = {
    "ddim": ("DDIMScheduler", {"clip_sample": False}),
    "pndm": ("PNDMScheduler", {"skip_prk_steps": True}),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler a": ("EulerAncestralDiscreteScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {}),
    "dpm++ 2m karras": ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
    "unipc": ("UniPCMultistepScheduler", {}),
}
PROMPTS = ["a large red sphere on the left", "Ein blauer Würfel, 2 cones!"]


@pytest.fixture(scope="module")
def pipelines() -> Iterator[Pipelines]:
    """Pairs of diffusers' pipeline and ours, each made when it is first asked for."""
    made: Pipelines = {}
    yield made
    for _, own in made.values():
        own.close()


def pair(pipelines: Pipelines, variant: str, task: str = "") -> tuple[Any, TextToImage]:
    if variant not in pipelines:
        pipelines[variant] = (tiny_pipeline(variant), load(tiny_bundle(variant), target="cpu"))
    reference, own = pipelines[variant]
    if task:
        parts = {name: part for name, part in reference.components.items() if name not in ("image_encoder", "safety_checker")}
        reference = getattr(diffusers, CLASSES[task])(**parts, safety_checker=None, requires_safety_checker=False)
        reference.set_progress_bar_config(disable=True)
    return reference, own


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    """Smooth colours with some detail."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def mask(width: int, height: int) -> Image.Image:
    array = np.zeros((height, width), np.uint8)
    array[height // 4 : height // 2 + 3, width // 3 :] = 255
    return Image.fromarray(array)


def psnr(pipes: tuple[Any, TextToImage], options: dict[str, Any], extra: dict[str, Any], prompts: list[str] | str = PROMPTS[0]) -> float:
    """Paint the same pictures in both, and return the worst one's dB. `extra` are diffusers' names of the same."""
    reference, own_pipe = pipes
    call = {"steps": 7, "guidance_scale": 5.0, "seed": 3, "sampler": "ddim", **options}
    own = own_pipe(prompts, output="numpy", **call)
    assert isinstance(own.images, np.ndarray)
    name, settings = SCHEDULERS[call["sampler"]]
    reference.scheduler = getattr(diffusers, name).from_config(dict(own_pipe.bundle.scheduler), **settings)
    expected = reference(
        prompts,
        num_inference_steps=call["steps"],
        guidance_scale=call["guidance_scale"],
        num_images_per_prompt=call.get("images_per_prompt", 1),
        generator=[torch.Generator("cpu").manual_seed(seed) for seed in own.seeds],
        output_type="np",
        **extra,
    ).images
    assert own.images.shape == expected.shape
    assert expected.std() > 0.02
    errors = np.square(own.images.astype(np.float64) - expected).mean(axis=(1, 2, 3))
    return float(-10 * np.log10(errors.max()))


@pytest.mark.parametrize("sampler", SCHEDULERS)
@pytest.mark.parametrize("strength", [0.15, 0.6, 1.0])
def test_image_to_image(pipelines: Pipelines, sampler: str, strength: float) -> None:
    given = {"image": picture(59, 75), "strength": strength}
    assert psnr(pair(pipelines, "v", "image"), {"sampler": sampler, **given}, given) >= 60


@pytest.mark.parametrize("sampler", ["ddim", "euler a", "heun"])
def test_image_to_image_of_a_batch(pipelines: Pipelines, sampler: str) -> None:
    image = picture(64, 48)
    options = {"image": image, "strength": 0.7, "images_per_prompt": 2, "sampler": sampler}
    assert psnr(pair(pipelines, "epsilon", "image"), options, {"image": image, "strength": 0.7}, PROMPTS) >= 60


@pytest.mark.parametrize("strength", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("size", [(64, 64), (72, 40)])
def test_inpainting_with_nine_channels(pipelines: Pipelines, strength: float, size: tuple[int, int]) -> None:
    image = picture(*size)
    given = {"image": image, "strength": strength}
    extra = {**given, "mask_image": mask(*size), "width": size[0], "height": size[1]}
    assert psnr(pair(pipelines, "inpaint"), {**given, "mask": mask(*size), "steps": 10}, extra) >= 60


def test_inpainting_with_a_mask_of_another_size(pipelines: Pipelines) -> None:
    image = picture(64, 72)
    options = {"image": image, "mask": mask(37, 51), "sampler": "pndm"}
    assert psnr(pair(pipelines, "inpaint"), options, {"image": image, "mask_image": mask(37, 51), "width": 64, "height": 72}) >= 60


@pytest.mark.parametrize("variant", ["inpaint", "epsilon"])
def test_a_picture_of_an_inpainting_batch_is_the_one_its_seed_paints_alone(pipelines: Pipelines, variant: str) -> None:
    """Unlike diffusers, which draws the autoencoder's sample of a batch from the first picture's generator."""
    _, own = pair(pipelines, variant)
    options: dict[str, Any] = {"image": picture(64, 72), "mask": mask(64, 72), "steps": 5, "sampler": "euler a", "output": "numpy"}
    batch = own(PROMPTS, seed=4, images_per_prompt=2, **options).images
    for index, prompt in enumerate([PROMPTS[0], PROMPTS[0], PROMPTS[1], PROMPTS[1]]):
        alone = own(prompt, seed=4 + index, **options).images
        assert -10 * np.log10(np.square(batch[index] - alone[0]).mean() + 1e-20) >= 50


@pytest.mark.parametrize("sampler", ["ddim", "euler a", "dpm++ 2m karras", "pndm"])
@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_inpainting_with_any_model_by_blending(pipelines: Pipelines, sampler: str, strength: float) -> None:
    image = picture(64, 56)
    given = {"image": image, "strength": strength}
    extra = {**given, "mask_image": mask(64, 56), "width": 64, "height": 56}
    assert psnr(pair(pipelines, "epsilon", "blend"), {**given, "mask": mask(64, 56), "sampler": sampler}, extra) >= 60


@pytest.mark.parametrize("size", [(64, 80), (90, 70)])
@pytest.mark.parametrize("strength", [0.3, 0.8, 1.0])
def test_depth_to_image_with_estimated_depth(pipelines: Pipelines, strength: float, size: tuple[int, int]) -> None:
    given = {"image": picture(*size), "strength": strength}
    assert psnr(pair(pipelines, "depth"), {**given, "sampler": "pndm"}, given) >= 60


def test_depth_to_image_with_given_depth(pipelines: Pipelines) -> None:
    image, depth = picture(72, 56), np.random.default_rng(1).random((30, 41)).astype(np.float32)
    extra = {"image": image, "strength": 0.9, "depth_map": torch.from_numpy(depth)[None].repeat(2, 1, 1)}
    assert psnr(pair(pipelines, "depth"), {"image": image, "strength": 0.9, "depth": depth}, extra, PROMPTS) >= 60


@pytest.mark.parametrize("size", [(16, 16), (24, 20)])
@pytest.mark.parametrize("noise_level", [0, 20, 200])
def test_upscaling(pipelines: Pipelines, size: tuple[int, int], noise_level: int) -> None:
    given = {"image": picture(*size), "noise_level": noise_level}
    assert psnr(pair(pipelines, "upscale"), given, given) >= 60
