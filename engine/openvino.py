"""The `openvino` backend: OpenVINO's CPU plugin on the component's graph, half precision as bfloat16 where the CPU computes in it.

An engine is OpenVINO's own form of the graph, for all sizes, with weights in the type that the CPU computes in; it is compiled for the
shapes of a run when they come (`openvino_run`). Measured with SD2's UNet: OpenVINO's compiled blobs save a sixth of the compilation's
0.6 s of CPU time in 3.6, and take 1.7 GB of disk for each shape and 1.5 GB more memory while they are loaded.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import openvino

from sd2rt.engine.accuracy import Accuracy, check_engine, fixed_feeds
from sd2rt.engine.errors import BuildError, InvalidArgument, MissingDependency, Sd2rtError
from sd2rt.engine.manifest import Field
from sd2rt.engine.openvino_run import GRAPH_NAME, WEIGHTS_NAME, OpenVinoEngine, reason, write_shapes
from sd2rt.engine.spec import BuildOptions, ComponentFiles
from sd2rt.engine.store import CacheEntry, Notify

if TYPE_CHECKING:
    import onnx

GRAPH = 1  # raise it whenever what is built changes: engines built before are then not used
HALF_AS_BF16 = "bf16 for float16"  # what was exported in float32 stays so
CHECKED_BYTES = 1 << 30  # comparing takes four times as much memory, in float32
AT_ONCE = 1 << 20  # weights that are rounded at once: they stay in the CPU's cache
HALF, BF16, SINGLE = openvino.Type.f16, openvino.Type.bf16, openvino.Type.f32
FLOATS = (HALF, BF16)


def fingerprint(options: BuildOptions) -> dict[str, Field]:
    """Return what, besides the component and the target, changes an engine. Raises InvalidArgument for bf16 where the CPU has none."""
    return {
        "backend": f"openvino {openvino.get_version()}",
        "precision": _choose_precision(options.precision),
        "graph": GRAPH,
        **({} if options.form is None else {"form": {type(options.form).__name__: asdict(options.form)}}),
    }


def build(files: ComponentFiles, options: BuildOptions, folder: Path, notify: Notify) -> dict[str, Field]:
    """Write the component's graph to `folder` in OpenVINO's form; return the precision that its engines compute in.

    bf16 is compared with f32 at the sizes that the options name, unless it was asked for, or would take more than some GB: then
    `sd2rt verify` does it. Raises MissingDependency, BundleError, BuildError, or OSError when the disk is full.
    """
    try:
        from sd2rt.engine.forms import apply_form, write_form
    except ImportError as error:
        raise MissingDependency(f"building an engine needs {error.name}: pip install 'sd2rt[openvino]'") from error
    size = sum(path.stat().st_size for path in files.paths)
    if shutil.disk_usage(folder).free < 3 * size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    source = folder / "source"
    source.mkdir()
    try:
        shapes = _named_shapes(apply_form(files, options.form))
        written = write_form(files, options.form, source)
        precision = _write(written, _choose_precision(options.precision), shapes, folder)
        if precision != "bf16" or options.precision == "bf16" or size > CHECKED_BYTES or not _has_sizes(shapes, options):
            return {"precision": precision}
        _write(written, "f32", shapes, source)
        found = _compare(files.name, folder, source, options)
        if not found.passes:
            notify(f"{files.name}: {found} in bf16; expected {found.gate}: it will compute in f32")
            for name in (GRAPH_NAME, WEIGHTS_NAME):
                (source / name).replace(folder / name)
        return {"precision": "bf16" if found.passes else "f32", "bf16_psnr_db": found.psnr_db, "bf16_not_finite": found.not_finite}
    except (OSError, Sd2rtError):
        raise
    except Exception as error:  # OpenVINO raises RuntimeError, or what its bindings make of it
        remedy = "use --target cpu"
        raise BuildError(
            f"{files.name}: OpenVINO {openvino.__version__.split('-')[0]} cannot use the graph: {reason(error)}; {remedy}"
        ) from error
    finally:
        shutil.rmtree(source, ignore_errors=True)


def load(entry: CacheEntry, options: BuildOptions) -> OpenVinoEngine:
    """Load a built engine. Raises EngineError when OpenVINO refuses it, or for inputs and outputs that are no numbers."""
    return OpenVinoEngine(entry.manifest.component, entry.folder, str(entry.manifest.notes["precision"]), options.threads)


def _choose_precision(asked: str) -> str:
    """Return what halves and floats become on this machine. Raises InvalidArgument for bf16 where the CPU has none."""
    if asked == "f32":
        return asked
    narrow = has_bf16()
    if asked == "bf16" and not narrow:
        raise InvalidArgument("precision: got bf16; this CPU computes in f32 alone: leave it out, or use f32")
    return asked if asked == "bf16" else HALF_AS_BF16 if narrow else "f32"


def has_bf16() -> bool:
    """Whether this CPU computes in bfloat16."""
    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _write(source: Path, chosen: str, shapes: Mapping[str, list[str | int]], folder: Path) -> str:
    """Write a graph in OpenVINO's form; return the precision, bf16 or f32, that it is for."""
    model = openvino.Core().read_model(source)
    precision = _component_precision(model, chosen)
    if precision == "bf16":
        _narrow(model)
    model = _take_floats(model)
    write_shapes(model, shapes)
    openvino.save_model(model, folder / GRAPH_NAME, compress_to_fp16=False)
    return precision


def _has_sizes(shapes: Mapping[str, list[str | int]], options: BuildOptions) -> bool:
    """Whether the options name a size for every axis that varies."""
    return all(axis in options.axes for shape in shapes.values() for axis in shape if isinstance(axis, str))


def _compare(name: str, narrow: Path, wide: Path, options: BuildOptions) -> Accuracy:
    """Run both engines at the usual sizes."""
    usual = {axis: sizes[1] for axis, sizes in options.axes.items()}
    with (
        closing(OpenVinoEngine(name, narrow, "bf16", options.threads)) as engine,
        closing(OpenVinoEngine(name, wide, "f32", options.threads)) as reference,
    ):
        return check_engine(engine, reference, fixed_feeds(engine.inputs, usual))


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
            replacement = openvino.op.Constant(_to_bf16(node.data), shared_memory=True)
        else:
            replacement = openvino.opset13.convert(node.input_value(0), "bf16")
        replacement.set_friendly_name(node.get_friendly_name())
        node.output(0).replace(replacement.output(0))
    model.validate_nodes_and_infer_types()


def _to_bf16(values: npt.NDArray[np.float16]) -> openvino.Tensor:
    """Round to the nearest bfloat16, ties to even: the upper half of a float32's bits. Infinities stay, NaN too."""
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
        if port.element_type in FLOATS:
            steps.input(index).tensor().set_element_type(SINGLE)
    for index, port in enumerate(model.outputs):
        if port.element_type in FLOATS:
            steps.output(index).tensor().set_element_type(SINGLE)
    return steps.build()


def _named_shapes(model: onnx.ModelProto) -> dict[str, list[str | int]]:
    """Return the shapes of inputs and outputs with the axes' names, which OpenVINO does not keep."""
    return {
        value.name: [axis.dim_value if axis.HasField("dim_value") else axis.dim_param or "?" for axis in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
