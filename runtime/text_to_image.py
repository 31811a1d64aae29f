"""Text to image: prompt -> ids -> text states -> sampler rows x UNet -> latents -> pixels.

Drives three engines through their protocol; knows no backend. Opening them is in `loading`, checking arguments in `request`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from types import TracebackType
from typing import TYPE_CHECKING, Unpack

import numpy as np

from sd2rt.engine.errors import EngineError
from sd2rt.engine.protocol import Engine
from sd2rt.runtime.bundle import Bundle
from sd2rt.runtime.denoise import Step, denoise
from sd2rt.runtime.guidance import Floats, Model, guided_model, is_guided, plain_model
from sd2rt.runtime.image import to_pil, to_unit
from sd2rt.runtime.metadata import Parameters
from sd2rt.runtime.noise import BatchNoise
from sd2rt.runtime.prompt import encode_prompts
from sd2rt.runtime.request import Job, Options, Request, resolve
from sd2rt.runtime.result import Result, State, Timings
from sd2rt.runtime.tokenizer import PromptTokenizer

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True, slots=True, kw_only=True)
class Engines:
    """The three networks, loaded, and the target they run on."""

    target: str
    text_encoder: Engine
    unet: Engine
    vae_decoder: Engine


class TextToImage:
    """A loaded text-to-image model. Close it, or use it in a `with` statement, to free its engines."""

    def __init__(self, bundle: Bundle, tokenizer: PromptTokenizer, engines: Engines, load_seconds: float = 0.0) -> None:
        """Take loaded parts; `sd2rt.runtime.load` makes them from a model's name."""
        self.bundle = bundle
        self.target = engines.target
        self._tokenizer = tokenizer
        self._engines = engines
        self._load_seconds = load_seconds

    def __call__(self, prompt: str | Sequence[str], **options: Unpack[Options]) -> Result:
        """Paint one picture per prompt, or as many as `images_per_prompt` says; `Options` lists what else there is.

        Raises InvalidArgument for values that do not fit, before any work, and EngineError when an engine fails or its numbers stop
        being finite. The same call on the same target and machine gives the same bytes.
        """
        for state in self.steps(prompt, **options):
            last = state
        return last.result()

    def steps(self, prompt: str | Sequence[str], **options: Unpack[Options]) -> Iterator[State]:
        """Paint step by step, with the arguments of a call, yielding the state after each; leave the loop to stop.

        `state.result()` after the last step is what the call would have returned. Raises as a call does: InvalidArgument at once.
        """
        job = resolve(Request(prompt=prompt, **options), self.bundle)
        return self._paint(job)

    def close(self) -> None:
        """Free the engines; calling it again does nothing."""
        for engine in (self._engines.text_encoder, self._engines.unet, self._engines.vae_decoder):
            engine.close()

    def __enter__(self) -> TextToImage:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _paint(self, job: Job) -> Iterator[State]:
        started = perf_counter()
        model, cut = self._condition(job)
        text_seconds = perf_counter() - started
        factor = self.bundle.latent_factor
        noise = BatchNoise(job.seeds, (self.bundle.latent_channels, job.height // factor, job.width // factor))
        latents = noise.draw() if job.latents is None else job.latents
        timings = Timings(load=self._load_seconds, text=text_seconds, steps=[], decode=0.0, total=perf_counter() - started)
        started = perf_counter()
        for step in denoise(job.table, model, latents, noise.draw):
            self._require_finite(step.latents, f"the latents after step {step.index + 1} of {step.total} are")
            seconds = perf_counter() - started
            timings["steps"].append(seconds)
            timings["total"] += seconds
            preview, result = partial(self._preview, step), partial(self._result, job, cut, timings, step)
            yield State(index=step.index, total=step.total, latents=step.latents, preview=preview, result=result)
            started = perf_counter()

    def _condition(self, job: Job) -> tuple[Model, tuple[str, ...]]:
        """Encode the prompts; return the model that the sampler sees, and what the text encoder did not see of them."""
        count = len(job.prompts)
        if not is_guided(job.guidance_scale):
            encoded = encode_prompts(self._tokenizer, self._engines.text_encoder, job.prompts)
            return plain_model(self._unet, encoded.states), encoded.cut
        encoded = encode_prompts(self._tokenizer, self._engines.text_encoder, job.prompts + job.negative_prompts)
        positive, negative = encoded.states[:count], encoded.states[count:]
        return guided_model(self._unet, positive, negative, job.guidance_scale, job.guidance_rescale), encoded.cut

    def _unet(self, sample: Floats, timesteps: Floats, states: Floats) -> Floats:
        feeds = {"sample": sample, "timestep": timesteps, "encoder_hidden_states": states}
        return self._engines.unet.run(feeds)["out_sample"].astype(np.float32, copy=False)

    def _decode(self, latents: Floats) -> Floats:
        """Decode final latents to pictures [N, H, W, 3] in [0, 1], one image at a time: the decoder's memory grows with the batch."""
        scaled = latents / np.float32(self.bundle.scaling_factor)
        samples = [self._engines.vae_decoder.run({"latent_sample": row[np.newaxis]})["sample"] for row in scaled]
        decoded = np.concatenate(samples).astype(np.float32, copy=False)
        self._require_finite(decoded, "the decoded picture is")
        return to_unit(decoded)

    def _preview(self, step: Step) -> list[Image]:
        return to_pil(self._decode(step.denoised))

    def _result(self, job: Job, cut: tuple[str, ...], timings: Timings, step: Step) -> Result:
        started = perf_counter()
        latents = step.latents if step.index + 1 == step.total else step.denoised
        images: list[Image] | Floats = latents if job.output == "latents" else self._decode(latents)
        if job.output == "pil":
            images = to_pil(np.asarray(images))
        seconds = perf_counter() - started
        final = Timings(
            load=timings["load"], text=timings["text"], steps=list(timings["steps"]), decode=seconds, total=timings["total"] + seconds
        )
        return Result(images=images, seeds=job.seeds, timings=final, parameters=self._parameters(job), cut=cut)

    def _parameters(self, job: Job) -> tuple[Parameters, ...]:
        return tuple(
            Parameters(
                prompt=prompt,
                negative_prompt=negative,
                steps=job.steps,
                sampler=job.sampler.solver,
                sigmas=job.sampler.sigmas,
                guidance_scale=job.guidance_scale,
                guidance_rescale=job.guidance_rescale,
                seed=seed,
                width=job.width,
                height=job.height,
                model=self.bundle.name,
                bundle_sha256=self.bundle.sha256,
                target=self.target,
                given_latents=job.latents is not None,
            )
            for prompt, negative, seed in zip(job.prompts, job.negative_prompts, job.seeds, strict=True)
        )

    def _require_finite(self, values: Floats, what: str) -> None:
        if not np.isfinite(values).all():
            raise EngineError(
                f"{what} not finite (NaN or infinity; model {self.bundle.name}, target {self.target}): "
                f"lower the guidance, or export the model with --dtype fp32"
            )
