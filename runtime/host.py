"""Paint on the host: numpy guidance and sampler rows around engines that map arrays to arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt

from sd2rt.engine.protocol import Engine
from sd2rt.runtime.bundle import Bundle
from sd2rt.runtime.denoise import Step, denoise
from sd2rt.runtime.engine_plan import FORMED
from sd2rt.runtime.evaluations import Mode
from sd2rt.runtime.guidance import Floats, GuidedModel, Model, plain_model
from sd2rt.runtime.image import to_uint8, to_unit
from sd2rt.runtime.painter import Pictures, Seconds, require_finite
from sd2rt.runtime.prompt import encode_prompts
from sd2rt.runtime.request import Job
from sd2rt.runtime.start import Start
from sd2rt.runtime.tasks import make_start
from sd2rt.runtime.tiles import Tiles, run_in_tiles
from sd2rt.runtime.tokenizer import PromptTokenizer

SMALL_CELLS = 32 * 32  # of latents
SMALL_ROWS, LARGE_ROWS = 64, 4  # that the UNet takes at once: so few keep all cores busy, more take memory and save no time
OpenComponent = Callable[[str], Engine]


@dataclass(frozen=True, slots=True, kw_only=True)
class Engines:
    """The three networks, loaded, and the target they run on."""

    target: str
    text_encoder: Engine
    unet: Engine
    vae_decoder: Engine


class HostPainter:
    """Three numpy engines and the tokenizer of their bundle."""

    def __init__(self, bundle: Bundle, tokenizer: PromptTokenizer, engines: Engines, open_component: OpenComponent) -> None:
        """Take loaded parts; `open_component` opens, by name, the components that only pictures given by the caller need."""
        self.target = engines.target
        self.engines = engines
        self._open = open_component
        self._others: dict[str, Engine] = {}
        self._bundle = bundle
        self._tokenizer = tokenizer

    def start(self, job: Job) -> HostRun:
        """Encode the prompts; see the protocol."""
        started = perf_counter()
        start = make_start(job, self._bundle, self._run_component)
        encoded = perf_counter()
        model, cut = self._condition(job, start)
        seconds = Seconds(encode=encoded - started, text=perf_counter() - encoded, steps=[])
        keep = None if start.kept is None else start.kept.apply
        return HostRun(self, job.tiles, cut, seconds, denoise(job.table, model, start.noise, start.draw, start.clean, keep))

    def close(self) -> None:
        """Free the engines; calling it again does nothing."""
        for engine in (self.engines.text_encoder, self.engines.unet, self.engines.vae_decoder, *self._others.values()):
            engine.close()

    def decode(self, latents: Floats, tile: int | None = None) -> Floats:
        """Decode final latents to pictures [N, H, W, 3] in [0, 1], one image at a time: the decoder's memory grows with the batch.

        `tile` is the side of the part that is decoded at once, in cells of the latents; None: all.
        """
        scaled = latents / np.float32(self._bundle.scaling_factor)
        decoded = np.concatenate([run_in_tiles(self._decode, row[np.newaxis], self._bundle.latent_factor, tile) for row in scaled])
        self.require_finite(decoded, "the decoded picture is")
        return to_unit(decoded)

    def require_finite(self, values: Floats, what: str) -> None:
        """Raise EngineError for NaN and infinity."""
        require_finite(values, what, self._bundle, self.target)

    def _decode(self, scaled: Floats) -> Floats:
        return self.engines.vae_decoder.run({"latent_sample": scaled})["sample"].astype(np.float32, copy=False)

    def _run_component(self, name: str, feeds: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Run a component that only the beginning of a run needs, opening it the first time."""
        if name not in self._others:
            self._others[name] = self._open(name)
        return self._others[name].run(feeds)

    def _condition(self, job: Job, start: Start) -> tuple[Model, tuple[str, ...]]:
        """Encode the prompts; return the model that the sampler sees, and what the text encoder did not see of them."""
        count = len(job.prompts)
        unet = partial(self._unet, start, job.tiles.unet)
        if all(evaluation.mode is Mode.PLAIN for evaluation in job.evaluations):
            encoded = encode_prompts(self._tokenizer, self.engines.text_encoder, job.prompts)
            return plain_model(unet, encoded.states), encoded.cut
        encoded = encode_prompts(self._tokenizer, self.engines.text_encoder, job.prompts + job.negative_prompts)
        states = encoded.states[:count], encoded.states[count:]
        return GuidedModel(unet, states, job.guidance_scale, job.guidance_rescale, job.evaluations), encoded.cut

    def _unet(self, start: Start, tile: int | None, sample: Floats, timesteps: Floats, states: Floats) -> Floats:
        feeds: dict[str, npt.NDArray[Any]] = {"timestep": timesteps, "encoder_hidden_states": states}
        copies = len(sample) // len(start.noise)  # of every image: without and with its prompt
        if start.extra is not None:
            sample = np.concatenate([sample, np.tile(start.extra, (copies, 1, 1, 1))], axis=1)
        if start.class_labels is not None:
            feeds["class_labels"] = np.tile(start.class_labels, copies)

        def predict(part: Floats) -> Floats:
            done = [self.engines.unet.run(rows)["out_sample"] for rows in self._some_rows({"sample": part, **feeds})]
            return (done[0] if len(done) == 1 else np.concatenate(done)).astype(np.float32, copy=False)

        return run_in_tiles(predict, sample, 1, tile)

    def _some_rows(self, feeds: dict[str, npt.NDArray[Any]]) -> Iterator[dict[str, npt.NDArray[Any]]]:
        """Yield the feeds in parts of a few rows; all of them on targets whose engines are for a number of rows."""
        total, _, height, width = feeds["sample"].shape
        most = SMALL_ROWS if height * width <= SMALL_CELLS else LARGE_ROWS
        most = total if self.target in FORMED else most
        for first in range(0, total, most):
            yield {name: array[first : first + most] for name, array in feeds.items()}


class HostRun:
    """A job whose latents are numpy arrays; see `painter.Run`."""

    def __init__(self, painter: HostPainter, tiles: Tiles, cut: tuple[str, ...], seconds: Seconds, loop: Iterator[Step]) -> None:
        self.cut = cut
        self._tiles = tiles
        self._painter = painter
        self._loop = loop
        self._seconds = seconds

    def steps(self) -> Iterator[HostTaken]:
        """Take the steps; see the protocol."""
        started = perf_counter()
        for step in self._loop:
            self._painter.require_finite(step.latents, f"the latents after step {step.index + 1} of {step.total} are")
            self._seconds.steps.append(perf_counter() - started)
            yield HostTaken(self._painter, self._tiles, step)
            started = perf_counter()

    def finish(self) -> HostTaken:
        """Take all steps; see the protocol."""
        for taken in self.steps():
            last = taken
        return last

    def seconds(self) -> Seconds:
        """Return the times of what is done."""
        return replace(self._seconds, steps=list(self._seconds.steps))


class HostTaken:
    """A step of a host run, kept as long as anybody holds it; see `painter.Taken`."""

    def __init__(self, painter: HostPainter, tiles: Tiles, step: Step) -> None:
        self.index = step.index
        self._tiles = tiles
        self._painter = painter
        self._step = step

    def latents(self) -> Floats:
        """Return the sampler's latents, [N, C, h, w]."""
        return self._step.latents

    def foreseen(self) -> Floats:
        """Return the clean latents that the step foresees, [N, C, h, w]."""
        return self._step.denoised

    def pictures(self, *, foreseen: bool, unit: bool) -> Pictures:
        """Decode; see the protocol."""
        pictures = self._painter.decode(self._step.denoised if foreseen else self._step.latents, self._tiles.vae)
        return pictures if unit else to_uint8(pictures)
