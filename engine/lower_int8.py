"""Make what a graph computes in eight bits what ONNX Runtime's CPU has fast kernels for.

    matrix products    left: its optimizer makes one MatMulIntegerToFloat of them and their round trips
    convolutions       float32 again, with the weights that int8 left: QLinearConv would round what they give to eight bits too

A convolution that stays as it is would be computed in float32 as well, after its weights were converted in every run.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from sd2rt.engine.weights import add_weight


def widen_convolutions(model: ir.Model) -> None:
    """Give every convolution float32 weights, and what was rounded to bytes as it was before, in place.

    Weights are read when they are written out.
    """
    for node in [node for node in model.graph if (node.domain, node.op_type) == ("", "Conv")]:
        source, weight = _producer(node, 0), _producer(node, 1)
        if source is not None and (narrow := _producer(source, 0, "QuantizeLinear")) is not None:
            node.replace_input_with(0, narrow.inputs[0])
        if weight is not None:
            _widen_weight(model.graph, node, weight)


def _producer(node: ir.Node, index: int, op_type: str = "DequantizeLinear") -> ir.Node | None:
    """Return what makes one of a node's inputs, if that is an `op_type`."""
    value = node.inputs[index]
    producer = None if value is None else value.producer()
    return producer if producer is not None and (producer.domain, producer.op_type) == ("", op_type) else None


def _widen_weight(graph: ir.Graph, node: ir.Node, wide: ir.Node) -> None:
    """Let a convolution read its weight as float32."""
    tensors = [None if value is None else value.const_value for value in wide.inputs]
    levels, scales = tensors[0], tensors[1]
    if len(tensors) != 2 or levels is None or scales is None:  # not made by `int8_graph`
        return
    shape = levels.shape.numpy()
    columns = scales.numpy().astype(np.float32).reshape(-1, *[1] * (len(shape) - 1))
    value = add_weight(graph, str(wide.outputs[0].name), shape, levels, lambda values: values.astype(np.float32) * columns)
    node.replace_input_with(1, value)
    graph.remove(wide, safe=True)
