"""The CUDA calls that sd2rt makes, on plain integers and numpy arrays. The only module that imports cuda.bindings.

    Driver(runtime)     memory, copies, streams, events and graphs of one GPU; `runtime` is cuda.bindings.runtime or a test's fake
    open_driver()       a Driver of this machine's GPU
    find_gpu()          whether there is one, at no cost (see `gpu`)

Addresses and handles are ints. Nothing here waits for the GPU but `synchronize` and `wait`; who must wait is the caller's business.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from sd2rt.engine.errors import EngineError, TargetUnavailable, first_line
from sd2rt.engine.gpu import Gpu, find_gpu

__all__ = ["Driver", "Gpu", "find_gpu", "open_driver"]

INSTALL = "pip install 'sd2rt[tensorrt]'"


def open_driver(device: int = 0) -> Driver:
    """Open this machine's GPU. Raises TargetUnavailable when there is none, without cuda-bindings, or when its driver is too old."""
    gpu = find_gpu()
    if isinstance(gpu, str):
        raise TargetUnavailable(gpu)
    try:
        from cuda.bindings import runtime
    except (ImportError, OSError) as error:
        raise TargetUnavailable(f"cuda-bindings cannot be imported ({first_line(error)}): {INSTALL}") from error
    check_driver_version(gpu, runtime)
    return Driver(runtime, device)


def check_driver_version(gpu: Gpu, runtime: Any) -> None:
    """Raise TargetUnavailable when the driver is of an older CUDA major version than cuda-bindings."""
    _, version = runtime.cudaRuntimeGetVersion()
    if gpu.driver_version // 1000 < version // 1000:
        got, expected = _version(gpu.driver_version), f"{version // 1000}.0"
        raise TargetUnavailable(f"the NVIDIA driver runs CUDA {got}; cuda-bindings needs {expected} or later: update the driver")


def _version(number: int) -> str:
    """13010 -> "13.1"."""
    return f"{number // 1000}.{number % 1000 // 10}"


class Driver:
    """One GPU. Every method raises EngineError with CUDA's own message when the call fails.

    `capability` is (8, 9) for SM89; `driver_version` is the newest CUDA that the driver runs, 13010 for 13.1.
    """

    def __init__(self, runtime: Any, device: int = 0) -> None:
        self._cuda = runtime
        self._call("cudaSetDevice", device)
        properties = self._call("cudaGetDeviceProperties", device)
        self.name: str = properties.name.split(b"\0")[0].decode()
        self.capability: tuple[int, int] = (properties.major, properties.minor)
        self.total_bytes: int = properties.totalGlobalMem
        self.driver_version: int = self._call("cudaDriverGetVersion")

    # Memory.

    def allocate(self, bytes: int) -> int:
        """Allocate device memory, not cleared, and return its address, a multiple of 256."""
        return int(self._call("cudaMalloc", max(bytes, 1)))

    def free(self, address: int) -> None:
        """Free device memory, once the GPU is done with it."""
        self._call("cudaFree", address)

    def pinned(self, shape: Sequence[int], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """Return an array in page-locked host memory, cleared: only copies to and from such memory never wait. See `free_pinned`."""
        bytes = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        address = int(self._call("cudaHostAlloc", bytes, self._cuda.cudaHostAllocDefault))
        memory = np.ctypeslib.as_array((ctypes.c_uint8 * bytes).from_address(address))
        memory[:] = 0
        return memory.view(dtype).reshape(shape)

    def free_pinned(self, array: npt.NDArray[Any]) -> None:
        """Free an array made by `pinned`; it must not be read or written again."""
        self._call("cudaFreeHost", array.ctypes.data)

    # copies, in the stream's order and without waiting

    def upload(self, address: int, array: npt.NDArray[Any], stream: int) -> None:
        """Copy an array to the device. Pinned arrays must stay as they are until the copy is done; others are read at once."""
        assert array.flags.c_contiguous
        self._copy(address, array.ctypes.data, array.nbytes, "cudaMemcpyHostToDevice", stream)

    def download(self, array: npt.NDArray[Any], address: int, stream: int) -> None:
        """Fill an array from the device; read a pinned one once the stream, or an event behind the copy, has been waited for."""
        assert array.flags.c_contiguous
        assert array.flags.writeable
        self._copy(array.ctypes.data, address, array.nbytes, "cudaMemcpyDeviceToHost", stream)

    def copy(self, target: int, source: int, bytes: int, stream: int) -> None:
        """Copy within the device."""
        self._copy(target, source, bytes, "cudaMemcpyDeviceToDevice", stream)

    def zero(self, address: int, bytes: int, stream: int) -> None:
        """Clear device memory."""
        self._call("cudaMemsetAsync", address, 0, bytes, stream)

    def _copy(self, target: int, source: int, bytes: int, kind: str, stream: int) -> None:
        self._call("cudaMemcpyAsync", target, source, bytes, getattr(self._cuda.cudaMemcpyKind, kind), stream)

    # streams and events

    def create_stream(self) -> int:
        """Make a stream that never waits for the default one."""
        return int(self._call("cudaStreamCreateWithFlags", self._cuda.cudaStreamNonBlocking))

    def destroy_stream(self, stream: int) -> None:
        """Let go of a stream; what it was given is still done."""
        self._call("cudaStreamDestroy", stream)

    def synchronize(self, stream: int) -> None:
        """Wait until the stream has done all it was given."""
        self._call("cudaStreamSynchronize", stream)

    def create_event(self) -> int:
        """Make an event that takes the time and that `wait` sleeps for, rather than spin."""
        return int(self._call("cudaEventCreateWithFlags", self._cuda.cudaEventBlockingSync))

    def destroy_event(self, event: int) -> None:
        """Let go of an event."""
        self._call("cudaEventDestroy", event)

    def record(self, event: int, stream: int) -> None:
        """Have the event happen when the stream gets there."""
        self._call("cudaEventRecord", event, stream)

    def is_done(self, event: int) -> bool:
        """Return whether an event has happened; one that was never recorded has."""
        status = self._cuda.cudaEventQuery(event)[0]
        if status == self._cuda.cudaError_t.cudaErrorNotReady:
            return False
        self._check("cudaEventQuery", status)
        return True

    def wait(self, event: int) -> None:
        """Wait until an event has happened."""
        self._call("cudaEventSynchronize", event)

    def elapsed_seconds(self, start: int, end: int) -> float:
        """Return the time between two events that have both happened."""
        return float(self._call("cudaEventElapsedTime", start, end)) / 1000

    # graphs

    def begin_capture(self, stream: int) -> None:
        """Record what this thread gives the stream from now on, instead of doing it."""
        self._call("cudaStreamBeginCapture", stream, self._cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal)

    def end_capture(self, stream: int) -> int:
        """Stop recording and return the graph, ready to launch. The stream works as before, also when this fails."""
        graph = self._call("cudaStreamEndCapture", stream)
        try:
            return int(self._call("cudaGraphInstantiate", graph, 0))
        finally:
            self._call("cudaGraphDestroy", graph)

    def launch(self, graph: int, stream: int) -> None:
        """Do what a graph recorded, in the stream's order."""
        self._call("cudaGraphLaunch", graph, stream)

    def destroy_graph(self, graph: int) -> None:
        """Let go of a graph."""
        self._call("cudaGraphExecDestroy", graph)

    def _call(self, name: str, *arguments: Any) -> Any:
        """Call a CUDA function; return the one value it gives, or None."""
        status, *values = getattr(self._cuda, name)(*arguments)
        self._check(name, status, *arguments)
        return values[0] if values else None

    def _check(self, name: str, status: Any, *arguments: Any) -> None:
        errors = self._cuda.cudaError_t
        if status == errors.cudaSuccess:
            return
        self._cuda.cudaGetLastError()  # or a library that asks for it next would take it for its own
        message = self._cuda.cudaGetErrorString(status)[1].decode()
        if status == errors.cudaErrorMemoryAllocation:
            wanted = f" for {arguments[0] / 2**20:.0f} MiB" if name in ("cudaMalloc", "cudaHostAlloc") else ""
            message += f"{wanted}; use a smaller size or batch, or close what else uses the GPU"
        raise EngineError(f"{name}: {message}")
