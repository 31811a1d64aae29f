"""The names of a graph's axes, as an engine's manifest keeps them: TensorRT forgets them, and loading an engine reads no ONNX."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sd2rt.engine.errors import EngineError
from sd2rt.engine.feeds import UNNAMED
from sd2rt.engine.manifest import Field, Manifest
from sd2rt.engine.spec import Range

TENSORS = "tensors"  # the note's name


def axis_names(model: Any) -> dict[str, Field]:
    """Return, for every input and output of an `onnx.ModelProto`, its axes: their name, their size in digits, or "?" for neither."""
    weights = {tensor.name for tensor in model.graph.initializer}
    values = [*(value for value in model.graph.input if value.name not in weights), *model.graph.output]
    return {value.name: [_axis(dim) for dim in value.type.tensor_type.shape.dim] for value in values}


def _axis(dim: Any) -> str:
    return str(dim.dim_value) if dim.HasField("dim_value") else dim.dim_param or UNNAMED


def read_axis_names(manifest: Manifest) -> dict[str, tuple[int | str, ...]]:
    """Return what `axis_names` noted in an engine's manifest. Raises EngineError when there is no such note."""
    noted = manifest.notes.get(TENSORS)
    if not isinstance(noted, dict) or not all(isinstance(axes, list) for axes in noted.values()):
        again = "build it again: sd2rt engines prune --all, then sd2rt build"
        raise EngineError(f"{manifest.component}: got an engine whose manifest does not name its axes; {again}")
    return {name: tuple(_read(name, index, axis) for index, axis in enumerate(axes)) for name, axes in noted.items()}


def read_ranges(manifest: Manifest) -> dict[str, Range]:
    """Return the sizes of named axes that an engine was built for: smallest, usual, largest; nothing where its manifest does not say."""
    axes = manifest.fields.get("axes")
    found = axes.items() if isinstance(axes, Mapping) else ()
    return {name: (sizes[0], sizes[1], sizes[2]) for name, sizes in found if isinstance(sizes, list)}  # type: ignore[misc]


def _read(tensor: str, index: int, axis: str) -> int | str:
    """Return a size as a number; an axis without a name gets one of its own."""
    return int(axis) if axis.isdigit() else f"{tensor}.{index}" if axis == UNNAMED else axis
