"""The layers of a graph that int8 may take, and a copy of the graph that tells what they read.

A layer is a convolution, or a matrix product with a weight. Gemm is left out: SD2's are of the time embedding, which one row goes
through. So are layers with fewer than MIN_CHANNELS channels on a side, a UNet's first and last among them: little time, much harm.

Knows no numbers but the weights; needs onnx and onnx_ir, which only building does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

from sd2rt.engine.forms import apply_form, write_form
from sd2rt.engine.int8_numbers import Window
from sd2rt.engine.spec import ComponentFiles
from sd2rt.engine.weights import map_weights

MIN_CHANNELS = 16
FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One layer by the names of its graph's values. `window` is a convolution's; None: the layer reads the rows of [..., K]."""

    output: str
    source: str
    weight: str
    window: Window | None


def read_model(files: ComponentFiles) -> ir.Model:
    """Read a component's graph, its weights mapped. Raises BundleError as `apply_form` does."""
    model = ir.from_proto(apply_form(files, None))
    map_weights(model, files.onnx.parent)
    return model


def find_layers(model: ir.Model) -> tuple[Layer, ...]:
    """Return the layers that int8 may take, in the graph's order."""
    return tuple(layer for node in model.graph if (layer := _layer(node)) is not None)


def read_weight(model: ir.Model, layer: Layer) -> npt.NDArray[np.float32]:
    """Return a layer's weight as a matrix [K, N]: rows as `draw_rows` gives them, times it, are the layer's outputs, without bias."""
    tensor = model.graph.initializers[layer.weight].const_value
    assert tensor is not None, layer.weight  # map_weights gave it one
    values = tensor.numpy().astype(np.float32)
    return values if layer.window is None else values.reshape(len(values), -1).T


def write_observed(files: ComponentFiles, layers: tuple[Layer, ...], folder: Path) -> ComponentFiles:
    """Write the graph to an empty folder, its weights linked, with what the layers read as further outputs; return its files.

    Raises BundleError, OSError.
    """
    path = write_form(files, None, folder)
    model = onnx.load(path, load_external_data=False)
    known = {value.name for value in (*model.graph.input, *model.graph.output)}
    for source in dict.fromkeys(layer.source for layer in layers):
        if source not in known:
            model.graph.output.append(onnx.helper.make_empty_tensor_value_info(source))
    path.write_bytes(model.SerializeToString())
    data = tuple(folder / file.name for file in files.data)
    return ComponentFiles(name=files.name, onnx=path, data=data, sha256={file.name: "" for file in (path, *data)})


def _layer(node: ir.Node) -> Layer | None:
    """Return the layer that a node is, or None."""
    if node.domain != "" or node.op_type not in ("Conv", "MatMul") or len(node.inputs) < 2:
        return None
    source, weight = node.inputs[0], node.inputs[1]
    if source is None or source.name is None or weight is None or weight.name is None or not _is_weight(weight):
        return None
    assert weight.const_value is not None, weight.name  # _is_weight
    shape = weight.const_value.shape.numpy()
    window = _window(node, shape) if node.op_type == "Conv" else None
    if len(shape) != (2 if window is None else 4) or min(shape[:2]) < MIN_CHANNELS:
        return None
    return Layer(output=str(node.outputs[0].name), source=source.name, weight=weight.name, window=window)


def _is_weight(value: ir.Value) -> bool:
    """Tell whether a value is a float weight that one layer alone reads."""
    return value.is_initializer() and value.const_value is not None and value.const_value.dtype in FLOATS and len(value.uses()) == 1


def _window(node: ir.Node, shape: Sequence[int]) -> Window | None:
    """Return a convolution's window; None for one with groups, dilations, or that is not of pictures."""
    dense = set(node.attributes.get_ints("dilations", (1,))) == {1} and node.attributes.get_int("group", 1) == 1
    if len(shape) != 4 or not dense or node.attributes.get_string("auto_pad", "NOTSET") != "NOTSET":
        return None
    top, left, bottom, right = node.attributes.get_ints("pads", (0, 0, 0, 0))
    down, across = node.attributes.get_ints("strides", (1, 1))
    return Window(kernel=(shape[2], shape[3]), stride=(down, across), pads=(top, left, bottom, right))
