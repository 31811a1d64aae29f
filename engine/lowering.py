"""Lower a component's canonical graph (opset 23) to the operators that ONNX Runtime has its fastest kernels for.

                          cpu                                             cuda
    float16               float32: the kernels are float32 only           kept; attention that the bundle upcasts stays float32
    Attention             com.microsoft.MultiHeadAttention (lower_attention): flash attention, no transposes
    GroupNormalization    InstanceNormalization (lower_group_norm)        LayerNormalization (lower_group_norm)
    gated feed-forward    a product per half (lower_gates)                kept
    large convolutions    Winograd along the height (lower_winograd)      kept

Weights are read, converted and written one at a time, from a memory map: a whole SD2 UNet (float32, 3.5 GB) is never held.
Knows no cache and no ONNX Runtime; needs onnx and onnx_ir, which only building does.
"""

from __future__ import annotations

from pathlib import Path

import onnx
import onnx_ir as ir
from onnx_ir.passes import common

from sd2rt.engine.errors import BuildError
from sd2rt.engine.lower_attention import lower_attention
from sd2rt.engine.lower_casts import drop_casts, hoist_casts
from sd2rt.engine.lower_gates import lower_gates
from sd2rt.engine.lower_group_norm import lower_group_normalization
from sd2rt.engine.lower_int8 import widen_convolutions
from sd2rt.engine.lower_winograd import lower_convolutions
from sd2rt.engine.weights import INLINE_BYTES, map_weights
from sd2rt.engine.widening import widen

LOWERED_NAME = "lowered.onnx"
WEIGHTS_NAME = "lowered.bin"


def lower_graph(component: str, proto: onnx.ModelProto, root: Path, folder: Path, target: str) -> Path:
    """Write a graph, lowered for `target` ("cpu" or "cuda"), with its weights beside it, into `folder`; return the graph's path.

    `proto` is a component's graph as `apply_form` gives it, which has checked that its weights lie in files of the component's, here
    named relative to `root`. Raises BuildError for one that is not a standard graph.
    """
    model = ir.from_proto(proto)
    if "" not in model.opset_imports:
        raise BuildError(f"{component}: got a graph without the standard ONNX operators; export the bundle again")
    map_weights(model, root)
    common.InlinePass()(model)
    if target == "cpu":
        widen(model)
        widen_convolutions(model)
    if model.opset_imports[""] >= 21:  # before, scale and bias were per group
        lower_group_normalization(model, target)
    common.ShapeInferencePass(check_type=False, strict_mode=False)(model)  # bundles carry no inner shapes and types
    drop_casts(model)
    hoist_casts(model)
    lower_attention(model)
    if target == "cpu":
        lower_gates(model)
        lower_convolutions(model)
    common.RemoveUnusedNodesPass()(model)
    common.ClearMetadataAndDocStringPass()(model)
    path = folder / LOWERED_NAME
    ir.save(model, path, external_data=WEIGHTS_NAME, size_threshold_bytes=INLINE_BYTES)
    return path
