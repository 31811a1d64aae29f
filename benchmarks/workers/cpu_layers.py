"""Time layers of SD2's UNet, each as ONNX operators in several forms, in ONNX Runtime on the CPU.

`python -m benchmarks.workers.cpu_layers REPEATS [SIDE]` gives, for each layer, the form that engines have it in, and for each form every
run's seconds and the largest difference from the first form, relative to its largest value. SIDE is that of the first level's pictures.
Forms that `sd2rt.engine` makes are made by it. Knows no bundle: weights are random.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnx_ir.passes.common import RemoveUnusedNodesPass

from sd2rt.engine.lower_gates import lower_gates
from sd2rt.engine.lower_winograd import SCALE, lower_convolutions
from sd2rt.engine.ort import load_settings

Arrays = dict[str, npt.NDArray[Any]]
Forms = dict[str, onnx.ModelProto]
MICROSOFT = "com.microsoft"
WINOGRAD = "Winograd F(4,3) along the height"
BATCH, EPSILON = 2, 1e-5


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One layer in several forms that take the same feeds; `kept` names the one that the UNet's engine has, there and at that size."""

    forms: Forms
    feeds: Arrays
    kept: str


def draw(*shape: int) -> npt.NDArray[np.float32]:
    """Draw an array of standard deviation 1 over its last axis' sums."""
    return np.random.default_rng(len(shape)).standard_normal(shape, dtype=np.float32) / np.float32(np.sqrt(shape[-1]))


def model(
    nodes: Sequence[onnx.NodeProto], inputs: Mapping[str, Sequence[int | str]], outputs: Sequence[str], weights: Arrays
) -> onnx.ModelProto:
    """Put a graph together; of the weights, those that it reads."""
    read = {name for node in nodes for name in node.input}
    made = helper.make_graph(
        nodes,
        "layer",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in weights.items() if name in read],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid(MICROSOFT, 1)]
    return helper.make_model(made, opset_imports=opsets, ir_version=10)


def lowered(plain: onnx.ModelProto, lower: Callable[[ir.Model], None]) -> onnx.ModelProto:
    """Return what one of the engine's lowerings makes of a graph."""
    made = ir.from_proto(plain)
    lower(made)
    RemoveUnusedNodesPass()(made)
    return ir.to_proto(made)


def gated(tokens: int, channels: int) -> Layer:
    """The feed-forward's first half: h * gelu(g) with [h, g] = x W + b."""
    weights = {
        "w": draw(channels, 8 * channels),
        "b": draw(8 * channels),
        "flat": np.array([-1, channels]),
        "back": np.array([BATCH, -1, 8 * channels]),
    }
    add = [helper.make_node("MatMul", ["x", "w"], ["m"]), helper.make_node("Add", ["m", "b"], ["a"])]
    gemm = [helper.make_node("Reshape", ["x", "flat"], ["f"]), helper.make_node("Gemm", ["f", "w", "b"], ["m"])]
    gemm.append(helper.make_node("Reshape", ["m", "back"], ["a"]))
    end = [helper.make_node("Split", ["a"], ["h", "g"], axis=-1, num_outputs=2), helper.make_node("Gelu", ["g"], ["o"])]
    end.append(helper.make_node("Mul", ["h", "o"], ["y"]))
    inputs = {"x": (BATCH, tokens, channels)}
    plain, one = (model([*start, *end], inputs, ["y"], weights) for start in (add, gemm))
    kept = "a product per half, BiasGelu"
    forms = {"one product, Split": plain, "Gemm, Split": one, kept: lowered(plain, lower_gates)}
    return Layer(forms=forms, feeds={"x": draw(BATCH, tokens, channels)}, kept=kept)


def residual(tokens: int, channels: int) -> Layer:
    """A projection, its bias, the residual sum, and the norm of that; sum and norm are both read on."""
    weights = {"w": draw(channels, channels), "b": draw(channels), "scale": draw(channels), "shift": draw(channels)}
    weights |= {"flat": np.array([-1, channels]), "back": np.array([BATCH, -1, channels])}
    product = helper.make_node("MatMul", ["x", "w"], ["m"])
    gemm = [helper.make_node("Reshape", ["x", "flat"], ["f"]), helper.make_node("Gemm", ["f", "w", "b"], ["m"])]
    total = [
        helper.make_node("Add", ["a", "r"], ["s"]),
        helper.make_node("LayerNormalization", ["s", "scale", "shift"], ["y"], epsilon=EPSILON),
    ]
    skip = helper.make_node(
        "SkipLayerNormalization", ["m", "r", "scale", "shift", "b"], ["y", "", "", "s"], domain=MICROSOFT, epsilon=EPSILON
    )
    forms = {
        "Add, Add, LayerNormalization": [product, helper.make_node("Add", ["m", "b"], ["a"]), *total],
        "Gemm, Add, LayerNormalization": [*gemm, helper.make_node("Reshape", ["m", "back"], ["a"]), *total],
        "SkipLayerNormalization": [product, skip],
    }
    shape = (BATCH, tokens, channels)
    made = {name: model(nodes, {"x": shape, "r": shape}, ["y", "s"], weights) for name, nodes in forms.items()}
    feeds = {"x": draw(*shape), "r": draw(*shape)[::-1].copy()}
    return Layer(forms=made, feeds=feeds, kept="Add, Add, LayerNormalization")


def group_norm(side: int, channels: int) -> Layer:
    """A group norm, its SiLU and the convolution that follows, which reads blocks of channels."""
    vectors = {name: draw(channels) for name in ("scale", "shift", "b")}
    columns = {f"{name}s": vectors[name][:, None] for name in ("scale", "shift")}
    weights = {**vectors, **columns, "w": draw(channels, channels, 3, 3), "depthwise": vectors["scale"].reshape(-1, 1, 1, 1)}
    weights |= {
        "groups": np.array([0, 32, -1]),
        "channels": np.array([0, channels, -1]),
        "picture": np.array([BATCH, channels, side, side]),
    }
    weights |= {
        name: np.full(size, value, np.float32)
        for name, size, value in (("one", 32, 1), ("zero", 32, 0), ("ones", channels, 1), ("zeros", channels, 0))
    }
    start = [helper.make_node("Reshape", ["x", "groups"], ["g"]), helper.make_node("InstanceNormalization", ["g", "one", "zero"], ["i"])]
    rows, picture = helper.make_node("Reshape", ["i", "channels"], ["n"]), helper.make_node("Reshape", ["i", "picture"], ["n"])
    back = helper.make_node("Reshape", ["t", "picture"], ["p"])
    silu = [
        helper.make_node("QuickGelu", ["p"], ["q"], domain=MICROSOFT, alpha=1.0),
        helper.make_node("Conv", ["q", "w", "b"], ["y"], pads=[1, 1, 1, 1]),
    ]
    scale = [helper.make_node("Mul", ["n", "scales"], ["m"]), helper.make_node("Add", ["m", "shifts"], ["t"])]
    batch = helper.make_node("BatchNormalization", ["n", "scale", "shift", "zeros", "ones"], ["t"], epsilon=0.0)
    depthwise = helper.make_node("Conv", ["n", "depthwise", "shift"], ["p"], group=channels)
    forms = {
        "Mul, Add": [*start, rows, *scale, back, *silu],
        "BatchNormalization": [*start, rows, batch, back, *silu],
        "depthwise Conv": [*start, picture, depthwise, *silu],
    }
    inputs = {"x": (BATCH, channels, side, side)}
    made = {name: model(nodes, inputs, ["y"], weights) for name, nodes in forms.items()}
    return Layer(forms=made, feeds={"x": draw(BATCH, channels, side, side)}, kept="Mul, Add")


def convolution(side: int, channels: int, scale: int) -> Layer:
    """A 3x3 convolution of pictures that are smaller than the UNet's input by `scale`."""
    node = helper.make_node("Conv", ["x", "w", "b"], ["y"], pads=[1, 1, 1, 1])
    weights = {"w": draw(channels, channels, 3, 3), "b": draw(channels)}
    plain = model([node], {"x": ("batch", channels, "height", "width")}, ["y"], weights)
    forms = {"Conv": plain, WINOGRAD: lowered(plain, lower_convolutions)}
    return Layer(forms=forms, feeds={"x": draw(BATCH, channels, side, side)}, kept=WINOGRAD if scale <= SCALE else "Conv")


def layers(side: int) -> dict[str, Layer]:
    """Make every layer at two levels of a UNet whose first has pictures of `side`."""
    tokens, small = side * side, side // 4
    made: dict[str, Layer] = {}
    for name, make in {"gated feed-forward": gated, "residual sum and norm": residual}.items():
        made |= {f"{name}, {size} tokens of {channels}": make(size, channels) for size, channels in ((tokens, 320), (small * small, 1280))}
    for size, channels in ((side, 320), (small, 1280)):
        made[f"group norm, SiLU, Conv, {size} x {size} of {channels}"] = group_norm(size, channels)
    sizes = ((side, 320), (side, 640), (side // 2, 640), (small, 1280))
    return made | {f"Conv, {size} x {size} of {channels}": convolution(size, channels, side // size) for size, channels in sizes}


def measure(layer: Layer, repeats: int) -> dict[str, Any]:
    """Run a layer's forms in turn, twice to warm up, every other time in reverse order."""
    forms, feeds = layer.forms, layer.feeds
    settings = load_settings(threads=0)
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    sessions = {
        name: onnxruntime.InferenceSession(form.SerializeToString(), settings, providers=["CPUExecutionProvider"])
        for name, form in forms.items()
    }
    outputs = [[session.run(None, feeds) for _ in range(2)][1] for session in sessions.values()]
    seconds: dict[str, list[float]] = {name: [] for name in forms}
    for number in range(repeats):
        for name in list(forms)[:: 1 if number % 2 == 0 else -1]:
            start = perf_counter()
            sessions[name].run(None, feeds)
            seconds[name].append(perf_counter() - start)
    differences = [
        max(float(np.abs(got - first).max() / np.abs(first).max()) for got, first in zip(output, outputs[0], strict=True))
        for output in outputs
    ]
    found = {name: {"run_s": seconds[name], "difference": difference} for name, difference in zip(forms, differences, strict=True)}
    return {"kept": layer.kept, "forms": found}


if __name__ == "__main__":
    repeats, *more = (int(text) for text in sys.argv[1:])
    print(json.dumps({name: measure(layer, repeats) for name, layer in layers(*more or [64]).items()}))
