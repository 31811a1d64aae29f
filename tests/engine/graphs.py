"""Small ONNX graphs in the bundle's canonical form, and how a bundle would describe their files."""

import copy
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from sd2rt.engine.spec import ComponentFiles

ELEMENT_TYPES = {
    "float64": TensorProto.DOUBLE,
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "int64": TensorProto.INT64,
    "bool": TensorProto.BOOL,
}
Shape = Sequence[int | str]
Value = tuple[str, str, Shape]  # name, dtype, shape


def graph(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[Value],
    outputs: Sequence[Value],
    weights: dict[str, npt.NDArray[Any]] | None = None,
    inner: Sequence[Value] = (),
    opset: int = 23,
    infer: bool = True,
) -> onnx.ModelProto:
    """Make a model. Its inner values carry shapes: `inner`, and what onnx infers from there unless told not to."""
    made = helper.make_graph(
        list(nodes),
        "tiny",
        [_value_info(value) for value in inputs],
        [_value_info(value) for value in outputs],
        [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()],
        value_info=[_value_info(value) for value in inner],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    return onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True) if infer else model


def _value_info(value: Value) -> onnx.ValueInfoProto:
    name, dtype, shape = value
    return helper.make_tensor_value_info(name, ELEMENT_TYPES[dtype], shape)


def block(dtype: str = "float32", channels: int = 8, groups: int = 4) -> onnx.ModelProto:
    """Return Conv, GroupNormalization, SiLU, Conv over sample [batch, channels, height, width]."""
    rng = np.random.default_rng(0)
    weights = {
        "w1": rng.standard_normal((channels, channels, 3, 3)) * 0.2,
        "b1": rng.standard_normal(channels),
        "scale": 1 + 0.2 * rng.standard_normal(channels),
        "shift": rng.standard_normal(channels),
        "w2": rng.standard_normal((channels, channels, 3, 3)) * 0.2,
    }
    nodes = [
        helper.make_node("Conv", ["sample", "w1", "b1"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("GroupNormalization", ["c", "scale", "shift"], ["n"], num_groups=groups, epsilon=1e-5),
        helper.make_node("Sigmoid", ["n"], ["s"]),
        helper.make_node("Mul", ["n", "s"], ["m"]),
        helper.make_node("Conv", ["m", "w2"], ["out_sample"], pads=[1, 1, 1, 1]),
    ]
    shape = ["batch", channels, "height", "width"]
    cast = {name: array.astype(dtype) for name, array in weights.items()}
    return graph(nodes, [("sample", dtype, shape)], [("out_sample", dtype, shape)], cast, inner=[("n", dtype, shape)])


def component(folder: Path, model: onnx.ModelProto, name: str = "unet", external: bool = True) -> ComponentFiles:
    """Save the model as a bundle's component and describe it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "model.onnx"
    model = copy.deepcopy(model)  # saving points its weights to the file
    onnx.save(model, path, save_as_external_data=external, location="model.onnx.data", size_threshold=0)
    data = (folder / "model.onnx.data",) if (folder / "model.onnx.data").exists() else ()
    return ComponentFiles(name=name, onnx=path, data=data, sha256={file.name: sha256(file) for file in (path, *data)})


def sha256(path: Path) -> str:
    """Hash a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def relative_error(got: npt.NDArray[Any], expected: npt.NDArray[Any]) -> float:
    """Return the largest difference relative to the expected values' standard deviation."""
    return float(np.abs(got.astype(np.float64) - expected.astype(np.float64)).max() / expected.astype(np.float64).std())
