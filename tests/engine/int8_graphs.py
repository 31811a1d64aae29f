"""A small graph with layers that int8 may take, and the same graph with them in int8."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import helper

from sd2rt.engine.int8_graph import write_int8
from sd2rt.engine.int8_layers import find_layers, read_model
from sd2rt.engine.int8_numbers import Range
from sd2rt.engine.spec import ComponentFiles
from tests.engine.graphs import graph

CHANNELS = 16
SHAPE = ["batch", CHANNELS, 8, 8]
RANGES = {"sample": Range(scale=8 / 255, zero=128), "normal": Range(scale=8 / 255, zero=128), "rows": Range(scale=16 / 255, zero=128)}
CONV, FIRST, SECOND = "conv.weight", "first.weight", "second.weight"


def network(dtype: str = "float32") -> onnx.ModelProto:
    """Return sample -> tanh -> Conv, strided -> rows -> MatMul, and a second MatMul of the same rows, added."""
    rng = np.random.default_rng(0)
    weights = {
        CONV: rng.standard_normal((CHANNELS, CHANNELS, 3, 3)) * 0.1,
        "conv.bias": rng.standard_normal(CHANNELS),
        FIRST: rng.standard_normal((CHANNELS, 32)) * 0.2,
        SECOND: rng.standard_normal((CHANNELS, 32)) * 0.2,
    }
    nodes = [
        helper.make_node("Constant", [], ["shape"], value_ints=[0, 0, -1]),
        helper.make_node("Tanh", ["sample"], ["normal"]),
        helper.make_node("Conv", ["normal", CONV, "conv.bias"], ["c"], pads=[1, 1, 1, 1], strides=[2, 2], auto_pad="NOTSET"),
        helper.make_node("Reshape", ["c", "shape"], ["flat"]),
        helper.make_node("Transpose", ["flat"], ["rows"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["rows", FIRST], ["one"]),
        helper.make_node("MatMul", ["rows", SECOND], ["two"]),
        helper.make_node("Add", ["one", "two"], ["out_sample"]),
    ]
    cast = {name: array.astype(dtype) for name, array in weights.items()}
    return graph(nodes, [("sample", dtype, SHAPE)], [("out_sample", dtype, ["batch", 16, 32])], cast)


def narrowed(files: ComponentFiles, folder: Path, weights: tuple[str, ...] = (CONV, FIRST, SECOND)) -> ComponentFiles:
    """Write the graph with these layers in int8 and describe its files."""
    folder.mkdir(parents=True, exist_ok=True)
    layers = tuple(layer for layer in find_layers(read_model(files)) if layer.weight in weights)
    onnx_file, data = write_int8(files, layers, RANGES, folder)
    return replace(files, onnx=onnx_file, data=(data,), sha256={onnx_file.name: "", data.name: ""})
