"""A TensorRT or TensorRT-RTX module without a GPU: plans name ONNX graphs, which ONNX Runtime runs on the fake driver's memory.

    trt = FakeTensorRT(cuda)                              or FakeTensorRT(cuda, rtx=True)
    entry = write_plan(folder, files, form, axes)         an engine as the cache has it
    engine = load_plan(trt, entry, driver, stream)

Like the real one it returns None or False where something fails, after it has logged why, knows no names of axes, and cannot be captured
before it has run once.
"""

import json
from collections.abc import Mapping
from enum import Enum, IntEnum
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime

from sd2rt.engine.axis_names import axis_names
from sd2rt.engine.manifest import Manifest, engine_key
from sd2rt.engine.spec import ComponentFiles, Form, Range
from sd2rt.engine.store import CacheEntry
from sd2rt.engine.trt_run import PLAN_NAME
from tests.engine.fake_cuda import Failure, FakeCuda, Status
from tests.engine.written import write_form

KERNEL_SECONDS = 0.01
SCRATCH_BYTES = 4096
VERSION = "11.4"
GPU = "SM89"
TYPES = {"tensor(float)": "FLOAT", "tensor(float16)": "HALF", "tensor(int64)": "INT64", "tensor(int32)": "INT32", "tensor(uint8)": "UINT8"}
NUMPY = {"FLOAT": "float32", "HALF": "float16", "INT64": "int64", "INT32": "int32", "UINT8": "uint8"}


def write_plan(
    folder: Path, files: ComponentFiles, form: Form, axes: Mapping[str, Range], *, scratch: int = SCRATCH_BYTES, **changes: str
) -> CacheEntry:
    """Write a component's graph in a form and a plan that names it; `changes` are of the plan's `version` and `gpu`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = write_form(files, form, folder)
    plan = {"graph": str(path), "axes": dict(axes), "scratch": scratch, "version": VERSION, "gpu": GPU, **changes}
    (folder / PLAN_NAME).write_text(json.dumps(plan))
    fields = {"component": files.name, "form": repr(form)}
    manifest = Manifest(
        key=engine_key(fields),
        component=files.name,
        target="tensorrt",
        fields=fields,
        files={},
        build_seconds=0.0,
        created="",
        sd2rt="",
        notes={"tensors": axis_names(onnx.load(path, load_external_data=False))},
    )
    return CacheEntry(folder=folder, manifest=manifest, last_used=0.0)


class Named:
    """A DataType."""

    def __init__(self, name: str) -> None:
        self.name = name


class Strategy(Enum):
    """Of allocation, and of kernels for dynamic shapes."""

    USER_MANAGED = 2
    EAGER = 1


class Mode(IntEnum):
    """TensorIOMode."""

    INPUT = 1
    OUTPUT = 2


class Cause(IntEnum):
    """EngineInvalidityDiagnostics."""

    VERSION_MISMATCH = 1
    UNSUPPORTED_CC = 2


class Severity(IntEnum):
    """Of a message."""

    INTERNAL_ERROR = 0
    ERROR = 1
    WARNING = 2


class Logger:
    """ILogger: a base class; what is under test overrides `log`, as TensorRT asks for."""

    Severity = Severity

    def __init__(self) -> None:
        pass

    def log(self, severity: Severity, message: str) -> None:
        raise AssertionError(f"nobody overrode log, which got {message!r}")


class FakeTensorRT:
    """The module. `compiled` counts how often an RTX one made kernels; the attributes below it are what goes wrong on purpose."""

    ILogger = Logger
    ExecutionContextAllocationStrategy = Strategy
    DynamicShapesKernelSpecializationStrategy = Strategy
    EngineInvalidityDiagnostics = Cause
    TensorIOMode = Mode

    def __init__(self, cuda: FakeCuda, *, rtx: bool = False) -> None:
        self.cuda = cuda
        self.rtx = rtx
        self.compiled = 0
        self.budget = 1 << 40  # automatic, for weight streaming
        self.capturable = True
        self.no_context = ""  # the message with which no context is made
        self.launch_error = ""  # the message with which a launch fails
        self.breaks = False  # launches fail on the device

    def Runtime(self, logger: Logger) -> "FakeRuntime":
        return (RtxRuntime if self.rtx else FakeRuntime)(self, logger)


class FakeRuntime:
    """IRuntime."""

    def __init__(self, trt: FakeTensorRT, logger: Logger) -> None:
        self.trt = trt
        self.logger = logger
        self.engine_host_code_allowed = True

    def deserialize_cuda_engine(self, plan: Any) -> "FakeEngine | None":
        content = bytes(plan)
        assert not self.engine_host_code_allowed
        if not content.startswith(b"{"):
            self.logger.log(Severity.ERROR, "Magic tag does not match")
        elif (found := json.loads(content))["version"] != VERSION:
            self.logger.log(Severity.ERROR, f"Version tag does not match: {found['version']}")
        elif found["gpu"] != GPU:
            self.logger.log(Severity.ERROR, "Engine is not usable" if self.trt.rtx else "Engine cannot run on this GPU")
        else:
            return FakeEngine(self, found)
        return None


class RtxRuntime(FakeRuntime):
    """TensorRT-RTX's."""

    def get_engine_validity(self, plan: Any) -> tuple[int, int]:
        return 2, Cause.UNSUPPORTED_CC if b'"SM75"' in bytes(plan) else Cause.VERSION_MISMATCH


class FakeConfig:
    """IRuntimeConfig."""

    def __init__(self) -> None:
        self.strategy: Strategy | None = None

    def set_execution_context_allocation_strategy(self, strategy: Strategy) -> None:
        self.strategy = strategy


class RtxConfig(FakeConfig):
    """TensorRT-RTX's."""

    dynamic_shapes_kernel_specialization_strategy: Strategy | None = None
    cache: "FakeKernels | None" = None

    def create_runtime_cache(self) -> "FakeKernels":
        return FakeKernels()

    def set_runtime_cache(self, cache: "FakeKernels") -> bool:
        self.cache = cache
        return True


class FakeKernels:
    """IRuntimeCache: empty, or with the kernels."""

    KERNELS = b"kernels"

    def __init__(self) -> None:
        self.content = b""

    def deserialize(self, content: bytes) -> bool:
        if content != self.KERNELS:
            return False
        self.content = content
        return True

    def serialize(self) -> bytes:
        return self.content


class FakeEngine:
    """ICudaEngine."""

    streamable_weights_size = 1000

    def __init__(self, runtime: FakeRuntime, plan: dict[str, Any]) -> None:
        self.runtime = runtime
        self.plan = plan
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(plan["graph"], options, providers=["CPUExecutionProvider"])
        self.values = {value.name: value for value in (*self.session.get_inputs(), *self.session.get_outputs())}
        self.inputs = [value.name for value in self.session.get_inputs()]
        self.num_io_tensors = len(self.values)
        self.weight_streaming_budget_v2 = 0

    @property
    def device_memory_size_v2(self) -> int:
        return int(self.plan["scratch"])

    def get_weight_streaming_automatic_budget(self) -> int:
        return self.runtime.trt.budget

    def get_tensor_name(self, index: int) -> str:
        return list(self.values)[index]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(axis if isinstance(axis, int) else -1 for axis in self.values[name].shape)

    def get_tensor_dtype(self, name: str) -> Named:
        return Named(TYPES[self.values[name].type])

    def get_tensor_mode(self, name: str) -> Mode:
        return Mode.INPUT if name in self.inputs else Mode.OUTPUT

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, ...]]:
        assert profile == 0
        ranges = [self.plan["axes"][axis] if isinstance(axis, str) else [axis] * 3 for axis in self.values[name].shape]
        return [tuple(sizes[which] for sizes in ranges) for which in range(3)]

    def create_runtime_config(self) -> FakeConfig:
        return RtxConfig() if self.runtime.trt.rtx else FakeConfig()

    def create_execution_context(self, config: FakeConfig) -> "FakeContext | None":
        trt = self.runtime.trt
        if trt.no_context:
            self.runtime.logger.log(Severity.ERROR, trt.no_context)
            return None
        assert config.strategy is Strategy.USER_MANAGED
        if isinstance(config, RtxConfig):
            assert config.dynamic_shapes_kernel_specialization_strategy is Strategy.EAGER
            assert config.cache is not None
            trt.compiled += not config.cache.content
            config.cache.content = FakeKernels.KERNELS
        return (RtxContext if trt.rtx else FakeContext)(self)


class FakeContext:
    """IExecutionContext."""

    def __init__(self, engine: FakeEngine) -> None:
        self.engine = engine
        self.cuda = engine.runtime.trt.cuda
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}
        self.scratch = (0, 0)
        self.has_run = False

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        smallest, _, largest = self.engine.get_tensor_profile_shape(name, 0)
        if not all(low <= size <= high for low, size, high in zip(smallest, shape, largest, strict=True)):
            return self._fail(f"{name} {shape} is outside the profile")
        self.shapes = {given: known for given, known in self.shapes.items() if given in self.engine.inputs} | {name: shape}
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        """Find the shape by running on zeros, once; -1 where sizes do not go together."""
        if name not in self.shapes:
            zeros = {given: np.zeros(self.shapes[given], self._dtype(given)) for given in self.engine.inputs}
            names = [value.name for value in self.engine.session.get_outputs()]
            try:
                results = self.engine.session.run(names, zeros)
            except Exception:
                self._fail("dimensions do not match")
                return (-1,) * len(self.engine.values[name].shape)
            self.shapes |= {output: result.shape for output, result in zip(names, results, strict=True)}
        return self.shapes[name]

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self.addresses[name] = memory
        return True

    def set_device_memory(self, memory: int, size: int) -> None:
        assert size >= self.engine.device_memory_size_v2
        self.scratch = (memory, size)

    def execute_async_v3(self, stream: int) -> bool:
        trt = self.engine.runtime.trt
        self.cuda.calls.append(("enqueueV3", (self.engine.plan["graph"],)))
        if trt.launch_error:
            return self._fail(trt.launch_error)
        if self.cuda.is_capturing(stream) and not self.has_run:
            return self._fail("operation not permitted when stream is capturing")
        self.has_run = True
        self.cuda.enqueue(stream, self._run)
        return True

    def _run(self) -> None:
        """Do what a launch does, when the stream gets there."""
        if self.engine.runtime.trt.breaks:
            raise Failure(Status.cudaErrorLaunchFailure)
        self.cuda.memory(*self.scratch)[:] = 0xAB
        feeds = {name: self._tensor(name).copy() for name in self.engine.inputs}
        names = [value.name for value in self.engine.session.get_outputs()]
        for name, result in zip(names, self.engine.session.run(names, feeds), strict=True):
            self._tensor(name)[...] = result
        self.cuda.seconds += KERNEL_SECONDS

    def _tensor(self, name: str) -> npt.NDArray[Any]:
        return self.cuda.array(self.addresses[name], self.get_tensor_shape(name), self._dtype(name))

    def _dtype(self, name: str) -> str:
        return NUMPY[TYPES[self.engine.values[name].type]]

    def _fail(self, message: str) -> bool:
        self.engine.runtime.logger.log(Severity.ERROR, message)
        return False


class RtxContext(FakeContext):
    """TensorRT-RTX's."""

    def is_stream_capturable(self, stream: int) -> bool:
        assert stream in self.cuda.streams
        return self.engine.runtime.trt.capturable
