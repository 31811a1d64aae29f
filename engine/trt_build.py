"""One TensorRT engine from one ONNX graph, in this process: parse, set sizes and options, build, write the plan.

The same calls for TensorRT and TensorRT-RTX, which differ only in naming GPUs (RTX) and in timing kernels (TensorRT). Knows no cache and
no bundle; where this runs, and what becomes of it when the process dies, is `trt_process`.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from sd2rt.engine.errors import BuildError, InvalidArgument
from sd2rt.engine.spec import Range, TensorRTOptions
from sd2rt.engine.trt_errors import build_failure, quote
from sd2rt.engine.trt_library import open_library, open_log

LOW_MEMORY_WORKSPACE_BYTES = 256 << 20
PORTABLE = "portable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What to build: a serialized ONNX graph, the folder that its weights' locations are relative to, and the plan's path.

    `axes` gives a range for every named axis of the inputs. `timing` is the file of measured kernels, read and written, if any.
    """

    target: str
    component: str
    graph: bytes
    weights: Path
    plan: Path
    axes: Mapping[str, Range] = field(default_factory=dict)
    options: TensorRTOptions = field(default_factory=TensorRTOptions)
    timing: Path | None = None


def build_plan(job: Job) -> None:
    """Build the job's engine and write its plan.

    Raises TargetUnavailable without TensorRT or a driver it needs, InvalidArgument for axes that do not fit the graph's, BuildError for
    an operator that TensorRT does not have, too little memory and all else, OSError when the disk is full.
    """
    trt = open_library(job.target)
    log = open_log(trt)
    log.clear()
    builder = trt.Builder(log)
    if job.options.low_memory:
        builder.max_threads = 1
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, log)  # holds the weights: it must live until the plan is built
    if not parser.parse(job.graph, path=str(job.weights / "model.onnx")):
        raise _parse_failure(job.component, parser, log)
    _let_attention_fall_apart(trt, network)
    config = builder.create_builder_config()
    _set_options(trt, config, job.options)
    _set_flags(trt, config, job)
    if job.target == "tensorrt-rtx":
        _set_capabilities(trt, config, job.options.compute_capabilities)
    if config.add_optimization_profile(_profile(builder, network, job)) < 0:
        raise build_failure(job.component, log.reason())
    timing = _read_timing(config, job.timing)
    log.clear()  # of what is said about a timing cache that does not fit
    with job.plan.open("wb") as stream:
        writer = _plan_writer(trt, stream)
        built = builder.build_serialized_network_to_stream(network, config, writer)
    if writer.failure is not None:
        raise writer.failure
    if not built:
        raise build_failure(job.component, log.reason())
    _write_timing(timing, job.timing)


def _parse_failure(component: str, parser: Any, log: Any) -> BuildError:
    """Name the node that TensorRT's parser does not take."""
    if not parser.num_errors:
        return BuildError(f"{component}: TensorRT cannot read the graph: {quote(log.reason())}")
    error = parser.get_error(parser.num_errors - 1)
    if error.node() < 0:
        return BuildError(f"{component}: TensorRT cannot read the graph: {quote(error.desc())}; export the bundle again")
    remedy = "export the bundle again, or use --target cpu"
    where = f"operator {error.node_operator()} (node {error.node_name() or error.node()})"
    return BuildError(f"{component}: TensorRT does not take {where}: {quote(f'{error.code().name} {error.desc()}')}; {remedy}")


def _let_attention_fall_apart(trt: Any, network: Any) -> None:
    """Allow attention to become matrix products where TensorRT has no fused kernel, such as the autoencoder's at a range of sizes."""
    for layer in (network.get_layer(index) for index in range(network.num_layers)):
        if layer.type == trt.LayerType.ATTENTION_INPUT:
            layer.__class__ = trt.IAttentionInputLayer  # the bindings give the base class
            layer.attention.decomposable = True


def _set_options(trt: Any, config: Any, options: TensorRTOptions) -> None:
    config.builder_optimization_level = options.optimization_level
    limits = [options.workspace_bytes, LOW_MEMORY_WORKSPACE_BYTES if options.low_memory else None]
    workspace = min((limit for limit in limits if limit is not None), default=None)
    if workspace is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace)
    if options.weight_streaming:
        config.set_flag(trt.BuilderFlag.WEIGHT_STREAMING)


def _set_flags(trt: Any, config: Any, job: Job) -> None:
    """Keep NaN and float32 as they are, and have TensorRT-RTX allocate nothing while it runs, which a CUDA graph could not record."""
    config.clear_flag(trt.BuilderFlag.TF32)
    if hasattr(trt.BuilderFlag, "STRICT_NANS"):
        config.set_flag(trt.BuilderFlag.STRICT_NANS)
    if job.target == "tensorrt-rtx" and not job.options.weight_streaming and hasattr(trt.BuilderFlag, "REQUIRE_USER_ALLOCATION"):
        config.set_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION)


def _set_capabilities(trt: Any, config: Any, capabilities: tuple[str, ...]) -> None:
    """Say which GPUs the engine is for: none named is this machine's; "portable" is what TensorRT-RTX does when nothing is said."""
    if capabilities == (PORTABLE,):
        return
    names = capabilities or ("current",)
    config.num_compute_capabilities = len(names)
    for index, name in enumerate(names):
        config.set_compute_capability(getattr(trt.ComputeCapability, name.upper()), index)


def _profile(builder: Any, network: Any, job: Job) -> Any:
    """Give every input its smallest, usual and largest shape. Raises InvalidArgument when `axes` are not just those of the inputs."""
    inputs = [network.get_input(index) for index in range(network.num_inputs)]
    names = {tensor.name: _axis_names(job.component, tensor) for tensor in inputs}
    expected = sorted({name for axes in names.values() for name in axes if isinstance(name, str)})
    if set(expected) != set(job.axes):
        raise InvalidArgument(f"{job.component}: got sizes of {_listed(sorted(job.axes))}; expected those of {_listed(expected)}")
    profile = builder.create_optimization_profile()
    for tensor in inputs:
        ranges = [job.axes[axis] if isinstance(axis, str) else (axis, axis, axis) for axis in names[tensor.name]]
        profile.set_shape(tensor.name, *([sizes[which] for sizes in ranges] for which in range(3)))
    return profile


def _axis_names(component: str, tensor: Any) -> list[int | str]:
    """Return a tensor's shape with names where sizes vary. Raises BuildError for one that varies and has no name."""
    axes = [size if size >= 0 else tensor.get_dimension_name(index) for index, size in enumerate(tensor.shape)]
    if not all(axes):
        raise BuildError(f"{component}: input {tensor.name} has an axis of neither size nor name; export the bundle again")
    return axes


def _listed(names: list[str]) -> str:
    return ", ".join(names) or "no axes"


def _plan_writer(trt: Any, stream: BinaryIO) -> Any:
    """Return what TensorRT hands the plan to, 64 MiB at a time; no second copy of it is held. An error of the disk waits in `failure`."""

    class PlanWriter(trt.IStreamWriter):  # type: ignore[misc]  # the library has no types
        def __init__(self) -> None:
            trt.IStreamWriter.__init__(self)
            self.failure: OSError | None = None

        def write(self, data: bytes) -> int:
            try:
                return stream.write(data)
            except OSError as error:  # TensorRT's code cannot pass it on
                self.failure = error
                return 0

    return PlanWriter()


def _read_timing(config: Any, path: Path | None) -> Any:
    """Let the build use what earlier ones measured; a file that does not fit this GPU and version counts as empty."""
    if path is None:
        return None
    content = path.read_bytes() if path.exists() else b""
    for known in (content, b""):
        timing = config.create_timing_cache(known)
        if timing is not None and config.set_timing_cache(timing, False):
            return timing
    return None


def _write_timing(timing: Any, path: Path | None) -> None:
    """Keep what was measured for the next build: whole or not at all, for this user alone."""
    if timing is None or path is None:
        return
    with contextlib.suppress(OSError):  # the engine is what counts
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent)  # 0600
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(timing.serialize())
        Path(temporary).replace(path)
