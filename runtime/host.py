"""Paint on the host: numpy guidance and sampler rows around engines that map arrays to arrays."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from time import perf_counter

import numpy as np

from sd2rt.runtime.bundle import Bundle
from sd2rt.runtime.decoders import COMPONENTS, latents_divisor
from sd2rt.runtime.denoise import Step, denoise
from sd2rt.runtime.engine_plan import FORMED, text_form
from sd2rt.runtime.evaluations import is_deep
from sd2rt.runtime.guidance import Floats, GuidedModel, Model
from sd2rt.runtime.host_unet import HostUnet
from sd2rt.runtime.image import to_uint8, to_unit
from sd2rt.runtime.networks import Networks
from sd2rt.runtime.options import Decoder
from sd2rt.runtime.painter import Pictures, Seconds, require_finite
from sd2rt.runtime.prompt import Reading, choose_reading, encode, gather, lay_out
from sd2rt.runtime.request import Job
from sd2rt.runtime.start import Start
from sd2rt.runtime.tasks import make_start
from sd2rt.runtime.tiles import run_in_tiles
from sd2rt.runtime.tokenizer import PromptTokenizer


class HostPainter:
    """A bundle's networks, which take and give numpy arrays, and its tokenizer."""

    def __init__(self, bundle: Bundle, tokenizer: PromptTokenizer, networks: Networks) -> None:
        self.target = networks.target
        self.networks = networks
        self._bundle = bundle
        self._tokenizer = tokenizer

    def start(self, job: Job) -> HostRun:
        """Encode the prompts; see the protocol."""
        started = perf_counter()
        start = make_start(job, self._bundle, self.networks.run)
        encoded = perf_counter()
        model, cut = self._condition(job, start)
        seconds = Seconds(encode=encoded - started, text=perf_counter() - encoded, steps=[])
        keep = None if start.kept is None else start.kept.apply
        return HostRun(self, job, cut, seconds, denoise(job.table, model, start.noise, start.draw, start.clean, keep))

    def close(self) -> None:
        """Free the engines; calling it again does nothing."""
        self.networks.close()

    def decode(self, latents: Floats, tile: int | None = None, decoder: Decoder = "vae") -> Floats:
        """Decode final latents to pictures [N, H, W, 3] in [0, 1], one image at a time: the decoder's memory grows with the batch.

        `tile` is the side of the part that is decoded at once, in cells of the latents; None: all.
        """
        scaled = latents / np.float32(latents_divisor(decoder, self._bundle))
        decode = partial(self._decode, decoder)
        decoded = np.concatenate([run_in_tiles(decode, row[np.newaxis], self._bundle.latent_factor, tile) for row in scaled])
        self.require_finite(decoded, "the decoded picture is")
        return to_unit(decoded)

    def require_finite(self, values: Floats, what: str) -> None:
        """Raise EngineError for NaN and infinity."""
        require_finite(values, what, self._bundle, self.target)

    def _decode(self, decoder: Decoder, scaled: Floats) -> Floats:
        return self.networks.run(COMPONENTS[decoder], {"latent_sample": scaled})["sample"].astype(np.float32, copy=False)

    def _condition(self, job: Job, start: Start) -> tuple[Model, tuple[str, ...]]:
        """Encode the prompts; return the model that the sampler sees, and what the text encoder did not see of them."""
        layout = lay_out(self._tokenizer, job.texts, self._reading(job))
        encoded = encode(layout, self.networks.open("text_encoder", text_form(job.clip_skip)))
        positive = gather(encoded, layout.column(0))
        states = positive, gather(encoded, layout.column(1)) if job.guided else positive[:0]
        tokens = tuple(chunks * self._tokenizer.length for chunks in layout.chunks())
        unet = HostUnet(self.networks, start, job.tiles.unet, tokens=tokens, deep=is_deep(job.evaluations))
        return GuidedModel(unet, states, job.evaluations, job.guidance_scale, job.guidance_rescale), layout.cut

    def _reading(self, job: Job) -> Reading:
        """Return how the prompts are read: engines for a number of rows take all of them at once, in one length."""
        return choose_reading(self._bundle, weighting=job.weighting, together=self.target in FORMED)


class HostRun:
    """A job whose latents are numpy arrays; see `painter.Run`."""

    def __init__(self, painter: HostPainter, job: Job, cut: tuple[str, ...], seconds: Seconds, loop: Iterator[Step]) -> None:
        self.cut = cut
        self.tiles = job.tiles
        self._job = job
        self._painter = painter
        self._loop = loop
        self._seconds = seconds

    def steps(self) -> Iterator[HostTaken]:
        """Take the steps; see the protocol."""
        started = perf_counter()
        for step in self._loop:
            self._painter.require_finite(step.latents, f"the latents after step {step.index + 1} of {step.total} are")
            self._seconds.steps.append(perf_counter() - started)
            yield HostTaken(self._painter, self._job, step)
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

    def __init__(self, painter: HostPainter, job: Job, step: Step) -> None:
        self.index = step.index
        self._job = job
        self._painter = painter
        self._step = step

    def latents(self) -> Floats:
        """Return the sampler's latents, [N, C, h, w]."""
        return self._step.latents

    def foreseen(self) -> Floats:
        """Return the clean latents that the step foresees, [N, C, h, w]."""
        return self._step.denoised

    def pictures(self, *, foreseen: bool, unit: bool, decoder: Decoder) -> Pictures:
        """Decode; see the protocol."""
        latents = self._step.denoised if foreseen else self._step.latents
        pictures = self._painter.decode(latents, self._job.tiles.vae, decoder)
        return pictures if unit else to_uint8(pictures)
