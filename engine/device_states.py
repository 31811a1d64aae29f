"""What is kept of the steps on a device: latents where later steps leave them alone, and the time of each."""

from __future__ import annotations

import numpy as np

from sd2rt.engine.device_buffers import Buffer, DeviceBuffers
from sd2rt.engine.device_job import Floats


class DeviceStates:
    """A ring of slots for the state after a row, its latents and denoised latents; and two events for each row, before and after it.

    States are read on a stream of their own: on the main one they would wait for the rows that were launched since.
    """

    def __init__(self, held: DeviceBuffers, latents: Buffer, denoised: Buffer) -> None:
        self._held = held
        self._state = (latents, denoised)
        self._slots: list[tuple[int, ...]] = []
        self._events: list[tuple[int, int]] = []
        self._host = held.pinned(latents.shape, latents.dtype)
        self._reading, self._read = held.another_stream(), held.event()

    def make_room(self, rows: int, slots: int) -> None:
        """Have events for as many rows and memory for as many states. Raises EngineError when memory is short."""
        while len(self._events) < rows:
            self._events.append((self._held.event(), self._held.event()))
        while len(self._slots) < slots:
            self._slots.append(tuple(self._held.allocate(buffer.bytes) for buffer in self._state))

    def begin(self, row: int) -> None:
        """Take the time before a row."""
        self._held.driver.record(self._events[row][0], self._held.stream)

    def keep(self, row: int, slot: int) -> None:
        """Copy the state after a row to a slot, and take the time."""
        for address, buffer in zip(self._slots[slot], self._state, strict=True):
            self._held.driver.copy(address, buffer.address, buffer.bytes, self._held.stream)
        self._held.driver.record(self._events[row][1], self._held.stream)

    def wait(self, row: int) -> None:
        """Wait until a row is done and its state is kept."""
        self._held.driver.wait(self._events[row][1])

    def address(self, slot: int, denoised: bool) -> int:
        """Return where a slot's latents lie, or its denoised ones."""
        return self._slots[slot][denoised]

    def read(self, slot: int, denoised: bool) -> Floats:
        """Return a slot's latents, or its denoised ones; their row must be done."""
        driver = self._held.driver
        driver.download(self._host, self.address(slot, denoised), self._reading)
        driver.record(self._read, self._reading)
        driver.wait(self._read)
        return np.array(self._host, np.float32)

    def seconds(self, row: int) -> float:
        """Return the time of a row that is done."""
        return self._held.driver.elapsed_seconds(*self._events[row])
