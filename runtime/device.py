"""Paint on a device: prompts, noise and the sampler's table go up once, and pixels come back.

Opens the engines that a job's sizes need, keeps them for the next job of the same, and drives the engine package's loop over them.
Knows no backend.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt

from sd2rt.engine.cuda import Driver
from sd2rt.engine.device_loop import DeviceLoop, LoopEngines
from sd2rt.engine.errors import EngineError
from sd2rt.engine.protocol import DeviceEngine, Engine
from sd2rt.engine.spec import BuildOptions, ComponentFiles, Form, TensorRTOptions
from sd2rt.runtime import decoders
from sd2rt.runtime.bundle import Bundle
from sd2rt.runtime.device_plans import DevicePlans, device_tiles, runs_on_host
from sd2rt.runtime.device_run import DeviceRun
from sd2rt.runtime.device_shape import Shape, choose_shape
from sd2rt.runtime.engine_plan import text_form
from sd2rt.runtime.evaluations import is_deep, is_uniform
from sd2rt.runtime.guidance import Floats
from sd2rt.runtime.host import HostPainter, HostRun
from sd2rt.runtime.image import to_unit
from sd2rt.runtime.networks import Networks
from sd2rt.runtime.options import Decoder
from sd2rt.runtime.painter import require_finite
from sd2rt.runtime.request import Job
from sd2rt.runtime.tasks import make_start
from sd2rt.runtime.tiles import Tiles
from sd2rt.runtime.tokenizer import PromptTokenizer
from sd2rt.runtime.work import make_work

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


class DevicePainter:
    """One stream of a GPU, the engines last used on it, and their buffers. It paints one job at a time."""

    def __init__(self, bundle: Bundle, tokenizer: PromptTokenizer, options: DeviceOptions, driver: Driver) -> None:
        self.target = options.target
        self.bundle = bundle
        self.run: DeviceRun | None = None  # the one that may use the loop
        self._tokenizer = tokenizer
        self._options = options
        self._plans = DevicePlans(bundle=bundle, target=options.target, threads=options.threads, tensorrt=options.tensorrt)
        self._driver = driver
        self._stream = driver.create_stream()
        self._engines: list[tuple[str, BuildOptions, DeviceEngine]] = []
        self._others: list[tuple[str, BuildOptions, Engine]] = []  # what only pictures given by the caller need
        self._loop: DeviceLoop | None = None
        self._shape: Shape | None = None
        self._hosted: tuple[Shape, Tiles, bool, HostPainter] | None = None
        self._closed = False

    def start(self, job: Job) -> DeviceRun | HostRun:
        """Send a job up and launch the text encoder, opening engines first where the sizes are new; see the protocol.

        A picture so large that it is worked on in tiles goes through a loop on the host, over engines of the tiles' size, and so does a
        job whose rows are not all evaluated in the same way (`runs_on_host`).
        """
        if self._closed:
            raise EngineError(f"the pipeline on {self.target} is closed; load the model again")
        self.run = None  # whatever was under way ends here
        shape, layout = choose_shape(job, self.bundle, self._tokenizer)
        job = replace(job, tiles=device_tiles(job))
        if runs_on_host(job):
            return self._prepare_on_host(shape, job.tiles, is_uniform(job.evaluations), deep=is_deep(job.evaluations)).start(job)
        loop = self._prepare(shape)
        began = perf_counter()
        start = make_start(job, self.bundle, partial(self._run_component, shape))
        encode = perf_counter() - began
        assert (start.kept is not None) == shape.kept
        loop.start(make_work(job, start, layout))
        self.run = DeviceRun(self, loop, job, layout.cut, encode)
        return self.run

    def decode_apart(self, latents: Floats, decoder: Decoder) -> Floats:
        """Decode latents of the job under way with another decoder than its own, to pictures [N, H, W, 3] in [0, 1]; see the protocol."""
        assert self._shape is not None  # whoever asks has a run
        scaled = latents / np.float32(decoders.latents_divisor(decoder, self.bundle))
        name = decoders.COMPONENTS[decoder]
        rows = [self._run_component(self._shape, name, {"latent_sample": row[np.newaxis]})["sample"] for row in scaled]
        decoded = np.concatenate(rows).astype(np.float32, copy=False)
        require_finite(decoded, "the decoded picture is", self.bundle, self.target)
        return to_unit(decoded)

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
        decoder = decoders.COMPONENTS[shape.decoder]
        wanted = self._plans.merged(shape)
        self._release(keep=[entry for entry in self._engines if entry[0] in wanted and _does(entry, wanted[entry[0]])])
        opened = {name: engine for name, _, engine in self._engines}
        for name, options in wanted.items():
            if name not in opened:
                files = self.bundle.component(name).files
                opened[name] = self._options.open_on_device(files, options, self._driver, self._stream)
                self._engines.append((name, options, opened[name]))
        engines = LoopEngines(text_encoder=opened["text_encoder"], step=opened["unet"], decoder=opened[decoder])
        self._loop = DeviceLoop(
            self._driver, self._stream, engines, shape.axes(self.bundle.latent_factor, self._tokenizer.length), self._options.notify
        )
        self._shape = shape
        return self._loop

    def _prepare_on_host(self, shape: Shape, tiles: Tiles, uniform: bool, deep: bool) -> HostPainter:
        """Return a painter on the host over engines for tiles, and for plain rows besides guided ones unless all are `uniform`.

        What was open for other sizes is closed first.
        """
        if self._hosted is not None and self._hosted[:3] == (shape, tiles, uniform):
            return self._hosted[3]

        def open_network(name: str, form: Form) -> Engine:
            options = self._plans.hosted(name, form, shape, tiles, uniform=uniform)
            return self._options.open_on_host(self.bundle.component(name).files, options)

        if not uniform:
            self._options.notify(f"{self.target}: evaluations differ, so the loop runs on the host, over engines of its own")
        self._release(keep=[])
        networks = Networks(self.target, open_network)
        networks.open_usual(deep=deep, decoder=shape.decoder, text=text_form(shape.clip_skip))
        painter = HostPainter(self.bundle, self._tokenizer, networks)
        self._hosted = (shape, tiles, uniform, painter)
        return painter

    def _run_component(self, shape: Shape, name: str, feeds: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Run a component that only the beginning of a run needs, or a preview, opening it the first time."""
        options = self._plans.beside(name, shape)
        found = [engine for other, built, engine in self._others if (other, built) == (name, options)]
        if not found:
            found = [self._options.open_on_host(self.bundle.component(name).files, options)]
            self._others.append((name, options, found[0]))
        return found[0].run(feeds)

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
        if self._hosted is not None:
            self._hosted[3].close()
        self._hosted = None


def _does(entry: tuple[str, BuildOptions, DeviceEngine], wanted: BuildOptions) -> bool:
    """Whether an open engine is one that is wanted, for sizes among those that it takes: binding it anew takes no time, opening does."""
    _, options, engine = entry
    ranges = engine.ranges
    taken = all(axis in ranges and ranges[axis][0] <= low and high <= ranges[axis][2] for axis, (low, _, high) in wanted.axes.items())
    return options == wanted or (taken and replace(options, axes=wanted.axes) == wanted)
