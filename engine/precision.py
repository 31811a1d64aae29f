"""What a float16 component that gives NaN or misses its gate falls back to, in this order:

    as exported       the graph as it is: strongly typed engines compute in the types that it says
    fp32 attention    every Attention reads and computes float32; all else stays float16, the weights in their file
    fp32              float32 throughout, weights of twice the size; inputs and outputs keep their types, since other engines
                      read and write the same memory

Knows no backend; needs onnx and onnx_ir, which only building does.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
from onnx_ir.passes import common

from sd2rt.engine.errors import BuildError, BundleError, InvalidArgument
from sd2rt.engine.spec import ComponentFiles

PRECISIONS = AS_EXPORTED, FP32_ATTENTION, FP32 = ("as exported", "fp32 attention", "fp32")
HALF = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
GRAPH_NAME, WEIGHTS_NAME = "fp32.onnx", "fp32.bin"
INLINE_BYTES = 256  # smaller weights, target shapes among them, are written into the graph: parsers look at them


def at_precision(model: onnx.ModelProto, precision: str, files: ComponentFiles, folder: Path) -> tuple[onnx.ModelProto, Path]:
    """Return the graph in one of PRECISIONS, and the folder that its weights' locations are relative to.

    `model` is the component's graph, whole or merged with others, its weights left in the component's files. For "fp32" they are
    written, one at a time, to `folder` (two files, which the caller removes): nothing that large is ever held in memory.
    Raises InvalidArgument for another precision, BuildError for a graph whose types cannot be inferred, BundleError for weights
    outside the component's files, OSError.
    """
    if precision not in PRECISIONS:
        raise InvalidArgument(f"precision: got {precision!r}; expected one of {', '.join(PRECISIONS)}")
    if precision == AS_EXPORTED:
        return model, files.onnx.parent
    graph = ir.from_proto(model)
    if precision == FP32_ATTENTION:
        upcast_attention(graph)
        return ir.to_proto(graph), files.onnx.parent
    _find_weights(graph, files)
    to_float32(graph)
    ir.save(graph, folder / GRAPH_NAME, external_data=WEIGHTS_NAME, size_threshold_bytes=INLINE_BYTES)
    return onnx.load(folder / GRAPH_NAME, load_external_data=False), folder


def upcast_attention(model: ir.Model) -> None:
    """Cast what every Attention reads in half precision to float32, and what it then gives back, in place.

    Those that read float32 already are left alone. Raises BuildError where types cannot be inferred.
    """
    common.ShapeInferencePass(check_type=False, strict_mode=False)(model)  # bundles carry no inner types
    for node in [node for node in model.graph if (node.domain, node.op_type) == ("", "Attention")]:
        unknown = [value.name for value in node.inputs if value is not None and value.dtype is None]
        if unknown:
            raise BuildError(f"got an Attention of {unknown[0]!r}, whose type cannot be inferred; export the bundle again")
        narrow = next((value.dtype for value in node.inputs[:3] if value is not None and value.dtype in HALF), None)
        if narrow is not None:
            _widen_inputs(model.graph, node)
            for output in node.outputs:
                _narrow_output(model.graph, node, output, narrow)


def to_float32(model: ir.Model) -> None:
    """Make every half-precision value, weight and constant between the graph's inputs and outputs float32, in place.

    Weights are read, one at a time, when they are written out.
    """
    inputs = [value for value in model.graph.inputs if value.dtype in HALF]
    outputs = [(value, value.dtype) for value in model.graph.outputs if value.dtype in HALF]
    for graph in model.graphs():
        for value in graph.initializers.values():
            _widen(value)
        for node in graph:
            _widen_attributes(node)
            for value in node.outputs:
                _widen(value)
    for value in inputs:
        _read_wide(model.graph, value)
    for value, narrow in outputs:
        producer = value.producer()
        if producer is not None and narrow is not None:
            _narrow_output(model.graph, producer, value, narrow)


def _find_weights(model: ir.Model, files: ComponentFiles) -> None:
    """Let weights be read from the component's own files, by whole paths: given others, onnx_ir refuses files with hard links."""
    paths = {path.name: str(path.absolute()) for path in files.data}
    for value in model.graph.initializers.values():
        tensor = value.const_value
        if isinstance(tensor, ir.ExternalTensor):
            location = str(tensor.location)
            if location not in paths:
                raise BundleError(f"{files.onnx}: weight {tensor.name!r} lies in {location!r}; expected one of {sorted(paths)}")
            own = ir.ExternalTensor(paths[location], tensor.offset, tensor.length, tensor.dtype, shape=tensor.shape, name=tensor.name)
            value.const_value = own


def _widen_inputs(graph: ir.Graph, node: ir.Node) -> None:
    for index, value in enumerate(node.inputs):
        if value is not None and value.dtype in HALF:
            cast = ir.node("Cast", [value], {"to": ir.DataType.FLOAT.value})
            cast.outputs[0].dtype, cast.outputs[0].shape = ir.DataType.FLOAT, value.shape
            graph.insert_before(node, cast)
            node.replace_input_with(index, cast.outputs[0])


def _narrow_output(graph: ir.Graph, node: ir.Node, wide: ir.Value, narrow: ir.DataType) -> None:
    """Make `wide`, an output of `node`, float32, and give all that reads it, the graph's output too, a cast back to `narrow`."""
    back = ir.node("Cast", [wide], {"to": narrow.value})
    cast = back.outputs[0]
    cast.dtype, cast.shape, wide.dtype = narrow, wide.shape, ir.DataType.FLOAT
    if wide.is_graph_output():
        cast.name, wide.name = wide.name, f"{wide.name}.wide"
    graph.insert_after(node, back)
    ir.convenience.replace_all_uses_with(wide, cast, replace_graph_outputs=True)
    back.replace_input_with(0, wide)


def _read_wide(graph: ir.Graph, value: ir.Value) -> None:
    """Let everything that reads one of the graph's inputs read it as float32."""
    cast = ir.node("Cast", [value], {"to": ir.DataType.FLOAT.value})
    cast.outputs[0].dtype, cast.outputs[0].shape = ir.DataType.FLOAT, value.shape
    ir.convenience.replace_all_uses_with(value, cast.outputs[0])
    cast.replace_input_with(0, value)
    graph.insert_before(graph[0], cast)


def _widen(value: ir.Value) -> None:
    """Make a value, and its weights, float32 if they are of half precision."""
    tensor = value.const_value
    if value.dtype not in HALF and (tensor is None or tensor.dtype not in HALF):
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
