"""The weights of a graph that onnx_ir has read from a component's file: mapped, not held, until they are written out again."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir

INLINE_BYTES = 256  # smaller weights, target shapes among them, belong in the graph: shape inference and parsers look at them


def map_weights(model: ir.Model, root: Path) -> None:
    """Let weights be read from their files when they are written out, small ones at once; give each its type and shape.

    Given a whole path, onnx_ir skips its own check, which refuses files of several hard links: uv, conda and `cp -al` make them.
    """
    roots: tuple[ir.Graph | ir.Function, ...] = (model.graph, *model.functions.values())
    for graph in (model.graph, *(graph for function in roots for graph in function.subgraphs())):
        for value in graph.initializers.values():
            tensor = value.const_value
            if isinstance(tensor, ir.ExternalTensor):
                path = str((root / tensor.location).absolute())
                own = ir.ExternalTensor(path, tensor.offset, tensor.length, tensor.dtype, shape=tensor.shape, name=tensor.name)
                value.const_value = ir.tensor(own.numpy().copy(), name=own.name) if own.nbytes <= INLINE_BYTES else own
            if value.const_value is not None:  # a file may name a weight without saying its type and shape
                value.dtype, value.shape = value.const_value.dtype, ir.Shape(value.const_value.shape.numpy())
