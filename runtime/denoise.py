"""The one executor of every sampler: apply a table's rows to latents, one model evaluation per row.

Knows no sampler and no engine. Deterministic, and elementwise: an image of a batch comes out the same whatever its neighbours are.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sd2rt.engine.errors import InvalidArgument
from sd2rt.runtime.table import Table

Latents = npt.NDArray[np.float32]
Model = Callable[[Latents, float, int], Latents]
Keep = Callable[[Latents, float, float], Latents]
"""(register 0, alpha, sigma) -> register 0: puts back what must not change, at the noise level that register 0 has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What holds after row `index` (from 0) of `total`: `latents` are register 0, float32 [N, C, h, w]."""

    index: int
    total: int
    t: float
    latents: Latents
    _before: Latents
    _output: Latents
    _clean: tuple[float, float]
    _keep: Keep | None = None

    @property
    def denoised(self) -> Latents:
        """The clean latents that this evaluation predicted, what is kept put back; for previews.

        Read it before the next step (engines reuse their buffers).
        """
        predicted = _combine(self._clean, (self._before, self._output))
        return predicted if self._keep is None else self._keep(predicted, 1.0, 0.0)


def denoise(
    table: Table,
    model: Model,
    latents: Latents,
    noise: Callable[[], Latents] | None = None,
    init: Latents | None = None,
    keep: Keep | None = None,
) -> Iterator[Step]:
    """Run a table, yielding after each row; leaving the loop stops it.

    `model(x, t, row)` gives the model output for x, both float32 [N, C, h, w], at timestep t, the table's row `row` (from 0). `latents`
    is unit normal noise of that shape; `noise()` draws more of it, called once in each row that uses any. `init` (image to image) are
    clean latents to start from. `keep` is applied to register 0 after every row, at the noise level that it has then
    (`Table.level_after`).
    Raises InvalidArgument, before any evaluation, when the table needs noise and there is none; and when shapes do not agree.
    """
    if table.uses_noise and noise is None:
        raise InvalidArgument("got no noise source; this sampler draws noise at every step: pass noise, or choose a deterministic sampler")
    if init is not None and init.shape != latents.shape:
        raise InvalidArgument(f"got init of shape {list(init.shape)}; expected that of the noise, {list(latents.shape)}")
    if init is None:
        start = _combine((table.init_scale,), (latents,))
    else:
        start = _combine((table.rows[0].alpha, table.rows[0].sigma), (init, latents))
    return _run(table, model, start, noise, keep)


def _run(table: Table, model: Model, start: Latents, noise: Callable[[], Latents] | None, keep: Keep | None) -> Iterator[Step]:
    silence = np.zeros_like(start)
    registers = [start] + [silence] * (table.registers - 1)
    for index, row in enumerate(table.rows):
        output = model(_combine((row.in_scale,), registers[:1]), row.t, index)
        if output.shape != start.shape:
            raise InvalidArgument(f"got a model output of shape {list(output.shape)}; expected that of the latents, {list(start.shape)}")
        drawn = noise() if row.uses_noise and noise is not None else silence
        before, terms = registers[0], (*registers, output, drawn)
        registers = [_combine(weights, terms) for weights in row.weights]
        if keep is not None:
            registers[0] = keep(registers[0], *table.level_after(index))
        yield Step(
            index=index, total=len(table.rows), t=row.t, latents=registers[0], _before=before, _output=output, _clean=row.clean, _keep=keep
        )


def _combine(weights: Iterable[float], terms: Sequence[Latents]) -> Latents:
    """Sum weight * term in the terms' own precision, always into new memory; a weight of 0 keeps even infinities out."""
    parts = [term * term.dtype.type(weight) for weight, term in zip(weights, terms, strict=True) if weight]
    if not parts:
        return np.zeros_like(terms[0])
    total, *others = parts
    for part in others:
        total += part
    return total
