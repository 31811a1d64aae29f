"""Small ONNX graphs written as text around a component's graph: what must be known of it, parsing, and merging. Knows no component."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import onnx
import onnx.compose
import onnx.parser

from sd2rt.engine.errors import BuildError

OLDEST_OPSET = 18  # from here on the operators that the texts use take their axes as inputs


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """An input or output of a component: ONNX's number of its element type, and its axes, those not fixed by name ("" without)."""

    name: str
    element_type: int
    axes: tuple[int | str, ...]

    @property
    def dtype(self) -> str:
        """The element type as ONNX text has it: "float", "float16", "int64"."""
        return str(onnx.TensorProto.DataType.Name(self.element_type)).lower()

    @property
    def channels(self) -> int:
        """Size of the second of four axes. Raises BuildError where the graph does not fix it."""
        channels = self.axes[1] if len(self.axes) == 4 else ""
        if not isinstance(channels, int):
            expected = "batch, a fixed number of channels, height, width"
            raise BuildError(f"{self.name}: got axes {list(self.axes)}; expected {expected}: export the bundle again")
        return channels


def tensors(model: onnx.ModelProto, inputs: Iterable[str], outputs: Iterable[str], oldest_opset: int = OLDEST_OPSET) -> dict[str, Tensor]:
    """Return the component's inputs and outputs by name.

    Raises BuildError when it lacks one of those named here, or is of an older opset than the texts can be merged with.
    """
    found_inputs = {value.name: _tensor(value) for value in model.graph.input}
    found_outputs = {value.name: _tensor(value) for value in model.graph.output}
    missing = [*(name for name in inputs if name not in found_inputs), *(name for name in outputs if name not in found_outputs)]
    if missing:
        got = f"{', '.join(found_inputs) or 'nothing'} -> {', '.join(found_outputs) or 'nothing'}"
        raise BuildError(f"got a graph of {got}; expected {', '.join(inputs)} -> {', '.join(outputs)}: export the bundle again")
    if _opset(model) < oldest_opset:
        raise BuildError(f"got a graph of opset {_opset(model)}; expected at least {oldest_opset}: export the bundle again")
    return found_inputs | found_outputs


def parse_graph(text: str, model: onnx.ModelProto, prefix: str) -> onnx.GraphProto:
    """Parse a graph to be merged with the model's; all names but its inputs' and outputs' get the prefix."""
    header = f'<ir_version: {model.ir_version}, opset_import: ["": {_opset(model)}]>'
    graph = onnx.parser.parse_model(header + text).graph
    return onnx.compose.add_prefix_graph(graph, prefix, rename_inputs=False, rename_outputs=False)


def connect(first: onnx.GraphProto, second: onnx.GraphProto) -> onnx.GraphProto:
    """Merge two graphs, outputs of the first with the second's inputs of the same name.

    Raises BuildError when other values of the two share a name.
    """
    wanted = {value.name for value in second.input}
    shared = [(value.name, value.name) for value in first.output if value.name in wanted]
    try:
        return onnx.compose.merge_graphs(first, second, shared, doc_string="")
    except ValueError as error:
        raise BuildError(f"got a graph that cannot be merged ({' '.join(str(error).split())}): export the bundle again") from error


def with_graph(model: onnx.ModelProto, graph: onnx.GraphProto) -> onnx.ModelProto:
    """Return the model with another graph: operators, functions and IR version stay."""
    made = onnx.helper.make_model(graph, opset_imports=model.opset_import, functions=model.functions)
    made.ir_version = model.ir_version
    return made


def _opset(model: onnx.ModelProto) -> int:
    """Return the version of the standard operators, 0 where there are none."""
    return max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0)


def _tensor(value: onnx.ValueInfoProto) -> Tensor:
    kind = value.type.tensor_type
    axes = tuple(axis.dim_value if axis.HasField("dim_value") else axis.dim_param for axis in kind.shape.dim)
    return Tensor(name=value.name, element_type=kind.elem_type, axes=axes)
