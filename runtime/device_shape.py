"""What the engines and buffers of a device depend on, from a job and its prompts. Opens nothing."""

from __future__ import annotations

from dataclasses import dataclass

from sd2rt.engine.spec import Guidance
from sd2rt.runtime.bundle import Bundle
from sd2rt.runtime.engine_plan import choose_guidance, keeps_part
from sd2rt.runtime.options import Decoder
from sd2rt.runtime.prompt import Layout, choose_reading, lay_out
from sd2rt.runtime.request import Job
from sd2rt.runtime.tokenizer import PromptTokenizer


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Pixels, images, how a step is guided, whether it puts back what a mask keeps, the decoder.

    `chunks` is how many of the text encoder's lengths the UNet's context has, `clip_skip` which of the encoder's layers it is of.
    """

    height: int
    width: int
    images: int
    guidance: Guidance
    chunks: int = 1
    clip_skip: int = 1
    kept: bool = False
    decoder: Decoder = "vae"

    def axes(self, latent_factor: int, tokens: int) -> dict[str, int]:
        """Return the sizes of all named axes; `tokens` is what the text encoder takes at once."""
        return {
            "images": self.images,
            "batch": self.images * (1 if self.guidance is Guidance.PLAIN else 2),
            "height": self.height // latent_factor,
            "width": self.width // latent_factor,
            "sequence": self.chunks * tokens,
            "image_height": self.height,
            "image_width": self.width,
        }


def choose_shape(job: Job, bundle: Bundle, tokenizer: PromptTokenizer) -> tuple[Shape, Layout]:
    """Return what a job needs, and its prompts laid out in one length. Raises BundleError as `choose_reading` does."""
    layout = lay_out(tokenizer, job.texts, choose_reading(bundle, weighting=job.weighting, together=True))
    shape = Shape(
        height=job.height,
        width=job.width,
        images=len(job.prompts),
        guidance=choose_guidance(job.guidance_scale, job.guidance_rescale) if job.guided else Guidance.PLAIN,
        chunks=layout.chunks()[0],
        clip_skip=job.clip_skip,
        kept=keeps_part(job.task, bundle),
        decoder=job.decoder,
    )
    return shape, layout
