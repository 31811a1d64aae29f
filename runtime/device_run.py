"""A job on a device, step by step: what `painter.Run` and `painter.Taken` ask for, over the engine package's loop."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from sd2rt.engine.device_loop import DeviceLoop
from sd2rt.engine.errors import EngineError, InvalidArgument
from sd2rt.runtime.guidance import Floats
from sd2rt.runtime.image import to_uint8
from sd2rt.runtime.options import Decoder
from sd2rt.runtime.painter import Pictures, Seconds, require_finite

if TYPE_CHECKING:
    from sd2rt.runtime.device import DevicePainter
    from sd2rt.runtime.request import Job


class DeviceRun:
    """A job whose latents stay on the device; see `painter.Run`. It ends when its painter starts another or is closed."""

    def __init__(self, painter: DevicePainter, loop: DeviceLoop, job: Job, cut: tuple[str, ...], encode_seconds: float) -> None:
        self.cut = cut
        self.tiles = job.tiles
        self.decoder = job.decoder
        self._encode_seconds = encode_seconds
        self.at = -1  # the step that the loop's latents are of
        self.painter = painter
        self.loop = loop

    def steps(self) -> Iterator[DeviceTaken]:
        """Take the steps, each yielded once the device is done with it; see the protocol."""
        self.require_current()
        for index in self.loop.steps():
            self.at = index
            yield DeviceTaken(self, index)
            self.require_current()

    def finish(self) -> DeviceTaken:
        """Launch all steps and wait for nothing; see the protocol."""
        self.require_current()
        self.at = self.loop.run()
        return DeviceTaken(self, self.at)

    def seconds(self) -> Seconds:
        """Return the times that the device took; after another job has begun, none."""
        if self.painter.run is not self:
            return Seconds(encode=self._encode_seconds, text=0.0, steps=[])
        timings = self.loop.timings()
        return Seconds(encode=self._encode_seconds, text=timings.text, steps=timings.steps)

    def require_current(self) -> None:
        """Raise EngineError when the device has gone on to another job."""
        if self.painter.run is not self:
            raise EngineError("this job has ended: its pipeline was closed, or has begun another; a device paints one at a time")


class DeviceTaken:
    """A step of a device run, readable until the next one is taken; see `painter.Taken`."""

    def __init__(self, run: DeviceRun, index: int) -> None:
        self.index = index
        self._run = run

    def latents(self) -> Floats:
        """Copy the sampler's latents down, [N, C, h, w]."""
        return self._readable().latents()

    def foreseen(self) -> Floats:
        """Copy the clean latents that the step foresees down, [N, C, h, w]."""
        return self._readable().denoised()

    def pictures(self, *, foreseen: bool, unit: bool, decoder: Decoder) -> Pictures:
        """Decode; see the protocol."""
        painter = self._run.painter
        if decoder != self._run.decoder:
            pictures = painter.decode_apart(self.foreseen() if foreseen else self.latents(), decoder)
            return pictures if unit else to_uint8(pictures)
        decoded = self._readable().decode(denoised=foreseen, unit=unit)
        require_finite(decoded.finite, "the latents or the decoded picture are", painter.bundle, painter.target)
        return decoded.pictures

    def _readable(self) -> DeviceLoop:
        self._run.require_current()
        if self._run.at != self.index:
            raise InvalidArgument(f"the state after step {self.index + 1} is gone; read a state before the next step is taken")
        return self._run.loop
