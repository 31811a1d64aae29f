"""Memory, events and streams of a GPU that are held together and freed together; what an engine's tensors lie in."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sd2rt.engine.cuda import Driver
from sd2rt.engine.errors import EngineError
from sd2rt.engine.spec import TensorSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Buffer:
    """Device memory that holds one tensor."""

    address: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def bytes(self) -> int:
        """Its size."""
        return math.prod(self.shape) * self.dtype.itemsize


class DeviceBuffers:
    """What one owner holds on a GPU for work on one stream. `close` frees all of it; the GPU must be done with it by then."""

    def __init__(self, driver: Driver, stream: int) -> None:
        self.driver = driver
        self.stream = stream
        self._stack = ExitStack()

    def allocate(self, bytes: int) -> int:
        """Return the address of device memory, not cleared. Raises EngineError when there is not enough."""
        address = self.driver.allocate(bytes)
        self.on_close(self.driver.free, address)
        return address

    def tensor(self, spec: TensorSpec, axes: Mapping[str, int]) -> Buffer:
        """Return memory for a tensor, named axes of the sizes given. Raises as `allocate` does, and InvalidArgument for an unknown axis."""
        shape, dtype = spec.resolve(axes), np.dtype(spec.dtype)
        return Buffer(address=self.allocate(math.prod(shape) * dtype.itemsize), shape=shape, dtype=dtype)

    def pinned(self, shape: Sequence[int], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """Return an array that copies to and from without waiting; it must not be used after `close`."""
        array = self.driver.pinned(shape, dtype)
        self.on_close(self.driver.free_pinned, array)
        return array

    def event(self) -> int:
        """Return a new event."""
        event = self.driver.create_event()
        self.on_close(self.driver.destroy_event, event)
        return event

    def another_stream(self) -> int:
        """Return a new stream."""
        stream = self.driver.create_stream()
        self.on_close(self.driver.destroy_stream, stream)
        return stream

    def on_close(self, free: Callable[..., None], *argument: Any) -> None:
        """Call a function on `close`, the last one first. Its EngineError is dropped: a GPU that failed cannot be freed either."""

        def quietly() -> None:
            with suppress(EngineError):
                free(*argument)

        self._stack.callback(quietly)

    def close(self) -> None:
        """Free everything; calling it again does nothing."""
        self._stack.close()


class Input:
    """A tensor that the host fills: its device memory, and page-locked memory to copy from."""

    def __init__(self, held: DeviceBuffers, buffer: Buffer) -> None:
        self._held = held
        self._buffer = buffer
        self._host = held.pinned(buffer.shape, buffer.dtype)

    def upload(self, array: npt.NDArray[Any]) -> None:
        """Have the stream copy an array there, without waiting. The copy before must be done."""
        self._host[...] = array
        self._held.driver.upload(self._buffer.address, self._host, self._held.stream)
