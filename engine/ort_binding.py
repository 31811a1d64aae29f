"""A session of ONNX Runtime on memory that the caller chose: a component as the device loop wants it. Imports no ONNX Runtime itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sd2rt.engine.errors import EngineError, InvalidArgument, reason
from sd2rt.engine.spec import Range, TensorSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a session runs: a device, its number, and the stream it launches on, None for one of its own.

    "cpu" is for trying the same code without a GPU.
    """

    device: str = "cuda"
    index: int = 0
    stream: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedSession:
    """An onnxruntime.InferenceSession and what must be known of it. `run_options` gives the options of runs with the n-th binding."""

    component: str
    session: Any
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    run_options: Callable[[int], Any]


class OrtDeviceEngine:
    """One component on ONNX Runtime, which reads and writes memory that the caller chose. See `protocol.DeviceEngine`.

    ONNX Runtime has memory of its own to work in, so there is no scratch; it records its own CUDA graphs, so the caller must not.
    A recording belongs to the thread that launched first: another thread's first launch records again.
    """

    scratch_bytes = 0
    capturable = False
    records_itself = True

    def __init__(self, loaded: LoadedSession, place: Place, ranges: Mapping[str, Range]) -> None:
        self.inputs = loaded.inputs
        self.outputs = loaded.outputs
        self._name = loaded.component
        self._session: Any = loaded.session
        self._run_options = loaded.run_options
        self._place = place
        self.ranges = dict(ranges)
        self._bindings: dict[tuple[Any, ...], tuple[Any, Any]] = {}  # what is bound to what -> ONNX Runtime's binding, how it is run
        self._bound: tuple[Any, Any] | None = None

    def bind(self, axes: Mapping[str, int], addresses: Mapping[str, int], scratch: int) -> None:
        """Fix sizes and addresses; see the protocol. No output may lie where an input does: a first launch runs several times.

        Raises InvalidArgument for sizes the engine was not loaded for, a missing, unknown or shared address, EngineError once closed.
        """
        self._check_open()
        self._check_axes(axes)
        self._check_addresses(addresses)
        shapes = {spec.name: spec.resolve(axes) for spec in (*self.inputs, *self.outputs)}
        key = tuple((name, shape, addresses[name]) for name, shape in shapes.items())
        if key not in self._bindings:
            self._bindings[key] = self._make_binding(shapes, addresses), self._run_options(len(self._bindings))
        self._bound = self._bindings[key]

    def enqueue(self, stream: int) -> None:
        """Launch once on the stream that the engine was loaded for. Raises EngineError."""
        self._check_open()
        if self._bound is None:
            raise EngineError(f"{self._name}: the engine has no memory to work on; bind it first")
        if stream != self._place.stream:
            raise EngineError(f"{self._name}: got stream {stream}; expected {self._place.stream}, which the engine was loaded for")
        binding, run_options = self._bound
        try:
            self._session.run_with_iobinding(binding, run_options)
        except Exception as error:  # as in open_session
            hint = "use a smaller size or batch, or close what else uses the GPU"
            raise EngineError(f"{self._name}: ONNX Runtime failed: {reason(error, hint)}") from error

    def close(self) -> None:
        """Free the weights and recordings, once the stream is done with them; calling it again does nothing."""
        self._bound, self._session = None, None
        self._bindings.clear()

    def _check_open(self) -> None:
        if self._session is None:
            raise EngineError(f"{self._name}: the engine is closed; open it again")

    def _check_axes(self, axes: Mapping[str, int]) -> None:
        for axis, (smallest, _, largest) in self.ranges.items():
            if axis in axes and not smallest <= axes[axis] <= largest:
                expected = str(largest) if smallest == largest else f"{smallest} to {largest}"
                raise InvalidArgument(f"{self._name}: got {axis} {axes[axis]}; expected {expected}, which the engine was loaded for")

    def _check_addresses(self, addresses: Mapping[str, int]) -> None:
        names = [spec.name for spec in (*self.inputs, *self.outputs)]
        if set(addresses) != set(names) or not all(addresses.values()):
            got = ", ".join(name for name, address in sorted(addresses.items()) if address)
            raise InvalidArgument(f"{self._name}: got addresses of {got or 'nothing'}; expected those of {', '.join(names)}")
        read = {addresses[spec.name]: spec.name for spec in self.inputs}
        shared = [spec.name for spec in self.outputs if addresses[spec.name] in read]
        if shared:
            raise InvalidArgument(f"{self._name}: got one address for {shared[0]} and {read[addresses[shared[0]]]}; expected two")

    def _make_binding(self, shapes: Mapping[str, tuple[int, ...]], addresses: Mapping[str, int]) -> Any:
        binding = self._session.io_binding()
        for specs, bind in ((self.inputs, binding.bind_input), (self.outputs, binding.bind_output)):
            for spec in specs:
                where = self._place.device, self._place.index
                bind(spec.name, *where, np.dtype(spec.dtype).type, shapes[spec.name], addresses[spec.name])
        return binding
