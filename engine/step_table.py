"""A sampler's table as a step engine reads it: one row of float32 numbers per model evaluation, all of them on the device.

    column   0  1         2 3    4 5    6 ...
             t  in_scale  clean  known  weights of register 0's update over [registers, model output, noise], then of register 1's, ...

`known` is (alpha, sigma) of register 0 after the row, at which a step that keeps a part of the picture puts known latents back.
Samplers with fewer registers than `REGISTERS` leave the others' weights 0. Knows numpy alone, so that the runtime can pack rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from sd2rt.engine.errors import InvalidArgument

Floats = npt.NDArray[np.float32]

REGISTERS = 5  # PLMS and LMS keep the latents and four model outputs
TABLE_ROWS = 2048  # two evaluations for each of a model's 1000 timesteps, and some
SCALARS = 6
ROW = SCALARS + REGISTERS * (REGISTERS + 2)


def pack_row(
    t: float,
    in_scale: float,
    clean: tuple[float, float],
    weights: npt.NDArray[np.float64],
    *,
    known_alpha: float = 1.0,
    known_sigma: float = 0.0,
) -> Floats:
    """Pack one evaluation into float32 [ROW]: weights [r, r + 2] over [registers, model output, noise], r up to `REGISTERS`.

    `known_alpha` and `known_sigma` are the noise level of register 0 after it: the next row's, or none (1, 0) after the last.
    Raises InvalidArgument for weights of another shape.
    """
    registers = len(weights)
    if not 1 <= registers <= REGISTERS or weights.shape != (registers, registers + 2):
        raise InvalidArgument(f"got weights of shape {list(weights.shape)}; expected [r, r + 2] with r from 1 to {REGISTERS}")
    padded = np.zeros((REGISTERS, REGISTERS + 2), np.float32)
    padded[:registers, :registers] = weights[:, :-2]
    padded[:registers, REGISTERS:] = weights[:, -2:]
    return np.concatenate([np.array([t, in_scale, *clean, known_alpha, known_sigma], np.float32), padded.ravel()])


def pack_table(rows: Sequence[Floats]) -> Floats:
    """Put packed rows into float32 [TABLE_ROWS, ROW], 0 after the last. Raises InvalidArgument when there are more than fit."""
    if len(rows) > TABLE_ROWS:
        raise InvalidArgument(f"got {len(rows)} model evaluations; expected at most {TABLE_ROWS}: ask for fewer steps")
    table = np.zeros((TABLE_ROWS, ROW), np.float32)
    for index, row in enumerate(rows):
        table[index] = row
    return table
