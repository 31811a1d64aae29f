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
from sd2rt.engine.spec import BuildOptions, ComponentFiles
from sd2rt.engine.splice import Splice

HALF = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
INLINE_BYTES = 256  # smaller weights, target shapes among them, are read at once: shape inference looks at them
LOWERED_NAME = "lowered.onnx"
WEIGHTS_NAME = "lowered.bin"


def lower(files: ComponentFiles, options: BuildOptions, folder: Path) -> Path:
    """Write the lowered graph, with its weights beside it, into `folder`; return the graph's path.

    Raises BundleError when the graph cannot be read or names data outside the component, BuildError when it is not a standard one.
    """
    model = _read(files)
    if "" not in model.opset_imports:
        raise BuildError(f"{files.name}: got a graph without the standard ONNX operators; export the bundle again")
    common.InlinePass()(model)
    _fix_sizes(model.graph, options)
    _to_float32(model)
    if model.opset_imports[""] >= 21:  # before, scale and bias were per group
        _lower_group_normalization(model)
    common.ShapeInferencePass(check_type=False, strict_mode=False)(model)  # bundles carry no inner shapes and types
    _drop_casts(model)
    lower_attention(model)
    common.RemoveUnusedNodesPass()(model)
    common.ClearMetadataAndDocStringPass()(model)
    path = folder / LOWERED_NAME
    ir.save(model, path, external_data=WEIGHTS_NAME, size_threshold_bytes=INLINE_BYTES)
    return path


def _read(files: ComponentFiles) -> ir.Model:
    """Read the graph; weights stay in their file. Only the component's own data files may be named."""
    try:
        model = ir.load(files.onnx)
    except Exception as error:  # protobuf and onnx_ir raise several unrelated types on damaged files
        raise BundleError(f"{files.onnx}: not a readable ONNX graph; export the bundle again") from error
    allowed = {path.name for path in files.data}
    for graph in model.graphs():
        for value in graph.initializers.values():
            tensor = value.const_value
            if not isinstance(tensor, ir.ExternalTensor):
                continue
            if tensor.location not in allowed:
                where = f"weight {value.name!r} lies in {str(tensor.location)!r}"
                raise BundleError(f"{files.onnx}: {where}; expected one of {sorted(allowed)}")
            if tensor.nbytes <= INLINE_BYTES:
                value.const_value = ir.tensor(tensor.numpy().copy(), name=tensor.name)
    return model


def _fix_sizes(graph: ir.Graph, options: BuildOptions) -> None:
    """Give the axes named batch, height and width of the inputs, and so of the outputs, the sizes that the caller has fixed."""
    height, width = options.size or (None, None)
    sizes = {name: size for name, size in {"batch": options.batch, "height": height, "width": width}.items() if size is not None}
    named = {dim.value for value in graph.inputs for dim in value.shape or () if isinstance(dim, ir.SymbolicDim)}
    fixed = {name: size for name, size in sizes.items() if name in named}
    for value in (*graph.inputs, *graph.outputs):
        if fixed and value.shape is not None:
            value.shape = ir.Shape([fixed.get(str(dim.value), dim) if isinstance(dim, ir.SymbolicDim) else dim for dim in value.shape])


def _to_float32(model: ir.Model) -> None:
    """Make every half-precision value and weight, and every cast to half precision, float32, in place."""
    for graph in model.graphs():
        for value in (*graph.inputs, *graph.initializers.values()):
            _widen(value)
        for node in graph:
            _widen_attributes(node)
            for value in node.outputs:
                _widen(value)


def _drop_casts(model: ir.Model) -> None:
    """Remove casts from float32 to float32, which is what those around half precision have become."""
    for node in list(model.graph):
        source, result = (node.inputs[0], node.outputs[0]) if node.op_type == "Cast" else (None, None)
        if source is None or result is None or source.dtype != ir.DataType.FLOAT or result.dtype != ir.DataType.FLOAT:
            continue
        if not result.is_graph_output():  # there, ONNX Runtime drops it and keeps the name
            ir.convenience.replace_all_uses_with(result, source)
            model.graph.remove(node, safe=True)


def _widen(value: ir.Value) -> None:
    """Make a value, and its weights, float32 if they are of half precision. The weights are read when they are written out."""
    tensor = value.const_value
    if (value.dtype if tensor is None else tensor.dtype) not in HALF:  # files need not declare the type of a weight
        return
    value.dtype = ir.DataType.FLOAT
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
    """Normalize groups as the channels of [B, G, -1], then scale and shift the channels of [B, C, -1]. scale and bias: [C]."""
    for node in list(model.graph):
        _, scale, bias = node.inputs if node.domain == "" and node.op_type == "GroupNormalization" else (None, None, None)
        if scale is None or scale.shape is None or not isinstance(scale.shape[0], int):
            continue
        groups, channels = node.attributes["num_groups"].as_int(), scale.shape[0]
        epsilon = node.attributes["epsilon"].as_float() if "epsilon" in node.attributes else 1e-5
        splice = Splice()
        column = splice.constant([channels, 1])
        grouped = splice.add("Reshape", node.inputs[0], splice.constant([0, groups, -1]))
        ones, zeros = splice.constant(np.ones(groups, np.float32)), splice.constant(np.zeros(groups, np.float32))
        normal = splice.add("InstanceNormalization", grouped, ones, zeros, epsilon=epsilon)
        normal = splice.add("Reshape", normal, splice.constant([0, channels, -1]))
        scaled = splice.add("Mul", normal, splice.add("Reshape", scale, column))
        shifted = splice.add("Add", scaled, splice.add("Reshape", bias, column))
        splice.replace(model.graph, node, splice.add("Reshape", shifted, splice.add("Shape", node.inputs[0])))
