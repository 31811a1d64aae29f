"""What `POST /v1/jobs` takes: every option of a picture by its name, and how its file is wanted. Bounds here are those that no model
and no setting exceeds; the service checks the rest."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import ConfigDict, Field

from sd2rt.runtime.options import Decoder, Preview, Rng, Speed
from sd2rt.runtime.picture_file import DEFAULT_QUALITY, Format
from sd2rt.serve.known_fields import KnownFields
from sd2rt.serve.order import PICTURES, Order
from sd2rt.serve.uploads import read_upload

LARGEST_SEED = 2**63 - 1
OF_ORDER = ("model", *PICTURES, "format", "quality", "metadata", "previews", "preview_decoder")
Side = Annotated[int, Field(ge=8, le=8192, multiple_of=8)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=0, le=LARGEST_SEED)]
Border = Annotated[int, Field(ge=0, le=8192)]
Text = Annotated[str, Field(max_length=8192)]
File = Annotated[str, Field(max_length=28_000_000, description="A PNG, JPEG or WebP file as base64, bare or as a data: URL.")]


class JobRequest(KnownFields):
    """A picture, or several, to paint. What is left out or null is the model's own."""

    model_config = ConfigDict(strict=True, hide_input_in_errors=True)

    model: (
        Annotated[str, Field(min_length=1, max_length=200, description="A name of GET /v1/models; the first one when left out.")] | None
    ) = None
    prompt: Annotated[str, Field(max_length=8192, description="What the picture shows; (word:1.3) weighs it.")]
    negative_prompt: Annotated[Text | None, Field(description="What it should not show.")] = None
    weighting: Annotated[bool, Field(description="Whether brackets in prompts are weights.")] = True
    clip_skip: Annotated[int, Field(ge=1, le=100, description="Layer of the text encoder, counted from its last.")] | None = None
    steps: Annotated[int, Field(ge=1, le=1000, description="Sampling steps; the server may allow fewer.")] | None = None
    guidance_scale: Annotated[float, Field(ge=-100, le=100, allow_inf_nan=False, description="1 or less: none.")] | None = None
    guidance_rescale: Share = 0.0
    guidance_interval: Annotated[list[Share], Field(min_length=2, max_length=2, description="Where guidance begins and ends.")] | None = (
        None
    )
    guidance_reuse: Annotated[int, Field(ge=1, le=1000)] | None = None
    deep_cache: Annotated[int, Field(ge=1, le=1000)] | None = None
    speed: Speed = "quality"
    sampler: Annotated[str, Field(max_length=80, description="Such as 'euler a' or 'dpm++ 2m karras'.")] | None = None
    seed: Annotated[Seed | None, Field(description="Picture i has seed + i; a random one when left out.")] = None
    rng: Rng = "torch"
    variation_seed: Seed | None = None
    variation_strength: Share = 0.0
    width: Side | None = None
    height: Side | None = None
    n: Annotated[int, Field(ge=1, le=256, description="Number of pictures; the server may allow fewer.")] = 1
    image: File | None = None
    mask: File | None = None
    depth: File | None = None
    strength: Share | None = None
    mask_blur: Annotated[float, Field(ge=0, le=1024, allow_inf_nan=False, description="Pixels.")] = 0.0
    invert: bool = False
    paste: bool | None = None
    expand: Annotated[list[Border], Field(min_length=4, max_length=4, description="Pixels at the left, top, right, bottom.")] | None = None
    noise_level: Annotated[int, Field(ge=0, le=1000, description="For upscaling.")] | None = None
    decoder: Decoder = "vae"
    tile: Annotated[int, Field(ge=0, le=8192)] | None = None
    format: Format = "png"
    quality: Annotated[int, Field(ge=1, le=100, description="Of JPEG and WebP.")] = DEFAULT_QUALITY
    metadata: Annotated[bool, Field(description="Whether the files carry their parameters.")] = True
    previews: Annotated[int, Field(ge=0, le=150, description="How many unfinished pictures are wanted at most.")] = 0
    preview_decoder: Preview = "latent"

    def order(self, default_model: str) -> Order:
        """Return what is asked for. Raises InvalidArgument for a picture that is no base64; the bytes are checked by the service."""
        given: dict[str, Any] = self.model_dump(exclude_unset=True, exclude=set(OF_ORDER))
        if "n" in given:
            given["images_per_prompt"] = given.pop("n")
        return Order(
            model=self.model or default_model,
            options=given,
            pictures={name: read_upload(name, text) for name in PICTURES if (text := getattr(self, name)) is not None},
            format=self.format,
            quality=self.quality,
            metadata=self.metadata,
            previews=self.previews,
            preview_decoder=self.preview_decoder,
        )
