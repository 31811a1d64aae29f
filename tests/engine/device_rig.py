"""A tiny model's engines on the fake GPU, jobs for a device loop over them, and what the numpy loop makes of the same jobs."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from sd2rt.engine.cuda import Driver
from sd2rt.engine.device_loop import DeviceLoop, LoopEngines, Work
from sd2rt.engine.spec import ComponentFiles, Guidance, PixelForm, Range, StepForm
from sd2rt.engine.store import CacheEntry
from sd2rt.engine.trt_run import load_plan
from sd2rt.runtime.image import to_uint8, to_unit
from sd2rt.runtime.work import pack_steps
from tests.engine.fake_cuda import FakeCuda
from tests.engine.fake_tensorrt import SCRATCH_BYTES, FakeTensorRT, write_plan
from tests.engine.graphs import component, graph
from tests.engine.step_loop import WIDTH, Shape, Task, Trajectory, open_session, run_numpy, unet
from tests.engine.step_loop import table as sampler_table

Pictures = npt.NDArray[np.uint8]
SEQUENCE = 5
WORDS = 50
FACTOR = 2  # of the decoder
SCALING = 0.5
RANGES: dict[str, Range] = {"images": (1, 1, 3), "batch": (1, 2, 6), "height": (2, 8, 16), "width": (2, 8, 16), "sequence": (SEQUENCE,) * 3}


def embedding() -> npt.NDArray[np.float32]:
    """Return the text encoder's weights."""
    return np.random.default_rng(7).standard_normal((WORDS, WIDTH), dtype=np.float32)


def text_encoder() -> onnx.ModelProto:
    """Return a text encoder: states are rows of a matrix; a second output is there as some encoders have one."""
    nodes = [
        helper.make_node("Gather", ["words", "input_ids"], ["last_hidden_state"], axis=0),
        helper.make_node("ReduceMean", ["last_hidden_state", "axis"], ["pooler_output"], keepdims=0),
    ]
    outputs = [("last_hidden_state", "float32", ["batch", SEQUENCE, WIDTH]), ("pooler_output", "float32", ["batch", WIDTH])]
    return graph(nodes, [("input_ids", "int64", ["batch", SEQUENCE])], outputs, {"words": embedding(), "axis": np.array([1])})


def decoder() -> onnx.ModelProto:
    """Return a decoder to twice the size and three channels."""
    weights: dict[str, npt.NDArray[Any]] = {
        "kernel": np.random.default_rng(8).standard_normal((4, 3, FACTOR, FACTOR), dtype=np.float32) * 0.3
    }
    nodes = [helper.make_node("ConvTranspose", ["latent_sample", "kernel"], ["sample"], strides=[FACTOR, FACTOR])]
    inputs, outputs = ["batch", 4, "height", "width"], ["batch", 3, "image_height", "image_width"]
    return graph(nodes, [("latent_sample", "float32", inputs)], [("sample", "float32", outputs)], weights, infer=False)


@cache
def _folder() -> TemporaryDirectory[str]:
    """Return a folder for components and plans, which all tests of a process share."""
    return TemporaryDirectory(prefix="sd2rt-rig-")


@cache
def files(name: str, extra: int = 0, labels: bool = False) -> ComponentFiles:
    """Return a component of the tiny model."""
    make: dict[str, Callable[[], onnx.ModelProto]] = {
        "text_encoder": text_encoder,
        "unet": lambda: unet(extra=extra, labels=labels),
        "vae_decoder": decoder,
    }
    return component(Path(_folder().name) / f"{name}-{extra}-{labels}", make[name](), name=name, external=False)


@cache
def plan(name: str, guidance: Guidance = Guidance.GUIDED, extra: int = 0, labels: bool = False, kept: bool = False) -> CacheEntry:
    """Return a component's plan."""
    form = {"unet": StepForm(guidance=guidance, kept=kept), "vae_decoder": PixelForm(scaling_factor=SCALING)}.get(name)
    folder = Path(_folder().name) / f"plan-{name}-{guidance}-{extra}-{labels}-{kept}"
    scratch = {"text_encoder": 100, "unet": SCRATCH_BYTES, "vae_decoder": 2000}[name]
    return write_plan(folder, files(name, extra, labels), form, RANGES, scratch=scratch)


def streamed(entry: CacheEntry, streaming: bool = True) -> CacheEntry:
    """Return the plan as one that was built for weights in host memory."""
    return replace(entry, manifest=replace(entry.manifest, fields={**entry.manifest.fields, "weight_streaming": streaming}))


@dataclass(kw_only=True)
class Rig:
    """A loop, everything below it, and what it was told."""

    cuda: FakeCuda
    trt: FakeTensorRT
    driver: Driver
    stream: int
    engines: LoopEngines
    axes: dict[str, int]
    told: list[str]
    loop: DeviceLoop


@contextmanager
def open_rig(
    guidance: Guidance = Guidance.GUIDED,
    shape: Shape | None = None,
    trt: Callable[[FakeCuda], FakeTensorRT] = FakeTensorRT,
    *,
    streaming: bool = False,
) -> Iterator[Rig]:
    """Open a loop for the shape's sizes. At the end nothing may be left on the GPU."""
    cuda, shape, told = FakeCuda(), shape or Shape(sequence=SEQUENCE), []
    module, driver = trt(cuda), Driver(cuda)
    stream = driver.create_stream()
    plans = {
        "text_encoder": plan("text_encoder", guidance),
        "step": plan("unet", guidance, shape.extra, shape.labels, shape.kept),
        "decoder": plan("vae_decoder", guidance),
    }
    engines = LoopEngines(**{role: load_plan(module, streamed(entry, streaming), driver, stream) for role, entry in plans.items()})
    axes = axes_of(shape, guidance)
    loop = DeviceLoop(driver, stream, engines, axes, told.append)
    with loop:
        yield Rig(cuda=cuda, trt=module, driver=driver, stream=stream, engines=engines, axes=axes, told=told, loop=loop)
    loop.close()
    for engine in (engines.text_encoder, engines.step, engines.decoder):
        engine.close()
    driver.destroy_stream(stream)
    assert cuda.leaks() == {}


def axes_of(shape: Shape, guidance: Guidance) -> dict[str, int]:
    """Return the sizes that a loop is opened for."""
    height, width = shape.size
    return {
        "images": shape.images,
        "batch": shape.images * (1 if guidance is Guidance.PLAIN else 2),
        "height": height,
        "width": width,
        "sequence": SEQUENCE,
        "image_height": FACTOR * height,
        "image_width": FACTOR * width,
    }


def make_job(sampler: str = "ddim", steps: int = 4, guidance: Guidance = Guidance.GUIDED, shape: Shape | None = None) -> tuple[Task, Work]:
    """Return one job twice: as the numpy loop takes it, and as the device loop does."""
    shape = shape or Shape(sequence=SEQUENCE)
    task = shape.task(sampler_table(sampler, "epsilon", steps))
    ids = np.random.default_rng(shape.seed + 100).integers(0, WORDS, (2, shape.images, SEQUENCE))
    task = replace(task, negative=embedding()[ids[0]], positive=embedding()[ids[1]])
    plain = guidance is Guidance.PLAIN
    conditions: dict[str, npt.NDArray[Any]] = {**task.put_back(), **({} if task.extra is None else {"extra": task.extra})}
    if task.labels is not None:
        conditions["class_labels"] = np.tile(task.labels, 1 if plain else 2)
    rows, draws = task.table.rows, iter(task.noise)
    work = Work(
        ids=ids[1] if plain else np.concatenate(list(ids)),
        latents=task.latents * np.float32(task.table.init_scale),
        table=pack_steps(task.table),
        rows=len(rows),
        noise={index: next(draws) for index, row in enumerate(rows) if row.uses_noise},
        guidance=(task.scale, task.rescale),
        conditions=conditions,
    )
    return task, work


def numpy_trajectory(task: Task, guidance: Guidance = Guidance.GUIDED) -> Trajectory:
    """Run the numpy loop."""
    extra = 0 if task.extra is None else task.extra.shape[1]
    return run_numpy(open_session(files("unet", extra, task.labels is not None).onnx), task, guidance)


def numpy_pictures(latents: npt.NDArray[np.float32]) -> Pictures:
    """Decode as the numpy pipeline does: [images, H, W, 3]."""
    (decoded,) = open_session(files("vae_decoder").onnx).run(None, {"latent_sample": latents / np.float32(SCALING)})
    return to_uint8(to_unit(decoded))


def launches(rig: Rig) -> Mapping[str, int]:
    """Count the calls so far that launch or wait."""
    names = rig.cuda.names()
    return {name: names.count(name) for name in ("enqueueV3", "cudaGraphLaunch", "cudaEventSynchronize", "cudaStreamSynchronize")}
