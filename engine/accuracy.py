"""How far an engine is from another one of the same component and form, on fixed inputs, and how far it may be.

Knows no backend: both are engines that map arrays to arrays. The inputs are the same on every machine.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sd2rt.engine.errors import InvalidArgument
from sd2rt.engine.protocol import Engine
from sd2rt.engine.spec import TensorSpec
from sd2rt.engine.step_table import REGISTERS, pack_row, pack_table

Array = npt.NDArray[Any]
Arrays = Mapping[str, Array]

PSNR_CAP_DB = 200.0  # equal outputs, since JSON has no infinity
BYTE_RANGE = 255.0
TIMESTEP, GUIDANCE, RESCALE = 500.0, 7.5, 0.7
KNOWN_IDS = 256  # every tokenizer has so many


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """What an output must reach: a PSNR of at least so much, a largest error of at most so much of the spread."""

    psnr_db: float = 0.0
    max_relative: float = math.inf

    def __str__(self) -> str:
        """Word the gate: "PSNR >= 35 dB"."""
        return f"PSNR >= {self.psnr_db:g} dB" if self.psnr_db else f"error <= {self.max_relative:g}"


HALF = Gate(psnr_db=35.0)  # of what computes in float16, or in TensorFloat-32
INT8 = Gate(psnr_db=30.0)  # of what computes layers in eight bits, or is compared with one that does
SINGLE_OTHER_LIBRARY = Gate(psnr_db=70.0)  # of what computes in float32 with another library than its reference
SINGLE = Gate(max_relative=1e-4)  # of what computes in float32, as its reference does
PIXELS = Gate(psnr_db=30.0)  # of bytes
EQUAL = Gate(max_relative=0.0)  # of other integers


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """How one output compares with the reference's; of a whole engine, its worst output.

    `max_abs` and `psnr_db` leave out values that are not finite, of which there are `not_finite`; `max_relative` is over the
    reference's spread (largest minus smallest value; of bytes, their range), and so is the PSNR.
    """

    output: str
    max_abs: float
    max_relative: float
    psnr_db: float
    not_finite: int
    gate: Gate

    @property
    def passes(self) -> bool:
        """Whether every value is finite and the gate reached."""
        return not self.not_finite and self.psnr_db >= self.gate.psnr_db and self.max_relative <= self.gate.max_relative

    def __str__(self) -> str:
        """Sum up in a few words, such as "PSNR 71.3 dB" or "12 values not finite"."""
        return f"{self.not_finite} values not finite" if self.not_finite else f"PSNR {self.psnr_db:.1f} dB"


def compare(name: str, got: Array, expected: Array, gate: Gate = HALF) -> Accuracy:
    """Measure one output; `gate` is for floats, bytes and other integers have their own. Raises InvalidArgument when shapes differ."""
    if got.shape != expected.shape:
        raise InvalidArgument(f"{name}: got shape {list(got.shape)}; expected that of the reference, {list(expected.shape)}")
    reference, values = expected.astype(np.float64), got.astype(np.float64)
    finite = np.isfinite(values) & np.isfinite(reference)
    error = np.abs(values[finite] - reference[finite])
    spread = BYTE_RANGE if expected.dtype == np.uint8 else float(np.ptp(reference[finite])) if finite.any() else 0.0
    spread = max(spread, float(np.finfo(np.float32).tiny))
    mean_square = float(np.square(error).mean()) if error.size else 0.0
    psnr = float(20 * np.log10(spread) - 10 * np.log10(mean_square)) if mean_square > 0 else PSNR_CAP_DB
    largest = float(error.max(initial=0.0))
    return Accuracy(
        output=name,
        max_abs=largest,
        max_relative=largest / spread,
        psnr_db=round(min(psnr, PSNR_CAP_DB), 2),
        not_finite=int(finite.size - np.count_nonzero(finite)),
        gate=PIXELS if expected.dtype == np.uint8 else gate if expected.dtype.kind == "f" else EQUAL,
    )


def check_engine(engine: Engine, reference: Engine, feeds: Arrays, gate: Gate = HALF) -> Accuracy:
    """Run both on the same feeds and return how the engine's worst output compares.

    Raises InvalidArgument when their outputs have different names or shapes, EngineError when one of them fails.
    """
    rounded = round_feeds(feeds, engine.inputs)
    return worst(compare_outputs(engine.run(rounded), reference.run(rounded), gate))


def round_feeds(feeds: Arrays, inputs: tuple[TensorSpec, ...]) -> dict[str, Array]:
    """Round feeds to the types that an engine takes, so that a reference of higher precision is given the same numbers."""
    return {spec.name: feeds[spec.name].astype(spec.dtype) for spec in inputs}


def compare_outputs(got: Arrays, expected: Arrays, gate: Gate = HALF) -> tuple[Accuracy, ...]:
    """Compare outputs of the same names, in the reference's order. Raises InvalidArgument when names or shapes differ."""
    if set(got) != set(expected):
        raise InvalidArgument(f"got outputs {', '.join(sorted(got))}; expected those of the reference, {', '.join(sorted(expected))}")
    return tuple(compare(name, got[name], array, gate) for name, array in expected.items())


def worst(found: Sequence[Accuracy]) -> Accuracy:
    """Return the comparison that fails, or is nearest to failing."""
    return max(found, key=lambda one: (one.not_finite, not one.passes, -one.psnr_db))


def fixed_feeds(inputs: tuple[TensorSpec, ...], axes: Mapping[str, int], seed: int = 0) -> dict[str, Array]:
    """Draw plausible inputs of a component in any form; the same names, sizes and seed give the same numbers everywhere.

    A step engine gets a table whose first row makes `denoised` the model's output, and registers that hold the latents, then that output,
    then noise. Raises InvalidArgument for an axis without a size.
    """
    return {spec.name: _draw(spec, spec.resolve(axes), seed) for spec in inputs}


def _draw(spec: TensorSpec, shape: tuple[int, ...], seed: int) -> Array:
    random = np.random.RandomState([seed, zlib.crc32(spec.name.encode())])  # its streams are the same in every version of numpy
    array: Array
    if spec.name == "timestep":
        array = np.full(shape, TIMESTEP)
    elif spec.name == "step":
        array = np.zeros(shape)
    elif spec.name == "guidance":
        array = np.array([GUIDANCE, RESCALE])
    elif spec.name == "mask":
        array = random.random_sample(shape)
    elif spec.name == "table":
        array = pack_table([_row()])
    elif np.dtype(spec.dtype).kind in "iu":
        array = random.randint(0, KNOWN_IDS, shape)
    else:
        array = random.standard_normal(shape)
    return array.astype(spec.dtype)


def _row() -> npt.NDArray[np.float32]:
    """Give a row that uses everything: register 0 as DDIM mixes it, and some noise; then the output; then the registers shifted.

    What is kept is put back at a noise level of its own.
    """
    weights = np.zeros((REGISTERS, REGISTERS + 2))
    weights[0, 0], weights[0, -2], weights[0, -1] = 0.9, -0.4, 0.2
    weights[1, -2] = 1.0
    for register in range(2, REGISTERS):
        weights[register, register - 1] = 1.0
    return pack_row(TIMESTEP, 1.0, (0.0, 1.0), weights, known_alpha=0.8, known_sigma=0.6)
