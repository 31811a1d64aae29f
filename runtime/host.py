"""Paint on the host: numpy guidance and sampler rows around engines that map arrays to arrays."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from sd2rt.engine.protocol import Engine
from sd2rt.runtime.bundle import Bundle
from sd2rt.runtime.denoise import Step, denoise
from sd2rt.runtime.guidance import Floats, Model, guided_model, is_guided, plain_model
from sd2rt.runtime.image import to_uint8, to_unit
from sd2rt.runtime.noise import BatchNoise
from sd2rt.runtime.painter import Pictures, Seconds, require_finite
from sd2rt.runtime.prompt import encode_prompts
from sd2rt.runtime.request import Job
from sd2rt.runtime.tokenizer import PromptTokenizer


@dataclass(frozen=True, slots=True, kw_only=True)
class Engines:
    """The three networks, loaded, and the target they run on."""

    target: str
    text_encoder: Engine
    unet: Engine
    vae_decoder: Engine


class HostPainter:
    """Three numpy engines and the tokenizer of their bundle."""

    def __init__(self, bundle: Bundle, tokenizer: PromptTokenizer, engines: Engines) -> None:
        self.target = engines.target
        self.engines = engines
        self._bundle = bundle
        self._tokenizer = tokenizer

    def start(self, job: Job) -> HostRun:
        """Encode the prompts; see the protocol."""
        started = perf_counter()
        model, cut = self._condition(job)
        text = perf_counter() - started
        factor = self._bundle.latent_factor
        noise = BatchNoise(job.seeds, (self._bundle.latent_channels, job.height // factor, job.width // factor))
        latents = noise.draw() if job.latents is None else job.latents
        return HostRun(self, cut, text, denoise(job.table, model, latents, noise.draw))

    def close(self) -> None:
        """Free the engines; calling it again does nothing."""
        for engine in (self.engines.text_encoder, self.engines.unet, self.engines.vae_decoder):
            engine.close()

    def decode(self, latents: Floats) -> Floats:
        """Decode final latents to pictures [N, H, W, 3] in [0, 1], one image at a time: the decoder's memory grows with the batch."""
        scaled = latents / np.float32(self._bundle.scaling_factor)
        samples = [self.engines.vae_decoder.run({"latent_sample": row[np.newaxis]})["sample"] for row in scaled]
        decoded = np.concatenate(samples).astype(np.float32, copy=False)
        self.require_finite(decoded, "the decoded picture is")
        return to_unit(decoded)

    def require_finite(self, values: Floats, what: str) -> None:
        """Raise EngineError for NaN and infinity."""
        require_finite(values, what, self._bundle, self.target)

    def _condition(self, job: Job) -> tuple[Model, tuple[str, ...]]:
        """Encode the prompts; return the model that the sampler sees, and what the text encoder did not see of them."""
        count = len(job.prompts)
        if not is_guided(job.guidance_scale):
            encoded = encode_prompts(self._tokenizer, self.engines.text_encoder, job.prompts)
            return plain_model(self._unet, encoded.states), encoded.cut
        encoded = encode_prompts(self._tokenizer, self.engines.text_encoder, job.prompts + job.negative_prompts)
        positive, negative = encoded.states[:count], encoded.states[count:]
        return guided_model(self._unet, positive, negative, job.guidance_scale, job.guidance_rescale), encoded.cut

    def _unet(self, sample: Floats, timesteps: Floats, states: Floats) -> Floats:
        feeds = {"sample": sample, "timestep": timesteps, "encoder_hidden_states": states}
        return self.engines.unet.run(feeds)["out_sample"].astype(np.float32, copy=False)


class HostRun:
    """A job whose latents are numpy arrays; see `painter.Run`."""

    def __init__(self, painter: HostPainter, cut: tuple[str, ...], text_seconds: float, loop: Iterator[Step]) -> None:
        self.cut = cut
        self._painter = painter
        self._loop = loop
        self._text_seconds = text_seconds
        self._step_seconds: list[float] = []

    def steps(self) -> Iterator[HostTaken]:
        """Take the steps; see the protocol."""
        started = perf_counter()
        for step in self._loop:
            self._painter.require_finite(step.latents, f"the latents after step {step.index + 1} of {step.total} are")
            self._step_seconds.append(perf_counter() - started)
            yield HostTaken(self._painter, step)
            started = perf_counter()

    def finish(self) -> HostTaken:
        """Take all steps; see the protocol."""
        for taken in self.steps():
            last = taken
        return last

    def seconds(self) -> Seconds:
        """Return the times of what is done."""
        return Seconds(text=self._text_seconds, steps=list(self._step_seconds))


class HostTaken:
    """A step of a host run, kept as long as anybody holds it; see `painter.Taken`."""

    def __init__(self, painter: HostPainter, step: Step) -> None:
        self.index = step.index
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
        pictures = self._painter.decode(self._step.denoised if foreseen else self._step.latents)
        return pictures if unit else to_uint8(pictures)
