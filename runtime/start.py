"""What a sampling run starts from besides its prompts: noise, a picture's latents, further channels of the UNet. Plain arrays.

Each task has a module that makes one (`image_to_image`, `inpaint`, ...); painters put it to work, on the host or on a device.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from sd2rt.runtime.bundle import Bundle
from sd2rt.runtime.noise import BatchNoise
from sd2rt.runtime.source import Source
from sd2rt.runtime.table import Table

Floats = npt.NDArray[np.float32]
Rows = TypeVar("Rows", bound=npt.NDArray[Any])
RunComponent = Callable[[str, Mapping[str, npt.NDArray[Any]]], dict[str, npt.NDArray[Any]]]
"""Run a component of the bundle, such as "vae_encoder", on named arrays."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Kept:
    """A part of the picture that stays as it is: after every row the latents there are replaced by noised clean ones.

    `mask` [1 or N, 1, h, w] is 1 where the picture is painted, 0 where it is kept; `clean` and `noise` are [N, C, h, w].
    """

    mask: Floats
    clean: Floats
    noise: Floats

    def apply(self, latents: Floats, alpha: float, sigma: float) -> Floats:
        """Return `latents`, which are at the noise level (alpha, sigma), with the kept part put back at that level."""
        known = np.float32(alpha) * self.clean + np.float32(sigma) * self.noise
        blended: Floats = known + self.mask * (latents - known)
        return blended


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Start:
    """The beginning of a run of N pictures; float32.

    `noise` [N, C, h, w] is of unit variance, `clean` (None: none) are latents of that shape to begin from. `draw` gives the noise that
    samplers ask for later. `extra` [N, C', h, w] are channels that follow the latents in the UNet's input, unscaled; `class_labels`
    int64 [N] go with it where the UNet has classes.
    """

    noise: Floats
    draw: Callable[[], Floats]
    clean: Floats | None = None
    extra: Floats | None = None
    class_labels: npt.NDArray[np.int64] | None = None
    kept: Kept | None = None

    def latents(self, table: Table) -> Floats:
        """Return register 0 before the table's first row."""
        if self.clean is None:
            return self.noise * np.float32(table.init_scale)
        row = table.rows[0]
        return self.clean * np.float32(row.alpha) + self.noise * np.float32(row.sigma)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Materials:
    """What a task makes a start of: the caller's pictures, the job's noise (`given` in place of the first draw), and the components.

    `tile` is the side of the part of a picture that is encoded at once, in cells of the latents; None: all.
    """

    source: Source
    bundle: Bundle
    noise: BatchNoise
    given: Floats | None
    run: RunComponent
    tile: int | None = None

    @property
    def count(self) -> int:
        """The number of pictures to paint."""
        return self.noise.count

    def first_noise(self) -> Floats:
        """Return the noise to begin from: the caller's, or else the next draw."""
        return self.noise.draw_first() if self.given is None else self.given


def repeat_rows(rows: Rows, count: int) -> Rows:
    """Repeat rows [M, ...] to `count` of them, each `count // M` times in a row, as images per prompt are laid out."""
    assert count % len(rows) == 0
    repeated: Rows = np.repeat(rows, count // len(rows), axis=0)  # type: ignore[assignment]
    return repeated
