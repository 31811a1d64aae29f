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
INLINE_BYTES = 256  # smaller weights, target shapes among them, are read at once: shape inference looks at them
LOWERED_NAME = "lowered.onnx"
WEIGHTS_NAME = "lowered.bin"


def lower(files: ComponentFiles, folder: Path) -> Path:
    """Write the lowered graph, with its weights beside it, into `folder`; return the graph's path.

    Raises BundleError when the graph cannot be read or names data outside the component, BuildError when it is not a standard one.
    """
    model = _read(files)
    if "" not in model.opset_imports:
        raise BuildError(f"{files.name}: got a graph without the standard ONNX operators; export the bundle again")
    common.InlinePass()(model)
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
    """Read the graph; weights stay in their file. Only the component's own data files, which the caller has hashed, may be named."""
    try:
        model = ir.load(files.onnx)
    except Exception as error:  # protobuf and onnx_ir raise several unrelated types on damaged files
        raise BundleError(f"{files.onnx}: not a readable ONNX graph; export the bundle again") from error
    roots: tuple[ir.Graph | ir.Function, ...] = (model.graph, *model.functions.values())
    for node in (node for root in roots for node in root.all_nodes()):
        _refuse_external_attributes(files, node)
    for graph in (model.graph, *(graph for root in roots for graph in root.subgraphs())):
        for value in graph.initializers.values():
            if isinstance(value.const_value, ir.ExternalTensor):
                value.const_value = _from_own_file(files, value.const_value)
            if value.const_value is not None:  # a file may name a weight without saying its type and shape
                value.dtype, value.shape = value.const_value.dtype, ir.Shape(value.const_value.shape.numpy())
    return model


def _from_own_file(files: ComponentFiles, tensor: ir.ExternalTensor) -> ir.TensorProtocol:
    """Point a weight at the data file of the component that it names; a small one is read at once.

    Given a whole path, onnx_ir skips its own check, which refuses files of several hard links: uv, conda and `cp -al` make them.
    """
    paths = {path.name: str(path.absolute()) for path in files.data}
    location = str(tensor.location)
    if location not in paths:
        raise BundleError(f"{files.onnx}: weight {tensor.name!r} lies in {location!r}; expected one of {sorted(paths)}")
    own = ir.ExternalTensor(paths[location], tensor.offset, tensor.length, tensor.dtype, shape=tensor.shape, name=tensor.name)
    return ir.tensor(own.numpy().copy(), name=own.name) if own.nbytes <= INLINE_BYTES else own


def _refuse_external_attributes(files: ComponentFiles, node: ir.Node) -> None:
    """Raise BundleError when a tensor in a node's attributes, such as a Constant's value, lies in a file: bundles have none."""
    for attribute in node.attributes.values():
        single = attribute.type == ir.AttributeType.TENSOR
        tensors = (attribute.value,) if single else attribute.value if attribute.type == ir.AttributeType.TENSORS else ()
        for tensor in tensors or ():
            if isinstance(tensor, ir.ExternalTensor):
                where = f"{attribute.name!r} of a {node.op_type} lies in {str(tensor.location)!r}"
                raise BundleError(f"{files.onnx}: {where}; expected it in the graph: export the bundle again")


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
