"""Text to image: a prompt and options to pictures, or to the state after each step.

Checks arguments through `request`, and leaves painting to a `Painter`: on the host (`host`) or on a device (`device`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from time import perf_counter
from types import TracebackType
from typing import TYPE_CHECKING, Any, Unpack

from sd2rt.runtime.bundle import Bundle
from sd2rt.runtime.decoders import check_decoder
from sd2rt.runtime.evaluations import count_unet_rows
from sd2rt.runtime.image import to_pil
from sd2rt.runtime.inpaint import finish_pictures
from sd2rt.runtime.latent_preview import LatentPreview
from sd2rt.runtime.options import Options, Preview, Request
from sd2rt.runtime.painter import Painter, Run, Taken, require_finite
from sd2rt.runtime.record import record
from sd2rt.runtime.request import Job, resolve
from sd2rt.runtime.result import Result, State, Timings

if TYPE_CHECKING:
    from PIL.Image import Image


class TextToImage:
    """A loaded text-to-image model. Close it, or use it in a `with` statement, to free its engines."""

    def __init__(self, bundle: Bundle, painter: Painter, load_seconds: float = 0.0, precision: str = "auto") -> None:
        """Take loaded parts; `sd2rt.runtime.load` makes them from a model's name. `precision` is for the record."""
        self.bundle = bundle
        self.target = painter.target
        self._painter = painter
        self._load_seconds = load_seconds
        self._precision = precision

    def __call__(self, prompt: str | Sequence[str], **options: Unpack[Options]) -> Result:
        """Paint one picture per prompt, or as many as `images_per_prompt` says; `Options` lists what else there is.

        Raises InvalidArgument for values that do not fit, before any work, and EngineError when an engine fails or its numbers stop
        being finite. The same call on the same target and machine gives the same bytes.
        """
        job = resolve(Request(prompt=prompt, **options), self.bundle)
        started = perf_counter()
        run = self._painter.start(job)
        return self._result(job, run, run.finish(), started)

    def steps(self, prompt: str | Sequence[str], **options: Unpack[Options]) -> Iterator[State]:
        """Paint step by step, with the arguments of a call, yielding the state after each; leave the loop to stop.

        `state.result()` after the last step is what the call would have returned. Raises as a call does: InvalidArgument at once.
        """
        return self.paint(resolve(Request(prompt=prompt, **options), self.bundle))

    def paint(self, job: Job) -> Iterator[State]:
        """Paint step by step, as `steps` does, what `request.resolve` made of a request and this pipeline's bundle."""
        started = perf_counter()
        run = self._painter.start(job)
        colours = LatentPreview(job, self.bundle, self.target)
        for taken in run.steps():
            paused = perf_counter()
            yield State(
                index=taken.index,
                total=len(job.table.rows),
                read_latents=taken.latents,
                decode=partial(self._preview, job, taken, colours),
                result=partial(self._resume, job, run, taken, paused - started),
            )
            started += perf_counter() - paused  # what the caller does between two steps does not count

    def close(self) -> None:
        """Free the engines; calling it again does nothing."""
        self._painter.close()

    def __enter__(self) -> TextToImage:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _preview(self, job: Job, taken: Taken, colours: LatentPreview, decoder: Preview | None) -> list[Image]:
        """Decode the picture that a step foresees."""
        if decoder == "latent":
            return to_pil(finish_pictures(colours(taken), job.source))
        chosen = job.decoder if decoder is None else check_decoder(decoder, self.bundle)
        return to_pil(finish_pictures(taken.pictures(foreseen=True, unit=False, decoder=chosen), job.source))

    def _resume(self, job: Job, run: Run, taken: Taken, seconds: float) -> Result:
        """Make the result after `seconds` of work."""
        return self._result(job, run, taken, perf_counter() - seconds)

    def _result(self, job: Job, run: Run, taken: Taken, started: float) -> Result:
        """Decode, or hand over the latents, of the last step, or what an earlier one foresees."""
        began = perf_counter()
        foreseen = taken.index + 1 < len(job.table.rows)
        images: Any
        if job.output == "latents":
            images = taken.foreseen() if foreseen else taken.latents()
            require_finite(images, "the latents are", self.bundle, self.target)
        else:
            pictures = finish_pictures(taken.pictures(foreseen=foreseen, unit=job.output == "numpy", decoder=job.decoder), job.source)
            images = to_pil(pictures) if job.output == "pil" else pictures
        ended = perf_counter()
        seconds = run.seconds()
        timings = Timings(
            load=self._load_seconds,
            encode=seconds.encode,
            text=seconds.text,
            steps=seconds.steps,
            decode=ended - began,
            total=ended - started,
        )
        evaluations = job.evaluations[: taken.index + 1]
        unet_rows = count_unet_rows(evaluations)
        return Result(
            images=images,
            seeds=job.seeds,
            timings=timings,
            parameters=record(replace(job, tiles=run.tiles), self.bundle, self.target, unet_rows, self._precision),
            cut=run.cut,
            unet_rows=unet_rows,
            shallow_rows=count_unet_rows([evaluation for evaluation in evaluations if evaluation.shallow]),
        )
