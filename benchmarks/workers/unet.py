"""Time one UNet in one runtime: load it, run it twice to warm up, then several times on the same inputs.

`python -m benchmarks.workers.unet CONTENDER MODEL SHAPE STEPS OUT.npy [OPTIONS]`, SHAPE and OPTIONS being JSON; the output goes to OUT.npy.
Options are `threads` (0: what the library takes by itself), `target` of sd2rt, `dtype` and `compile` of torch, `precision`
of OpenVINO, `entries`, `memory_plan` and `arena` of an engine's folder.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Feeds = Mapping[str, npt.NDArray[Any]]
Options = Mapping[str, Any]
Step = Callable[[Feeds], Floats]
WARM_UPS = 2  # ONNX Runtime plans its memory in the first run and lays it out anew in the second


def draw_feeds(shape: Mapping[str, int]) -> Feeds:
    """Draw the inputs of one guided step, the same for every contender."""
    rng = np.random.default_rng(0)
    batch = shape["batch"]
    feeds: dict[str, npt.NDArray[Any]] = {
        "sample": rng.standard_normal((batch, shape["channels"], shape["height"], shape["width"]), dtype=np.float32),
        "timestep": np.full((batch,), shape["timestep"], np.float32),
        "encoder_hidden_states": rng.standard_normal((batch, shape["tokens"], shape["context"]), dtype=np.float32),
    }
    if "noise_level" in shape:
        feeds["class_labels"] = np.full((batch,), shape["noise_level"], np.int64)
    return feeds


def open_sd2rt(model: Path, options: Options) -> Step:
    """Our engine, on the bundle's UNet."""
    from sd2rt.engine.build import open_engine
    from sd2rt.engine.spec import BuildOptions
    from sd2rt.runtime.bundle import read_bundle

    asked = {"threads": options.get("threads", 0), "precision": options.get("precision", "auto")}
    settings = BuildOptions(target=options.get("target", "cpu"), **asked)
    engine = open_engine(read_bundle(model).component("unet").files, settings)
    return lambda feeds: engine.run(feeds)["out_sample"]


def open_onnxruntime(model: Path, options: Options) -> Step:
    """ONNX Runtime with its default options on an ONNX file."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options.get("threads", 0)
    session = onnxruntime.InferenceSession(model, settings, providers=["CPUExecutionProvider"])
    return lambda feeds: np.asarray(session.run(None, dict(feeds))[0])


def open_engine_folder(model: Path, options: Options) -> Step:
    """The folder of an engine for our target `cpu`, with the settings that we load it with but for those in the options."""
    import onnxruntime

    from sd2rt.engine.ort import GRAPH_NAME, load_settings

    settings = load_settings(options.get("threads", 0))
    settings.enable_mem_pattern = options.get("memory_plan", settings.enable_mem_pattern)
    settings.enable_cpu_mem_arena = options.get("arena", settings.enable_cpu_mem_arena)
    for key, value in options.get("entries", {}).items():
        settings.add_session_config_entry(key, value)
    session = onnxruntime.InferenceSession(model / GRAPH_NAME, settings, providers=["CPUExecutionProvider"])
    return lambda feeds: np.asarray(session.run(None, dict(feeds))[0])


def open_openvino(model: Path, options: Options) -> Step:
    """OpenVINO called by hand, on the bundle's UNet with static shapes: what our target `openvino` must not be slower than."""
    import openvino

    core = openvino.Core()
    graph = core.read_model(model / "unet" / "model.onnx")
    compiled: dict[str, Any] = {}

    def step(feeds: Feeds) -> Floats:
        if not compiled:
            graph.reshape({name: openvino.PartialShape(list(array.shape)) for name, array in feeds.items()})
            compiled["request"] = core.compile_model(graph, "CPU", openvino_settings(options)).create_infer_request()
        dtypes = {port.any_name: port.element_type.to_dtype() for port in graph.inputs}
        given = {name: array.astype(dtypes[name]) for name, array in feeds.items()}
        return np.asarray(compiled["request"].infer(given)[0], np.float32)

    return step


def openvino_settings(options: Options) -> dict[str, Any]:
    """Return OpenVINO's properties for the options."""
    settings = {"PERFORMANCE_HINT": "LATENCY"}
    if options.get("threads"):
        settings["INFERENCE_NUM_THREADS"] = str(options["threads"])
    if "precision" in options:
        settings["INFERENCE_PRECISION_HINT"] = options["precision"]
    return settings


def open_torch(model: Path, options: Options) -> Step:
    """Torch, eager or compiled, on a UNet in diffusers' layout."""
    import torch
    from diffusers import UNet2DConditionModel

    torch.set_num_threads(options.get("threads") or torch.get_num_threads())
    dtype = getattr(torch, options.get("dtype", "float32"))
    unet = UNet2DConditionModel.from_pretrained(model, torch_dtype=dtype, local_files_only=True).eval()
    if options.get("compile"):
        unet = torch.compile(unet.to(memory_format=torch.channels_last), dynamic=False)

    def step(feeds: Feeds) -> Floats:
        tensors = [torch.from_numpy(array) for array in feeds.values()]
        with torch.inference_mode():
            output: Any = unet(*(tensor.to(dtype) if tensor.is_floating_point() else tensor for tensor in tensors), return_dict=False)[0]
        return np.asarray(output.float().numpy())

    return step


def open_optimum_onnx(model: Path, options: Options) -> Step:
    """The UNet of an optimum-onnx pipeline."""
    from onnxruntime import SessionOptions
    from optimum.onnxruntime import ORTStableDiffusionPipeline

    settings = SessionOptions()
    settings.intra_op_num_threads = options.get("threads", 0)
    return step_of(ORTStableDiffusionPipeline.from_pretrained(model, local_files_only=True, session_options=settings).unet)


def open_optimum_intel(model: Path, options: Options) -> Step:
    """The UNet of an optimum-intel pipeline, with static shapes: it is compiled in the first step."""
    from optimum.intel import OVStableDiffusionPipeline

    pipe = OVStableDiffusionPipeline.from_pretrained(model, local_files_only=True, compile=False, ov_config=openvino_settings(options))
    inner = step_of(pipe.unet)

    def step(feeds: Feeds) -> Floats:
        if pipe.is_dynamic:
            batch, _, height, width = feeds["sample"].shape
            pipe.reshape(batch // 2, height * pipe.vae_scale_factor, width * pipe.vae_scale_factor, num_images_per_prompt=1)
            pipe.unet.compile()
        return inner(feeds)

    return step


def step_of(unet: Any) -> Step:
    """Call a UNet that takes torch's tensors and one timestep for all rows, as optimum's pipelines do."""
    import torch

    def step(feeds: Feeds) -> Floats:
        sample, timestep, states = (torch.from_numpy(feeds[name]) for name in ("sample", "timestep", "encoder_hidden_states"))
        return np.asarray(unet(sample, timestep[0], states, return_dict=False)[0])

    return step


OPENERS = {
    "sd2rt": open_sd2rt,
    "onnxruntime": open_onnxruntime,
    "engine": open_engine_folder,
    "openvino": open_openvino,
    "torch": open_torch,
    "optimum-onnx": open_optimum_onnx,
    "optimum-intel": open_optimum_intel,
}


def measure(contender: str, model: Path, shape: Mapping[str, int], options: Options, steps: int, out: Path) -> dict[str, Any]:
    """Load, warm up, and time `steps` runs; seconds each."""
    feeds = draw_feeds(shape)
    times = [perf_counter()]
    step = OPENERS[contender](model, options)
    times.append(perf_counter())
    for _ in range(WARM_UPS + steps):
        output = step(feeds)
        times.append(perf_counter())
    np.save(out, output)
    load_s, *step_s = np.diff(times).tolist()
    return {"load_s": load_s, "warm_up_s": step_s[:WARM_UPS], "step_s": step_s[WARM_UPS:]}


if __name__ == "__main__":
    name, path, shape_text, count, output_path, *more = sys.argv[1:]
    given = json.loads(more[0]) if more else {}
    print(json.dumps(measure(name, Path(path), json.loads(shape_text), given, int(count), Path(output_path))))
