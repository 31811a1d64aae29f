"""The text encoder on a device: token ids to states, which it writes to where the sampling step reads them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy.typing as npt

from sd2rt.engine.device_buffers import Buffer, DeviceBuffers, Input
from sd2rt.engine.device_job import IDS
from sd2rt.engine.errors import InvalidArgument
from sd2rt.engine.launch import Launch
from sd2rt.engine.protocol import DeviceEngine
from sd2rt.engine.spec import TensorSpec
from sd2rt.engine.store import Notify

STATES = "last_hidden_state"


class DeviceText:
    """The text encoder engine; `states` is the memory that its states go to. All prompts, negative ones too, are one launch.

    `axes` are the encoder's: its chunks, one after the other, are the rows of the step's context, which begin with the first.
    Raises InvalidArgument when the encoder's states are of another size or dtype than the step's.
    """

    def __init__(self, held: DeviceBuffers, engine: DeviceEngine, axes: Mapping[str, int], states: Buffer, notify: Notify) -> None:
        self._held = held
        self.tensors = {spec.name: _tensor(held, spec, axes, states) for spec in (*engine.inputs, *engine.outputs)}
        self._ids = Input(held, self.tensors[IDS])
        self._encode = Launch(
            held, lambda: engine.enqueue(held.stream), name="text encoder", recordable=lambda: engine.capturable, notify=notify
        )
        self._start, self._end = held.event(), held.event()
        self._changed: npt.NDArray[Any] | None = None  # page-locked memory, from the first time on that it is needed
        held.on_close(self._encode.close)

    def upload(self, ids: npt.NDArray[Any]) -> None:
        """Send token ids, [batch, tokens]."""
        self._ids.upload(ids)

    def encode(self) -> None:
        """Have the stream encode them."""
        self._held.driver.record(self._start, self._held.stream)
        self._encode()
        self._held.driver.record(self._end, self._held.stream)

    def weigh(self, change: Callable[[npt.NDArray[Any]], npt.NDArray[Any]]) -> None:
        """Wait for the states and put changed ones, [chunks, tokens, channels], in their place."""
        states, driver = self.tensors[STATES], self._held.driver
        if self._changed is None:
            self._changed = self._held.pinned(states.shape, states.dtype)
        driver.download(self._changed, states.address, self._held.stream)
        driver.synchronize(self._held.stream)
        self._changed[...] = change(self._changed)
        driver.upload(states.address, self._changed, self._held.stream)

    def seconds(self) -> float:
        """Return the time of the last encoding, which must be done."""
        return self._held.driver.elapsed_seconds(self._start, self._end)


def _tensor(held: DeviceBuffers, spec: TensorSpec, axes: Mapping[str, int], states: Buffer) -> Buffer:
    if spec.name != STATES:
        return held.tensor(spec, axes)
    shape = spec.resolve(axes)
    if (math.prod(shape), shape[-1], spec.dtype) != (math.prod(states.shape), states.shape[-1], states.dtype.name):
        got, expected = f"{spec.dtype} {list(shape)}", f"{states.dtype.name} {list(states.shape)}"
        raise InvalidArgument(f"text encoder: got states of {got}; expected {expected}, as the UNet reads them: export the bundle again")
    return replace(states, shape=shape)
