"""Time one UNet in one runtime: load it, run it twice to warm up, then several times on the same inputs.

`python -m benchmarks.workers.unet CONTENDER MODEL SHAPE STEPS OUT.npy`, SHAPE being JSON; the output goes to OUT.npy.
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
Feeds = Mapping[str, Floats]
Step = Callable[[Feeds], Floats]
WARM_UPS = 2  # ONNX Runtime plans its memory in the first run and lays it out anew in the second


def draw_feeds(shape: Mapping[str, int]) -> Feeds:
    """Draw the inputs of one guided step, the same for every contender."""
    rng = np.random.default_rng(0)
    batch = shape["batch"]
    return {
        "sample": rng.standard_normal((batch, shape["channels"], shape["height"], shape["width"]), dtype=np.float32),
        "timestep": np.full((batch,), shape["timestep"], np.float32),
        "encoder_hidden_states": rng.standard_normal((batch, shape["tokens"], shape["context"]), dtype=np.float32),
    }


def open_sd2rt(model: Path) -> Step:
    """Our engine, on the bundle's UNet."""
    from sd2rt.engine.build import open_engine
    from sd2rt.engine.spec import BuildOptions
    from sd2rt.runtime.bundle import read_bundle

    engine = open_engine(read_bundle(model).component("unet").files, BuildOptions(target="cpu"))
    return lambda feeds: engine.run(feeds)["out_sample"]


def open_onnxruntime(model: Path) -> Step:
    """ONNX Runtime with its default options on an ONNX file."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return lambda feeds: np.asarray(session.run(None, dict(feeds))[0])


def open_torch(model: Path) -> Step:
    """Eager torch in float32, on a UNet in diffusers' layout."""
    import torch
    from diffusers import UNet2DConditionModel

    unet = UNet2DConditionModel.from_pretrained(model, dtype=torch.float32, local_files_only=True).eval()

    def step(feeds: Feeds) -> Floats:
        with torch.inference_mode():
            output: Any = unet(*(torch.from_numpy(array) for array in feeds.values()), return_dict=False)[0]
        return np.asarray(output.numpy())

    return step


OPENERS = {"sd2rt": open_sd2rt, "onnxruntime": open_onnxruntime, "torch": open_torch}


def measure(contender: str, model: Path, shape: Mapping[str, int], steps: int, out: Path) -> dict[str, Any]:
    """Load, warm up, and time `steps` runs; seconds each."""
    feeds = draw_feeds(shape)
    times = [perf_counter()]
    step = OPENERS[contender](model)
    times.append(perf_counter())
    for _ in range(WARM_UPS + steps):
        output = step(feeds)
        times.append(perf_counter())
    np.save(out, output)
    load_s, *step_s = np.diff(times).tolist()
    return {"load_s": load_s, "warm_up_s": step_s[:WARM_UPS], "step_s": step_s[WARM_UPS:]}


if __name__ == "__main__":
    name, path, shape_text, count, output_path = sys.argv[1:]
    print(json.dumps(measure(name, Path(path), json.loads(shape_text), int(count), Path(output_path))))
