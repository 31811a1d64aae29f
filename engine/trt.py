"""The `tensorrt` and `tensorrt-rtx` backends: plans built from a component's graph in its form, and run on a GPU.

TensorRT builds for this machine's GPU. TensorRT-RTX builds for any GPUs named, without having one, and compiles their kernels when a
plan is loaded. After a build on a machine that can run the plan, it is compared with the reference and, should it fail, built again in
a higher precision (`checked_build`). Imports neither library: that is `trt_library`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sd2rt.engine import gpu as gpus
from sd2rt.engine.axis_names import TENSORS, axis_names
from sd2rt.engine.build import engine_fields
from sd2rt.engine.checked_build import build_checked, choose_check, unpublished
from sd2rt.engine.errors import MissingDependency
from sd2rt.engine.manifest import Field, form_field
from sd2rt.engine.protocol import DeviceEngine, Engine
from sd2rt.engine.spec import BuildOptions, ComponentFiles
from sd2rt.engine.store import CacheEntry, Notify, cache_root
from sd2rt.engine.targets import architecture
from sd2rt.engine.trt_build import Job
from sd2rt.engine.trt_gpus import check_capabilities, check_gpu, describe_machine, warn_of_turing
from sd2rt.engine.trt_library import open_library
from sd2rt.engine.trt_process import build_in_child
from sd2rt.engine.trt_run import PLAN_NAME, load_plan

if TYPE_CHECKING:
    import onnx

    from sd2rt.engine.cuda import Driver

GRAPHS = 3  # raise it whenever the graphs of forms or the build's own settings change: engines built before are then not used
HALF = (10, 16)  # FLOAT16 and BFLOAT16 in onnx.TensorProto


@dataclass(frozen=True, slots=True)
class TensorRTBackend:
    """One of the two libraries; `target` is "tensorrt" or "tensorrt-rtx"."""

    target: str

    def fingerprint(self, options: BuildOptions) -> dict[str, Field]:
        """Return what changes an engine; see the protocol.

        Raises InvalidArgument for compute capabilities that the target cannot build for, TargetUnavailable without the library, and
        without a GPU where the engine is for this machine's.
        """
        check_capabilities(self.target, options.tensorrt)
        library = f"{self.target} {open_library(self.target).__version__}"
        named = sorted(set(options.tensorrt.compute_capabilities))
        return {
            "backend": library,
            "graphs": GRAPHS,
            "form": form_field(options.form),
            "axes": {name: list(sizes) for name, sizes in sorted(options.axes.items())},
            **{name: value for name, value in asdict(options.tensorrt).items() if name != "compute_capabilities"},
            "compute_capabilities": list(named),
            "gpu": None if named else describe_machine(self.target),
        }

    def build(self, files: ComponentFiles, options: BuildOptions, folder: Path, notify: Notify) -> Mapping[str, Field]:
        """Write the component's plan to `folder`; see the protocol. Raises as `trt_build.build_plan` and `build_checked` do."""
        try:
            from sd2rt.engine.forms import apply_form
            from sd2rt.engine.precision import PRECISIONS
        except ImportError as error:
            raise MissingDependency(f"building an engine needs {error.name}: pip install 'sd2rt[{self.target}]'") from error
        warn_of_turing(options.tensorrt, notify)
        model = apply_form(files, options.form)
        names: dict[str, Field] = {TENSORS: axis_names(model)}
        precisions = PRECISIONS if _has_half(model) else PRECISIONS[:1]
        attempt = partial(self._build_at, model, files, options, folder)
        entry = unpublished(folder, files, engine_fields(files, options, self), names)
        check = choose_check(entry, files, options, lambda: self.load(entry, options), notify)
        return {**names, **build_checked(files.name, precisions, attempt, check, notify)}

    def load(self, entry: CacheEntry, options: BuildOptions) -> Engine:
        """Load an engine that takes and gives arrays. Raises TargetUnavailable, EngineError."""
        from sd2rt.engine.cuda import open_driver
        from sd2rt.engine.staged import StagedEngine

        driver = open_driver()
        return StagedEngine(driver, lambda stream: self.load_device(entry, options, driver, stream), entry.manifest.component)

    def load_device(self, entry: CacheEntry, options: BuildOptions, driver: Driver, stream: int) -> DeviceEngine:
        """Load an engine for one stream. Raises TargetUnavailable, EngineError, one that names both GPUs when it is for another."""
        check_gpu(entry, driver)
        return load_plan(open_library(self.target), entry, driver, stream)

    def _build_at(self, model: onnx.ModelProto, files: ComponentFiles, options: BuildOptions, folder: Path, precision: str) -> None:
        """Build the plan of the graph in one precision, in place of an earlier one."""
        from sd2rt.engine.precision import at_precision

        with tempfile.TemporaryDirectory(prefix="graph-", dir=folder) as work:
            graph, weights = at_precision(model, precision, files, Path(work))
            job = Job(
                target=self.target,
                component=files.name,
                graph=graph.SerializeToString(),
                weights=weights.absolute(),
                plan=folder / PLAN_NAME,
                axes=options.axes,
                options=options.tensorrt,
                timing=self._timing_file(),
            )
            build_in_child(job)

    def _timing_file(self) -> Path | None:
        """Return where TensorRT keeps what it measures on this GPU. TensorRT-RTX measures nothing."""
        gpu = gpus.find_gpu()
        if self.target == "tensorrt-rtx" or isinstance(gpu, str):
            return None
        name = f"{open_library(self.target).__version__}-{gpu.name}-{architecture(gpu.capability)}-{gpu.driver_version}"
        return cache_root() / "timing" / "".join(letter if letter.isalnum() else "-" for letter in name)


def _has_half(model: onnx.ModelProto) -> bool:
    """Whether some of the weights are of half precision, so that a higher one is to be had."""
    return any(tensor.data_type in HALF for tensor in model.graph.initializer)
