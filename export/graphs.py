"""ONNX graphs that others exported, given the inputs and outputs that bundles have: one row's timestep for all, our names of axes.

Nothing inside a graph is changed. What can be: `timestep` may be a scalar or one number for all rows there, of any number type, and is a
row of floats in bundles; further outputs go. External weights stay in their file. Knows no folder beyond the graph's own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from sd2rt.engine.errors import ExportError

DTYPES = {TensorProto.FLOAT: "float32", TensorProto.FLOAT16: "float16", TensorProto.INT64: "int64", TensorProto.INT32: "int32"}
OLDEST_OPSET = 14
Shape = tuple[int | str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """The inputs and outputs of a component in a bundle by name, with their shapes."""

    inputs: Mapping[str, Shape]
    outputs: Mapping[str, Shape]


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapted:
    """A graph that has its signature: dtypes by tensor name, the weights' dtype, its opset, and the files of its external weights."""

    model: onnx.ModelProto
    dtypes: Mapping[str, str]
    dtype: str
    opset: int
    data: tuple[Path, ...]


def read_graph(file: Path, signature: Signature) -> Adapted:
    """Read a graph without its external weights and give it the signature. Raises ExportError saying what does not fit."""
    try:
        model = onnx.load(str(file), load_external_data=False)
    except Exception as error:  # protobuf's DecodeError has no base but Exception
        raise ExportError(f"cannot read {file} ({type(error).__name__}): expected an ONNX graph") from error
    opset = max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0)
    if opset < OLDEST_OPSET:
        raise ExportError(f"{file}: opset {opset}; expected {OLDEST_OPSET} or newer: export it again")
    data = _external_files(file, model)
    for found, wanted, kind in ((model.graph.input, signature.inputs, "inputs"), (model.graph.output, signature.outputs, "outputs")):
        names = [value.name for value in found]
        if set(wanted) - set(names) or (kind == "inputs" and set(names) - set(wanted)):
            raise ExportError(f"{file}: {kind} {', '.join(names) or 'none'}; expected {', '.join(wanted)}")
    if "timestep" in signature.inputs:
        _take_rows(model.graph)
    for kind, wanted in (("input", signature.inputs), ("output", signature.outputs)):
        _reshape(model.graph, kind, wanted, file)
    del model.graph.value_info[:]  # they name the axes as they were called before
    dtypes = {value.name: DTYPES[value.type.tensor_type.elem_type] for value in (*model.graph.input, *model.graph.output)}
    output = next(iter(signature.outputs))
    return Adapted(model=model, dtypes=dtypes, dtype=dtypes[output], opset=opset, data=data)


def write_graph(adapted: Adapted, file: Path) -> None:
    """Write the graph; external weights are the caller's to put beside it."""
    file.write_bytes(adapted.model.SerializeToString())


def _external_files(file: Path, model: onnx.ModelProto) -> tuple[Path, ...]:
    """Return the files that a graph's weights lie in. Raises ExportError for one that is missing or not beside the graph."""
    locations = {
        entry.value
        for tensor in model.graph.initializer
        if tensor.data_location == TensorProto.EXTERNAL
        for entry in tensor.external_data
        if entry.key == "location"
    }
    for location in sorted(locations):
        path = file.parent / location
        if Path(location).name != location:
            raise ExportError(f"{file}: weights in {location!r}; expected a file beside the graph")
        if not path.is_file():
            raise ExportError(f"{file}: its weights, {location}, are missing")
    return tuple(file.parent / location for location in sorted(locations))


def _take_rows(graph: onnx.GraphProto) -> None:
    """Let `timestep` be float32 [batch], all alike, whatever the graph takes: its first number then goes in."""
    old = next(value for value in graph.input if value.name == "timestep")
    shape, kind = old.type.tensor_type.shape, old.type.tensor_type.elem_type
    inner = "sd2rt_timestep"
    for node in graph.node:
        _rename(node, "timestep", inner)
    index = numpy_helper.from_array(np.array([0] if len(shape.dim) else 0, np.int64), "sd2rt_first_row")
    graph.initializer.append(index)
    picked = inner if kind == TensorProto.FLOAT else f"{inner}_float"
    added = [helper.make_node("Gather", ["timestep", index.name], [picked], name="sd2rt_pick_timestep")]
    if picked != inner:
        added.append(helper.make_node("Cast", [picked], [inner], name="sd2rt_cast_timestep", to=kind))
    nodes = [*added, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    old.type.tensor_type.elem_type = TensorProto.FLOAT


def _rename(node: onnx.NodeProto, old: str, new: str) -> None:
    """Rename an input of a node, and of the nodes in the graphs that it holds."""
    for index, name in enumerate(node.input):
        if name == old:
            node.input[index] = new
    for attribute in node.attribute:
        for inner in attribute.g.node:
            _rename(inner, old, new)


def _reshape(graph: onnx.GraphProto, kind: str, wanted: Mapping[str, Shape], file: Path) -> None:
    """Keep the wanted inputs or outputs alone, in our order, with our axes. Raises ExportError for other types and fixed sizes."""
    values = {value.name: value for value in getattr(graph, kind)}
    kept = []
    for name, shape in wanted.items():
        tensor = values[name].type.tensor_type
        if tensor.elem_type not in DTYPES:
            raise ExportError(
                f"{file}: {name} is {TensorProto.DataType.Name(tensor.elem_type)}; expected one of {', '.join(DTYPES.values())}"
            )
        if name != "timestep":
            _check_shape(file, name, [dim.dim_value or dim.dim_param for dim in tensor.shape.dim], shape)
        kept.append(helper.make_tensor_value_info(name, tensor.elem_type, list(shape)))
    del getattr(graph, kind)[:]
    getattr(graph, kind).extend(kept)


def _check_shape(file: Path, name: str, got: list[int | str], wanted: Shape) -> None:
    """Raise ExportError where a graph fixes an axis that a bundle leaves free, or has another size than its config says."""
    fits = len(got) == len(wanted) and all(isinstance(have, str) or have == want for have, want in zip(got, wanted, strict=True))
    if not fits:
        raise ExportError(f"{file}: {name} has shape {got}; expected {list(wanted)}: export it without fixed sizes")
