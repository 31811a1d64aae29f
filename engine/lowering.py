"""Lower a bundle's canonical graph (opset 23) to the form that ONNX Runtime's CPU kernels like best.

    float16 weights and activations   -> float32 (the CPU kernels are float32 only), casts between them dropped
    Attention                         -> com.microsoft.MultiHeadAttention (lower_attention)
    GroupNormalization                -> Reshape, InstanceNormalization, Reshape, Mul, Add: 1.1 ms instead of 1.9 ms

Weights are converted one at a time while they are written, from a memory map: a whole SD2 UNet (float32, 3.5 GB) is never held.
Knows no cache and no ONNX Runtime; needs onnx and onnx_ir, which only building does.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from sd2rt.engine.errors import BuildError, BundleError
from sd2rt.engine.lower_attention import lower_attention
from sd2rt.engine.spec import ComponentFiles
from sd2rt.engine.splice import Splice

HALF = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
LOWERED_NAME = "lowered.onnx"
WEIGHTS_NAME = "lowered.bin"


def lower(files: ComponentFiles, folder: Path) -> Path:
    """Write the lowered graph, with its weights beside it, into `folder`; return the graph's path.

    Raises BundleError when the graph cannot be read or names data outside the component, BuildError when it cannot be lowered.
    """
    model = _read(files)
    if "" not in model.opset_imports:
        raise BuildError(f"{files.name}: got a graph without the standard ONNX operators; export the bundle again")
    common.InlinePass()(model)
    _to_float32(model)
    lower_attention(model)
    if model.opset_imports[""] >= 21:  # before, scale and bias were per group
        _lower_group_normalization(model)
    common.RemoveUnusedNodesPass()(model)
    common.ClearMetadataAndDocStringPass()(model)
    path = folder / LOWERED_NAME
    ir.save(model, path, external_data=WEIGHTS_NAME)
    return path


def _read(files: ComponentFiles) -> ir.Model:
    """Read the graph; weights stay in their file. Only the component's own data files may be named."""
    try:
        model = ir.load(files.onnx)
    except Exception as error:  # protobuf and onnx_ir raise several unrelated types on damaged files
        raise BundleError(f"{files.onnx}: not a readable ONNX graph ({error}); export the bundle again") from error
    allowed = {path.name for path in files.data}
    for graph in model.graphs():
        for value in graph.initializers.values():
            tensor = value.const_value
            if isinstance(tensor, ir.ExternalTensor) and str(tensor.location) not in allowed:
                where = str(tensor.location)
                raise BundleError(f"{files.onnx}: weight {value.name!r} lies in {where!r}; expected one of {sorted(allowed)}")
    return model


def _to_float32(model: ir.Model) -> None:
    """Make every half-precision value, weight and cast float32, in place."""
    for graph in model.graphs():
        for value in (*graph.inputs, *graph.initializers.values()):
            _widen(value)
        for node in list(graph):
            for value in node.outputs:
                _widen(value)
            _widen_attributes(node)
            source = node.inputs[0] if node.inputs else None
            if node.op_type == "Cast" and source is not None and source.dtype == node.outputs[0].dtype == ir.DataType.FLOAT:
                if node.outputs[0].is_graph_output():
                    continue  # ONNX Runtime drops it
                ir.convenience.replace_all_uses_with(node.outputs[0], source)
                graph.remove(node, safe=True)


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


def _lower_group_normalization(model: ir.Model) -> None:
    """Normalize groups as the channels of [B, G, -1], then scale and shift per channel. x: [B, C, ...], scale and bias: [C]."""
    for node in list(model.graph):
        x, scale, bias = node.inputs if node.domain == "" and node.op_type == "GroupNormalization" else (None, None, None)
        if x is None or x.shape is None:
            continue
        groups = node.attributes.get_int("num_groups")
        splice = Splice()
        grouped = splice.add("Reshape", x, splice.constant([0, groups, -1]))
        ones, zeros = splice.constant(np.ones(groups, np.float32)), splice.constant(np.zeros(groups, np.float32))
        epsilon = node.attributes["epsilon"].as_float() if "epsilon" in node.attributes else 1e-5
        normal = splice.add("InstanceNormalization", grouped, ones, zeros, epsilon=epsilon)
        normal = splice.add("Reshape", normal, splice.add("Shape", x))
        per_channel = splice.constant([-1, *[1] * (x.shape.rank() - 2)])
        scaled = splice.add("Mul", normal, splice.add("Reshape", scale, per_channel))
        shifted = splice.add("Add", scaled, splice.add("Reshape", bias, per_channel))
        splice.replace(model.graph, node, shifted)
