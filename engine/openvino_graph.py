"""A component's graph in the form that OpenVINO's engines are compiled from: weights in the type that the CPU computes in.

Knows no cache. Only the modules named `openvino...` import openvino.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import openvino

from sd2rt.engine.openvino_passes import simplify
from sd2rt.engine.openvino_run import GRAPH_NAME, write_shapes

if TYPE_CHECKING:
    import onnx

HALF_AS_BF16 = "bf16 for float16"  # what was exported in float32 stays so
AT_ONCE = 1 << 20  # weights that are rounded at once: they stay in the CPU's cache
HALF, BF16, SINGLE = openvino.Type.f16, openvino.Type.bf16, openvino.Type.f32

Shapes = Mapping[str, list[str | int]]
"""By the names of inputs and outputs; an axis that varies has a name, "?" where it needs none."""


def named_shapes(values: Iterable[onnx.ValueInfoProto]) -> dict[str, list[str | int]]:
    """Return the shapes of inputs or outputs with the axes' names, which OpenVINO does not keep."""
    return {
        value.name: [axis.dim_value if axis.HasField("dim_value") else axis.dim_param or "?" for axis in value.type.tensor_type.shape.dim]
        for value in values
    }


def write_graph(source: Path, chosen: str, shapes: Shapes, folder: Path) -> str:
    """Write an ONNX graph in OpenVINO's form to a folder; return the precision, bf16 or f32, that it is for.

    `chosen` is one of the two, or HALF_AS_BF16, which leaves it to the component; `shapes` are kept for the engine.
    Raises RuntimeError, or what OpenVINO's bindings make of it.
    """
    model = openvino.Core().read_model(source)
    precision = _component_precision(model, chosen)
    if precision == "bf16" and not _has_int8(model):  # whose ranges bfloat16 is too coarse for: what OpenVINO converts keeps them
        _narrow(model)
    simplify(model)
    model = _take_floats(model)
    write_shapes(model, shapes)
    openvino.save_model(model, folder / GRAPH_NAME, compress_to_fp16=False)
    return precision


def _component_precision(model: openvino.Model, chosen: str) -> str:
    """Return bf16 or f32: a component that was exported in float32 needs that."""
    if chosen != HALF_AS_BF16:
        return chosen
    sizes = dict.fromkeys((HALF, SINGLE), 0)
    for node in _constants(model):
        kind = node.get_element_type()
        if kind in sizes:
            sizes[kind] += node.get_byte_size()
    return "bf16" if sizes[HALF] > sizes[SINGLE] else "f32"


def _has_int8(model: openvino.Model) -> bool:
    return any(node.get_element_type() == openvino.Type.i8 for node in _constants(model))


def _constants(model: openvino.Model) -> Iterator[Any]:
    return (node for node in model.get_ordered_ops() if node.get_type_name() == "Constant")


def _narrow(model: openvino.Model) -> None:
    """Turn half precision into bfloat16 everywhere, so that OpenVINO need not make floats of all weights first."""
    for parameter in model.get_parameters():
        if parameter.get_element_type() == HALF:
            parameter.set_element_type(BF16)
    for node in model.get_ordered_ops():
        kind = node.get_type_name()
        if kind not in ("Constant", "Convert") or node.get_element_type() != HALF:
            continue
        if kind == "Constant":
            replacement = openvino.op.Constant(to_bf16(node.data), shared_memory=True)
        else:
            replacement = openvino.opset13.convert(node.input_value(0), "bf16")
        replacement.set_friendly_name(node.get_friendly_name())
        node.output(0).replace(replacement.output(0))
    model.validate_nodes_and_infer_types()


def to_bf16(values: npt.NDArray[np.float16]) -> openvino.Tensor:
    """Round to the nearest bfloat16, ties to even: the upper half of a float32's bits. Infinities stay."""
    tensor = openvino.Tensor(BF16, list(values.shape))
    source, target = values.reshape(-1), tensor.data.view(np.uint16).reshape(-1)
    for first in range(0, source.size, AT_ONCE):
        bits = source[first : first + AT_ONCE].astype(np.float32).view(np.uint32)
        bits += 0x7FFF + (bits >> 16 & 1)
        target[first : first + AT_ONCE] = bits >> 16
    return tensor


def _take_floats(model: openvino.Model) -> openvino.Model:
    """Have the model take and give float32 where it has a narrower type: engines on the host do."""
    steps = openvino.preprocess.PrePostProcessor(model)
    for index, port in enumerate(model.inputs):
        if port.element_type in (HALF, BF16):
            steps.input(index).tensor().set_element_type(SINGLE)
    for index, port in enumerate(model.outputs):
        if port.element_type in (HALF, BF16):
            steps.output(index).tensor().set_element_type(SINGLE)
    return steps.build()
