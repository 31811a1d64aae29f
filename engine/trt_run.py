"""Run a TensorRT or TensorRT-RTX plan: load it, bind device memory to it once, launch it on a stream.

One code path for both libraries, which differ in what a context is configured with (TensorRT-RTX compiles kernels as it makes one) and
in whether they say that a CUDA graph may be recorded. Knows no cache: the plan's hash has been checked when it comes here.
"""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sd2rt.engine.axis_names import read_axis_names, read_ranges
from sd2rt.engine.cuda import Driver
from sd2rt.engine.errors import EngineError, InvalidArgument
from sd2rt.engine.spec import Range, TensorSpec
from sd2rt.engine.store import CacheEntry
from sd2rt.engine.trt_errors import load_failure, quote
from sd2rt.engine.trt_jit import KernelCache, kernel_file
from sd2rt.engine.trt_library import open_log

PLAN_NAME = "engine.plan"
DTYPES = {"FLOAT": "float32", "HALF": "float16", "INT64": "int64", "INT32": "int32", "UINT8": "uint8", "BOOL": "bool"}


def load_plan(trt: Any, entry: CacheEntry, driver: Driver, stream: int) -> TensorRTEngine:
    """Load a built engine for a stream of the driver's GPU; `trt` is the library's module. What it was built with, its manifest says.

    Raises EngineError when TensorRT refuses the plan, such as one of another version or GPU, or when memory is short.
    """
    component, log = entry.manifest.component, open_log(trt)
    log.clear()
    runtime = trt.Runtime(log)
    runtime.engine_host_code_allowed = False
    engine = _deserialize(trt, runtime, entry, log)
    specs = _specs(entry, engine, trt.TensorIOMode)
    streaming = bool(entry.manifest.fields.get("weight_streaming")) and _stream_weights(engine)
    config = engine.create_runtime_config()
    config.set_execution_context_allocation_strategy(trt.ExecutionContextAllocationStrategy.USER_MANAGED)
    kernels = _prepare_kernels(trt, config, entry, driver)
    log.clear()
    context = engine.create_execution_context(config)  # TensorRT-RTX compiles kernels here
    if context is None:
        raise load_failure(component, log.reason())
    if kernels is not None:
        kernels.save()
    loaded = _Loaded(context=context, kernels=kernels, engine=engine, runtime=runtime, log=log, stream=stream, streaming=streaming)
    return TensorRTEngine(component, loaded, *specs, ranges=read_ranges(entry.manifest))


def _deserialize(trt: Any, runtime: Any, entry: CacheEntry, log: Any) -> Any:
    component = entry.manifest.component
    try:
        with (entry.folder / PLAN_NAME).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as plan:
            engine = runtime.deserialize_cuda_engine(plan)
            said = log.reason()
            if engine is None and hasattr(runtime, "get_engine_validity"):
                said = f"{said} {_diagnosis(trt, runtime.get_engine_validity(plan)[1])}".strip()
    except (OSError, ValueError) as error:  # ValueError: an empty file
        again = "build it again: sd2rt engines prune --all, then sd2rt build"
        raise EngineError(f"{component}: the engine's plan cannot be read ({error}); {again}") from error
    if engine is None:
        raise load_failure(component, said)
    return engine


def _diagnosis(trt: Any, bits: int) -> str:
    """Name what TensorRT-RTX finds wrong with a plan, such as UNSUPPORTED_CC; "" for nothing."""
    named = trt.EngineInvalidityDiagnostics.__members__.values()
    return ", ".join(cause.name for cause in named if bits & int(cause))


def _stream_weights(engine: Any) -> bool:
    """Let weights that do not fit stay in host memory; return whether some do."""
    engine.weight_streaming_budget_v2 = engine.get_weight_streaming_automatic_budget()
    return bool(engine.weight_streaming_budget_v2 < engine.streamable_weights_size)


def _prepare_kernels(trt: Any, config: Any, entry: CacheEntry, driver: Driver) -> KernelCache | None:
    """Have TensorRT-RTX take kernels compiled before, and compile those for the bound sizes at once: a CUDA graph keeps what it records."""
    if not hasattr(config, "create_runtime_cache"):
        return None
    cache = config.create_runtime_cache()
    kernels = KernelCache(cache, kernel_file(entry, driver))
    config.set_runtime_cache(cache)
    config.dynamic_shapes_kernel_specialization_strategy = trt.DynamicShapesKernelSpecializationStrategy.EAGER
    return kernels


def _specs(entry: CacheEntry, engine: Any, mode: Any) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Return the engine's inputs and outputs. Sizes and dtypes are the plan's, names of axes the manifest's."""
    noted = read_axis_names(entry.manifest)
    inputs: list[TensorSpec] = []
    outputs: list[TensorSpec] = []
    for name in (engine.get_tensor_name(index) for index in range(engine.num_io_tensors)):
        sizes, dtype = tuple(engine.get_tensor_shape(name)), engine.get_tensor_dtype(name).name
        if dtype not in DTYPES or len(noted.get(name, ())) != len(sizes):
            got = f"{name} of {dtype} {list(sizes)}, in its manifest {list(noted.get(name, ()))}"
            raise EngineError(f"{entry.manifest.component}: got {got}; expected one of {', '.join(DTYPES)}, and as many axes in both")
        axes = tuple(size if size >= 0 else axis for size, axis in zip(sizes, noted[name], strict=True))
        (inputs if engine.get_tensor_mode(name) == mode.INPUT else outputs).append(TensorSpec(name=name, dtype=DTYPES[dtype], shape=axes))
    return tuple(inputs), tuple(outputs)


@dataclass(slots=True, kw_only=True)
class _Loaded:
    """The library's own objects, in the order in which they are let go, and what must be known of them."""

    context: Any
    kernels: KernelCache | None
    engine: Any
    runtime: Any
    log: Any
    stream: int
    streaming: bool  # weights come from host memory during a launch, which waits then


class TensorRTEngine:
    """One component as a plan on a GPU, made by `load_plan`; see the protocol of device engines."""

    records_itself = False

    def __init__(
        self, component: str, loaded: _Loaded, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...], ranges: Mapping[str, Range]
    ) -> None:
        self.inputs = inputs
        self.outputs = outputs
        self.ranges = ranges
        self.scratch_bytes = int(loaded.engine.device_memory_size_v2)
        self._component = component
        self._loaded: _Loaded | None = loaded

    @property
    def capturable(self) -> bool:
        """Whether a launch may be recorded into a CUDA graph; TensorRT-RTX is asked, and knows best after `bind`."""
        loaded = self._open()
        ask = getattr(loaded.context, "is_stream_capturable", None)
        return not loaded.streaming and (ask is None or bool(ask(loaded.stream)))

    def bind(self, axes: Mapping[str, int], addresses: Mapping[str, int], scratch: int) -> None:
        """Fix sizes and addresses; see the protocol."""
        context = self._open().context
        missing = [spec.name for spec in (*self.inputs, *self.outputs) if spec.name not in addresses]
        if missing:
            raise InvalidArgument(f"{self._component}: got no address of {', '.join(missing)}; expected one for every input and output")
        self.complete(axes)
        for spec in (*self.inputs, *self.outputs):
            self._require(context.set_tensor_address(spec.name, addresses[spec.name]))
        context.set_device_memory(scratch, self.scratch_bytes)

    def complete(self, axes: Mapping[str, int]) -> dict[str, int]:
        """Fix the inputs' sizes and return them with those that the outputs then have.

        Raises InvalidArgument for sizes that the engine was not built for or that do not go together.
        """
        loaded, found = self._open(), dict(axes)
        loaded.log.clear()
        for spec in self.inputs:
            self._require(loaded.context.set_input_shape(spec.name, self._shape(spec, axes)))
        for spec in self.outputs:
            for axis, size in zip(spec.shape, loaded.context.get_tensor_shape(spec.name), strict=True):
                self._require(size >= 0)
                if isinstance(axis, str) and found.setdefault(axis, size) != size:
                    expected = f"expected {size}, as {spec.name} has with the others"
                    raise InvalidArgument(f"{self._component}: got {axis} {found[axis]}; {expected}")
        return found

    def enqueue(self, stream: int) -> None:
        """Launch once; see the protocol."""
        loaded = self._open()
        loaded.log.clear()
        self._require(loaded.context.execute_async_v3(stream))

    def close(self) -> None:
        """Let go of the plan's memory; calling it again does nothing."""
        loaded, self._loaded = self._loaded, None
        if loaded is not None:
            if loaded.kernels is not None:
                loaded.kernels.save()
            loaded.context = loaded.kernels = loaded.engine = None  # from left to right

    def _shape(self, spec: TensorSpec, axes: Mapping[str, int]) -> tuple[int, ...]:
        """Return an input's shape. Raises InvalidArgument for a size that the engine was not built for."""
        shape = spec.resolve(axes)
        if any(isinstance(axis, str) for axis in spec.shape):
            smallest, _, largest = self._open().engine.get_tensor_profile_shape(spec.name, 0)
            for axis, size, low, high in zip(spec.shape, shape, smallest, largest, strict=True):
                if not low <= size <= high:
                    raise InvalidArgument(f"{self._component}: got {axis} {size}; expected {low} to {high}, as its engine was built for")
        return shape

    def _open(self) -> _Loaded:
        if self._loaded is None:
            raise EngineError(f"{self._component}: the engine is closed; open it again")
        return self._loaded

    def _require(self, done: bool) -> None:
        if not done:
            raise EngineError(f"{self._component}: TensorRT failed: {quote(self._open().log.reason())}")
