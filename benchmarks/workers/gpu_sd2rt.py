"""Our contenders of the GPU benchmark: a target with the sampler's step fused into the UNet and the loop on the device, or without.

`python -m benchmarks.workers.gpu_sd2rt BUNDLE TARGET fused|plain SETTINGS OUT`. Plain is the same engines behind numpy arrays: guidance
and sampler on the host, a copy up and down for every step.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.workers.clock import engine_seconds, measure_overhead, seconds_per_call
from benchmarks.workers.gpu_case import GUIDANCE, PROMPT, TIMESTEP, Case, Floats, Settings, draw, guided, measure_cases
from sd2rt.engine import build, cuda
from sd2rt.engine.device_loop import DeviceLoop, LoopEngines, Work
from sd2rt.engine.spec import BuildOptions, Guidance
from sd2rt.engine.step_table import pack_row, pack_table
from sd2rt.runtime.bundle import Bundle, read_bundle
from sd2rt.runtime.engine_plan import FORMED, TOGETHER, PlanOptions, axis_sizes, input_axes, plan_component, prompt_length
from sd2rt.runtime.host import HostPainter
from sd2rt.runtime.loading import load
from sd2rt.runtime.networks import Networks
from sd2rt.runtime.text_to_image import TextToImage
from sd2rt.runtime.tokenizer import PromptTokenizer

COMPONENTS = {"text_encoder": "text_encoder", "step": "unet", "decoder": "vae_decoder"}
WARM_UPS = 3


def plan(target: str, case: Case) -> PlanOptions:
    """Return what engines of one case are built for."""
    side, images = (case.side, case.side), case.images
    return PlanOptions(target=target, smallest=side, usual=side, largest=side, batch=(images, images, images), guidance=Guidance.GUIDED)


def draw_inputs(bundle: Bundle, case: Case) -> tuple[Floats, Floats]:
    """Draw latents [N, C, h, w] and text states [2 N, tokens, D]."""
    unet, side = bundle.component("unet"), case.side // bundle.latent_factor
    states = next(tensor for tensor in unet.inputs if tensor.name == "encoder_hidden_states")
    shape = (2 * case.images, prompt_length(bundle), int(states.shape[-1]))
    return draw("latents", (case.images, bundle.latent_channels, side, side)), draw("states", shape)


def measure_fused(bundle: Bundle, target: str, settings: Settings, case: Case, out: Path) -> Mapping[str, Any]:
    """Time the step engine alone, the loop against the sum of its engines, and pictures through the public pipeline."""
    options = plan(target, case)
    axes = {name: sizes[1] for name, sizes in axis_sizes(bundle, options, together=True).items()}
    latents, states = draw_inputs(bundle, case)
    row = np.array([[0.9, -0.05, 0.0]])  # latents that neither vanish nor grow: what they are does not matter here
    work = Work(
        ids=np.zeros(states.shape[:2], np.int64),
        latents=latents,
        table=pack_table([pack_row(TIMESTEP, 1.0, (0.0, 1.0), row)] * settings.steps),
        rows=settings.steps,
        guidance=(GUIDANCE, 0.0),
    )
    driver = cuda.open_driver()
    stream = driver.create_stream()
    opened = {
        role: build.open_device_engine(bundle.component(name).files, plan_component(bundle, name, options), driver, stream, note)
        for role, name in COMPONENTS.items()
    }
    engines = LoopEngines(**opened)
    with DeviceLoop(driver, stream, engines, axes) as loop:
        overhead = measure_overhead(driver, stream, engines, loop, work, jobs=settings.pictures, calls=settings.calls)
        step_s = engine_seconds(driver, stream, engines.step, blocks=settings.blocks, calls=settings.calls)
    for engine in opened.values():
        engine.close()
    driver.destroy_stream(stream)
    np.save(out / "step.npy", fused_step(bundle, options, latents, states))
    with load(bundle.folder, target=target, notify=note) as pipe:
        return {"step_s": step_s, "overhead": overhead, **measure_pictures(pipe, settings, case, latents, out)}


def fused_step(bundle: Bundle, options: PlanOptions, latents: Floats, states: Floats) -> Floats:
    """Return what the step engine makes of the inputs: a row whose `denoised` is the guided output of the model."""
    engine = build.open_engine(bundle.component("unet").files, plan_component(bundle, "unet", options), note)
    try:
        specs = {spec.name: spec for spec in engine.inputs}
        registers = np.zeros((int(specs["registers"].shape[0]), *latents.shape), np.float32)
        registers[0] = latents
        table = pack_table([pack_row(TIMESTEP, 1.0, (0.0, 1.0), np.array([[1.0, 0.0, 0.0]]))])
        feeds = {"registers": registers, "table": table, "step": np.zeros(1, np.int64), "noise": np.zeros_like(latents)}
        feeds |= {"encoder_hidden_states": states, "guidance": np.array([GUIDANCE, 0.0], np.float32)}
        return np.asarray(engine.run(feeds)["denoised"], np.float32)
    finally:
        engine.close()


def measure_plain(bundle: Bundle, target: str, settings: Settings, case: Case, out: Path) -> Mapping[str, Any]:
    """Time the UNet as it is, arrays in and out, and pictures with guidance and sampler on the host."""
    options = plan(target, case)
    opened = {
        name: build.open_engine(bundle.component(name).files, plain_options(bundle, name, options), note) for name in COMPONENTS.values()
    }
    latents, states = draw_inputs(bundle, case)
    feeds = {"sample": np.concatenate([latents, latents]), "timestep": np.full(len(states), TIMESTEP), "encoder_hidden_states": states}
    for _ in range(WARM_UPS):
        output = opened["unet"].run(feeds)["out_sample"]
    np.save(out / "step.npy", guided(np.asarray(output, np.float32)))
    step_s = seconds_per_call(lambda: opened["unet"].run(feeds), lambda: None, blocks=settings.blocks, calls=settings.calls)
    tokenizer = PromptTokenizer.from_bundle(bundle, prompt_length(bundle))
    painter = HostPainter(bundle, tokenizer, Networks(target, lambda name, form: opened[name]))
    with TextToImage(bundle, painter) as pipe:
        return {"step_s": step_s, **measure_pictures(pipe, settings, case, latents, out)}


def plain_options(bundle: Bundle, name: str, options: PlanOptions) -> BuildOptions:
    """Return how to build a component without a form. The host encodes equal prompts once, so that texts may be fewer than images."""
    known = axis_sizes(bundle, options, together=name in TOGETHER)
    axes = {axis: known[axis] for axis in input_axes(bundle.component(name), None)} if options.target in FORMED else {}
    if name == "text_encoder" and axes:
        axes["batch"] = (1, *axes["batch"][1:])
    return BuildOptions(target=options.target, axes=axes)


def measure_pictures(pipe: TextToImage, settings: Settings, case: Case, latents: Floats, out: Path) -> dict[str, Any]:
    """Return the seconds of each call that paints, after two to warm up; write the final latents."""

    def picture(output: Any) -> Any:
        prompts, steps, sampler = [PROMPT] * case.images, settings.steps, settings.sampler
        return pipe(prompts, steps=steps, guidance_scale=GUIDANCE, sampler=sampler, latents=latents, output=output)

    np.save(out / "latents.npy", picture("latents").images)
    seconds = [seconds_per_call(lambda: picture("pil"), lambda: None, blocks=1, calls=1)[0] for _ in range(2 + settings.pictures)]
    return {"picture_s": seconds[2:]}


def note(message: str) -> None:
    """Say on stderr what takes long."""
    print(message, file=sys.stderr, flush=True)


def main(folder: str, target: str, mode: str, settings_text: str, out: str) -> None:
    """Measure every case, and write JSON to stdout. The target is tried before: a reason it cannot run ends the program."""
    from sd2rt.engine.targets import choose_target

    settings, bundle = Settings.read(settings_text), read_bundle(Path(folder))
    choose_target(target)
    measure = measure_fused if mode == "fused" else measure_plain
    print(json.dumps(measure_cases(settings, Path(out), lambda case, place: measure(bundle, target, settings, case, place))))


if __name__ == "__main__":
    main(*sys.argv[1:])
