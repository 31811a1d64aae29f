"""A component's graph with layers in eight bits: what they read becomes bytes and back, their weights are stored as int8.

ONNX's QuantizeLinear and DequantizeLinear say so whatever the backend: OpenVINO computes such layers in int8, `cpu` its matrix
products (`lower_int8`). Weights are converted one at a time, when they are written.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx_ir as ir

from sd2rt.engine.int8_layers import Layer, read_model, read_weight
from sd2rt.engine.int8_numbers import Range, round_weight, weight_scales
from sd2rt.engine.spec import ComponentFiles
from sd2rt.engine.weights import INLINE_BYTES

GRAPH, WEIGHTS = "model.onnx", "model.onnx.data"


def write_int8(files: ComponentFiles, layers: tuple[Layer, ...], ranges: Mapping[str, Range], folder: Path) -> tuple[Path, ...]:
    """Write the graph with these layers in eight bits to `folder`; return its files. `ranges` has one for every layer's source.

    Raises BundleError, OSError.
    """
    model = read_model(files)
    nodes = {node.outputs[0].name: node for node in model.graph}
    read: dict[str, ir.Value] = {}  # bytes and back, once for all layers that read a value
    for layer in layers:
        node = nodes[layer.output]
        source, weight = node.inputs[0], node.inputs[1]
        assert source is not None, layer  # or it would be no layer
        assert weight is not None, layer
        if layer.source not in read:
            read[layer.source] = _round_trip(model.graph, node, source, weight.dtype, ranges[layer.source])
        node.replace_input_with(0, read[layer.source])
        node.replace_input_with(1, _narrow_weight(model, node, weight, layer))
    ir.save(model, folder / GRAPH, external_data=WEIGHTS, size_threshold_bytes=INLINE_BYTES)
    return folder / GRAPH, folder / WEIGHTS


def _round_trip(graph: ir.Graph, node: ir.Node, source: ir.Value, dtype: ir.DataType | None, chosen: Range) -> ir.Value:
    """Put source -> uint8 -> source's type before `node`."""
    assert dtype is not None, source.name  # map_weights told the weight's
    scale = _weight(graph, f"{source.name}.scale", ir.tensor(np.asarray(chosen.scale, dtype.numpy())))
    zero = _weight(graph, f"{source.name}.zero", ir.tensor(np.asarray(chosen.zero, np.uint8)))
    narrow = ir.node("QuantizeLinear", [source, scale, zero])
    wide = ir.node("DequantizeLinear", [narrow.outputs[0], scale, zero])
    graph.insert_before(node, [narrow, wide])
    return wide.outputs[0]


def _narrow_weight(model: ir.Model, node: ir.Node, weight: ir.Value, layer: Layer) -> ir.Value:
    """Replace a weight by its int8 form and what makes that float again, before `node`."""
    tensor = weight.const_value
    assert tensor is not None, layer.weight  # or it would be no layer
    assert weight.dtype is not None, layer.weight
    shape, dtype = tensor.shape.numpy(), weight.dtype.numpy()
    scales = weight_scales(read_weight(model, layer), dtype)
    axis = 1 if layer.window is None else 0

    def narrow() -> ir.TensorProtocol:
        values = tensor.numpy().astype(np.float32)
        matrix = values if axis else values.reshape(shape[0], -1).T
        levels = round_weight(matrix, scales)
        if isinstance(tensor, ir.ExternalTensor):
            tensor.release()
        return ir.tensor(np.ascontiguousarray(levels if axis else levels.T).reshape(shape), name=f"{layer.weight}.int8")

    stored = _weight(model.graph, f"{layer.weight}.int8", ir.LazyTensor(narrow, ir.DataType.INT8, ir.Shape(shape)))
    columns = _weight(model.graph, f"{layer.weight}.scale", ir.tensor(scales))
    wide = ir.node("DequantizeLinear", [stored, columns], {"axis": axis})
    model.graph.insert_before(node, wide)
    del model.graph.initializers[layer.weight]
    return wide.outputs[0]


def _weight(graph: ir.Graph, name: str, tensor: ir.TensorProtocol) -> ir.Value:
    """Add a weight to the graph."""
    value = ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(tensor.shape.numpy()), const_value=tensor)
    tensor.name = name
    graph.register_initializer(value)
    return value
