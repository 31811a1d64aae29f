"""What clients of OpenAI's images API are answered: JSON of finished pictures, and server-sent events while they are painted.

Fields are those of the official client's types (openai 3.54: `ImagesResponse`, `ImageGenPartialImageEvent` and so on). No tokens are
counted here, so `usage` is of zeros. Our own beside them: `seed` of each picture, `image_index` in events, `notes` where there are any.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from sd2rt.serve.event_stream import encode
from sd2rt.serve.order import Finished, Previewed

if TYPE_CHECKING:
    from sd2rt.runtime.picture_file import Format
    from sd2rt.serve.openai_bodies import Asked

Kind = Literal["image_generation", "image_edit"]
USAGE = {"input_tokens": 0, "input_tokens_details": {"image_tokens": 0, "text_tokens": 0}, "output_tokens": 0, "total_tokens": 0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What every answer to one request says of its pictures. `created` is in epoch seconds."""

    created: int
    size: str
    quality: Literal["low", "medium", "high"] = "high"
    output_format: Format = "png"
    identifier: str | None = None


def shown(asked: Asked, size: tuple[int, int], created: float) -> Shown:
    """Return what is said of the pictures of a request, of `size` (width, height)."""
    return Shown(
        created=int(created),
        size="{}x{}".format(*size),
        quality=asked.quality if asked.quality in ("low", "medium") else "high",
        output_format=asked.output_format or "png",
        identifier=asked.identifier,
    )


def images_response(finished: Finished, about: Shown) -> dict[str, Any]:
    """Return the body of an `ImagesResponse`."""
    reply: dict[str, Any] = {
        "created": about.created,
        "background": "opaque",
        "data": [
            {"b64_json": _base64(picture), "seed": parameters["seed"]}
            for picture, parameters in zip(finished.pictures, finished.parameters, strict=True)
        ],
        "output_format": about.output_format,
        "quality": about.quality,
        "size": about.size,
        "usage": USAGE | {"output_tokens_details": {"image_tokens": 0, "text_tokens": 0}},
    }
    return reply | _identifier(about) | ({"notes": list(finished.notes)} if finished.notes else {})


def partial_events(kind: Kind, previewed: Previewed, about: Shown) -> Iterator[bytes]:
    """Yield an event for each unfinished picture; `previewed` has them in the format asked for."""
    for index, picture in enumerate(previewed.pictures):
        fields = {"partial_image_index": previewed.index, "image_index": index}
        yield event(f"{kind}.partial_image", _fields(picture, about) | fields)


def completed_events(kind: Kind, finished: Finished, about: Shown) -> Iterator[bytes]:
    """Yield an event for each picture."""
    for index, (picture, parameters) in enumerate(zip(finished.pictures, finished.parameters, strict=True)):
        fields = {"usage": USAGE, "seed": parameters["seed"], "image_index": index}
        yield event(f"{kind}.completed", _fields(picture, about) | fields | _identifier(about))


def error_event(message: str, kind: str) -> bytes:
    """Return the event that ends a stream where the pictures came to nothing; the official client raises APIError for it."""
    return event("error", {"error": {"message": message, "type": kind, "param": None, "code": None}})


def event(name: str, fields: Mapping[str, Any]) -> bytes:
    """Write one server-sent event, its name among its fields as `type` too."""
    return encode(name, {"type": name, **fields})


def _fields(picture: bytes, about: Shown) -> dict[str, Any]:
    return {
        "b64_json": _base64(picture),
        "background": "opaque",
        "created_at": about.created,
        "output_format": about.output_format,
        "quality": about.quality,
        "size": about.size,
    }


def _identifier(about: Shown) -> dict[str, str]:
    return {} if about.identifier is None else {"safety_identifier": about.identifier}


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
