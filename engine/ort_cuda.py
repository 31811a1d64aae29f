"""The `cuda` backend: ONNX Runtime's CUDA kernels on the lowered graph, fused with its form, launched on the caller's stream.

What is built is the lowered graph itself, for every GPU and every size: ONNX Runtime optimizes it when it is loaded. That takes about
as long as reading what it would save, and only then are the GPU and the sizes known: fixed ones are written into the graph first, so
that everything computed from sizes becomes a constant. So an engine can be built where there is no GPU, and outlives changes of it.

ONNX Runtime captures the graph's kernels into a CUDA graph of its own. The first launch runs the graph twice, to allocate all that it
needs, records it, and launches the recording; later ones launch that alone. Only this module and `ort` import onnxruntime.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnxruntime
from onnxruntime.capi.build_and_package_info import package_name

from sd2rt.engine.errors import BuildError, EngineError, MissingDependency, Sd2rtError, TargetUnavailable, reason
from sd2rt.engine.manifest import Field, form_field
from sd2rt.engine.ort import ERRORS_ONLY, OPTIMIZE_ALL, OrtEngine, open_and_drop, plain_settings, tensor_spec
from sd2rt.engine.ort_binding import LoadedSession, OrtDeviceEngine, Place
from sd2rt.engine.protocol import Engine
from sd2rt.engine.spec import BuildOptions, ComponentFiles
from sd2rt.engine.store import CacheEntry, Notify

if TYPE_CHECKING:
    from sd2rt.engine.checked_build import Check
    from sd2rt.engine.cuda import Driver

GRAPH_NAME = "lowered.onnx"
LOWERING = 2  # raise it whenever the lowered graph changes: engines built before are then not used
INSTALL = "uninstall onnxruntime and onnxruntime-gpu, then pip install 'sd2rt[gpu]'"
PROVIDERS = {"cuda": "CUDAExecutionProvider", "cpu": "CPUExecutionProvider"}
# A recorded graph is kept as long as its session. Past so many different bindings, launches are no longer recorded.
MOST_RECORDINGS = 16
NOT_RECORDED = -1

Session = Callable[..., Any]


def fingerprint(options: BuildOptions) -> dict[str, Field]:
    """Return what, besides the component and the target, changes an engine. Its sizes do not: see the module."""
    form = form_field(options.form)
    return {"backend": f"{package_name} {onnxruntime.__version__}", "precision": "as exported", "form": form, "lowering": LOWERING}


def build(files: ComponentFiles, options: BuildOptions, folder: Path, notify: Notify) -> dict[str, Field]:
    """Write the component's graph in its form, lowered, with its weights, to `folder`. Needs no GPU.

    Where there is one, the engine is compared with the cpu engine, and built again in a higher precision if it fails: `checked_build`.
    Raises MissingDependency, BundleError, BuildError, or OSError when the disk is full.
    """
    try:
        from sd2rt.engine.precision import PRECISIONS
    except ImportError as error:
        raise MissingDependency(f"building an engine needs {error.name}: pip install 'sd2rt[gpu]'") from error
    from sd2rt.engine.checked_build import build_checked

    attempt = partial(build_at, files, options, folder)
    return build_checked(files.name, PRECISIONS, attempt, _choose_check(files, options, folder, notify), notify, kind="cuda")


def _choose_check(files: ComponentFiles, options: BuildOptions, folder: Path, notify: Notify) -> Check | str:
    """Return what compares the engine that lies in the folder by then with the cpu engine, or why that cannot be done here."""
    from sd2rt.engine.checked_build import compare_if_it_runs, compare_with_reference, unpublished
    from sd2rt.engine.gpu import find_gpu

    if isinstance(find_gpu(), str):
        return "no GPU on this machine"
    if not options.axes:
        return "built for any size: nothing to compare at"
    fields: dict[str, Field] = {"target": "cuda", "files": dict(files.sha256), **fingerprint(options)}
    entry = unpublished(folder, files, fields, {})
    compare = partial(compare_with_reference, files, options, lambda: load(entry, options), notify)
    return partial(compare_if_it_runs, "cuda", compare)


def build_at(files: ComponentFiles, options: BuildOptions, folder: Path, precision: str) -> None:
    """Write an engine in one of `precision.PRECISIONS`, in place of an earlier one. Raises as `build` does, but for MissingDependency."""
    from sd2rt.engine.forms import apply_form
    from sd2rt.engine.lowering import lower_graph
    from sd2rt.engine.precision import at_precision

    try:
        with tempfile.TemporaryDirectory(prefix="graph-", dir=folder) as work:
            graph, root = at_precision(apply_form(files, options.form), precision, files, Path(work))
            path = lower_graph(files.name, graph, root, folder, "cuda")
        open_and_drop(path, plain_settings(threads=0))  # reads what was written: every operator has a CPU kernel too
    except (OSError, Sd2rtError):
        raise
    except Exception as error:  # onnx_ir's errors and ONNX Runtime's have no common base
        backend = f"{package_name} {onnxruntime.__version__}"
        raise BuildError(f"{files.name}: {backend} cannot use the graph: {reason(error)}") from error


def load(entry: CacheEntry, options: BuildOptions) -> Engine:
    """Load a built engine that takes and gives arrays; ONNX Runtime copies them. Raises TargetUnavailable, EngineError."""
    session = open_session(entry, options, Place(), record=False, trouble=preload())
    return OrtEngine(entry.manifest.component, session)


def load_device(entry: CacheEntry, options: BuildOptions, driver: Driver, stream: int) -> OrtDeviceEngine:
    """Load a built engine, to be launched on one stream. Raises TargetUnavailable without CUDA, EngineError when it cannot be loaded."""
    return open_device(entry, options, Place(stream=stream), trouble=preload())


def preload() -> str:
    """Load the CUDA libraries of pip's nvidia wheels, which no search path names; return the first thing wrong with them, or "".

    Raises TargetUnavailable when this is an ONNX Runtime without CUDA.
    """
    if PROVIDERS["cuda"] not in onnxruntime.get_available_providers():
        raise TargetUnavailable(f"target cuda: {package_name} {onnxruntime.__version__} has no CUDA kernels: {INSTALL}")
    with contextlib.redirect_stdout(io.StringIO()) as said:  # it prints, and stdout is for results
        onnxruntime.preload_dlls()
    return said.getvalue().partition("\n")[0]


def open_device(
    entry: CacheEntry, options: BuildOptions, place: Place, *, make: Session = onnxruntime.InferenceSession, trouble: str = ""
) -> OrtDeviceEngine:
    """Load a built engine at a place, recorded where its graph can be. Raises as `open_session` does."""
    record = place.device == "cuda"
    try:
        session = open_session(entry, options, place, record=record, make=make, trouble=trouble)
    except EngineError as error:
        if "graph capture" not in str(error):  # ONNX Runtime's words for a graph with loops, or nodes without a CUDA kernel
            raise
        record = False
        session = open_session(entry, options, place, record=record, make=make, trouble=trouble)
    name = entry.manifest.component
    loaded = LoadedSession(
        component=name,
        session=session,
        inputs=tuple(tensor_spec(name, tensor) for tensor in session.get_inputs()),
        outputs=tuple(tensor_spec(name, tensor) for tensor in session.get_outputs()),
        run_options=lambda binding: _run_options(binding if record else None),
    )
    return OrtDeviceEngine(loaded, place, options.axes)


def open_session(
    entry: CacheEntry,
    options: BuildOptions,
    place: Place,
    *,
    record: bool,
    make: Session = onnxruntime.InferenceSession,
    trouble: str = "",
) -> Any:
    """Load a built engine as an onnxruntime.InferenceSession, which `make` makes. `trouble` is what `preload` found.

    Raises TargetUnavailable when the session is not where it should be, EngineError when ONNX Runtime refuses the engine.
    """
    name, provider = entry.manifest.component, PROVIDERS[place.device]
    providers = [(provider, provider_options(place, record=record) if place.device == "cuda" else {})]
    try:  # with its own fallback, a session that fails prints to stdout and is made again on the CPU
        session = make(entry.folder / GRAPH_NAME, _settings(options), providers=providers, enable_fallback=0)
    except Exception as error:  # ONNX Runtime's errors have no common base
        raise EngineError(f"{name}: ONNX Runtime cannot load the engine: {reason(error)}") from error
    if session.get_providers()[0] != provider:
        why = f" ({trouble})" if trouble else ""
        raise TargetUnavailable(f"target cuda: ONNX Runtime cannot load CUDA or cuDNN{why} and would run {name} on the CPU: {INSTALL}")
    return session


def provider_options(place: Place, *, record: bool) -> dict[str, str]:
    """Return the CUDA provider's options."""
    stream = {} if place.stream is None else {"user_compute_stream": str(place.stream)}
    return {
        "device_id": str(place.index),
        **stream,
        "enable_cuda_graph": str(int(record)),
        "arena_extend_strategy": "kSameAsRequested",  # doubling would ask for up to twice what is needed
        "cudnn_conv_algo_search": "HEURISTIC",  # timing every algorithm would take seconds, and choose others from run to run
        "use_tf32": "0",  # what is float32 here is so because less does not do
        "enable_skip_layer_norm_strict_mode": "1",  # else its variance is summed in float16
    }


def _settings(options: BuildOptions) -> onnxruntime.SessionOptions:
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = ERRORS_ONLY
    settings.graph_optimization_level = OPTIMIZE_ALL
    for axis, (smallest, _, largest) in options.axes.items():
        if smallest == largest:
            settings.add_free_dimension_override_by_name(axis, largest)
    return settings


def _run_options(recording: int | None) -> onnxruntime.RunOptions:
    """Return options of a run that waits for nothing, recorded under a number of its own where that is possible."""
    options = onnxruntime.RunOptions()
    options.add_run_config_entry("disable_synchronize_execution_providers", "1")
    if recording is not None:
        options.add_run_config_entry("gpu_graph_id", str(recording if recording < MOST_RECORDINGS else NOT_RECORDED))
    return options
