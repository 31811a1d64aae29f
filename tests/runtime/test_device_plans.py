"""What a job on a device is said to take is what the painter then opens."""

from typing import Any

import pytest

from sd2rt.runtime import device_plans
from sd2rt.runtime.bundle import read_bundle
from sd2rt.runtime.device_plans import DevicePlans
from sd2rt.runtime.device_shape import choose_shape
from sd2rt.runtime.engine_plan import prompt_length
from sd2rt.runtime.options import Request
from sd2rt.runtime.request import resolve
from sd2rt.runtime.tokenizer import PromptTokenizer
from tests.engine.ort_engines import Kept

pytest.importorskip("torch", reason="tiny models need the export extra")

from tests.runtime.test_device import CALLS, PICTURE, Machine
from tests.tiny import tiny_bundle

TILED: list[tuple[str, dict[str, Any]]] = [
    ("v", {"width": 144, "height": 96, "image": PICTURE, "tile": 64}),
    ("upscale", {"image": PICTURE, "tile": 128}),
    ("v", {"width": 96, "height": 96, "tile": 64}),
]


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    return Kept(folder=tmp_path_factory.mktemp("device-plans"))


@pytest.mark.parametrize(("variant", "options"), [*CALLS, *TILED])
def test_a_job_takes_what_the_painter_opens(engines: Kept, variant: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_plans, "DEVICE_PIXELS", 80 * 80)
    call: dict[str, Any] = {"steps": 4, "seed": 5, "guidance_scale": 4.0, **options}
    bundle = read_bundle(tiny_bundle(variant))
    job = resolve(Request(prompt="a red cube", **call), bundle)
    shape, _ = choose_shape(job, bundle, PromptTokenizer.from_bundle(bundle, prompt_length(bundle)))
    machine = Machine(engines)
    with machine.open_pipe(tiny_bundle(variant)) as pipe:
        pipe("a red cube", **call)
    said = list(DevicePlans(bundle=bundle, target="cuda").of_job(job, shape))
    assert all(plan in said for plan in machine.asked)
    assert all(plan in machine.asked for plan in said)


def test_previews_of_another_decoder_are_said_too() -> None:
    bundle = read_bundle(tiny_bundle("v", with_tiny_vae=True))
    job = resolve(Request(prompt="a", steps=2, decoder="tiny"), bundle)
    shape, _ = choose_shape(job, bundle, PromptTokenizer.from_bundle(bundle, prompt_length(bundle)))
    plans = DevicePlans(bundle=bundle, target="cuda")
    names = [name for name, _ in plans.of_job(job, shape, previews=["tiny", "vae"])]
    assert names == ["text_encoder", "unet", "tiny_vae_decoder", "vae_decoder"]
    assert ("vae_decoder", plans.beside("vae_decoder", shape)) in list(plans.of_job(job, shape, previews=["vae"]))
