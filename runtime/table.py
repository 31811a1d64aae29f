"""A sampler as data: one row per model evaluation.

Every solver used here is linear in the latents, the model outputs and the noise once its schedule is fixed, so a run is a list of
small matrices. Owns the rows and what they mean; does not know which solver made them or what runs them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt

from sd2rt.runtime.schedule import PredictionType

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Row:
    """One model evaluation and the update after it.

    The model sees `registers[0] * in_scale` at timestep `t` (a whole number of float32 precision, or a fraction where the solver
    asks for one); then registers' = weights . [registers, model output, noise], weights float64 [registers, registers + 2].
    When the row begins, register 0 is `alpha * clean latents + sigma * unit noise`, and its prediction of the clean latents is
    `clean[0] * register 0 + clean[1] * model output`.
    """

    t: float
    in_scale: float
    weights: Vector
    alpha: float
    sigma: float
    clean: tuple[float, float]

    def __post_init__(self) -> None:
        self.weights.flags.writeable = False  # runs share tables

    @property
    def uses_noise(self) -> bool:
        """Whether the update draws unit normals."""
        return bool(self.weights[:, -1].any())


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """All rows of one sampling run, in order, with the same number of registers.

    Register 0 starts as `unit noise * init_scale` (diffusers' init_noise_sigma), or for image to image as
    `rows[0].alpha * image latents + rows[0].sigma * unit noise`; the other registers start as 0. At the end it is the final latents.
    """

    rows: tuple[Row, ...]
    registers: int
    init_scale: float

    @property
    def uses_noise(self) -> bool:
        """Whether any row draws unit normals."""
        return any(row.uses_noise for row in self.rows)

    def level_after(self, index: int) -> tuple[float, float]:
        """Return (alpha, sigma) of register 0 after a row: where the next one begins, and without noise after the last."""
        if index + 1 == len(self.rows):
            return 1.0, 0.0
        return self.rows[index + 1].alpha, self.rows[index + 1].sigma


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A noise level at which the model is evaluated: register 0 is `alpha * clean + sigma * noise`, the timestep is `t`.

    This is where prediction types end: `denoised` and `epsilon` turn (register 0, model output), as vectors over
    [registers, model output, noise], into the predictions of clean latents and of noise.
    """

    t: float
    alpha: float
    sigma: float
    prediction_type: PredictionType

    def denoised(self, x: Vector, output: Vector) -> Vector:
        """Give the predicted clean latents."""
        of_x, of_output = self._clean()
        return of_x * x + of_output * output

    def epsilon(self, x: Vector, output: Vector) -> Vector:
        """Give the predicted noise."""
        return (x - self.alpha * self.denoised(x, output)) / self.sigma

    def row(self, *registers: Vector) -> Row:
        """Make the row whose update leaves `registers`."""
        return Row(
            t=float(np.float32(self.t)),
            in_scale=float(1 / np.hypot(self.alpha, self.sigma)),
            weights=np.stack(registers),
            alpha=self.alpha,
            sigma=self.sigma,
            clean=self._clean(),
        )

    def _clean(self) -> tuple[float, float]:
        """Give the weights of register 0 and model output. v: Salimans and Ho 2022 (arXiv:2202.00512) appendix D."""
        if self.prediction_type == "epsilon":
            return 1 / self.alpha, -self.sigma / self.alpha
        if self.prediction_type == "sample":
            return 0.0, 1.0
        power = self.alpha**2 + self.sigma**2
        return self.alpha / power, -self.sigma / power**0.5


def basis(registers: int) -> list[Vector]:
    """Give the unit vectors of [registers, model output, noise]: what a row's registers are combinations of."""
    return cast(list[Vector], list(np.eye(registers + 2)))


def assemble(rows: Sequence[Row], *, init_scale: float = 1.0) -> Table:
    """Put rows together."""
    return Table(rows=tuple(rows), registers=len(rows[0].weights), init_scale=init_scale)
