"""The `cpu` backend: ONNX Runtime's CPU kernels on the lowered graph. Only this module and `ort_cuda` import onnxruntime."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt
import onnxruntime
from onnxruntime.capi.build_and_package_info import package_name

from sd2rt.engine.cpu import cpu_count, cpu_features
from sd2rt.engine.errors import SMALLER, BuildError, EngineError, MissingDependency, Sd2rtError, reason
from sd2rt.engine.feeds import check_feeds
from sd2rt.engine.manifest import Field, form_field
from sd2rt.engine.spec import BuildOptions, ComponentFiles, TensorSpec
from sd2rt.engine.store import CacheEntry, Notify

GRAPH_NAME = "engine.onnx"
WEIGHTS_NAME = "engine.bin"
INLINE_BYTES = 1024  # smaller weights stay in the graph
LOWERING = 3  # raise it whenever the lowered graph changes: engines built before are then not used
ERRORS_ONLY = 3
# Threads that wait for work spin for this long, then sleep. A toyworld UNet step, two threads: on idle cores 7 ms, as with ONNX
# Runtime's default and against 10 ms without spinning; on busy cores 18 ms, against 30 ms with the default, which spins on.
SPIN_US = 50
DTYPES = {f"tensor({name})": name for name in ("float16", "int32", "int64", "uint8")}
DTYPES |= {"tensor(float)": "float32", "tensor(double)": "float64"}

OPTIMIZE_ALL = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL  # with the NCHWc layout of this CPU's vector width
AS_IT_IS = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL


def fingerprint(options: BuildOptions) -> dict[str, Field]:
    """Return what, besides the component and the target, changes an engine.

    LOWERING stands for onnx and onnx_ir too, whose versions take longer to look up than an engine to open: raise it when a new
    version of theirs lowers to another graph.
    """
    return {
        "backend": f"{package_name} {onnxruntime.__version__}",
        "cpu": cpu_features(),
        "precision": "float32",
        "optimization": "all",
        "lowering": LOWERING,
        **({} if options.form is None else {"form": form_field(options.form)}),
    }


def build(files: ComponentFiles, options: BuildOptions, folder: Path, notify: Notify) -> dict[str, Field]:
    """Lower the component's graph, have ONNX Runtime optimize it and write the result to `folder`; nothing to remember of it.

    Raises MissingDependency, BundleError, BuildError, or OSError when the disk is full.
    """
    try:
        from sd2rt.engine.forms import apply_form
        from sd2rt.engine.lowering import lower_graph
    except ImportError as error:
        raise MissingDependency(f"building an engine needs {error.name}: pip install 'sd2rt[cpu]'") from error
    try:
        lowered = lower_graph(files.name, apply_form(files, options.form), files.onnx.parent, folder, "cpu")
        _optimize(lowered, folder)
    except (OSError, Sd2rtError):
        raise
    except Exception as error:  # onnx_ir's errors and ONNX Runtime's have no common base
        backend = f"{package_name} {onnxruntime.__version__}"
        raise BuildError(f"{files.name}: {backend} cannot use the graph: {reason(error)}") from error
    return {}


def _optimize(lowered: Path, folder: Path) -> None:
    """Have ONNX Runtime rewrite the lowered graph as it would run it, so that loading need not; then delete the lowered one."""
    temporary = list(folder.iterdir())
    if shutil.disk_usage(folder).free < sum(path.stat().st_size for path in temporary):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    settings = plain_settings(threads=0)
    settings.graph_optimization_level = OPTIMIZE_ALL
    save_optimized(settings, folder)
    try:
        open_and_drop(lowered, settings)
        for path in temporary:
            path.unlink()
        open_and_drop(folder / GRAPH_NAME, plain_settings(threads=0))  # reads what was written: a short file fails here
    except Exception as error:  # as in build
        if any(str(folder / name) in str(error) for name in (GRAPH_NAME, WEIGHTS_NAME)):  # named only where writing went wrong
            raise OSError(errno.EIO, "ONNX Runtime could not write the engine") from error
        raise


def load(entry: CacheEntry, options: BuildOptions) -> OrtEngine:
    """Load a built engine. Raises EngineError when ONNX Runtime refuses it, or for inputs and outputs that are no numbers."""
    return open_built(entry.manifest.component, entry.folder, options.threads)


def open_built(component: str, folder: Path, threads: int) -> OrtEngine:
    """Load what `build` wrote to a folder, which the cache need not know of. Raises as `load` does."""
    try:
        session = onnxruntime.InferenceSession(folder / GRAPH_NAME, load_settings(threads), providers=["CPUExecutionProvider"])
    except Exception as error:  # as in build
        raise EngineError(f"{component}: ONNX Runtime cannot load the engine: {reason(error)}") from error
    return OrtEngine(component, session)


def open_unlowered(files: ComponentFiles, threads: int) -> OrtEngine:
    """Load a component's graph as the bundle has it, nothing lowered, fused or optimized: slow, and the reference for this backend.

    The caller has checked its files. Raises EngineError when ONNX Runtime refuses it.
    """
    try:
        session = onnxruntime.InferenceSession(files.onnx, plain_settings(threads), providers=["CPUExecutionProvider"])
    except Exception as error:  # as in build
        raise EngineError(f"{files.name}: ONNX Runtime cannot load the bundle's graph: {reason(error)}") from error
    return OrtEngine(files.name, session)


class OrtEngine:
    """One component in a session of ONNX Runtime, on whatever device it was loaded for."""

    def __init__(self, name: str, session: onnxruntime.InferenceSession) -> None:
        self._name = name
        self._session: onnxruntime.InferenceSession | None = session
        self.inputs = tuple(tensor_spec(name, tensor) for tensor in session.get_inputs())
        self.outputs = tuple(tensor_spec(name, tensor) for tensor in session.get_outputs())

    def run(self, feeds: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Run once; see the protocol."""
        if self._session is None:
            raise EngineError(f"{self._name}: the engine is closed; open it again")
        cast = check_feeds(self._name, self.inputs, feeds)
        try:
            results = self._session.run(None, cast)
        except Exception as error:  # as in build
            raise EngineError(f"{self._name}: ONNX Runtime failed: {reason(error, SMALLER)}") from error
        return {spec.name: result for spec, result in zip(self.outputs, results, strict=True)}

    def close(self) -> None:
        """Free the weights."""
        self._session = None


def plain_settings(threads: int) -> onnxruntime.SessionOptions:
    """Return session options that run a graph as it is."""
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = ERRORS_ONLY
    settings.intra_op_num_threads = threads or cpu_count()
    settings.graph_optimization_level = AS_IT_IS
    settings.add_session_config_entry("session.intra_op.spin_duration_us", str(SPIN_US))
    return settings


def save_optimized(settings: onnxruntime.SessionOptions, folder: Path) -> None:
    """Have a session write the graph as it is optimized, and its weights, into `folder`: where `open_built` finds them."""
    settings.optimized_model_filepath = str(folder / GRAPH_NAME)
    settings.add_session_config_entry("session.optimized_model_external_initializers_file_name", WEIGHTS_NAME)
    settings.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", str(INLINE_BYTES))


def load_settings(threads: int) -> onnxruntime.SessionOptions:
    """Return session options for an engine that will run: see `docs/benchmarks.md` for what was tried.

    Weights are packed for matrix products on all threads, which halves the time to load. Memory is not planned ahead of a run: the plan
    takes 170 MB more for a step of SD2's UNet at 512 x 512, and saves no time.
    """
    settings = plain_settings(threads)
    settings.enable_mem_pattern = False
    settings.add_session_config_entry("session.prepack.enable_parallel", "1")
    return settings


def open_and_drop(path: Path, settings: onnxruntime.SessionOptions) -> None:
    """Open a session without packing the weights for matrix products, which would copy all of them, and drop it."""
    settings.add_session_config_entry("session.disable_prepacking", "1")
    onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])


def tensor_spec(engine: str, tensor: onnxruntime.NodeArg) -> TensorSpec:
    """Translate "tensor(float)" and the like to numpy's names; an axis without a name becomes "?". Raises EngineError for others."""
    if tensor.type not in DTYPES:
        raise EngineError(f"{engine}: got {tensor.name} of type {tensor.type}; expected one of {', '.join(DTYPES)}: export it again")
    return TensorSpec(name=tensor.name, dtype=DTYPES[tensor.type], shape=tuple(dim if dim is not None else "?" for dim in tensor.shape))
