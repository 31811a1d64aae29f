"""Text encoder, sampling loop and decoder on one CUDA stream: a job goes up once, and only pictures come back.

    with DeviceLoop(driver, stream, engines, axes) as loop:
        loop.start(work)                    uploads and the text encoder; nothing is waited for
        for row in loop.steps(): ...        or loop.run(): one launch for each row of the sampler's table, or one for all of them
        loop.decode().pictures

Between its first and its last launch a loop waits for nothing; `steps` waits for the event of the row that it yields, while later rows
are already launched. Knows no backend and no sampler: engines are bound to fixed addresses, and the table says what a row does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType

from sd2rt.engine.cuda import Driver
from sd2rt.engine.device_buffers import DeviceBuffers
from sd2rt.engine.device_job import Decoded, Floats, LoopEngines, LoopTimings, Work, check_work, text_axes
from sd2rt.engine.device_pixels import DevicePixels
from sd2rt.engine.device_states import DeviceStates
from sd2rt.engine.device_step import DeviceStep
from sd2rt.engine.device_text import DeviceText
from sd2rt.engine.errors import EngineError, InvalidArgument
from sd2rt.engine.protocol import DeviceEngine
from sd2rt.engine.store import Notify

__all__ = ["Decoded", "DeviceLoop", "LoopEngines", "LoopTimings", "Work"]


def _silent(message: str) -> None:
    """Tell nobody."""


def _hearing(engine: DeviceEngine, notify: Notify) -> Notify:
    """Return who hears that an engine's launches are not recorded: nobody where it does that itself."""
    return _silent if engine.records_itself else notify


@dataclass(slots=True, kw_only=True)
class _Job:
    """How far a job is: the last row taken (-1: none), and the slot that its state is kept in."""

    rows: int
    begun: bool = False
    row: int = -1
    slot: int = 0
    at_once: bool = False  # all rows were launched together, so that only the sum of their times is known
    decoded: bool = False


class DeviceLoop:
    """The loop for engines loaded for `stream` and one choice of `axes`.

    `axes` are images, batch, height, width, sequence, image_height and image_width. The engines stay the caller's, as does the stream;
    they must outlive the loop, and serve one loop at a time. `notify` hears of CUDA graphs that cannot be made. Not for several threads.
    Every method raises EngineError when the GPU fails, or after `close`.
    """

    def __init__(self, driver: Driver, stream: int, engines: LoopEngines, axes: Mapping[str, int], notify: Notify = _silent) -> None:
        """Allocate everything and bind the engines to it. Raises EngineError when memory is short, InvalidArgument for axes unfit."""
        self._driver = driver
        self._stream = stream
        self._engines = engines
        self._axes = dict(axes)
        self._job: _Job | None = None
        self._closed = False
        self._held = DeviceBuffers(driver, stream)
        try:
            self._prepare(notify)
        except BaseException:
            self.close()
            raise

    def _prepare(self, notify: Notify) -> None:
        held, engines, one = self._held, self._engines, {**self._axes, "images": 1, "batch": 1}
        self._step = DeviceStep(held, engines.step, self._axes, _hearing(engines.step, notify))
        states = self._step.tensors["encoder_hidden_states"]
        chunks = text_axes(engines.text_encoder.inputs, self._axes)
        self._text = DeviceText(held, engines.text_encoder, chunks, states, _hearing(engines.text_encoder, notify))
        self._pixels = DevicePixels(held, engines.decoder, one, self._step.latents.shape[0], _hearing(engines.decoder, notify))
        scratch = held.allocate(max(engine.scratch_bytes for engine in (engines.text_encoder, engines.step, engines.decoder)))
        stages = (
            (engines.text_encoder, self._text, chunks),
            (engines.step, self._step, self._axes),
            (engines.decoder, self._pixels, one),
        )
        for engine, stage, axes in stages:
            engine.bind(axes, {name: buffer.address for name, buffer in stage.tensors.items()}, scratch)
        self._states = DeviceStates(held, self._step.latents, self._step.tensors["denoised"])
        self._sent = held.event()

    def start(self, work: Work) -> None:
        """Send a job up and launch the text encoder. Waits for nothing but states that are weighed on the host.

        Raises InvalidArgument when the work does not fit.
        """
        self._require_open()
        text, feeds = check_work(work, self._engines, self._axes)
        self._job = None
        if not self._driver.is_done(self._sent):  # only after a job that was left at once
            self._driver.wait(self._sent)
        try:
            self._step.upload(feeds, work.noise)
            self._text.upload(text["input_ids"])
        finally:
            self._driver.record(self._sent, self._stream)
        self._text.encode()
        if work.weigh is not None:
            self._text.weigh(work.weigh)
        self._job = _Job(rows=work.rows)

    def steps(self, ahead: int = 2) -> Iterator[int]:
        """Launch row after row, and yield the index of each once the device is done with it, with up to `ahead` later ones launched.

        Closing the generator stops, and waits for what was launched. Raises InvalidArgument for `ahead` below 0, and without a new job.
        """
        if ahead < 0:
            raise InvalidArgument(f"ahead: got {ahead}; expected 0 or more")
        job = self._begin()
        self._states.make_room(rows=job.rows, slots=min(ahead + 1, job.rows))
        return self._steps(job, ahead)

    def _steps(self, job: _Job, ahead: int) -> Iterator[int]:
        launched = 0
        try:
            for row in range(job.rows):
                for after in range(launched, min(row + ahead + 1, job.rows)):
                    self._states.begin(after)
                    self._step.launch(after)
                    self._states.keep(after, slot=after % (ahead + 1))
                    launched += 1
                self._states.wait(row)
                job.row, job.slot = row, row % (ahead + 1)
                yield row
                if self._job is not job:
                    raise EngineError("this job's steps have ended: its loop was closed, or has begun another job")
        finally:
            if launched > job.row + 1 and self._job is job:
                with suppress(EngineError):  # another is already on its way, or the next call meets it again
                    self._states.wait(launched - 1)

    def run(self) -> int:
        """Launch all rows, wait for none, and return the last one's index. Raises InvalidArgument without a new job."""
        job = self._begin()
        self._states.make_room(rows=1, slots=1)
        self._states.begin(0)
        self._step.launch_all(job.rows)
        self._states.keep(0, slot=0)
        job.row, job.at_once = job.rows - 1, True
        return job.row

    def latents(self) -> Floats:
        """Return register 0 after the row last yielded, or after `run`: float32 [images, C, height, width]. Waits for that row alone."""
        return self._read(denoised=False)

    def denoised(self) -> Floats:
        """Return the clean latents which that row's model evaluation predicts, as `latents` does."""
        return self._read(denoised=True)

    def decode(self, denoised: bool = False, unit: bool = False) -> Decoded:
        """Decode the latents of the row last taken, or what it predicts, to uint8 pixels or, with `unit`, to float32 in [0, 1]."""
        job = self._taken()
        decoded = self._pixels.decode(self._states.address(job.slot, denoised), unit)
        job.decoded = True
        return decoded

    def timings(self) -> LoopTimings:
        """Return what the job took so far, by the device's clock; rows of `run` are given equal shares. Waits for the row last taken."""
        job = self._taken()
        self._states.wait(0 if job.at_once else job.row)
        if job.at_once:
            steps = [self._states.seconds(0) / job.rows] * job.rows
        else:
            steps = [self._states.seconds(row) for row in range(job.row + 1)]
        return LoopTimings(text=self._text.seconds(), steps=steps, decode=self._pixels.seconds() if job.decoded else 0.0)

    def close(self) -> None:
        """Wait for the device, then free everything; calling it again does nothing."""
        if not self._closed:
            self._closed, self._job = True, None
            with suppress(EngineError):
                self._driver.synchronize(self._stream)
            self._held.close()

    def __enter__(self) -> DeviceLoop:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _read(self, denoised: bool) -> Floats:
        job = self._taken()
        self._states.wait(0 if job.at_once else job.row)
        return self._states.read(job.slot, denoised)

    def _begin(self) -> _Job:
        self._require_open()
        if self._job is None or self._job.begun:
            raise InvalidArgument("got no job to run; start one first, and take its steps once")
        self._job.begun = True
        return self._job

    def _taken(self) -> _Job:
        self._require_open()
        if self._job is None or self._job.row < 0:
            raise InvalidArgument("got no step to read; take one first")
        return self._job

    def _require_open(self) -> None:
        if self._closed:
            raise EngineError("the device loop is closed; make another")
