"""The weights of a graph that onnx_ir has read from a component's file: mapped, not held, until they are written out again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
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


def weight_shape(value: ir.Value | None) -> tuple[int, ...]:
    """Return the shape of a float32 weight of the graph's own, which callers cannot replace; () for anything else."""
    tensor = value.const_value if value is not None and value.is_initializer() and not value.is_graph_input() else None
    if tensor is None or tensor.dtype != ir.DataType.FLOAT:
        return ()
    return tuple(int(size) for size in tensor.shape.numpy())


def add_weight(
    graph: ir.Graph,
    name: str,
    shape: Sequence[int],
    source: ir.TensorProtocol,
    compute: Callable[[npt.NDArray[Any]], npt.NDArray[np.float32]],
) -> ir.Value:
    """Add a float32 weight of `shape` that is computed from `source` when it is written out; return it, or the one that has its name.

    `compute` returns memory of its own, since what it is given may be a file's.
    """
    if name in graph.initializers:
        return graph.initializers[name]

    def read() -> ir.TensorProtocol:
        values = compute(source.numpy())
        if isinstance(source, ir.ExternalTensor):
            source.release()
        return ir.tensor(values, name=name)

    tensor = ir.LazyTensor(read, ir.DataType.FLOAT, ir.Shape(shape), name=name)
    value = ir.Value(name=name, type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(shape), const_value=tensor)
    graph.register_initializer(value)
    return value
