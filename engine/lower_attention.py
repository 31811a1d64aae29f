"""Lower `Attention` (opset 23) to `com.microsoft.MultiHeadAttention`.

ONNX Runtime's kernels for the latter tile the softmax (flash attention): on the CPU 229 ms and 23 MB instead of 300 ms and 342 MB
at 4,096 tokens, 5 heads of 64. They read and write [B, S, H*D], so the Reshape and Transpose pairs that split and join the
heads go away too. Nodes whose semantics MultiHeadAttention lacks are left alone: ONNX Runtime runs them as they are.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import onnx_ir as ir

from sd2rt.engine.splice import Splice

SWAP_HEADS = (0, 2, 1, 3)  # [B, S, H, D] <-> [B, H, S, D]
MASKED: dict[ir.DataType, np.floating[Any]] = {  # the lowest finite number
    ir.DataType.FLOAT: np.finfo(np.float32).min,
    ir.DataType.FLOAT16: np.finfo(np.float16).min,
}

Dims = Iterable[int | ir.SymbolicDim]
Biases = dict[tuple[ir.Value, ir.DataType], ir.Value]


def lower_attention(model: ir.Model) -> None:
    """Replace every Attention that MultiHeadAttention can express; the nodes replaced stay, unused."""
    biases: Biases = {}
    for node in list(model.graph):
        if node.domain == "" and node.op_type == "Attention":
            heads = _heads(node)
            if heads:
                _replace(model.graph, node, heads, biases)
                model.opset_imports["com.microsoft"] = 1


def _heads(node: ir.Node) -> int:
    """Return the number of heads where MultiHeadAttention computes the same as `node`; 0 where it does not, or may not."""
    mask, *cache = [*node.inputs[3:], None]
    more_outputs = [output for output in node.outputs[1:] if output.uses() or output.is_graph_output()]
    softcap = node.attributes.get_float("softcap")
    if any(cache) or more_outputs or softcap or "softmax_precision" in node.attributes:
        return 0
    shapes = [operand.shape for operand in node.inputs[:3] if operand is not None and operand.shape is not None]
    if len(shapes) != 3 or len({shape.rank() for shape in shapes}) != 1:
        return 0
    queries, keys = shapes[0][-2], shapes[1][-2]
    if node.attributes.get_int("is_causal") and not _same([queries], [keys]):
        return 0  # the two differ on which keys the first of fewer queries sees
    if mask is not None and not (_mask_fits(mask, queries, keys) and _dtype(node) in MASKED):
        return 0
    if shapes[0].rank() == 3:
        counts = {node.attributes.get_int("q_num_heads"), node.attributes.get_int("kv_num_heads")}
    else:
        counts = {_number(shape[1]) for shape in shapes}
        if not all(_number(shape[3]) for shape in shapes):
            return 0
    return counts.pop() or 0 if len(counts) == 1 else 0


def _mask_fits(mask: ir.Value, queries: int | ir.SymbolicDim, keys: int | ir.SymbolicDim) -> bool:
    """Tell whether the mask spans [., ., S, L] in full: MultiHeadAttention broadcasts only its first two axes."""
    return mask.shape is not None and mask.shape.rank() == 4 and _same(mask.shape[2:], [queries, keys])


def _dtype(node: ir.Node) -> ir.DataType | None:
    """Return the type that an Attention computes in."""
    return node.inputs[0].dtype if node.inputs[0] is not None else None


def _same(left: Dims, right: Dims) -> bool:
    """Compare dimensions; one without a number or a name equals nothing."""
    left = list(left)
    return left == list(right) and all(isinstance(dim, int) or dim.value is not None for dim in left)


def _replace(graph: ir.Graph, node: ir.Node, heads: int, biases: Biases) -> None:
    """Put MultiHeadAttention before `node` and give it all of node's users. q, k, v and the result: [B, S, H*D]."""
    splice = Splice()
    apart = [operand for operand in node.inputs[:3] if operand is not None]  # [B, H, S, D], or joined from the start
    query, key, value = [_join_heads(operand, splice) for operand in apart]
    inputs: list[ir.Value | None] = [query, key, value]
    mask = node.inputs[3] if len(node.inputs) > 3 else None
    dtype = _dtype(node)
    if mask is not None and dtype is not None:
        inputs += [None, None, _bias(mask, dtype, biases, splice)]  # before it: no projection bias, no key padding mask
    attributes: dict[str, int | float] = {"num_heads": heads, "unidirectional": node.attributes.get_int("is_causal") or 0}
    if "scale" in node.attributes:
        attributes["scale"] = node.attributes.get_float("scale")
    result = splice.add("MultiHeadAttention", *inputs, domain="com.microsoft", **attributes)
    if apart[2].shape is not None and apart[2].shape.rank() == 4 and query.shape is not None:
        width = _number(apart[2].shape[3])
        result.type, result.shape = query.type, ir.Shape([*query.shape[:2], heads * width])
        _bypass_join(node.outputs[0], result)
        split = splice.add("Reshape", result, splice.constant([0, 0, heads, width]))
        result = splice.add("Transpose", split, perm=SWAP_HEADS)  # unused, and removed with `node`, where all users join the heads
    splice.replace(graph, node, result)


def _join_heads(value: ir.Value, splice: Splice) -> ir.Value:
    """Return [B, S, H*D] for [B, H, S, D]: the value that it was split from, or else one made by nodes added to `splice`."""
    if value.shape is None or value.shape.rank() == 3:
        return value
    batch, heads, tokens, width = value.shape
    joined = ir.Shape([batch, tokens, _number(heads) * _number(width)])
    source = _split_from(value)
    if source is not None and source.shape is not None and _same(source.shape, joined):
        return source
    swapped = splice.add("Transpose", value, perm=SWAP_HEADS)
    result = splice.add("Reshape", swapped, splice.constant([0, 0, _number(heads) * _number(width)]))
    result.type, result.shape = value.type, joined
    return result


def _split_from(value: ir.Value) -> ir.Value | None:
    """Return what a Reshape and a Transpose made `value` from, if they did."""
    swap = value.producer()
    if swap is None or not swaps_heads(swap) or swap.inputs[0] is None:
        return None
    split = swap.inputs[0].producer()
    return split.inputs[0] if split is not None and split.op_type == "Reshape" else None


def _bypass_join(old: ir.Value, result: ir.Value) -> None:
    """Give `result` [B, S, H*D] to whatever reads `old` [B, H, S, D] through a Transpose and a Reshape that join the heads."""
    for swap in [use.node for use in old.uses() if swaps_heads(use.node)]:
        for reshape in [use.node for use in swap.outputs[0].uses() if use.node.op_type == "Reshape"]:
            joined = reshape.outputs[0]
            if joined.shape is not None and result.shape is not None and _same(joined.shape, result.shape) and not joined.is_graph_output():
                ir.convenience.replace_all_uses_with(joined, result)


def _number(dim: int | ir.SymbolicDim) -> int:
    """Return a fixed dimension, or 0 for one that may vary."""
    return dim if isinstance(dim, int) else 0


def swaps_heads(node: ir.Node) -> bool:
    """Tell whether a node is a Transpose between [B, S, H, D] and [B, H, S, D]."""
    return node.op_type == "Transpose" and tuple(node.attributes.get_ints("perm") or ()) == SWAP_HEADS


def _bias(mask: ir.Value, dtype: ir.DataType, biases: Biases, splice: Splice) -> ir.Value:
    """Return what to add to the scores: a boolean mask (True = attend) becomes 0 or the lowest number, once for all its users."""
    if mask.dtype != ir.DataType.BOOL:
        return mask
    if (mask, dtype) not in biases:
        bias = splice.add("Where", mask, splice.constant(dtype.numpy().type(0)), splice.constant(MASKED[dtype]))
        bias.dtype, bias.shape = dtype, mask.shape
        biases[mask, dtype] = bias
    return biases[mask, dtype]
