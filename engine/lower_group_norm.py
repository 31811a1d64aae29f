"""Lower `GroupNormalization` (opset 21): ONNX Runtime has no kernel for it and runs its definition instead, which takes the variance
as E[x^2] - E[x]^2. Rounding made that negative, and the output NaN, with a trained model.

    cpu     InstanceNormalization of [B, G, -1]: 1.1 ms instead of 1.9 ms
    cuda    LayerNormalization of [B, G, -1]: one kernel, whose variance is a sum of squares in float32 (Welford), never negative

On cuda, InstanceNormalization would be seven kernels for more than one row (cuDNN's batch normalization, and a pass of ONNX Runtime's
own over its unbiased variance), and the fused com.microsoft.GroupNorm takes E[x^2] - E[x]^2 again, without a bound from below.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from sd2rt.engine.splice import Splice


def lower_group_normalization(model: ir.Model, target: str) -> None:
    """Normalize groups as rows of [B, G, -1], then scale and shift the channels of [B, C, -1]. scale and bias: [C].

    Those whose number of channels is not known are left alone.
    """
    for node in list(model.graph):
        _, scale, bias = node.inputs if node.domain == "" and node.op_type == "GroupNormalization" else (None, None, None)
        if scale is None or scale.shape is None or not isinstance(scale.shape[0], int) or scale.dtype is None:
            continue
        groups, channels = node.attributes["num_groups"].as_int(), scale.shape[0]
        epsilon = node.attributes["epsilon"].as_float() if "epsilon" in node.attributes else 1e-5
        splice = Splice()
        column = splice.constant([channels, 1])
        grouped = splice.add("Reshape", node.inputs[0], splice.constant([0, groups, -1]))
        if target == "cpu":
            normal = _normalize_instances(splice, grouped, groups, epsilon)
        else:
            normal = _normalize_layers(splice, grouped, scale.dtype, epsilon)
        normal = splice.add("Reshape", normal, splice.constant([0, channels, -1]))
        scaled = splice.add("Mul", normal, splice.add("Reshape", scale, column))
        shifted = splice.add("Add", scaled, splice.add("Reshape", bias, column))
        splice.replace(model.graph, node, splice.add("Reshape", shifted, splice.add("Shape", node.inputs[0])))


def _normalize_instances(splice: Splice, grouped: ir.Value, groups: int, epsilon: float) -> ir.Value:
    ones, zeros = splice.constant(np.ones(groups, np.float32)), splice.constant(np.zeros(groups, np.float32))
    return splice.add("InstanceNormalization", grouped, ones, zeros, epsilon=epsilon)


def _normalize_layers(splice: Splice, grouped: ir.Value, dtype: ir.DataType, epsilon: float) -> ir.Value:
    """The operator wants a scale as long as the rows; ONNX Runtime folds it to a constant where the sizes are fixed."""
    length = splice.add("Shape", grouped, start=2)
    ones = splice.add("ConstantOfShape", length, value=ir.tensor(np.ones(1, dtype.numpy())))
    return splice.add("LayerNormalization", grouped, ones, axis=-1, epsilon=epsilon)
