"""The sampling step on a device: its tensors at fixed addresses, one row of the table a launch, the noise of all rows sent ahead."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy.typing as npt

from sd2rt.engine.device_buffers import Buffer, DeviceBuffers, Input
from sd2rt.engine.device_job import INTERNAL, Arrays, Floats
from sd2rt.engine.launch import Launch
from sd2rt.engine.protocol import DeviceEngine
from sd2rt.engine.store import Notify

LOOP_ROWS = 64  # a step of SD2 is about a thousand kernels: graphs of longer loops take long to make, and much memory


class DeviceStep:
    """The step engine and all that it reads and writes. `tensors` are its inputs and outputs by name, `latents` is register 0."""

    def __init__(self, held: DeviceBuffers, engine: DeviceEngine, axes: Mapping[str, int], notify: Notify) -> None:
        self._held = held
        self._engine = engine
        self._notify = notify
        self.tensors = {spec.name: held.tensor(spec, axes) for spec in (*engine.inputs, *engine.outputs)}
        noise = self.tensors["noise"]
        self.latents = Buffer(address=self.tensors["registers"].address, shape=noise.shape, dtype=noise.dtype)
        filled = {spec.name: self.tensors[spec.name] for spec in engine.inputs if spec.name not in INTERNAL}
        self._inputs = {name: Input(held, buffer) for name, buffer in {"latents": self.latents, **filled}.items()}
        self._ahead: tuple[int, npt.NDArray[Any]] | None = None  # where the noise of all rows lies, and page-locked memory for it
        self._noise: dict[int, int] = {}  # row -> the address of its noise
        self._advance = self._launch("sampling step", self._advance_once, lambda: engine.capturable)
        self._loop: Launch | None = None
        self._loop_key: tuple[int, dict[int, int]] = (0, {})
        held.on_close(self._advance.close)
        held.on_close(self._close_loop)

    def upload(self, feeds: Arrays, noise: Mapping[int, Floats]) -> None:
        """Send a job: its inputs, and the noise of its rows. Raises EngineError, before anything is sent, when that does not fit."""
        self._upload_noise(noise)
        for name in ("registers", "step", "noise"):
            self._held.driver.zero(self.tensors[name].address, self.tensors[name].bytes, self._held.stream)
        for name, array in feeds.items():
            self._inputs[name].upload(array)

    def launch(self, row: int) -> None:
        """Do the next row, which is this one, by one launch (a plain one the first time)."""
        self._copy_noise(row)
        self._advance()

    def launch_all(self, rows: int) -> None:
        """Do all rows; from the second time on that this many, with noise in the same ones, are done, by one launch."""
        key = (rows, self._noise)
        if self._loop is None or key != self._loop_key:
            self._close_loop()
            self._loop_key = key
            self._loop = self._launch(
                "sampling loop",
                lambda: self._all_rows(rows, self._advance_once),
                lambda: rows <= LOOP_ROWS and self._engine.capturable,
                plain=lambda: self._all_rows(rows, self._advance),
            )
        self._loop()

    def _launch(
        self, name: str, body: Callable[[], None], recordable: Callable[[], bool], plain: Callable[[], None] | None = None
    ) -> Launch:
        return Launch(self._held, body, name=name, recordable=recordable, notify=self._notify, plain=plain)

    def _all_rows(self, rows: int, advance: Callable[[], None]) -> None:
        for row in range(rows):
            self._copy_noise(row)
            advance()

    def _advance_once(self) -> None:
        """Run the engine, then put what it wrote where it reads."""
        self._engine.enqueue(self._held.stream)
        for name in ("registers", "step"):
            old, new = self.tensors[name], self.tensors[f"next_{name}"]
            self._held.driver.copy(old.address, new.address, new.bytes, self._held.stream)

    def _copy_noise(self, row: int) -> None:
        if row in self._noise:
            noise = self.tensors["noise"]
            self._held.driver.copy(noise.address, self._noise[row], noise.bytes, self._held.stream)

    def _upload_noise(self, noise: Mapping[int, Floats]) -> None:
        """Send the noise of all rows, one after the other. Memory grows twofold, since what it leaves is only freed with the rest."""
        buffer = self.tensors["noise"]
        room = 0 if self._ahead is None else len(self._ahead[1])
        if len(noise) > room:
            room = max(len(noise), 2 * room)
            self._ahead = (self._held.allocate(room * buffer.bytes), self._held.pinned((room, *buffer.shape), buffer.dtype))
        self._noise = {}
        if self._ahead is not None and noise:
            address, host = self._ahead
            for slot, row in enumerate(sorted(noise)):
                host[slot] = noise[row]
                self._noise[row] = address + slot * buffer.bytes
            self._held.driver.upload(address, host[: len(noise)], self._held.stream)

    def _close_loop(self) -> None:
        if self._loop is not None:
            self._loop.close()
