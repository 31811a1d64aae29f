"""What a client asks for, and what comes back, as plain values: JSON and bytes, so that they can go to other processes and machines.

Knows no HTTP and no engine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sd2rt.runtime.options import Preview
from sd2rt.runtime.picture_file import DEFAULT_QUALITY, Format

PICTURES = ("image", "mask", "depth")


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One request of a client, for one picture or several.

    `model` is a name that the server offers. `options` are named as in `runtime.options.Options`, with the prompt, and are JSON values;
    pictures, latents and the kind of output are none of them. `pictures` are files (PNG, JPEG or WebP) by `PICTURES`. `previews` is how
    many unfinished pictures are wanted at most, spread evenly over the run. `portion` is for the server to say: how many of the pictures
    are painted at a time, 0: all.
    """

    model: str
    options: Mapping[str, Any]
    pictures: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    format: Format = "png"
    quality: int = DEFAULT_QUALITY
    metadata: bool = True
    previews: int = 0
    preview_decoder: Preview = "latent"
    portion: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """A worker has begun; `rows` is how many pictures, of all orders, it paints at once."""

    total_steps: int
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stepped:
    """Step `step` (from 1) of `total_steps` is done."""

    step: int
    total_steps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Previewed:
    """What the pictures are going to be, after step `step`: one PNG file per picture; `index` counts previews from 0."""

    index: int
    step: int
    pictures: tuple[bytes, ...] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """The pictures as files of the order's format, and for each what decided it (`runtime.parameters.Parameters` as JSON values).

    `timings` is as `runtime.result.Timings`, of the whole batch; `notes` are worth a warning, such as ends of prompts that were cut.
    """

    pictures: tuple[bytes, ...] = field(repr=False)
    parameters: tuple[Mapping[str, Any], ...]
    timings: Mapping[str, Any]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """It came to nothing. `status` is the HTTP status that says why: 400 what was asked, 500 an engine, 503 a worker that was lost."""

    message: str
    status: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancelled:
    """Its owner gave it up, or the server was stopped."""


Event = Started | Stepped | Previewed | Finished | Failed | Cancelled
LAST = (Finished, Failed, Cancelled)
"""Nothing follows one of these."""
