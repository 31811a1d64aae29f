"""A `cuda.bindings.runtime` without a GPU. Device memory is host memory, and streams put work off for as long as they can.

What a stream is given is only done when somebody waits for it, or for an event behind it: so whoever reads too early reads what was there
before, and whoever overwrites or frees memory too early spoils work that is still to come. Fresh device memory holds NaN. Memory is
checked at every access, calls are kept in `calls`, what is never freed is in `leaks()`, and `fail` makes a call fail.
"""

import inspect
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Operation = Callable[[], None]
ALIGNMENT = 256
GARBAGE = 0xFF  # NaN as a float of any width, -1 as an integer
COPY_SECONDS = 0.001


class Status(IntEnum):
    """The real numbers and names of the errors that are needed."""

    cudaSuccess = 0
    cudaErrorInvalidValue = 1
    cudaErrorMemoryAllocation = 2
    cudaErrorInvalidResourceHandle = 400
    cudaErrorNotReady = 600
    cudaErrorLaunchFailure = 719
    cudaErrorStreamCaptureUnsupported = 900
    cudaErrorStreamCaptureInvalidated = 901


class CopyKind(IntEnum):
    """As cudaMemcpyKind."""

    cudaMemcpyHostToDevice = 1
    cudaMemcpyDeviceToHost = 2
    cudaMemcpyDeviceToDevice = 3


class CaptureMode(IntEnum):
    """As cudaStreamCaptureMode."""

    cudaStreamCaptureModeThreadLocal = 1


class Failure(Exception):
    """A call, or work on a stream, failed with this status."""

    def __init__(self, status: Status) -> None:
        super().__init__(status.name)
        self.status = status


class Handle:
    """What CUDA's opaque handles are in Python: objects that int() takes."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __int__(self) -> int:
        return self._number


@dataclass
class Stream:
    """Work still to be done, in order; `recorded` holds what is captured instead, while a capture is on."""

    pending: list[Operation] = field(default_factory=list)
    recorded: list[Operation] | None = None
    spoiled: bool = False  # something was done that cannot be captured


@dataclass
class Event:
    """`recorded` counts the recordings and `reached` those that the stream came to."""

    stream: int = 0
    recorded: int = 0
    reached: int = 0
    seconds: float = 0.0


class FakeCuda:
    """Stands for the module. Every cudaX is a method do_X that returns its values, without the status."""

    cudaError_t = Status
    cudaMemcpyKind = CopyKind
    cudaStreamCaptureMode = CaptureMode
    cudaStreamNonBlocking = 1
    cudaEventBlockingSync = 1
    cudaHostAllocDefault = 0

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self.seconds = 0.0  # of the device's clock
        self.device: dict[int, Bytes] = {}
        self.host: dict[int, Bytes] = {}
        self.streams: dict[int, Stream] = {}
        self.events: dict[int, Event] = {}
        self.graphs: dict[int, list[Operation]] = {}
        self.executables: dict[int, list[Operation]] = {}
        self._freed: list[Bytes] = []  # kept, so that what comes too late touches no one else's memory
        self._numbers = iter(range(0x1000, 0x100000))
        self._faults: dict[tuple[str, int], Status] = {}
        self._counts: Counter[str] = Counter()
        self._broken: Status | None = None

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("cuda") or not hasattr(type(self), f"do_{name[4:]}"):
            raise AttributeError(name)
        return partial(self._call, name)

    def fail(self, name: str, nth: int, status: Status) -> None:
        """Have the nth call from now on of a function fail, once; a launch failure stays, as on a GPU."""
        self._faults[name, self._counts[name] + nth] = status

    def names(self) -> list[str]:
        """Return the names of all calls, in order."""
        return [name for name, _ in self.calls]

    def leaks(self) -> dict[str, int]:
        """Count what is still held."""
        held = {"device": self.device, "host": self.host, "streams": self.streams, "events": self.events, "graphs": self.graphs}
        return {name: len(items) for name, items in {**held, "executables": self.executables}.items() if items}

    def enqueue(self, stream: int, operation: Operation) -> None:
        """Give a stream work, or record it."""
        found = self._stream(stream)
        (found.pending if found.recorded is None else found.recorded).append(operation)

    def is_capturing(self, stream: int) -> bool:
        """Return whether a stream's work is recorded."""
        return self._stream(stream).recorded is not None

    def finish(self) -> None:
        """Do all work that is left."""
        for stream in self.streams:
            self._drain(stream)

    def memory(self, address: int, bytes: int) -> Bytes:
        """Return device memory as it is now; it must be allocated."""
        return self._within(self.device, address, bytes)

    def array(self, address: int, shape: tuple[int, ...], dtype: str) -> npt.NDArray[Any]:
        """Return a tensor in device memory as it is now."""
        count = int(np.prod(shape, dtype=np.int64))
        return self.memory(address, count * np.dtype(dtype).itemsize).view(dtype).reshape(shape)

    def _call(self, name: str, *arguments: Any) -> tuple[Any, ...]:
        handler = getattr(self, f"do_{name[4:]}")
        inspect.signature(handler).bind(*arguments)
        self.calls.append((name, arguments))
        self._counts[name] += 1
        try:
            fault = self._faults.pop((name, self._counts[name]), None)
            if fault is Status.cudaErrorLaunchFailure:
                self._broken = fault
            if fault is not None and name == "cudaStreamEndCapture":  # it ends the capture all the same
                self._stream(arguments[0]).recorded = None
            if fault is not None or (self._broken is not None and name not in ("cudaGetErrorString", "cudaGetLastError")):
                raise Failure(fault or self._broken or Status.cudaSuccess)
            return (Status.cudaSuccess, *handler(*arguments))
        except Failure as failure:
            return (failure.status,) if name.startswith(("cudaMemcpy", "cudaMemset", "cudaGraphLaunch")) else (failure.status, None)

    def _stream(self, stream: int) -> Stream:
        if stream not in self.streams:
            raise Failure(Status.cudaErrorInvalidResourceHandle)
        return self.streams[stream]

    def _within(self, held: dict[int, Bytes], address: int, bytes: int) -> Bytes:
        for start, memory in held.items():
            if start <= address and address + bytes <= start + len(memory):
                return memory[address - start : address - start + bytes]
        raise AssertionError(f"{bytes} bytes at {address:#x} are not allocated: freed too early, or never")

    def _new(self, held: dict[int, Any], thing: Any) -> Handle:
        number = next(self._numbers)
        held[number] = thing
        return Handle(number)

    def _remove(self, held: dict[int, Any], handle: int) -> tuple[()]:
        if held.pop(handle, None) is None:
            raise Failure(Status.cudaErrorInvalidResourceHandle)
        return ()

    def _allocate(self, held: dict[int, Bytes], size: int) -> int:
        if any(stream.recorded is not None for stream in self.streams.values()):
            self._spoil()
        room = np.full(size + ALIGNMENT, GARBAGE, np.uint8)
        start = -room.ctypes.data % ALIGNMENT
        memory = room[start : start + size]
        held[memory.ctypes.data] = memory
        return memory.ctypes.data

    def _release(self, held: dict[int, Bytes], address: int) -> tuple[()]:
        memory = held.pop(address, None)
        if memory is None:
            raise Failure(Status.cudaErrorInvalidValue)
        memory[:] = GARBAGE
        self._freed.append(memory)
        return ()

    def _spoil(self) -> None:
        """End captures: what is done now cannot be captured."""
        for stream in self.streams.values():
            stream.spoiled = stream.recorded is not None
        raise Failure(Status.cudaErrorStreamCaptureUnsupported)

    def _advance(self, stream: int) -> None:
        """Do the first thing that is pending."""
        try:
            self._stream(stream).pending.pop(0)()
        except Failure as failure:
            self._broken = failure.status
            self._stream(stream).pending.clear()
            raise

    def _drain(self, stream: int) -> None:
        if self._stream(stream).recorded is not None:
            self._spoil()
        while self._stream(stream).pending:
            self._advance(stream)

    # The functions, each with the parameters of the real one.

    def do_SetDevice(self, device: int) -> tuple[()]:
        return ()

    def do_GetDeviceProperties(self, device: int) -> tuple[Any]:
        return (SimpleNamespace(name=b"Fake GPU\0\0", major=8, minor=9, totalGlobalMem=8 << 30),)

    def do_DriverGetVersion(self) -> tuple[int]:
        return (13010,)

    def do_RuntimeGetVersion(self) -> tuple[int]:
        return (13050,)

    def do_GetLastError(self) -> tuple[()]:
        return ()

    def do_GetErrorString(self, error: Status) -> tuple[bytes]:
        return (b"out of memory" if error is Status.cudaErrorMemoryAllocation else error.name.encode(),)

    def do_Malloc(self, size: int) -> tuple[int]:
        return (self._allocate(self.device, size),)

    def do_Free(self, devPtr: int) -> tuple[()]:
        return self._release(self.device, devPtr)

    def do_HostAlloc(self, size: int, flags: int) -> tuple[int]:
        return (self._allocate(self.host, size),)

    def do_FreeHost(self, ptr: int) -> tuple[()]:
        return self._release(self.host, ptr)

    def do_MemcpyAsync(self, dst: int, src: int, count: int, kind: CopyKind, stream: int) -> tuple[()]:
        source = self._end(src, count, device=kind is not CopyKind.cudaMemcpyHostToDevice)
        target = self._end(dst, count, device=kind is not CopyKind.cudaMemcpyDeviceToHost)
        self.enqueue(stream, lambda: self._copy(target, source))
        return ()

    def do_MemsetAsync(self, devPtr: int, value: int, count: int, stream: int) -> tuple[()]:
        self.memory(devPtr, count)
        self.enqueue(stream, lambda: self.memory(devPtr, count).fill(value))
        return ()

    def _end(self, address: int, bytes: int, device: bool) -> Callable[[], Bytes]:
        """Return how to reach one end of a copy once it is done. Memory of the host must be pinned: other memory would be waited for."""
        held = self.device if device else self.host
        self._within(held, address, bytes)
        return lambda: self._within(held, address, bytes)

    def _copy(self, target: Callable[[], Bytes], source: Callable[[], Bytes]) -> None:
        target()[:] = source()
        self.seconds += COPY_SECONDS

    def do_StreamCreateWithFlags(self, flags: int) -> tuple[Handle]:
        assert flags == self.cudaStreamNonBlocking
        return (self._new(self.streams, Stream()),)

    def do_StreamDestroy(self, stream: int) -> tuple[()]:
        self._drain(stream)
        return self._remove(self.streams, stream)

    def do_StreamSynchronize(self, stream: int) -> tuple[()]:
        self._drain(stream)
        return ()

    def do_EventCreateWithFlags(self, flags: int) -> tuple[Handle]:
        return (self._new(self.events, Event()),)

    def do_EventDestroy(self, event: int) -> tuple[()]:
        return self._remove(self.events, event)

    def do_EventRecord(self, event: int, stream: int) -> tuple[()]:
        if self.is_capturing(stream):
            self._spoil()
        found = self.events[event]
        found.stream, found.recorded = stream, found.recorded + 1
        number = found.recorded
        self.enqueue(stream, lambda: self._reach(found, number))
        return ()

    def _reach(self, event: Event, number: int) -> None:
        event.reached, event.seconds = number, self.seconds

    def do_EventQuery(self, event: int) -> tuple[()]:
        found = self.events[event]
        if found.reached < found.recorded:
            raise Failure(Status.cudaErrorNotReady)
        return ()

    def do_EventSynchronize(self, event: int) -> tuple[()]:
        found = self.events[event]
        if any(stream.recorded is not None for stream in self.streams.values()):
            self._spoil()
        while found.reached < found.recorded:
            self._advance(found.stream)
        return ()

    def do_EventElapsedTime(self, start: int, end: int) -> tuple[float]:
        both = self.events[start], self.events[end]
        for event in both:
            if not event.recorded:
                raise Failure(Status.cudaErrorInvalidResourceHandle)
            if event.reached < event.recorded:
                raise Failure(Status.cudaErrorNotReady)
        return (1000 * (both[1].seconds - both[0].seconds),)

    def do_StreamBeginCapture(self, stream: int, mode: CaptureMode) -> tuple[()]:
        found = self._stream(stream)
        assert mode is CaptureMode.cudaStreamCaptureModeThreadLocal
        assert found.recorded is None
        found.recorded, found.spoiled = [], False
        return ()

    def do_StreamEndCapture(self, stream: int) -> tuple[Handle]:
        found = self._stream(stream)
        recorded, found.recorded = found.recorded, None
        if recorded is None or found.spoiled:
            raise Failure(Status.cudaErrorStreamCaptureInvalidated)
        return (self._new(self.graphs, recorded),)

    def do_GraphInstantiate(self, graph: Handle, flags: int) -> tuple[Handle]:
        return (self._new(self.executables, list(self.graphs[int(graph)])),)

    def do_GraphDestroy(self, graph: Handle) -> tuple[()]:
        return self._remove(self.graphs, int(graph))

    def do_GraphLaunch(self, graphExec: int, stream: int) -> tuple[()]:
        for operation in self.executables[graphExec]:
            self.enqueue(stream, operation)
        return ()

    def do_GraphExecDestroy(self, graphExec: int) -> tuple[()]:
        return self._remove(self.executables, graphExec)
