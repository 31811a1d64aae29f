"""What clients of OpenAI's images API send, and the orders that it comes to.

Fields and their values are those of the official client (openai 3.54, `image_generate_params`, `image_edit_params`), and beside them our
own, which its `extra_body` sends. Fields that are neither are refused, as OpenAI refuses them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import UploadFile
from pydantic import ConfigDict, Field

from sd2rt.engine.errors import InvalidArgument
from sd2rt.runtime.options import Speed
from sd2rt.runtime.picture_file import DEFAULT_QUALITY, Format
from sd2rt.serve.known_fields import KnownFields
from sd2rt.serve.model_choice import FOR_MASK, FOR_PICTURE, FOR_TEXT, choose_model
from sd2rt.serve.order import Order

if TYPE_CHECKING:
    from sd2rt.serve.offers import OfferedModel

Name = Annotated[str, Field(max_length=200)]
Identifier = Annotated[str, Field(max_length=1000)]
Size = Annotated[str, Field(max_length=80)]
Quality = Literal["low", "medium", "high", "xhigh", "max", "auto", "standard", "hd"]
SPEEDS: Mapping[str, Speed] = {"low": "fast", "medium": "balanced"}
"""What else is asked for is painted as the model's own defaults say: "quality"."""


class Asked(KnownFields):
    """What generations and edits have in common."""

    model_config = ConfigDict(frozen=True)

    prompt: str
    model: Name | None = None
    n: int | None = Field(default=None, ge=1)
    size: Size | None = Field(default=None, description='Such as "512x768", or "auto"')
    quality: Quality | None = Field(default=None, description='"low": speed fast; "medium": balanced; else the model\'s own steps')
    output_format: Format | None = None
    output_compression: int | None = Field(default=None, ge=0, le=100, description="Quality of JPEG and WebP; 90 when left out")
    partial_images: int | None = Field(default=None, ge=0, le=3)
    stream: bool | None = None
    response_format: Literal["b64_json", "url"] | None = Field(default=None, description='"url" is refused')
    background: Literal["transparent", "opaque", "auto"] | None = Field(default=None, description='"transparent" is refused')
    moderation: Literal["low", "auto"] | None = Field(default=None, description="Not used")
    user: Identifier | None = Field(default=None, description="Not used")
    safety_identifier: Identifier | None = Field(default=None, description="Not used")
    negative_prompt: str | None = Field(default=None, description="Our own, as the fields after it")
    seed: int | None = None
    steps: int | None = None
    guidance_scale: float | None = Field(default=None, ge=-100, le=100, allow_inf_nan=False)
    sampler: Annotated[str, Field(max_length=80)] | None = None

    @property
    def identifier(self) -> str | None:
        """Whom the client says that it asks for."""
        return self.safety_identifier or self.user or None


class Generation(Asked):
    """The body of POST /v1/images/generations; types are not converted, as they are in forms."""

    model_config = ConfigDict(strict=True)

    style: Literal["vivid", "natural"] | None = Field(default=None, description="Not used")


class Edit(Asked):
    """The form of POST /v1/images/edits."""

    image: list[UploadFile] = Field(default_factory=list)
    images: list[UploadFile] = Field(default_factory=list, alias="image[]")
    mask: UploadFile | None = Field(default=None, description="Transparent where to paint")
    input_fidelity: Literal["high", "low"] | None = Field(default=None, description='"high" is refused')
    strength: float | None = Field(default=None, description="Our own, 0 to 1: how much of the picture is given up")


class Variation(KnownFields):
    """The form of POST /v1/images/variations."""

    model_config = ConfigDict(frozen=True)

    image: UploadFile
    model: Name | None = None
    n: int | None = Field(default=None, ge=1)
    size: Size | None = None
    response_format: Literal["b64_json", "url"] | None = Field(default=None, description='"url" is refused')
    user: Identifier | None = Field(default=None, description="Not used")
    seed: int | None = None
    strength: float | None = None


def order_of(asked: Asked, models: Sequence[OfferedModel], pictures: Mapping[str, bytes]) -> Order:
    """Return the order that a generation or an edit comes to, `pictures` being what an edit brought along. Raises InvalidArgument."""
    _check_answer(asked)
    tasks = FOR_MASK if "mask" in pictures else FOR_PICTURE if pictures else FOR_TEXT
    ours = {name: getattr(asked, name) for name in ("negative_prompt", "seed", "steps", "guidance_scale", "sampler")}
    if isinstance(asked, Edit):
        ours["strength"] = asked.strength
    options = {name: value for name, value in ours.items() if value is not None}
    options |= {"prompt": asked.prompt, "images_per_prompt": asked.n or 1, "speed": SPEEDS.get(asked.quality or "auto", "quality")}
    if "mask" in pictures:
        options["paste"] = True  # what the mask keeps stays as it is
    return Order(
        model=asked.model or choose_model(models, tasks),
        options=options | read_size(asked.size),
        pictures=pictures,
        format=asked.output_format or "png",
        quality=DEFAULT_QUALITY if asked.output_compression is None else max(asked.output_compression, 1),
        previews=(asked.partial_images or 0) if asked.stream else 0,
    )


def _check_answer(asked: Asked) -> None:
    """Refuse what the answer cannot be."""
    check_response_format(asked.response_format)
    if asked.background == "transparent":
        raise InvalidArgument("background: got 'transparent'; these models paint opaque pictures: leave it out")
    if asked.output_compression not in (None, 100) and (asked.output_format or "png") == "png":
        raise InvalidArgument("output_compression: got one for a PNG, which loses nothing; leave it out, or choose jpeg or webp")
    if asked.partial_images and not asked.stream:
        raise InvalidArgument("partial_images: got some without stream; expected stream to be true with them")
    if isinstance(asked, Edit) and asked.input_fidelity == "high":
        raise InvalidArgument("input_fidelity: got 'high'; say strength instead, 0 to 1: less keeps more of the picture")


def check_response_format(value: str | None) -> None:
    """Refuse addresses: nothing is kept that one could lead to. Raises InvalidArgument."""
    if value == "url":
        raise InvalidArgument("response_format: got 'url'; this server keeps no files to link to: expected b64_json, or leave it out")


def read_size(size: str | None) -> dict[str, Any]:
    """Return the options that a size stands for; none for "auto": the model's own, or the picture's. Raises InvalidArgument."""
    if size is None or size == "auto":
        return {}
    sides = re.fullmatch(r"(\d{1,5})x(\d{1,5})", size, re.ASCII)
    if sides is None:
        raise InvalidArgument(f"size: got {size[:80]!r}; expected width and height such as 512x768, or auto")
    return {"width": int(sides[1]), "height": int(sides[2])}


def variation_order(asked: Variation, models: Sequence[OfferedModel], picture: bytes) -> Order:
    """Return the order for pictures like a given one: image to image without a prompt. Raises InvalidArgument."""
    check_response_format(asked.response_format)
    options: dict[str, Any] = {"prompt": "", "images_per_prompt": asked.n or 1}
    options |= {name: value for name in ("seed", "strength") if (value := getattr(asked, name)) is not None}
    return Order(
        model=asked.model or choose_model(models, FOR_PICTURE),
        options=options | read_size(asked.size),
        pictures={"image": picture},
    )
