"""What a float16 component that gives NaN or misses its gate falls back to, in this order:

    as exported       the graph as it is: strongly typed engines compute in the types that it says
    fp32 attention    every Attention reads and computes float32; all else stays float16, the weights in their file
    fp32              float32 throughout, weights of twice the size; inputs and outputs keep their types, since other engines
                      read and write the same memory

Knows no backend; needs onnx and onnx_ir, which only building does.
"""

from __future__ import annotations

from pathlib import Path

import onnx
import onnx_ir as ir

from sd2rt.engine.errors import BuildError, InvalidArgument
from sd2rt.engine.spec import ComponentFiles
from sd2rt.engine.weights import INLINE_BYTES, map_weights
from sd2rt.engine.widening import HALF, widen

PRECISIONS = AS_EXPORTED, FP32_ATTENTION, FP32 = ("as exported", "fp32 attention", "fp32")
GRAPH_NAME, WEIGHTS_NAME = "fp32.onnx", "fp32.bin"


def at_precision(model: onnx.ModelProto, precision: str, files: ComponentFiles, folder: Path) -> tuple[onnx.ModelProto, Path]:
    """Return the graph in one of PRECISIONS, and the folder that its weights' locations are relative to.

    `model` is the component's graph as `apply_form` gives it, its weights left in the component's files. For "fp32" they are
    written, one at a time, to `folder` (two files, which the caller removes): nothing that large is ever held in memory.
    Raises InvalidArgument for another precision, BuildError for a graph whose types cannot be inferred, OSError.
    """
    if precision not in PRECISIONS:
        raise InvalidArgument(f"precision: got {precision!r}; expected one of {', '.join(PRECISIONS)}")
    if precision == AS_EXPORTED:
        return model, files.onnx.parent
    graph = ir.from_proto(model)
    if precision == FP32_ATTENTION:
        upcast_attention(graph)
        return ir.to_proto(graph), files.onnx.parent
    map_weights(graph, files.onnx.parent)
    widen_inside(graph)
    ir.save(graph, folder / GRAPH_NAME, external_data=WEIGHTS_NAME, size_threshold_bytes=INLINE_BYTES)
    return onnx.load(folder / GRAPH_NAME, load_external_data=False), folder


def upcast_attention(model: ir.Model) -> None:
    """Cast what every Attention reads in half precision to float32, and what it then gives back, in place.

    Those that read float32 already are left alone. Raises BuildError where types cannot be inferred.
    """
    for node in [node for node in model.graph if (node.domain, node.op_type) == ("", "Attention")]:
        dtypes = {index: infer_dtype(value) for index, value in enumerate(node.inputs) if value is not None}
        narrow = next((dtypes[index] for index in range(3) if dtypes[index] in HALF), None)
        if narrow is not None:
            _widen_inputs(model.graph, node, [index for index, dtype in dtypes.items() if dtype in HALF])
            for output in node.outputs:
                _narrow_output(model.graph, node, output, narrow)


def infer_dtype(value: ir.Value) -> ir.DataType:
    """Return the type of a value that weights, inputs and casts tell: bundles declare no inner types, and ONNX's own inference stops
    at GroupNormalization. Raises BuildError where it would take more than operators that keep the type of their data.
    """
    source: ir.Value | None = value
    while source is not None:
        dtype = source.dtype if source.const_value is None else source.const_value.dtype
        node = source.producer()
        if dtype is not None:
            return dtype
        if node is None or node.domain != "":
            break
        if node.op_type == "Cast":
            return ir.DataType(node.attributes.get_int("to"))
        source = node.inputs[1 if node.op_type == "Where" else 0]
    raise BuildError(f"got an Attention of {value.name!r}, whose type cannot be inferred; export the bundle again")


def widen_inside(model: ir.Model) -> None:
    """Make everything between the graph's inputs and outputs float32, in place. Weights are read when they are written out."""
    inputs = [(value, value.dtype) for value in model.graph.inputs if value.dtype in HALF]
    outputs = [(value, value.dtype) for value in model.graph.outputs if value.dtype in HALF]
    widen(model)
    for value, narrow in inputs:
        value.dtype = narrow
        _read_wide(model.graph, value)
    for value, narrow in outputs:
        producer = value.producer()
        if producer is not None and narrow is not None:
            _narrow_output(model.graph, producer, value, narrow)


def _widen_inputs(graph: ir.Graph, node: ir.Node, indices: list[int]) -> None:
    for index in indices:
        cast = ir.node("Cast", [node.inputs[index]], {"to": ir.DataType.FLOAT.value})
        cast.outputs[0].dtype = ir.DataType.FLOAT
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
