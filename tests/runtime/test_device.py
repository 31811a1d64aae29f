"""Whole pictures through the device loop: engines on the host's memory behind a fake CUDA driver, against the pipeline on the host."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sd2rt.engine.build import open_engine
from sd2rt.engine.cuda import Driver
from sd2rt.engine.errors import EngineError, InvalidArgument
from sd2rt.engine.ort_binding import OrtDeviceEngine, Place
from sd2rt.engine.ort_cuda import open_device
from sd2rt.engine.protocol import DeviceEngine, Engine
from sd2rt.engine.spec import BuildOptions, ComponentFiles, Range
from sd2rt.runtime import device_plans, load
from sd2rt.runtime.bundle import read_bundle
from sd2rt.runtime.decoders import COMPONENTS
from sd2rt.runtime.device import DeviceOptions, DevicePainter
from sd2rt.runtime.engine_plan import prompt_length
from sd2rt.runtime.text_to_image import TextToImage
from sd2rt.runtime.tokenizer import PromptTokenizer
from tests.engine.fake_cuda import FakeCuda
from tests.engine.ort_engines import Kept

pytest.importorskip("torch", reason="tiny models need the export extra")

from tests.tiny import tiny_bundle

Pipes = tuple[TextToImage, TextToImage]
PICTURE = np.random.default_rng(0).integers(0, 256, (48, 40, 3), dtype=np.uint8)
MASK = np.zeros((48, 40), np.uint8)
MASK[10:30, 8:] = 255
CALLS: list[tuple[str, dict[str, Any]]] = [
    ("v", {"sampler": "dpm++ 2m"}),
    ("v", {"sampler": "euler a", "images_per_prompt": 2, "width": 72, "height": 40}),
    ("v", {"sampler": "ddim", "guidance_scale": 1.0}),
    ("v", {"sampler": "ddim", "guidance_rescale": 0.7, "negative_prompt": "a cone"}),
    ("v", {"sampler": "heun", "guidance_interval": (0.2, 0.7), "images_per_prompt": 2}),
    ("v", {"guidance_reuse": 2, "guidance_rescale": 0.7, "guidance_interval": (0.2, 1.0), "image": PICTURE, "mask": MASK}),
    ("v", {"deep_cache": 2, "guidance_interval": (0.0, 0.5), "width": 72, "clip_skip": 2}),
    ("v", {"deep_cache": 2, "guidance_interval": (0.5, 0.5), "negative_prompt": "a BREAK b"}),
    ("v", {"guidance_interval": (0.5, 0.5), "negative_prompt": "a cone"}),
    ("v", {"image": PICTURE, "strength": 0.6, "clip_skip": 2}),
    ("inpaint", {"image": PICTURE, "mask": MASK, "images_per_prompt": 2}),
    ("v", {"image": PICTURE, "mask": MASK, "mask_blur": 4, "strength": 0.5}),
    ("v", {"image": PICTURE, "mask": MASK, "strength": 1.0, "images_per_prompt": 2, "sampler": "heun"}),
    ("v", {"image": PICTURE, "mask": MASK, "strength": 0.5, "images_per_prompt": 2, "sampler": "euler a", "guidance_scale": 1.0}),
    ("depth", {"image": PICTURE}),
    ("upscale", {"image": PICTURE[:16, :24], "noise_level": 30, "guidance_scale": 1.0}),
    ("upscale", {"image": PICTURE[:16, :16], "images_per_prompt": 2}),
]


class Late:
    """An engine whose work is done when the fake stream gets there, as on a GPU."""

    def __init__(self, cuda: FakeCuda, engine: OrtDeviceEngine, opened: list[str], name: str) -> None:
        self._cuda = cuda
        self._engine = engine
        opened.append(name)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def enqueue(self, stream: int) -> None:
        self._cuda.enqueue(stream, partial(self._engine.enqueue, stream))


class Machine:
    """A fake GPU, and the names of the engines opened on it."""

    def __init__(self, engines: Kept) -> None:
        self.cuda = FakeCuda()
        self.opened: list[str] = []
        self.sizes: dict[str, dict[str, Range]] = {}  # of those opened for a loop on the host
        self.asked: list[tuple[str, BuildOptions]] = []
        self.told: list[str] = []
        self._engines = engines

    def open_pipe(self, bundle_folder: Path) -> TextToImage:
        bundle = read_bundle(bundle_folder)
        tokenizer = PromptTokenizer.from_bundle(bundle, prompt_length(bundle))
        options = DeviceOptions(target="cuda", open_on_device=self._on_device, open_on_host=self._on_host, notify=self.told.append)
        return TextToImage(bundle, DevicePainter(bundle, tokenizer, options, Driver(self.cuda)))

    def _on_device(self, files: ComponentFiles, options: BuildOptions, driver: Driver, stream: int) -> DeviceEngine:
        self.asked.append((files.name, options))
        engine = open_device(self._engines.built(files, options), options, Place(device="cpu", stream=stream))
        return Late(self.cuda, engine, self.opened, files.name)

    def _on_host(self, files: ComponentFiles, options: BuildOptions) -> Engine:
        self.asked.append((files.name, options))
        self.opened.append(files.name)
        self.sizes[files.name] = dict(options.axes)
        return open_engine(files, replace(options, target="cpu", axes={}))


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    return Kept(folder=tmp_path_factory.mktemp("device-engines"))


@pytest.fixture
def machine(engines: Kept) -> Machine:
    return Machine(engines)


def psnr(own: Any, other: Any) -> float:
    return float(-10 * np.log10(np.square(np.asarray(own, np.float64) - other).mean() + 1e-20))


@pytest.mark.parametrize(("variant", "options"), CALLS, ids=[f"{variant}-{'-'.join(options)}" for variant, options in CALLS])
def test_pictures_are_those_of_the_host(machine: Machine, variant: str, options: dict[str, Any]) -> None:
    call = {"steps": 4, "seed": 5, "output": "numpy", "guidance_scale": 4.0, **options}
    with load(tiny_bundle(variant), target="cpu") as host:
        expected = host("a red cube", **call).images
    with machine.open_pipe(tiny_bundle(variant)) as pipe:
        assert psnr(pipe("a red cube", **call).images, expected) >= 60
        *_, last = pipe.steps("a red cube", **call)
        result = last.result()
    assert psnr(result.images, expected) >= 60
    assert len(result.timings["steps"]) == last.total
    assert machine.cuda.leaks() == {}


def test_a_tiny_decoder_takes_the_place_of_the_vaes(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    call: dict[str, Any] = {"steps": 2, "seed": 5, "output": "numpy", "decoder": "tiny"}
    bundle = tiny_bundle("v", with_tiny_vae=True)
    with load(bundle, target="cpu") as host:
        expected = host("a red cube", **call).images
    with machine.open_pipe(bundle) as pipe:
        assert psnr(pipe("a red cube", **call).images, expected) >= 60
        assert machine.opened == ["text_encoder", "unet", "tiny_vae_decoder"]
        for state in pipe.steps("a red cube", **call):
            assert psnr(np.asarray(state.preview("tiny")[0]) / 255, np.asarray(state.preview()[0]) / 255) > 60
        assert machine.opened[3:] == []
        pipe("a red cube", steps=2)
        assert machine.opened[3:] == ["vae_decoder"]
        monkeypatch.setattr(device_plans, "DEVICE_PIXELS", 72 * 72)
        pipe("a", steps=1, tile=64, width=96, height=96, decoder="tiny")
        assert machine.opened[4:] == ["text_encoder", "unet", "tiny_vae_decoder"]
        assert machine.sizes["tiny_vae_decoder"] == {"batch": (1, 1, 1), "height": (8, 8, 8), "width": (8, 8, 8)}
    assert machine.cuda.leaks() == {}


@pytest.mark.parametrize("options", [{}, {"guidance_interval": (0.0, 0.5)}, {"guidance_scale": 1.0}], ids=["merged", "hosted", "plain"])
def test_long_and_weighted_prompts_are_those_of_the_host(machine: Machine, options: dict[str, Any]) -> None:
    prompts = ["a (red:1.4) cube", "a cone, " * 40, "a BREAK [b] BREAK c"]
    call: dict[str, Any] = {"steps": 2, "seed": 5, "output": "numpy", "negative_prompt": ["", "a (cube:0.5)", "x"], **options}
    with load(tiny_bundle("v"), target="cpu") as host:
        expected = host(prompts, **call).images
        plain = host([prompt.replace("red:1.4", "red:1") for prompt in prompts], **call).images
    assert psnr(plain, expected) < 50
    with machine.open_pipe(tiny_bundle("v")) as pipe:
        for _ in range(2):
            result = pipe(prompts, **call)
            assert psnr(result.images, expected) >= 60
            assert result.cut == ()
        assert machine.sizes.get("unet", {"sequence": (462, 462, 462)})["sequence"] == (462, 462, 462)
    assert machine.cuda.leaks() == {}


@pytest.mark.parametrize(("own", "other"), [("tiny", "vae"), ("vae", "tiny")])
def test_previews_take_any_decoder_and_change_no_picture(machine: Machine, own: Any, other: Any) -> None:
    bundle = tiny_bundle("v", with_tiny_vae=True)
    call: dict[str, Any] = {"steps": 3, "seed": 5, "decoder": own, "images_per_prompt": 2}
    kinds = (other, "latent", own)
    with load(bundle, target="cpu") as host:
        expected = [[state.preview(kind) for kind in kinds] for state in host.steps("a red cube", **call)]
    with machine.open_pipe(bundle) as pipe:
        alone = pipe("a red cube", **call).images
        found = []
        for state in pipe.steps("a red cube", **call):
            found.append([state.preview(kind) for kind in kinds])
            last = state.result() if state.index + 1 == state.total else None
        assert machine.opened[3:] == [COMPONENTS[other]]
        assert machine.sizes[COMPONENTS[other]] == {"batch": (1, 1, 1), "height": (12, 12, 12), "width": (12, 12, 12)}
    assert last is not None
    np.testing.assert_array_equal(last.images, alone)
    for ours, theirs in zip(found, expected, strict=True):
        for some, others in zip(ours, theirs, strict=True):
            for one, two in zip(some, others, strict=True):
                assert psnr(np.asarray(one) / 255, np.asarray(two) / 255) > 45
    assert machine.cuda.leaks() == {}


def test_engines_are_kept_for_jobs_of_the_same_shape_and_closed_for_others(machine: Machine) -> None:
    with machine.open_pipe(tiny_bundle("v")) as pipe:
        for _ in range(2):
            pipe("a", steps=2)
        assert machine.opened == ["text_encoder", "unet", "vae_decoder"]
        pipe("a", steps=2, images_per_prompt=2)
        assert machine.opened[3:] == ["text_encoder", "unet"]  # pictures are decoded one by one
        pipe("a", steps=2, images_per_prompt=2, image=PICTURE)
        assert machine.opened[5:] == ["unet", "vae_decoder", "vae_encoder"]  # texts do not depend on the size
        pipe("a", steps=2, images_per_prompt=2, image=PICTURE, mask=MASK)
        assert machine.opened[8:] == ["unet", "vae_encoder"]  # a step that puts back what the mask keeps
        pipe("a BREAK b", steps=2, images_per_prompt=2, image=PICTURE, mask=MASK)
        assert machine.opened[10:] == ["text_encoder", "unet", "vae_encoder"]  # a longer context
        pipe("a BREAK b", steps=2, images_per_prompt=2, image=PICTURE, mask=MASK, clip_skip=2)
        assert machine.opened[13:] == ["text_encoder", "vae_encoder"]
    assert machine.cuda.leaks() == {}


def test_bytes_latents_and_previews_are_the_hosts(machine: Machine) -> None:
    call: dict[str, Any] = {"steps": 3, "seed": 1, "sampler": "euler"}
    with load(tiny_bundle("v"), target="cpu") as host, machine.open_pipe(tiny_bundle("v")) as pipe:
        expected = [(state.latents, np.asarray(state.preview()[0])) for state in host.steps("a", **call)]
        for (latents, preview), state in zip(expected, pipe.steps("a", **call), strict=True):
            np.testing.assert_allclose(state.latents, latents, atol=1e-4 * np.abs(latents).max())
            assert np.abs(np.asarray(state.preview()[0]).astype(int) - preview).max() <= 1
        latents = pipe("a", output="latents", **call).images
        np.testing.assert_allclose(latents, expected[-1][0], atol=1e-4 * np.abs(expected[-1][0]).max())


@pytest.mark.parametrize(
    ("variant", "options"),
    [("v", {"width": 144, "height": 96, "image": PICTURE, "strength": 0.5, "tile": 64}), ("upscale", {"image": PICTURE, "tile": 128})],
    ids=["decoding", "upscaling"],
)
def test_large_pictures_go_through_a_loop_on_the_host_over_engines_for_tiles(
    machine: Machine, variant: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_plans, "DEVICE_PIXELS", 96 * 96)
    call = {"steps": 2, "seed": 5, "output": "numpy", **options}
    with load(tiny_bundle(variant), target="cpu") as host:
        expected = host("a red cube", **call).images
    with machine.open_pipe(tiny_bundle(variant)) as pipe:
        for _ in range(2):
            result = pipe("a red cube", **call)
            assert psnr(result.images, expected) >= 60
            assert result.parameters[0].tile == options["tile"]
        assert machine.opened == ["text_encoder", "unet", "vae_decoder", *(["vae_encoder"] if variant == "v" else [])]
        assert machine.sizes["vae_decoder"] == {"batch": (1, 1, 1), **dict.fromkeys(("height", "width"), (options["tile"] // 8,) * 3)} | (
            dict.fromkeys(("height", "width"), (32, 32, 32)) if variant == "upscale" else {}
        )
        pipe("a", steps=1, **({"image": PICTURE[:8, :8]} if variant == "upscale" else {}))
        assert machine.opened[-3:] == ["text_encoder", "unet", "vae_decoder"]
    assert machine.cuda.leaks() == {}


def test_tiles_for_the_autoencoder_alone_count_only_beyond_what_a_device_holds(machine: Machine) -> None:
    call: dict[str, Any] = {"steps": 2, "seed": 5, "output": "numpy", "width": 144, "height": 96, "image": PICTURE}
    with load(tiny_bundle("v"), target="cpu") as host, machine.open_pipe(tiny_bundle("v")) as pipe:
        result = pipe("a", tile=64, **call)
        whole = result.images
        assert result.parameters[0].tile == 0
        assert psnr(whole, host("a", **call).images) >= 60
        assert machine.sizes["vae_encoder"]["image_width"] == (144, 144, 144)
        opened = list(machine.opened)
        np.testing.assert_array_equal(pipe("a", **call).images, whole)
        assert machine.opened == opened, "the merged step is one for both"


def test_evaluations_that_differ_leave_the_merged_loop_and_the_caller_is_told(machine: Machine) -> None:
    message = "cuda: evaluations differ, so the loop runs on the host, over engines of its own"
    with machine.open_pipe(tiny_bundle("v")) as pipe:
        pipe("a", steps=2)
        assert message not in machine.told
        for _ in range(2):
            pipe("a", steps=2, guidance_interval=(0.5, 1.0))
    assert machine.told.count(message) == 1


def test_a_state_is_gone_after_the_next_step(machine: Machine) -> None:
    with machine.open_pipe(tiny_bundle("v")) as pipe:
        states = list(pipe.steps("a", steps=3))
        assert states[2].latents.shape == (1, 4, 12, 12)
        with pytest.raises(InvalidArgument, match="the state after step 1 is gone; read a state before the next step"):
            states[0].preview()


def test_a_job_ends_when_another_begins(machine: Machine) -> None:
    with machine.open_pipe(tiny_bundle("v")) as pipe:
        left = pipe.steps("a", steps=4, seed=1)
        state = next(left)
        expected = pipe("b", steps=2, output="numpy").images
        with pytest.raises(EngineError, match="this job has ended: its pipeline was closed, or has begun another"):
            next(left)
        with pytest.raises(EngineError, match="this job has ended"):
            state.result()
        assert psnr(pipe("b", steps=2, output="numpy").images, expected) >= 60


def test_a_closed_pipeline_says_so(machine: Machine) -> None:
    pipe = machine.open_pipe(tiny_bundle("v"))
    pipe.close()
    pipe.close()
    with pytest.raises(EngineError, match="the pipeline on cuda is closed; load the model again"):
        pipe("a", steps=1)
    assert machine.cuda.leaks() == {}


def test_numbers_that_are_not_finite_are_refused(machine: Machine) -> None:
    latents = np.full((1, 4, 12, 12), 1e38, np.float32)
    with machine.open_pipe(tiny_bundle("v")) as pipe, pytest.raises(EngineError, match="decoded picture are not finite"):
        pipe("a", steps=2, latents=latents)
