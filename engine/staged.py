"""A device engine as one that maps numpy arrays to numpy arrays: everything is sent up, run and fetched, and waited for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from sd2rt.engine.cuda import Driver
from sd2rt.engine.device_buffers import Buffer, DeviceBuffers, Input
from sd2rt.engine.errors import EngineError
from sd2rt.engine.feeds import check_feeds
from sd2rt.engine.protocol import DeviceEngine


@runtime_checkable
class Sizing(Protocol):
    """A device engine that knows which sizes its outputs have; others must have outputs of axes that are the inputs' too."""

    def complete(self, axes: Mapping[str, int]) -> Mapping[str, int]:
        """Return the sizes of the inputs' axes with those of the outputs'. Raises InvalidArgument for sizes it was not built for."""
        ...


class StagedEngine:
    """The `Engine` of a device engine. It owns both the engine, which `load` makes for a stream, and the stream. `name` is for errors.

    Memory is kept from one run to the next, as long as the shapes stay. Raises whatever `load` raises.
    """

    def __init__(self, driver: Driver, load: Callable[[int], DeviceEngine], name: str = "engine") -> None:
        self._name = name
        self._driver = driver
        self._stream = driver.create_stream()
        try:
            self._engine: DeviceEngine | None = load(self._stream)
        except BaseException:
            driver.destroy_stream(self._stream)
            raise
        self.inputs, self.outputs = self._engine.inputs, self._engine.outputs
        self._axes: dict[str, int] | None = None
        self._held = DeviceBuffers(driver, self._stream)
        self._feeds: dict[str, Input] = {}
        self._results: dict[str, tuple[Buffer, npt.NDArray[Any]]] = {}

    def run(self, feeds: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Run once; see the protocol. Raises InvalidArgument too for sizes that the engine was not built for."""
        if self._engine is None:
            raise EngineError(f"{self._name}: the engine is closed; open it again")
        cast = check_feeds(self._name, self.inputs, feeds)
        pairs = (pair for spec in self.inputs for pair in zip(spec.shape, cast[spec.name].shape, strict=True))
        self._prepare(self._engine, {axis: size for axis, size in pairs if isinstance(axis, str)})
        for name, array in cast.items():
            self._feeds[name].upload(array)
        self._engine.enqueue(self._stream)
        for buffer, host in self._results.values():
            self._driver.download(host, buffer.address, self._stream)
        self._driver.synchronize(self._stream)
        return {name: np.array(host) for name, (_, host) in self._results.items()}

    def close(self) -> None:
        """Free the engine and its memory; calling it again does nothing."""
        if self._engine is not None:
            self._held.close()
            self._engine.close()
            self._engine = None
            self._driver.destroy_stream(self._stream)

    def _prepare(self, engine: DeviceEngine, axes: dict[str, int]) -> None:
        """Have memory of these sizes, and the engine bound to it."""
        if axes == self._axes:
            return
        every = engine.complete(axes) if isinstance(engine, Sizing) else axes
        self._axes = None
        self._held.close()
        tensors = {spec.name: self._held.tensor(spec, every) for spec in (*self.inputs, *self.outputs)}
        self._feeds = {spec.name: Input(self._held, tensors[spec.name]) for spec in self.inputs}
        self._results = {
            spec.name: (tensors[spec.name], self._held.pinned(tensors[spec.name].shape, tensors[spec.name].dtype)) for spec in self.outputs
        }
        scratch = self._held.allocate(engine.scratch_bytes)
        engine.bind(every, {name: buffer.address for name, buffer in tensors.items()}, scratch)
        self._axes = axes
