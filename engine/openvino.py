"""The `openvino` backend: OpenVINO's CPU plugin on the component's graph, half precision as bfloat16 where the CPU computes in it.

An engine is OpenVINO's own form of the graph, for all sizes, with weights in the type that the CPU computes in; it is compiled for the
shapes of a run when they come (`openvino_run`). OpenVINO's compiled blobs are not used: measured with SD2's UNet they save 0.6 of the
3.6 s of CPU time that compiling takes, and cost 1.7 GB of disk for each shape and 1.5 GB more memory while they are loaded.
"""

from __future__ import annotations

import errno
import os
import shutil
from contextlib import closing
from pathlib import Path

import openvino

from sd2rt.engine.accuracy import HALF, INT8, Gate, check_engine, fixed_feeds
from sd2rt.engine.errors import BuildError, InvalidArgument, MissingDependency, Sd2rtError
from sd2rt.engine.manifest import Field, form_field
from sd2rt.engine.openvino_graph import HALF_AS_BF16, Shapes, named_shapes, write_graph
from sd2rt.engine.openvino_run import GRAPH_NAME, INSTEAD, WEIGHTS_NAME, OpenVinoEngine, explain
from sd2rt.engine.spec import BuildOptions, ComponentFiles
from sd2rt.engine.store import CacheEntry, Notify

GRAPH = 2  # raise it whenever what is built changes: engines built before are then not used
SOURCE = "source"  # the folder of what is built from, and of the engine in f32 that bf16 is compared with
CHECKED_BYTES = 1 << 30  # comparing takes four times as much memory, in float32


def fingerprint(options: BuildOptions) -> dict[str, Field]:
    """Return what, besides the component and the target, changes an engine. Raises InvalidArgument for bf16 where the CPU has none.

    Where the precision is found out by trying, the sizes that are tried are among it.
    """
    precision = _choose_precision(options.precision)
    return {
        "backend": f"openvino {openvino.get_version()}",
        "precision": precision,
        **({"tried": _usual(options)} if precision == HALF_AS_BF16 else {}),
        "graph": GRAPH,
        **({} if options.form is None else {"form": form_field(options.form)}),
    }


def build(files: ComponentFiles, options: BuildOptions, folder: Path, notify: Notify) -> dict[str, Field]:
    """Write the component's graph to `folder` in OpenVINO's form; return the precision that its engines compute in.

    bf16 is compared with f32 at the sizes that the options name, unless it was asked for, or would take more than some GB: then
    `sd2rt verify` does it. Raises MissingDependency, BundleError, BuildError, or OSError when the disk is full.
    """
    try:
        from onnx import TensorProto

        from sd2rt.engine.forms import apply_form, write_form
    except ImportError as error:
        raise MissingDependency(f"building an engine needs {error.name}: pip install 'sd2rt[openvino]'") from error
    source = folder / SOURCE
    source.mkdir()
    try:
        graph = apply_form(files, options.form).graph
        inputs, outputs = named_shapes(graph.input), named_shapes(graph.output)
        written = write_form(files, options.form, source)  # the weights are linked, or copied where that fails
        _check_space(folder, files)
        precision = write_graph(written, _choose_precision(options.precision), {**inputs, **outputs}, folder)
        if precision != "bf16" or options.precision == "bf16" or _bytes(files) > CHECKED_BYTES or not _has_sizes(inputs, options):
            return {"precision": precision}
        _check_space(folder, files)
        write_graph(written, "f32", {**inputs, **outputs}, source)
        gate = INT8 if any(weight.data_type == TensorProto.INT8 for weight in graph.initializer) else HALF
        return _take_better(files.name, folder, options, gate, notify)
    except (OSError, Sd2rtError):
        raise
    except Exception as error:  # OpenVINO raises RuntimeError, or what its bindings make of it
        backend = f"OpenVINO {openvino.get_version().split('-')[0]}"
        raise BuildError(f"{files.name}: {backend} cannot use the graph: {explain(error, INSTEAD)}") from error
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


def _has_sizes(inputs: Shapes, options: BuildOptions) -> bool:
    """Whether the options name a size for every axis that varies."""
    return all(axis in options.axes for shape in inputs.values() for axis in shape if isinstance(axis, str))


def _usual(options: BuildOptions) -> dict[str, int]:
    return {axis: usual for axis, (_, usual, _) in options.axes.items()}


def _take_better(name: str, narrow: Path, options: BuildOptions, gate: Gate, notify: Notify) -> dict[str, Field]:
    """Run both engines at the usual sizes; where bf16 misses the gate put the one in f32 into its place. Return what to remember."""
    wide = narrow / SOURCE
    with (
        closing(OpenVinoEngine(name, narrow, "bf16", options.threads)) as engine,
        closing(OpenVinoEngine(name, wide, "f32", options.threads)) as reference,
    ):
        found = check_engine(engine, reference, fixed_feeds(engine.inputs, _usual(options)), gate)
    if not found.passes:
        notify(f"{name}: {found} in bf16; expected {found.gate}: it will compute in f32")
        for file in (GRAPH_NAME, WEIGHTS_NAME):
            (wide / file).replace(narrow / file)
    return {"precision": "bf16" if found.passes else "f32", "bf16_psnr_db": found.psnr_db, "bf16_not_finite": found.not_finite}


def _check_space(folder: Path, files: ComponentFiles) -> None:
    """Raise OSError where there is no room for one more engine, which is as large as the component."""
    if shutil.disk_usage(folder).free < _bytes(files):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _bytes(files: ComponentFiles) -> int:
    return sum(path.stat().st_size for path in files.paths)
