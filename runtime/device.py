"""Paint on a device: prompts, noise and the sampler's table go up once, and pixels come back.

Opens the engines that a job's sizes need, keeps them for the next job of the same, and drives the engine package's loop over them.
Knows no backend.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter
from typing import Any

import numpy.typing as npt

from sd2rt.engine.cuda import Driver
from sd2rt.engine.device_loop import DeviceLoop, LoopEngines
from sd2rt.engine.errors import EngineError, InvalidArgument
from sd2rt.engine.protocol import DeviceEngine, Engine
from sd2rt.engine.spec import BuildOptions, ComponentFiles, Guidance, TensorRTOptions
from sd2rt.runtime.bundle import Bundle
from sd2rt.runtime.engine_plan import PlanOptions, choose_guidance, keeps_part, plan_component, prompt_length
from sd2rt.runtime.guidance import Floats
from sd2rt.runtime.painter import Pictures, Seconds, require_finite
from sd2rt.runtime.request import Job
from sd2rt.runtime.tasks import make_start
from sd2rt.runtime.tokenizer import PromptTokenizer
from sd2rt.runtime.work import make_work

COMPONENTS = ("text_encoder", "unet", "vae_decoder")
OpenOnDevice = Callable[[ComponentFiles, BuildOptions, Driver, int], DeviceEngine]
"""Open an engine for a CUDA stream, building it first where there is none."""
OpenOnHost = Callable[[ComponentFiles, BuildOptions], Engine]
"""Open an engine of the same kind that takes and gives numpy arrays."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceOptions:
    """The target, how its engines are built and opened, and who is told of what takes time or does not work."""

    target: str
    open_on_device: OpenOnDevice
    open_on_host: OpenOnHost
    notify: Callable[[str], None] = lambda message: None
    threads: int = 0
    tensorrt: TensorRTOptions = field(default_factory=TensorRTOptions)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What engines and buffers depend on: pixels, images, how a step is guided, and whether it puts back what a mask keeps."""

    height: int
    width: int
    images: int
    guidance: Guidance
    kept: bool = False


class DevicePainter:
    """One stream of a GPU, the engines last used on it, and their buffers. It paints one job at a time."""

    def __init__(self, bundle: Bundle, tokenizer: PromptTokenizer, options: DeviceOptions, driver: Driver) -> None:
        self.target = options.target
        self.bundle = bundle
        self.run: DeviceRun | None = None  # the one that may use the loop
        self._tokenizer = tokenizer
        self._options = options
        self._driver = driver
        self._stream = driver.create_stream()
        self._engines: list[tuple[str, BuildOptions, DeviceEngine]] = []
        self._others: list[tuple[str, BuildOptions, Engine]] = []  # what only pictures given by the caller need
        self._loop: DeviceLoop | None = None
        self._shape: Shape | None = None
        self._closed = False

    def start(self, job: Job) -> DeviceRun:
        """Send a job up and launch the text encoder, opening engines first where the sizes are new; see the protocol."""
        if self._closed:
            raise EngineError(f"the pipeline on {self.target} is closed; load the model again")
        self.run = None  # whatever was under way ends here
        guidance = choose_guidance(job.guidance_scale, job.guidance_rescale)
        tokens = self._tokenizer(list(job.prompts if guidance is Guidance.PLAIN else job.negative_prompts + job.prompts))
        kept = keeps_part(job.task, self.bundle)
        shape = Shape(height=job.height, width=job.width, images=len(job.prompts), guidance=guidance, kept=kept)
        loop = self._prepare(shape)
        began = perf_counter()
        start = make_start(job, self.bundle, partial(self._run_component, shape))
        encode = perf_counter() - began
        assert (start.kept is not None) == kept
        loop.start(make_work(job, start, tokens.ids))
        cut = tuple(dict.fromkeys(text for text in tokens.cut if text))
        self.run = DeviceRun(self, loop, cut, encode)
        return self.run

    def close(self) -> None:
        """Free engines, buffers and the stream; calling it again does nothing."""
        if not self._closed:
            self._closed = True
            self._release(keep=[])
            self._driver.destroy_stream(self._stream)

    def _prepare(self, shape: Shape) -> DeviceLoop:
        """Return the loop for a shape; what was open for another one and does not serve this one is closed first."""
        if self._loop is not None and shape == self._shape:
            return self._loop
        wanted = {name: self._plan(name, shape) for name in COMPONENTS}
        self._release(keep=[entry for entry in self._engines if wanted[entry[0]] == entry[1]])
        opened = {name: engine for name, _, engine in self._engines}
        for name, options in wanted.items():
            if name not in opened:
                files = self.bundle.component(name).files
                opened[name] = self._options.open_on_device(files, options, self._driver, self._stream)
                self._engines.append((name, options, opened[name]))
        engines = LoopEngines(text_encoder=opened["text_encoder"], step=opened["unet"], decoder=opened["vae_decoder"])
        self._loop = DeviceLoop(self._driver, self._stream, engines, self._axes(shape), self._options.notify)
        self._shape = shape
        return self._loop

    def _plan(self, name: str, shape: Shape) -> BuildOptions:
        """Return how a component is built for exactly this shape."""
        size = (shape.height, shape.width)
        plan = PlanOptions(
            target=self.target,
            smallest=size,
            usual=size,
            largest=size,
            batch=(shape.images, shape.images, shape.images),
            guidance=shape.guidance,
            kept=shape.kept,
            tensorrt=self._options.tensorrt,
            threads=self._options.threads,
        )
        return plan_component(self.bundle, name, plan)

    def _run_component(self, shape: Shape, name: str, feeds: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Run a component that only the beginning of a run needs, opening it the first time."""
        options = self._plan(name, shape)
        found = [engine for other, built, engine in self._others if (other, built) == (name, options)]
        if not found:
            found = [self._options.open_on_host(self.bundle.component(name).files, options)]
            self._others.append((name, options, found[0]))
        return found[0].run(feeds)

    def _axes(self, shape: Shape) -> dict[str, int]:
        factor = self.bundle.latent_factor
        return {
            "images": shape.images,
            "batch": shape.images * (1 if shape.guidance is Guidance.PLAIN else 2),
            "height": shape.height // factor,
            "width": shape.width // factor,
            "sequence": prompt_length(self.bundle),
            "image_height": shape.height,
            "image_width": shape.width,
        }

    def _release(self, keep: list[tuple[str, BuildOptions, DeviceEngine]]) -> None:
        """Free the buffers, and all engines but those to keep. A run still under way ends."""
        self.run = None
        if self._loop is not None:
            self._loop.close()
        self._loop = self._shape = None
        for entry in self._engines:
            if entry not in keep:
                entry[2].close()
        self._engines = list(keep)
        for _, _, other in self._others:
            other.close()
        self._others = []


class DeviceRun:
    """A job whose latents stay on the device; see `painter.Run`. It ends when its painter starts another or is closed."""

    def __init__(self, painter: DevicePainter, loop: DeviceLoop, cut: tuple[str, ...], encode_seconds: float) -> None:
        self.cut = cut
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

    def pictures(self, *, foreseen: bool, unit: bool) -> Pictures:
        """Decode; see the protocol."""
        decoded = self._readable().decode(denoised=foreseen, unit=unit)
        painter = self._run.painter
        require_finite(decoded.finite, "the latents or the decoded picture are", painter.bundle, painter.target)
        return decoded.pictures

    def _readable(self) -> DeviceLoop:
        self._run.require_current()
        if self._run.at != self.index:
            raise InvalidArgument(f"the state after step {self.index + 1} is gone; read a state before the next step is taken")
        return self._run.loop
