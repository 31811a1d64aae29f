"""Whole pictures against diffusers: same weights, same seeds, so the same initial and later noise."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from sd2rt.runtime import load
from sd2rt.runtime.result import Result
from sd2rt.runtime.text_to_image import TextToImage

torch = pytest.importorskip("torch", reason="parity needs the export extra")
diffusers = pytest.importorskip("diffusers", reason="parity needs the export extra")

from tests.tiny import tiny_bundle, tiny_pipeline  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore::DeprecationWarning:diffusers")]

SCHEDULERS: dict[str, tuple[str, dict[str, Any]]] = {
    "ddim": ("DDIMScheduler", {"clip_sample": False}),
    "pndm": ("PNDMScheduler", {"skip_prk_steps": True}),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler a": ("EulerAncestralDiscreteScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {}),
    "lms karras": ("LMSDiscreteScheduler", {"use_karras_sigmas": True}),
    "dpm++ 2m karras": ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
    "dpm++ 2m sde": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
    "unipc": ("UniPCMultistepScheduler", {}),
    "lcm": ("LCMScheduler", {}),
}
CALLS: list[dict[str, Any]] = [
    {"sampler": "pndm", "guidance_scale": 7.5, "steps": 20},
    {"sampler": "ddim", "guidance_scale": 1.0},
    {"sampler": "ddim", "guidance_scale": 7.5, "guidance_rescale": 0.7},
    {"sampler": "euler", "height": 72, "width": 40},
    {"sampler": "euler a", "width": 96, "negative_prompt": ["blurry!", "x"], "images_per_prompt": 2, "seed": 5},
    {"sampler": "dpm++ 2m karras", "height": 48, "width": 80, "negative_prompt": "a green cone"},
    {"sampler": "dpm++ 2m sde", "images_per_prompt": 3, "seed": 2**32 - 2},
    {"sampler": "unipc", "prompt": "cat " * 100},
    {"sampler": "heun", "prompt": ""},
    {"sampler": "lms karras"},
    {"sampler": "lcm", "guidance_scale": 1.5, "steps": 4},
]
PROMPTS = ["a large red sphere on the left", "Ein blauer Würfel, 2 cones!"]


class Pair:
    """One model in diffusers and here."""

    def __init__(self, variant: str, dtype: str) -> None:
        self.reference = tiny_pipeline(variant)
        self.own: TextToImage = load(tiny_bundle(variant, dtype), target="cpu")
        self.config = dict(self.own.bundle.scheduler)  # as the checkpoint's file has it, with every default written out

    def psnr(self, options: dict[str, Any]) -> float:
        """Paint the same pictures in both, and return the worst picture's dB."""
        call = {"prompt": PROMPTS if "negative_prompt" in options else PROMPTS[0], "steps": 6, "guidance_scale": 7.5, "seed": 1, **options}
        own = self.own(output="numpy", **call)
        assert isinstance(own.images, np.ndarray)
        expected = self._reference(call, own)
        assert own.images.shape == expected.shape
        assert expected.std() > 0.05
        errors = np.square(own.images.astype(np.float64) - expected).mean(axis=(1, 2, 3))
        return float(-10 * np.log10(errors.max()))

    def _reference(self, call: dict[str, Any], own: Result) -> np.ndarray[Any, np.dtype[np.float32]]:
        name, extra = SCHEDULERS[call["sampler"]]
        self.reference.scheduler = getattr(diffusers, name).from_config(self.config, **extra)
        pictures: np.ndarray[Any, np.dtype[np.float32]] = self.reference(
            **self._texts(call["prompt"], call.get("negative_prompt")),
            num_inference_steps=call["steps"],
            guidance_scale=call["guidance_scale"],
            guidance_rescale=call.get("guidance_rescale", 0.0),
            height=own.parameters[0].height,
            width=own.parameters[0].width,
            num_images_per_prompt=call.get("images_per_prompt", 1),
            generator=[torch.Generator("cpu").manual_seed(seed) for seed in own.seeds],
            output_type="np",
        ).images
        return pictures

    def _texts(self, prompt: str | list[str], negative: str | list[str] | None) -> dict[str, Any]:
        """Return what diffusers takes as text; it cuts long prompts, so that their states are made here, chunk by chunk."""
        if isinstance(prompt, list) or len(self.reference.tokenizer(prompt).input_ids) <= 77:
            return {"prompt": prompt, "negative_prompt": [negative] * len(PROMPTS) if isinstance(negative, str) else negative}
        states, empty = self._states(prompt), self._states("")
        return {"prompt_embeds": states, "negative_prompt_embeds": empty.repeat(1, states.shape[1] // empty.shape[1], 1)}

    def _states(self, prompt: str) -> Any:
        begin, *ids, end = self.reference.tokenizer(prompt).input_ids
        chunks = [[begin, *ids[first : first + 75], end] for first in range(0, max(len(ids), 1), 75)]
        padded = torch.tensor([chunk + [0] * (77 - len(chunk)) for chunk in chunks])
        with torch.no_grad():
            return self.reference.text_encoder(padded)[0].reshape(1, len(chunks) * 77, -1)


@pytest.fixture(scope="module", params=["v", "conv"])
def fp32(request: pytest.FixtureRequest) -> Iterator[Pair]:
    pair = Pair(request.param, "fp32")
    with pair.own:
        yield pair


@pytest.fixture(scope="module")
def fp16() -> Iterator[Pair]:
    pair = Pair("upcast", "fp16")
    with pair.own:
        yield pair


def _name(options: dict[str, Any]) -> str:
    return "-".join(f"{value}"[:16] for value in options.values())


@pytest.mark.parametrize("options", CALLS, ids=_name)
def test_fp32_paints_the_pictures_of_diffusers(fp32: Pair, options: dict[str, Any]) -> None:
    assert fp32.psnr(options) >= 60


@pytest.mark.parametrize("options", CALLS, ids=_name)
def test_fp16_paints_nearly_the_pictures_of_diffusers(fp16: Pair, options: dict[str, Any]) -> None:
    assert fp16.psnr(options) >= 30


def test_clip_skip_takes_the_states_of_an_earlier_layer(fp32: Pair) -> None:
    model, tokenizer = fp32.reference.text_encoder, fp32.reference.tokenizer
    states = {}
    for text in (PROMPTS[0], ""):
        ids = tokenizer(text, padding="max_length", max_length=77, return_tensors="pt").input_ids
        with torch.no_grad():
            hidden = model(ids, output_hidden_states=True).hidden_states[-2]
            states[text] = getattr(model, "text_model", model).final_layer_norm(hidden)
    latents = np.random.default_rng(3).normal(size=(1, 4, 6, 6)).astype(np.float32)
    fp32.reference.scheduler = diffusers.DDIMScheduler.from_config(fp32.config, clip_sample=False)
    expected = fp32.reference(
        prompt_embeds=states[PROMPTS[0]],
        negative_prompt_embeds=states[""],
        latents=torch.from_numpy(latents),
        num_inference_steps=4,
        guidance_scale=5.0,
        height=48,
        width=48,
        output_type="np",
    ).images
    call: dict[str, Any] = {"latents": latents, "steps": 4, "sampler": "ddim", "guidance_scale": 5.0, "output": "numpy"}
    own = fp32.own(PROMPTS[0], clip_skip=2, **call)
    assert -10 * np.log10(np.square(own.images - expected).mean()) >= 60
    assert -10 * np.log10(np.square(fp32.own(PROMPTS[0], **call).images - expected).mean()) < 50
    assert own.parameters[0].clip_skip == 2


def test_given_latents_start_both(fp32: Pair) -> None:
    latents = np.random.default_rng(3).normal(size=(2, 4, 6, 9)).astype(np.float32)
    own = fp32.own(PROMPTS, latents=latents, steps=5, sampler="ddim", guidance_scale=3.0, output="latents").images
    fp32.reference.scheduler = diffusers.DDIMScheduler.from_config(fp32.config, clip_sample=False)
    options = {"num_inference_steps": 5, "guidance_scale": 3.0, "height": 48, "width": 72, "output_type": "latent"}
    expected = fp32.reference(PROMPTS, latents=torch.from_numpy(latents), **options).images.numpy()
    np.testing.assert_allclose(own, expected, rtol=0, atol=1e-3 * expected.std())


def test_a_context_twice_is_the_context_once(fp32: Pair) -> None:
    states = torch.randn(1, 154, fp32.reference.unet.config.cross_attention_dim, generator=torch.Generator().manual_seed(0))
    sample = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        once, thrice = (fp32.reference.unet(sample, 500, states.repeat(1, times, 1)).sample.numpy() for times in (1, 3))
    np.testing.assert_allclose(thrice, once, atol=1e-4 * once.std())
