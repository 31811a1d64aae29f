"""Lower 3x3 convolutions of large pictures to Winograd's F(4,3) along the height: half the multiplications.

Winograd, "Arithmetic Complexity of Computations" (1980), IV; Lavin and Gray, arXiv:1509.09308, 4. Four rows of the result take six
products of rows instead of twelve. ONNX Runtime has no such kernel, but operators that make it up:

    x [B, C, H, W]
    Conv with the matrix BT, per channel: kernel 6x1, stride 4 along the height    [B, C*6, T, W]; T is H / 4, rounded up
    Transpose                                                                      [B, 6*C, T, W]
    Conv in 6 groups, kernel 1x3: the weights times G                              [B, 6*K, T, W]
    MatMul with the matrix AT, Transpose                                           [B, K, 4*T, W], cut to H rows

The second row of BT and of G and the second column of AT stand for the point 1, whose product is part of every row of the result with the
factor 1: there the bias is added.

Two threads, float32, batch 2: 640 channels of 64x64 in 95 ms instead of 140, 320 channels of 64x64 in 29 ms instead of 37; the largest
difference is 1e-6 of the largest value. The transformed weights are twice as large, so convolutions of small pictures, which have most of
the weights and least of the work, stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from sd2rt.engine.splice import Splice
from sd2rt.engine.weights import add_weight, weight_shape

ROWS, PRODUCTS = 4, 6
CHANNELS = 256  # with fewer, transforming the picture costs what it saves
SCALE = 2  # of the graph's input, down to which convolutions are lowered
BLOCK = 16  # ONNX Runtime's fast convolutions want groups of channels of a multiple of this
BT = [[4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0], [0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0], [0, 4, 0, -5, 0, 1]]
G = [[1 / 4, 0, 0], [-1 / 6, -1 / 6, -1 / 6], [-1 / 6, 1 / 6, -1 / 6], [1 / 24, 1 / 12, 1 / 6], [1 / 24, -1 / 12, 1 / 6], [0, 0, 1]]
AT = [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]


def lower_convolutions(model: ir.Model) -> None:
    """Replace every 3x3 convolution with many channels and a large picture; the nodes replaced stay, unused."""
    scales = _scales(model.graph)
    for node in list(model.graph):
        if (node.domain, node.op_type) == ("", "Conv") and _scale_of(node, scales) <= SCALE and _fits(node):
            _replace(model.graph, node)


def _scales(graph: ir.Graph) -> dict[ir.Value, float]:
    """Return by how much what follows from the graph's pictures, [B, C, H, W], is smaller than them, where that is known."""
    scales = {value: 1.0 for value in graph.inputs if value.shape is not None and value.shape.rank() == 4}
    for node in graph:
        known = [scales[value] for value in node.inputs if value in scales]
        factor = _factor(node)
        if known and factor:
            scales |= dict.fromkeys(node.outputs, known[0] * factor)
    return scales


def _factor(node: ir.Node) -> float:
    """Return by how much a node makes pictures smaller; 0 where it does so to a size that the graph computes."""
    if (node.domain, node.op_type) == ("", "Conv"):
        return float((node.attributes.get_ints("strides") or [1])[0])
    if (node.domain, node.op_type) != ("", "Resize"):
        return 1.0
    factors = node.inputs[2].const_value if len(node.inputs) > 2 and node.inputs[2] is not None else None
    return 1 / float(factors.numpy()[2]) if factors is not None and factors.size == 4 else 0.0


def _scale_of(node: ir.Node, scales: Mapping[ir.Value, float]) -> float:
    """Return the scale of what a Conv makes, if need be that of the pictures it is put together with; infinite where unknown."""
    output = node.outputs[0]
    joined = [use.node.outputs[0] for use in output.uses() if use.node.op_type == "Concat"]
    return next((scales[value] for value in (output, *joined) if value in scales), float("inf"))


def _fits(node: ir.Node) -> bool:
    """Tell whether a Conv is of those that this module replaces: 3x3, as large as what it reads, weight and bias the graph's own."""
    shape = weight_shape(node.inputs[1])
    if len(node.inputs) != 3 or not weight_shape(node.inputs[2]) or shape[2:] != (3, 3):
        return False
    given = {name: attribute.value for name, attribute in node.attributes.items() if name != "kernel_shape"}
    plain = {"pads": (1, 1, 1, 1), "strides": (1, 1), "dilations": (1, 1), "group": 1, "auto_pad": "NOTSET"}
    differing = [name for name, value in given.items() if (value if isinstance(value, int | str) else tuple(value)) != plain[name]]
    return "pads" in given and not differing and min(shape[:2]) >= CHANNELS and shape[0] % BLOCK == shape[1] % BLOCK == 0


def _replace(graph: ir.Graph, node: ir.Node) -> None:
    """Put the transforms and the convolution between them in a Conv's place. See the module's docstring for the shapes."""
    picture, weight, bias = node.inputs
    assert weight is not None
    assert bias is not None
    channels_out, channels_in, *_ = weight_shape(weight)
    splice = Splice()
    matrix = splice.constant(np.tile(np.array(BT, np.float32).reshape(PRODUCTS, 1, PRODUCTS, 1), (channels_in, 1, 1, 1)))
    below = ROWS  # zeros, so that any height has tiles enough
    rows = splice.add("Conv", picture, matrix, group=channels_in, strides=[ROWS, 1], pads=[1, 0, below, 0])
    tiles = splice.add("Shape", rows, start=2)
    rows = splice.add("Reshape", rows, splice.constant([0, channels_in, PRODUCTS, -1]))
    rows = splice.add("Transpose", rows, perm=(0, 2, 1, 3))
    rows = splice.add("Reshape", rows, splice.add("Concat", splice.constant([-1, PRODUCTS * channels_in]), tiles, axis=0))
    products = splice.add("Conv", rows, _transformed(graph, weight), _biases(graph, bias), group=PRODUCTS, pads=[0, 1, 0, 1])
    products = splice.add("Reshape", products, splice.constant([0, PRODUCTS, -1]))
    result = splice.add("MatMul", splice.constant(np.array(AT, np.float32)), products)
    result = splice.add("Reshape", result, splice.add("Concat", splice.constant([-1, ROWS, channels_out]), tiles, axis=0))
    result = splice.add("Transpose", result, perm=(0, 2, 3, 1, 4))
    width = splice.add("Shape", picture, start=3)
    result = splice.add("Reshape", result, splice.add("Concat", splice.constant([0, channels_out, -1]), width, axis=0))
    height = splice.add("Shape", picture, start=2, end=3)
    splice.replace(graph, node, splice.add("Slice", result, splice.constant([0]), height, splice.constant([2])))


def _transformed(graph: ir.Graph, weight: ir.Value) -> ir.Value:
    """Return a weight [K, C, 3, 3] times G along the height, as [6*K, C, 1, 3]; computed in float64."""
    channels_out, channels_in, *_ = weight_shape(weight)
    shape = (PRODUCTS * channels_out, channels_in, 1, 3)

    def compute(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        products: npt.NDArray[np.float64] = np.einsum("pr,kcrs->pkcs", np.array(G), values)
        return products.astype(np.float32).reshape(shape)

    assert weight.const_value is not None
    return add_weight(graph, f"{weight.name}.winograd", shape, weight.const_value, compute)


def _biases(graph: ir.Graph, bias: ir.Value) -> ir.Value:
    """Return a bias [K] as that of the six groups, [6*K]: it is part of the second alone."""
    (channels,) = weight_shape(bias)

    def compute(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        return np.concatenate([np.zeros_like(values), values, np.zeros((PRODUCTS - 2) * channels, np.float32)])

    assert bias.const_value is not None
    return add_weight(graph, f"{bias.name}.winograd", (PRODUCTS * channels,), bias.const_value, compute)
