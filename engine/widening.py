"""Make a half-precision graph a float32 one, its inputs and outputs too. Weights are converted when they are written out."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

HALF = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


def widen(model: ir.Model) -> None:
    """Make every half-precision value and weight, and every cast to half precision, float32, in place."""
    for graph in model.graphs():
        for value in (*graph.inputs, *graph.initializers.values()):
            _widen(value)
        for node in graph:
            _widen_attributes(node)
            for value in node.outputs:
                _widen(value)


def _widen(value: ir.Value) -> None:
    """Make a value, and its weights, float32 if they are of half precision. The weights are read when they are written out."""
    if value.dtype not in HALF:
        return
    value.dtype = ir.DataType.FLOAT
    tensor = value.const_value
    if tensor is not None:
        value.const_value = ir.LazyTensor(lambda: _wide(tensor), ir.DataType.FLOAT, ir.Shape(tensor.shape.numpy()), name=tensor.name)


def _wide(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
    """Return a float32 copy of a tensor and let go of the memory map it came through."""
    wide = ir.Tensor(tensor.numpy().astype(np.float32), name=tensor.name)
    if isinstance(tensor, ir.ExternalTensor):
        tensor.release()
    return wide


def _widen_attributes(node: ir.Node) -> None:
    """Make types (`to`, `dtype`) and constants in a node's attributes float32 where they are of half precision."""
    for name, attribute in list(node.attributes.items()):
        if attribute.type == ir.AttributeType.TENSOR and attribute.value.dtype in HALF:
            node.attributes[name] = ir.AttrTensor(name, _wide(attribute.value))
        elif name in ("to", "dtype") and attribute.type == ir.AttributeType.INT and attribute.value in HALF:
            node.attributes[name] = ir.AttrInt64(name, ir.DataType.FLOAT.value)
