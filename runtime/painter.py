"""The seam between a pipeline and what paints for it: a loop on the host over numpy engines, or one that stays on a device."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from sd2rt.engine.errors import EngineError
from sd2rt.runtime.bundle import Bundle
from sd2rt.runtime.guidance import Floats
from sd2rt.runtime.options import Decoder
from sd2rt.runtime.request import Job
from sd2rt.runtime.tiles import Tiles

Pictures = npt.NDArray[Any]
"""uint8 [N, H, W, 3], or float32 of that shape in [0, 1]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seconds:
    """How long a run took to encode pictures and prompts, and each of its steps so far."""

    encode: float
    text: float
    steps: list[float]


class Taken(Protocol):
    """What holds after a step. A device may keep it only until the next step is taken; it then raises InvalidArgument."""

    @property
    def index(self) -> int: ...

    def latents(self) -> Floats:
        """Return the sampler's latents, [N, C, h, w]."""
        ...

    def foreseen(self) -> Floats:
        """Return the clean latents that the step foresees, [N, C, h, w]."""
        ...

    def pictures(self, *, foreseen: bool, unit: bool, decoder: Decoder) -> Pictures:
        """Decode the latents, or the clean ones that the step foresees; to [0, 1] if `unit`, else to bytes.

        Raises EngineError when they are not finite.
        """
        ...


class Run(Protocol):
    """One job under way. `cut` holds the ends of prompts that the text encoder did not see, `tiles` are those that are worked in."""

    @property
    def cut(self) -> tuple[str, ...]: ...

    @property
    def tiles(self) -> Tiles: ...

    def steps(self) -> Iterator[Taken]:
        """Take one step after the other, yielding after each; leaving the loop stops. Raises EngineError."""
        ...

    def finish(self) -> Taken:
        """Take all steps without a stop between them. Raises EngineError."""
        ...

    def seconds(self) -> Seconds:
        """Return the times of what is done."""
        ...


class Painter(Protocol):
    """Loaded engines and what drives them."""

    @property
    def target(self) -> str: ...

    def start(self, job: Job) -> Run:
        """Encode the job's prompts and make ready for its first step. Raises EngineError."""
        ...

    def close(self) -> None:
        """Free the engines; calling it again does nothing."""
        ...


def require_finite(values: Floats | bool, what: str, bundle: Bundle, target: str) -> None:
    """Raise EngineError, which says what to do, for NaN and infinity; `what` is such as "the decoded picture is"."""
    if not np.isfinite(values).all() if isinstance(values, np.ndarray) else not values:
        where = f"NaN or infinity; model {bundle.name}, target {target}"
        raise EngineError(f"{what} not finite ({where}): lower the guidance, or export the model with --dtype fp32")
