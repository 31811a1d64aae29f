"""Move casts out of the way of other lowerings, or drop them where they change nothing."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from sd2rt.engine.lower_attention import SWAP_HEADS, swaps_heads
from sd2rt.engine.splice import Splice


def drop_casts(model: ir.Model) -> None:
    """Remove casts from float32 to float32, which is what those around half precision become when it is widened."""
    for node in list(model.graph):
        source, result = (node.inputs[0], node.outputs[0]) if node.op_type == "Cast" else (None, None)
        if source is None or result is None or source.dtype != ir.DataType.FLOAT or result.dtype != ir.DataType.FLOAT:
            continue
        if not result.is_graph_output():  # there, ONNX Runtime drops it and keeps the name
            ir.convenience.replace_all_uses_with(result, source)
            model.graph.remove(node, safe=True)


def hoist_casts(model: ir.Model) -> None:
    """Move the casts of an upcast Attention outside of what splits and joins its heads, where `lower_attention` finds no obstacle.

        Reshape, Transpose, Cast, Attention, Cast, Transpose, Reshape -> Cast, Reshape, Transpose, Attention, Transpose, Reshape, Cast

    The nodes replaced stay, unused.
    """
    for node in [node for node in model.graph if (node.domain, node.op_type) == ("", "Attention")]:
        for index in range(3):
            _cast_before_split(model.graph, node, index)
        for cast, swap, join in list(_joins(node.outputs[0])):
            _cast_after_join(model.graph, node.outputs[0], cast, swap, join)


def _cast_before_split(graph: ir.Graph, node: ir.Node, index: int) -> None:
    """Let an Attention read heads that were split after the cast rather than before."""
    value = node.inputs[index]
    swap = _input_producer(value.producer() if value is not None else None, "Cast")
    split = _input_producer(swap, "Transpose")
    source = split.inputs[0] if split is not None and split.op_type == "Reshape" else None
    if value is None or value.dtype is None or swap is None or not swaps_heads(swap) or split is None or source is None:
        return
    splice = Splice()
    wide = _describe(splice.add("Cast", source, to=value.dtype.value), value.dtype, source.shape)
    heads = _describe(splice.add("Reshape", wide, split.inputs[1]), value.dtype, split.outputs[0].shape)
    swapped = _describe(splice.add("Transpose", heads, perm=SWAP_HEADS), value.dtype, value.shape)
    graph.insert_before(node, splice.nodes)
    node.replace_input_with(index, swapped)


def _cast_after_join(graph: ir.Graph, wide: ir.Value, cast: ir.Node, swap: ir.Node, join: ir.Node) -> None:
    """Join the heads of `wide` and cast what comes of it, instead of casting and then joining."""
    splice = Splice()
    swapped = _describe(splice.add("Transpose", wide, perm=SWAP_HEADS), wide.dtype, swap.outputs[0].shape)
    joined = _describe(splice.add("Reshape", swapped, join.inputs[1]), wide.dtype, join.outputs[0].shape)
    splice.replace(graph, join, splice.add("Cast", joined, to=cast.attributes["to"].as_int()))


def _joins(value: ir.Value) -> Iterator[tuple[ir.Node, ir.Node, ir.Node]]:
    """Give every Cast, Transpose and Reshape through which `value` is joined."""
    for cast in [use.node for use in value.uses() if use.node.op_type == "Cast"]:
        for swap in [use.node for use in cast.outputs[0].uses() if swaps_heads(use.node)]:
            for join in [use.node for use in swap.outputs[0].uses() if use.node.op_type == "Reshape"]:
                yield cast, swap, join


def _input_producer(node: ir.Node | None, op_type: str) -> ir.Node | None:
    """Return what makes the first input of `node`, if that is an `op_type`."""
    if node is None or node.op_type != op_type or node.inputs[0] is None:
        return None
    return node.inputs[0].producer()


def _describe(value: ir.Value, dtype: ir.DataType | None, shape: ir.Shape | None) -> ir.Value:
    """Note a new value's type and shape, which other lowerings look at."""
    if dtype is not None:
        value.dtype = dtype
    value.shape = shape
    return value
